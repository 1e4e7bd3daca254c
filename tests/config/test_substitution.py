"""Variables in string values."""

from __future__ import annotations

import pytest

from serverd.config.substitution import substitute
from serverd.config.values import Substituted
from tests.support.every import every

ENVIRON = {"NAME": "web", "EMPTY": "", "TRICK": "${NAME}", "PORT": "8000"}


@every(
    ("written", "meant"),
    [
        ("${NAME}", "web"),
        ("a${NAME}b${PORT}", "awebb8000"),
        ("${MISSING:-x}", "x"),
        ("${MISSING:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NAME:-x}", "web"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${TRICK}", "${NAME}"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME $ {}", "$NAME $ {}"),
        ("", ""),
    ],
)
def test_a_reference_is_replaced_once(written: str, meant: str) -> None:
    assert substitute({"key": written}, ENVIRON) == ({"key": meant}, [])


@pytest.mark.parametrize("written", ["${}", "${1A}", "${A B}", "${NAME", "${NAME-x}", "${NAME:x}"])
def test_what_begins_no_reference_is_refused(written: str) -> None:
    _, [(path, message)] = substitute({"key": written}, ENVIRON)
    assert path == ("key",)
    assert "begins no reference" in message


def test_a_missing_variable_is_reported_where_it_stands() -> None:
    values = {"a": [{"b": "${NAME}"}, {"b": "x${MISSING}"}]}
    expanded, failures = substitute(values, ENVIRON)
    assert expanded["a"][0] == {"b": "web"}
    assert [path for path, _ in failures] == [("a", 1, "b")]
    assert "MISSING, which is not set" in failures[0][1]


def test_keys_and_other_values_stay_as_they_are() -> None:
    values = {"${NAME}": 1, "b": True, "c": [1.5]}
    assert substitute(values, ENVIRON) == (values, [])


def test_only_what_came_from_a_variable_is_marked() -> None:
    expanded, _ = substitute({"a": "${PORT}", "b": "8000"}, ENVIRON)
    assert isinstance(expanded["a"], Substituted)
    assert not isinstance(expanded["b"], Substituted)
