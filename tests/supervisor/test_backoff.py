"""How long a slot waits before its dead worker is replaced."""

from __future__ import annotations

import pytest

from serverd.supervisor.backoff import CEILING, FIRST_WAIT, Backoff


def waits(*served: float) -> list[float]:
    """Return the wait after each death of workers that had served so long."""
    backoff, found = Backoff(), []
    for seconds in served:
        backoff = backoff.after_death(seconds)
        found.append(backoff.wait)
    return found


def test_a_slot_that_never_lost_a_worker_does_not_wait() -> None:
    assert Backoff().wait == 0


def test_the_first_death_is_replaced_at_once() -> None:
    assert waits(0) == [0]


def test_the_wait_doubles_with_every_death_at_start() -> None:
    assert waits(0, 0, 0, 0, 0) == pytest.approx([0, FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT])


def test_the_wait_ends_at_the_ceiling() -> None:
    found = waits(*[0] * 1000)
    assert max(found) == CEILING
    assert found[-1] == pytest.approx(CEILING)


def test_a_worker_that_dies_now_and_then_is_always_replaced_at_once() -> None:
    assert waits(*[1.0] * 100) == [0] * 100


def test_a_worker_killed_about_every_second_is_replaced_within_the_second() -> None:
    # Kills once a second over two slots, at random: the same slot may be hit several times in a row.
    assert max(waits(0.7, 1.7, 0.7, 0.7, 0.7, 2.7, 0.7, 0.7, 0.7, 0.7)) < 0.5


def test_a_worker_that_crashes_soon_after_it_was_ready_waits_longer_and_longer() -> None:
    found = waits(*[0.2] * 40)
    assert found == sorted(found)
    assert found[-1] > 20


def test_service_brings_the_slot_back_to_the_start_however_often_it_failed_before() -> None:
    assert waits(*[0] * 1000, 20, 0)[-2:] == pytest.approx([0, FIRST_WAIT])
