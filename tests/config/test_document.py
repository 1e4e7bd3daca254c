"""Documents: values as they were written, and how keys are spelled."""

from __future__ import annotations

import datetime

import pytest

from serverd.config.document import Document, Entry, quoted, spelled
from serverd.config.locate import Path
from tests.support.every import every


def make(text: str) -> Document:
    document = Document("/etc/serverd/server.toml", "server.toml", 0)
    assert document.parse(text) == []
    return document


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("a", "b"), "a.b"),
        (("mounts", 0, "hosts", 1), "mounts[0].hosts[1]"),
        (("apps", "a b", "app"), 'apps."a b".app'),
        ((), ""),
    ],
)
def test_a_key_path_is_spelled_as_the_operator_would(path: Path, text: str) -> None:
    assert spelled(path) == text


@every(
    ("value", "text"),
    [
        ('a"b\n', '"a\\"b\\n"'),
        ("ü", '"ü"'),
        ("x" * 100, f'"{"x" * 75}..."'),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (2**5000, "a number beyond 64 bits"),
        (1.5, "1.5"),
        ({"a": 1}, "a table"),
        ({}, "{}"),
        ([1], "a list"),
        ([], "[]"),
        (datetime.date(2000, 1, 1), "a date or time"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_as_toml_has_it(value: object, text: str) -> None:
    assert quoted(value) == text


def test_a_value_is_shown_as_written_and_never_as_expanded() -> None:
    document = make('key = "${SECRET}"\n')
    assert document.expand({"SECRET": "hunter2"}) == {}
    assert document.values == {"key": "hunter2"}
    assert document.refusal(("key",), "is bad").message == '"${SECRET}" is bad'
    assert document.substituted(("key",))


def test_a_long_value_with_a_variable_at_its_end_counts_as_substituted() -> None:
    assert make(f'key = "{"x" * 200}${{SECRET}}"\n').substituted(("key",))


def test_relative_paths_are_relative_to_the_file() -> None:
    document = make("")
    assert document.resolve("a/../b") == "/etc/serverd/b"
    assert document.resolve("/x") == "/x"
    assert document.resolve("") == "/etc/serverd"


def test_windows_line_ends_count_as_one() -> None:
    document = make("a = 1\r\n\r\nb = 2\r\n")
    assert document.place(("b",)) == "server.toml:3"
    assert document.problem(("b",), "x").quote == "b = 2"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "{a=" * 5000,
        "a." * 5000 + "a = 1",
        "a = " + "9" * 5000,
        "a." * 30 + "a = 1",
        "[a\n",
        "a = '",
    ],
    ids=["arrays", "tables", "keys", "number", "depth", "header", "quote"],
)
def test_what_tomli_cannot_take_is_one_problem(text: str) -> None:
    problems = Document("/x", "x", 0).parse(text)
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[[mounts]]\napp = "x"\n[mounts]\n',
            "the table [mounts] is there twice: expected [[mounts]] (not valid TOML)",
        ),
        ("[apps.x]\n[apps.x]\n", "the table [apps.x] is there twice (not valid TOML)"),
        ('\n {"listeners": {}}', "is JSON (expected TOML: `serverd init` writes a first one)"),
    ],
)
def test_a_slip_is_told_with_its_remedy(text: str, told: str) -> None:
    (problem,) = Document("/x", "x", 0).parse(text)
    assert problem.message == told


def test_an_entry_places_its_keys() -> None:
    entry = Entry(make('[apps.shop]\napp = "x"\n'), ("apps", "shop"), None)
    assert entry.name == "shop"
    assert entry.place() == "server.toml:1"
    assert entry.place("app") == "server.toml:2"
    assert entry.place("missing") == "server.toml:1"
    assert entry.refusal("app", "is bad", 0).subject == "apps.shop.app"
