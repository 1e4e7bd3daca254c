"""The waits between two tries of an application that is down."""

from __future__ import annotations

from serverd.worker.retry import wait


def test_the_wait_doubles_from_a_second_to_a_minute_and_stays_there() -> None:
    assert [wait(failures) for failures in range(1, 10)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_any_number_of_failures_can_be_waited_for() -> None:
    assert wait(1_000_000) == 60.0
