"""Key paths to lines."""

from __future__ import annotations

import pytest
import tomli

from serverd.config import locate
from serverd.config.locate import Budget, Locator, Path, present
from tests.support.every import every

TEXT = '''\
# a comment
include = ["a", "b"]
server.workers = 2

[listeners.web]
bind = [
  "127.0.0.1:8000", # [not a table]

  "[::1]:8000",
  { a = 1,
    b = [
      1,
      2,
    ],
    c = 3 } ]

[apps.shop]
app = """
[mounts]
bind = 1
"""
env = { A = "1", B = "2" }

[apps.shop.limits]
size = 1

[[mounts]]
app = "shop"

[mounts.respond]
body = "x"

[[mounts]]
path = "/x"
[mounts.respond.headers]
x-a = "1"

[[mounts.rules]]
a = 1
[[mounts.rules]]
a = 2

[apps]
blog.app = "blog"
last = {
  one = 1,
  two = """
2""", three = 3 }'''

LINES: list[tuple[Path, int | None]] = [
    (("include",), 2),
    (("include", 1), 2),
    (("server",), 3),
    (("server", "workers"), 3),
    (("listeners",), 5),
    (("listeners", "web"), 5),
    (("listeners", "web", "bind"), 6),
    (("listeners", "web", "bind", 0), 7),
    (("listeners", "web", "bind", 1), 9),
    (("listeners", "web", "bind", 2), 10),
    (("listeners", "web", "bind", 2, "a"), 10),
    (("listeners", "web", "bind", 2, "b"), 11),
    (("listeners", "web", "bind", 2, "b", 1), 13),
    (("listeners", "web", "bind", 2, "c"), 15),
    (("apps", "shop"), 17),
    (("apps", "shop", "app"), 18),
    (("apps", "shop", "env", "B"), 22),
    (("apps", "shop", "limits"), 24),
    (("apps", "shop", "limits", "size"), 25),
    (("mounts",), 27),
    (("mounts", 0), 27),
    (("mounts", 0, "app"), 28),
    (("mounts", 0, "respond"), 30),
    (("mounts", 0, "respond", "body"), 31),
    (("mounts", 1), 33),
    (("mounts", 1, "path"), 34),
    (("mounts", 1, "respond"), 35),
    (("mounts", 1, "respond", "headers", "x-a"), 36),
    (("mounts", 1, "rules", 0, "a"), 39),
    (("mounts", 1, "rules", 1), 40),
    (("mounts", 1, "rules", 1, "a"), 41),
    (("apps", "blog"), 44),
    (("apps", "blog", "app"), 44),
    (("apps", "last"), 45),
    (("apps", "last", "one"), 46),
    (("nothing",), None),
    (("mounts", 2), None),
    ((), None),
]


@every(("path", "line"), LINES, ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None)
def test_a_key_is_found_where_it_stands(path: Path, line: int | None) -> None:
    assert Locator(TEXT).line(path) == line


def test_every_key_of_a_document_has_a_line() -> None:
    locator = Locator(TEXT)

    def check(value: object, path: Path) -> None:
        if path:
            assert locator.line(path) is not None, path
        if isinstance(value, dict):
            for key, item in value.items():
                check(item, (*path, key))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                check(item, (*path, number))

    check(tomli.loads(TEXT), ())


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (("a", "b"), ("a", "b")),
        (("a", "missing"), ("a",)),
        (("a", "tag", "b"), ("a", "b")),
        (("list", 0, "x"), ("list", 0, "x")),
        (("list", 1), ("list",)),
        (("a", "b", 0), ("a", "b")),
        (("zzz",), ()),
    ],
    ids=str,
)
def test_steps_that_the_document_lacks_are_dropped(path: Path, kept: Path) -> None:
    assert present(path, {"a": {"b": "text"}, "list": [{"x": 1}]}) == kept


def test_a_long_file_is_searched_in_linear_time() -> None:
    text = "".join(f"[apps.a{number}]\napp = 'x'\n\n" for number in range(2000))
    locator = Locator(text)
    assert [locator.line(("apps", f"a{number}", "app")) for number in range(2000)] == list(range(2, 6000, 3))


LONG = 5000

LONG_VALUES: list[tuple[str, str, str, Path, int]] = [
    # head, repeated line, tail, path, its line
    ("hosts = [", '"a",', "]", ("hosts", LONG - 1), LONG + 1),
    ("hosts = [", '"""a""",', "]", ("hosts", LONG - 1), LONG + 1),
    ("mounts = [", '{ path = "/x" },', "]", ("mounts", LONG - 1, "path"), LONG + 1),
    ("env = {", "# nothing", "a = 1 }", ("env", "a"), LONG + 2),
    ('body = """', "text", '"""\nlast = 1', ("last",), LONG + 3),
    ("body = '''", "text", "'''\nlast = 1", ("body",), 1),
    ('a = [ """', "text", '""" ]', ("a", 0), 1),
    ('a = [ """', "text", '""",\n"b"]', ("a", 1), LONG + 3),
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("head", "line", "tail", "path", "number"), LONG_VALUES)
def test_a_long_value_is_searched_fast(head: str, line: str, tail: str, path: Path, number: int) -> None:
    assert Locator("\n".join([head, *[line] * LONG, tail])).line(path) == number


def test_a_multi_line_element_stands_on_its_first_line() -> None:
    text = 'a = [\n"x",\n"""\ny\n""",\n[\n[1],\n],\n]\n'
    assert [Locator(text).line(("a", number)) for number in range(3)] == [2, 3, 6]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("element", ["[1],", "[[[[[[\n1]]]]]],", "{ a = [{ b = [\n1 ] }] },"])
def test_beyond_the_budget_a_line_before_the_key_is_named(monkeypatch: pytest.MonkeyPatch, element: str) -> None:
    monkeypatch.setattr(locate, "BUDGET", 100_000)
    text = "first = 1\nx = [\n" + f"{element}\n" * 2000 + "]\nlast = 1"
    budget = Budget()
    found = Locator(text, budget).line(("last",))
    assert found is not None
    assert 1 <= found <= text.count("\n") + 1
    assert budget.left > -4 * len(text)


def test_documents_of_one_reading_share_the_budget() -> None:
    budget = Budget()
    before = budget.left
    Locator("a = 1", budget).line(("a",))
    between = budget.left
    Locator("a = 1", budget).line(("a",))
    assert budget.left < between < before
