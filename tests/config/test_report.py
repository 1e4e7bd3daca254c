"""The text that the operator reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverd.config.report import MOST_PROBLEMS, Problem, Problems, render, render_warning
from serverd.errors import ConfigError

UNKNOWN = Problem(0, "server.toml", 17, "workres = 2", "apps.blog.workres", 'unknown key (did you mean "workers"?)')


def test_a_problem_has_its_place_and_its_line() -> None:
    assert render([UNKNOWN]) == (
        'server.toml:17: apps.blog.workres: unknown key (did you mean "workers"?)\n'
        "   17 | workres = 2\n"
        "1 problem in server.toml"
    )


def test_problems_are_sorted_by_file_and_line_and_each_is_told_once() -> None:
    early = Problem(0, "server.toml", 2, "x = 1", "x", "unknown key")
    other = Problem(1, "apps.d/a.toml", 1, "y = 1", "y", "unknown key")
    assert render([other, UNKNOWN, early, UNKNOWN]).splitlines() == [
        "server.toml:2: x: unknown key",
        "   2 | x = 1",
        'server.toml:17: apps.blog.workres: unknown key (did you mean "workers"?)',
        "   17 | workres = 2",
        "apps.d/a.toml:1: y: unknown key",
        "   1 | y = 1",
        "3 problems in server.toml, apps.d/a.toml",
    ]


def test_a_problem_of_the_file_has_no_line() -> None:
    assert render([Problem(0, "server.toml", None, None, "", "does not exist")]) == (
        "server.toml: does not exist\n1 problem in server.toml"
    )


def test_what_a_terminal_would_obey_is_escaped() -> None:
    text = render([Problem(0, "a\x1b.toml", 1, "\tx = '\x1b[31m\u202e'  ", "", "bad \x07")])
    assert text.isprintable() or text.replace("\n", "").isprintable()
    assert "   1 |     x = '\\x1b[31m\\u202e'\n" in text


def test_a_long_line_is_cut() -> None:
    quoted = render([Problem(0, "f", 1, "x" * 5000, "", "bad")]).splitlines()[1]
    assert quoted == f"   1 | {'x' * 157}..."


def test_a_warning_is_one_line() -> None:
    assert render_warning(UNKNOWN) == 'server.toml:17: apps.blog.workres: unknown key (did you mean "workers"?)'


def test_the_search_for_problems_ends_when_there_are_more_than_anybody_reads() -> None:
    asked = 0

    def endless() -> Iterator[Problem]:
        nonlocal asked
        while True:
            asked += 1
            yield Problem(0, "server.toml", asked, "x", "x", "bad")

    problems = Problems()
    problems += [UNKNOWN]
    with pytest.raises(ConfigError) as caught:
        problems += endless()
    assert asked == MOST_PROBLEMS - 1
    assert str(caught.value).endswith("\n200 problems in server.toml (and perhaps more: the search ended here)")
