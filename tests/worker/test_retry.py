"""The waits between two tries of an application that is down."""

from __future__ import annotations

from itertools import pairwise

from serverd.worker.retry import wait


def test_the_wait_doubles_from_a_second_to_a_minute_and_stays_there() -> None:
    assert [wait(failures) for failures in range(1, 10)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_any_number_of_failures_can_be_waited_for() -> None:
    assert wait(1_000_000) == 60.0


def test_workers_that_began_together_wait_differently_and_not_much_shorter() -> None:
    waits = [wait(7, slot) for slot in range(8)]
    assert waits[0] == 60.0
    assert all(30.0 < each <= 60.0 for each in waits)
    assert all(later - earlier > 1.0 for earlier, later in pairwise(sorted(waits)))
