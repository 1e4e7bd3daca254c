"""Apps: directories, modules and environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverd.config.apps import parse_env_file
from tests.support.every import every

from .conftest import Load, Report

BASE = '[listeners.web]\nbind = ":0"\n[[mounts]]\napp = "shop"\n[apps.shop]\napp = "shop.main:create"\n'


def test_the_directory_is_that_of_the_file_where_the_app_stands(load_text: Load, tmp_path: Path) -> None:
    generation = load_text(
        'include = ["apps/*/app.toml"]\n[listeners.web]\nbind = ":0"\n',
        {
            "apps/blog/app.toml": '[apps.blog]\napp = "blog"\n[[mounts]]\napp = "blog"\n',
            "apps/blog/blog.py": "",
            "apps/shop/app.toml": '[apps.shop]\napp = "shop"\ndirectory = "src"\n'
            '[[mounts]]\napp = "shop"\npath = "/s"\n',
            "apps/shop/src/shop/x.py": "",
        },
    )
    blog, shop = generation.apps
    assert (blog.target, blog.directory, blog.source) == (
        "blog:app",
        str(tmp_path / "apps/blog"),
        "apps/blog/app.toml:2",
    )
    assert (shop.target, shop.directory, shop.source) == (
        "shop:app",
        str(tmp_path / "apps/shop/src"),
        "apps/shop/app.toml:2",
    )


def test_the_directory_is_the_real_one_so_that_a_release_that_was_switched_differs(
    load_text: Load, report_of: Report, tmp_path: Path
) -> None:
    files = {"releases/1/shop/main.py": "", "releases/2/shop/main.py": ""}
    (tmp_path / "current").symlink_to("releases/1")
    text = BASE + 'directory = "current"\n'
    assert load_text(text, files).apps[0].directory == str(tmp_path / "releases/1")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("releases/2")
    assert load_text(text).apps[0].directory == str(tmp_path / "releases/2")
    (tmp_path / "current").unlink()
    assert f'"current" is not a directory (looked for {tmp_path / "current"})' in report_of(text)


def test_what_follows_a_failure_is_carried_along(load_text: Load) -> None:
    text = BASE.replace("shop.main", "json")
    assert load_text(text).apps[0].on_failure == "exit"
    assert load_text(text + 'on_failure = "unavailable"\n').apps[0].on_failure == "unavailable"


def test_the_time_of_a_request_is_carried_along_in_seconds(load_text: Load) -> None:
    text = BASE.replace("shop.main", "json")
    assert load_text(text).apps[0].request_timeout == 0.0
    assert load_text(text + 'request_timeout = "2m"\n').apps[0].request_timeout == 120.0


def test_env_wins_over_env_file(load_text: Load) -> None:
    generation = load_text(
        BASE + 'env_file = "shop.env"\nenv = { A = "env", B = "${B}" }\n',
        {"shop.env": "A=file\nC=file\n", "shop/main.py": ""},
        B="from outside",
    )
    assert generation.apps[0].env == {"A": "env", "B": "from outside", "C": "file"}


def test_an_installed_module_needs_no_file(load_text: Load) -> None:
    assert load_text(BASE.replace("shop.main", "json")).apps[0].target == "json:create"


def test_an_application_is_never_imported(load_text: Load) -> None:
    load_text(BASE, {"shop/__init__.py": "raise SystemExit", "shop/main.py": "raise SystemExit"})


@every(
    ("line", "variables"),
    [
        ("A=1", {"A": "1"}),
        ("  A = b c ", {"A": "b c"}),
        ("export A=1", {"A": "1"}),
        ("A='x # y'", {"A": "x # y"}),
        ('A="x"', {"A": "x"}),
        ('A="x', {"A": '"x'}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("A=${B}", {"A": "${B}"}),
        ("# A=1", {}),
        ("", {}),
        ("A=1\r\nB=2\r\nA=3", {"A": "3", "B": "2"}),
    ],
)
def test_an_env_file_is_read(line: str, variables: dict[str, str]) -> None:
    assert parse_env_file(line) == (variables, [])


@pytest.mark.parametrize(
    ("line", "wrong"),
    [("A", "expected NAME=value"), ("=x", "variable name"), ("1A=x", "variable name"), ("A=\0", "NUL")],
)
def test_a_bad_line_of_an_env_file_is_told_without_showing_it(line: str, wrong: str) -> None:
    variables, [(number, message)] = parse_env_file(f"B=1\n{line}")
    assert variables == {"B": "1"}
    assert number == 2
    assert wrong in message


TWO = """\
[listeners.web]
bind = ":0"
[[mounts]]
app = "one"
[[mounts]]
path = "/two"
app = "two"
[apps.one]
app = "json"
env_file = "one.env"
env = { SHARED = "1" }
[apps.two]
app = "json:two"
"""


@pytest.mark.parametrize(
    "env",
    [
        'env = { SHARED = 2 }\nenv_file = "two.env"',
        'env = "none"\nenv_file = "two.env"',
        'evn = { SHARED = "1" }\nenv_file = "two.env"',
        'env = { SHARED = "${MISSING}" }\nenv_file = "two.env"',
        'env_file = "missing.env"',
        'env_file = ""',
    ],
)
def test_a_variable_that_is_not_known_clashes_with_none(report_of: Report, env: str) -> None:
    report = report_of(TWO + env, {"one.env": "FILE=1\n", "two.env": "SHARED=2\n"})
    assert report.endswith("1 problem in server.toml")
    assert "another value" not in report


def test_the_variables_beside_a_faulty_one_are_compared(report_of: Report) -> None:
    report = report_of(
        f'{TWO}env = {{ BAD = 1, SHARED = "2" }}\nenv_file = "two.env"', {"one.env": "FILE=1\n", "two.env": "FILE=2\n"}
    )
    assert [line for line in report.splitlines() if "another value" in line] == [
        'server.toml:14: apps.two.env.SHARED: sets SHARED to another value than app "one" at server.toml:11'
        " (applications of a worker share one environment)",
        'server.toml:15: apps.two.env_file: sets FILE to another value than app "one" at server.toml:10'
        " (applications of a worker share one environment)",
    ]
