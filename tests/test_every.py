"""What stands in for parametrization: it tries every case, names those that fail, and leaves the fixtures to pytest."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.support.every import every


def test_all_cases_are_tried_and_those_that_fail_are_named() -> None:
    tried = []

    @every("value", range(6))
    def small(value: int) -> None:
        tried.append(value)
        assert value not in {2, 5}

    with pytest.raises(AssertionError) as failure:
        small()
    assert tried == list(range(6))
    assert failure.value.__notes__ == ["this is 2; 2 of 6 fail: 2, 5"]


def test_cases_have_names_and_several_values() -> None:
    @every(("left", "right"), [pytest.param(1, 2, id="one and two"), (3, 3)])
    def differ(left: int, right: int) -> None:
        assert left == right

    with pytest.raises(AssertionError) as failure:
        differ()
    assert failure.value.__notes__ == ["this is one and two; 1 of 2 fail: one and two"]


@pytest.mark.parametrize("ids", [str.upper, ["A", "B"]], ids=["a function", "a list"])
def test_names_may_be_made_or_given(ids: Any) -> None:
    @every("letter", "ab", ids=ids)
    def is_a(letter: str) -> None:
        assert letter == "a"

    with pytest.raises(AssertionError) as failure:
        is_a()
    assert failure.value.__notes__ == ["this is B; 1 of 2 fail: B"]


def test_a_case_in_which_nothing_is_raised_is_named_too() -> None:
    @every("text", ["x", "1", "y"])
    def refused(text: str) -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            int(text)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE") as failure:
        refused()
    assert failure.value.__notes__ == ["this is '1'; 1 of 3 fail: '1'"]


def test_a_case_that_skips_lets_the_others_be_tried_and_is_no_success() -> None:
    tried = []

    @every("value", range(3))
    def skipping(value: int) -> None:
        tried.append(value)
        if value == 1:
            pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception, match="1 of 3 cases: not here"):
        skipping()
    assert tried == [0, 1, 2]


def test_a_failure_is_told_before_a_case_that_skips() -> None:
    @every("value", range(3))
    def failing(value: int) -> None:
        if value == 0:
            pytest.skip("not here")
        assert value != 2

    with pytest.raises(AssertionError) as failure:
        failing()
    assert failure.value.__notes__ == ["this is 2; 1 of 3 fail: 2"]


def test_nothing_to_try_is_no_success() -> None:
    with pytest.raises(AssertionError, match="nothing is tried"):
        every("value", [])


@every("one", "ab")
@every("two", "cd")
def both(one: str, two: str, tmp_path: Path) -> None:
    (tmp_path / (one + two)).touch()


def test_fixtures_are_left_to_pytest_and_products_are_tried(tmp_path: Path) -> None:
    assert list(inspect.signature(both).parameters) == ["tmp_path"]
    both(tmp_path=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ac", "ad", "bc", "bd"]
