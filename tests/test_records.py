"""Records: to everybody who makes, compares, shows or copies one, what a frozen dataclass with slots is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from serverd.records import record
from tests.support.every import every


@record
class Point:
    """A record."""

    x: int
    y: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    secret: str = field(default="", repr=False)


@record
class Other(Point):
    """A record with the same fields."""


@record
class Pair:
    """A record of what can be hashed."""

    left: int
    right: str = "r"


@dataclass(frozen=True, slots=True)
class Plain:
    """What a record has to be like."""

    left: int
    right: str = "r"


def test_values_are_given_by_place_or_by_name() -> None:
    assert Point(1, y=2) == Point(1, 2) == Point(x=1, y=2)
    assert (Point(1).x, Point(1).y, Point(1).seen, Point(1).secret) == (1, 0, {}, "")


def test_a_default_that_is_made_belongs_to_one_value() -> None:
    assert Point(1).seen is not Point(1).seen


@every("kind", [Pair, Plain], ids=["record", "dataclass"])
@every(
    "make",
    [
        lambda kind: kind(),
        lambda kind: kind(right="x"),
        lambda kind: kind(1, "x", 3),
        lambda kind: kind(1, left=1),
        lambda kind: kind(1, wrong=1),
        lambda kind: kind(1, "x", wrong=1),
    ],
    ids=["nothing", "too-little", "too-much", "twice", "unknown", "one-unknown"],
)
def test_what_does_not_fit_the_fields_is_refused(make: Callable[[Any], object], kind: type) -> None:
    with pytest.raises(TypeError):
        make(kind)


def test_the_refusal_names_the_field() -> None:
    with pytest.raises(TypeError, match=r"^Pair needs a value for left$"):
        Pair()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Pair has no field wrong, or it is given twice$"):
        Pair(1, wrong=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Pair has no field left, or it is given twice$"):
        Pair(1, left=2)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"^Pair has 2 fields, and 3 values are given$"):
        Pair(1, "x", 3)  # type: ignore[call-arg]


def test_values_are_equal_if_they_are_of_one_kind_and_hold_the_same() -> None:
    assert Pair(1) == Pair(1, "r")
    assert Pair(1) != Pair(2)
    assert Point(1) != Other(1)
    assert Pair(1) != (1, "r")
    assert {Pair(1): "found"}[Pair(1)] == "found"


def test_what_holds_something_that_changes_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_a_value_does_not_change() -> None:
    pair = Pair(1)
    for name in ("left", "wrong"):
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(pair, name, 2)
        with pytest.raises(FrozenInstanceError, match=name):
            delattr(pair, name)
    assert not hasattr(pair, "__dict__")


def test_it_is_shown_as_it_is_written_and_without_secrets() -> None:
    assert repr(Pair(1, "x")) == "Pair(left=1, right='x')"
    assert repr(Point(1, secret="s")) == "Point(x=1, y=0, seen={})"


def test_it_is_a_dataclass_to_others() -> None:
    assert is_dataclass(Pair)
    assert [item.name for item in fields(Pair)] == ["left", "right"]
    assert replace(Pair(1), left=2) == Pair(2)
    match Pair(1):
        case Pair(left, right):
            assert (left, right) == (1, "r")


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_equal(twin: Callable[[Pair], Pair]) -> None:
    assert twin(Pair(1, "x")) == Pair(1, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("item", field(default=0, init=False)),
        ("item", field(default=0, compare=False)),
        ("item", field(default=0, hash=False)),
        ("item", field(default=0, kw_only=True)),
        ("__init__", lambda self: None),
        ("__post_init__", lambda self: None),
        ("__repr__", lambda self: ""),
        ("__hash__", lambda self: 0),
    ],
)
def test_what_a_record_would_not_heed_is_refused(name: str, value: object) -> None:
    kind = type("Kind", (), {"__annotations__": {"item": int}, "item": 0, name: value})
    with pytest.raises(TypeError, match=f"^Kind has {name}, which a record does not heed: make it a dataclass$"):
        record(kind)
