"""When a worker ceases to accept, and begins to again, by the descriptors that are left; how many there are is real."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from serverd.worker import room
from serverd.worker.room import Room


class Scene:
    """A process that may open `limit` descriptors, of which `used` are open; `own` of its own, others connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int, own: int = 0) -> None:
        self.used = own
        self.now = 1000.0
        self.changes: list[bool] = []
        monkeypatch.setattr(room, "_limit", lambda: limit)
        monkeypatch.setattr(room, "_count", lambda: self.used)
        self.room = Room(lambda: self.now, lambda: self.used - own, lambda: self.changes.append(self.room.is_out))

    def use(self, count: int) -> bool:
        """Have so many open, and return whether the room is out of descriptors then."""
        self.used = count
        self.room.look()
        return self.room.is_out


def test_an_eighth_is_kept_and_half_of_that_has_to_be_free_before_it_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, 800)
    assert [scene.use(count) for count in (699, 700, 699, 651, 650, 699)] == [False, True, True, True, False, False]
    assert scene.changes == [True, False]
    assert not Scene(monkeypatch, 1_000_000).use(999_743)  # never more than 256 of them
    assert Scene(monkeypatch, 1_000_000).use(999_744)


def test_it_looks_by_itself_when_what_it_has_seen_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, 80)
    scene.use(60)  # so that 10 are left
    for _ in range(9):
        scene.used += 1
        scene.room.take()
    assert scene.changes == []
    scene.used += 1
    scene.room.take()
    assert scene.changes == [True]


@pytest.mark.parametrize("own", [0, 600, 688, 699, 700, 760, 798, 799])
def test_whatever_the_application_has_taken_for_itself_some_are_accepted_and_again_when_they_have_ended(
    own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(monkeypatch, 800, own)
    for _ in range(2):
        assert not scene.use(own)
        while not scene.room.is_out:
            scene.used += 1
            scene.room.take()
        accepted, free = scene.used - own, 800 - scene.used
        assert accepted >= 1
        assert free in {min(accepted, 100), min(accepted, 100) - 1}, "as many are kept, an eighth at most"


def test_two_batches_are_less_than_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    for limit in (20, 64, 256, 1024, 65536):
        monkeypatch.setattr(room, "_limit", lambda limit=limit: limit)
        batches.append(Room.batch(64))
    assert batches == [1, 2, 8, 32, 64]


def test_the_operator_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serverd")
    scene = Scene(monkeypatch, 80)
    for _ in range(3):
        assert scene.use(75)
        assert not scene.use(10)
    assert caplog.messages == [
        "75 of 80 descriptors are in use: further connections wait until there are more (expected a higher limit,"
        " LimitNOFILE= of systemd or ulimit -n, or limits.connections)"
    ]
    scene.now += 60
    scene.use(75)
    assert len(caplog.messages) == 2


def test_descriptors_are_counted() -> None:
    before = room._count()
    with socket.socket(), socket.socket(), socket.socket():
        assert room._count() == before + 3


def test_where_the_kernel_does_not_say_how_many_there_are_they_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = room._count()
    stat = os.stat

    def none(path: str) -> os.stat_result:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "stat", none)
    listed = room._count()
    assert exact <= listed <= exact + 1  # with the one that lists
    monkeypatch.setattr(os, "listdir", none)
    assert room._count() == 0
    monkeypatch.setattr(os, "stat", stat)
