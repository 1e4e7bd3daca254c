"""What workers have counted, in files of the supervisor's, whatever becomes of the workers and of the files."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from serverd.generation import Generation
from serverd.observe import counters
from serverd.observe.counters import ELSEWHERE, GONE, class_at
from serverd.supervisor.ledger import Ledger
from serverd.worker.counting import Counters
from tests.support.counted import generation

SHOP = ("shop", "/a")
REQUESTS = class_at(2)


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Return a ledger, in both kinds of files that there are."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create")
    return Ledger()


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    # Those of a ledger that lives end with it.
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 4


def worker(ledger: Ledger, number: int, *paths: str) -> Counters:
    """Return the counters of a worker that has just begun."""
    begun = generation(*paths)
    return Counters(begun, os.dup(ledger.open(number, begun)))


def add(found: Counters, key: tuple[str, str], count: int) -> None:
    counts = found.mount(key)
    counts._memory[counts.place + REQUESTS] += count


def total(ledger: Ledger, key: tuple[str, str]) -> int:
    row = ledger.total().mounts.get(key)
    return 0 if row is None else row[REQUESTS]


def test_what_living_workers_count_is_seen_at_once(ledger: Ledger) -> None:
    one, other = worker(ledger, 1, "/a"), worker(ledger, 2, "/a")
    add(one, SHOP, 3)
    add(other, SHOP, 4)
    assert total(ledger, SHOP) == 7
    add(one, SHOP, 1)
    assert total(ledger, SHOP) == 8


def test_what_a_worker_has_counted_stays_when_it_has_gone_and_what_it_had_open_does_not(ledger: Ledger) -> None:
    add(found := worker(ledger, 1, "/a"), SHOP, 3)
    found._memory[found.mount(SHOP).place + counters.IN_FLIGHT] = 5
    assert ledger.total().mounts[SHOP][counters.IN_FLIGHT] == 5
    ledger.close(1)
    ledger.close(1)
    assert total(ledger, SHOP) == 3
    assert ledger.total().mounts[SHOP][counters.IN_FLIGHT] == 0
    add(worker(ledger, 2, "/a"), SHOP, 1)
    assert total(ledger, SHOP) == 4


def test_a_generation_that_is_adopted_is_counted_in_the_same_memory(ledger: Ledger) -> None:
    found = worker(ledger, 1, "/a")
    add(found, SHOP, 1)
    second = generation("/b", "/a")
    found.adopt(second)
    ledger.adopt(1, second)
    add(found, SHOP, 1)
    add(found, ("shop", "/b"), 5)
    assert (total(ledger, SHOP), total(ledger, ("shop", "/b"))) == (2, 5)


def test_what_has_gone_with_its_mount_is_kept_in_one_sum(ledger: Ledger) -> None:
    for number in range(1, 30):
        add(worker(ledger, number, f"/{number}"), ("shop", f"/{number}"), 10)
        ledger.close(number)
    worker(ledger, 99, "/a")
    assert total(ledger, (SHOP[0], GONE[1])) == 290
    assert ledger.total().mounts.keys() <= {GONE, (SHOP[0], GONE[1]), ELSEWHERE, SHOP}


def test_a_worker_cannot_change_the_size_of_its_file() -> None:
    ledger = Ledger()
    descriptor = ledger.open(1, generation("/a"))
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


def test_a_file_that_was_cut_short_all_the_same_spoils_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")  # a file without seals
    ledger = Ledger()
    add(worker(ledger, 1, "/a"), SHOP, 3)
    descriptor = ledger.open(2, generation("/a"))
    os.ftruncate(descriptor, 10)
    assert total(ledger, SHOP) == 3
    ledger.close(2)
    assert total(ledger, SHOP) == 3


def test_a_worker_may_write_anything(ledger: Ledger) -> None:
    descriptor = ledger.open(1, generation("/a"))
    with mmap.mmap(descriptor, os.fstat(descriptor).st_size) as memory:
        memory[:] = b"\xff" * len(memory)
        assert total(ledger, SHOP) == 0
        memory[:] = b"\x7f" * len(memory)
    ledger.close(1)
    assert total(ledger, SHOP) == int.from_bytes(b"\x7f" * 8, "little")


# Another supervisor in the place of ours


def succeed(ledger: Ledger, begun: Generation, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Return the ledger of a supervisor that takes our place, whose child it is."""
    monkeypatch.setattr(os, "getppid", os.getpid)
    text, descriptors = ledger.hand_over(begun)
    other = Ledger()
    assert other.take_over(text, [os.dup(descriptor) for descriptor in descriptors])
    return other


def leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the supervisor before have ended, and with it its workers."""
    monkeypatch.setattr(os, "getppid", lambda: 1)


def release(*ledgers: Ledger) -> None:
    """Close what the ledgers have open, as their ends would."""
    for ledger in ledgers:
        for page in (*ledger._pages.values(), *ledger._inherited, *ledger._spare):
            page.close()


def test_a_successor_counts_on_with_what_was_kept_and_what_those_add_that_drain(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(worker(ledger, 1, "/a"), SHOP, 10)
    ledger.close(1)
    add(draining := worker(ledger, 2, "/a"), SHOP, 5)
    other = succeed(ledger, generation("/a"), monkeypatch)
    assert total(other, SHOP) == 15
    add(draining, SHOP, 1)
    add(worker(other, 1, "/a"), SHOP, 100)
    draining._memory[draining.mount(SHOP).place + counters.IN_FLIGHT] = 7
    assert total(other, SHOP) == 116
    assert other.total().mounts[SHOP][counters.IN_FLIGHT] == 7
    leave(monkeypatch)
    assert total(other, SHOP) == 116
    assert other.total().mounts[SHOP][counters.IN_FLIGHT] == 0
    assert other._inherited == []
    release(ledger, other)


def test_workers_that_begin_while_it_starts_are_counted_there_as_well(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = generation("/a")
    worker(ledger, 1, "/a")
    other = succeed(ledger, begun, monkeypatch)
    for number in range(2, 6):
        ledger.close(number - 1)
        add(worker(ledger, number, "/a"), SHOP, number)
    assert total(ledger, SHOP) == total(other, SHOP) == 2 + 3 + 4 + 5
    release(ledger, other)


def test_a_reload_after_a_successor_has_failed_begins_with_files_of_its_own(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = succeed(ledger, generation("/a"), monkeypatch)
    changed = replace(generation("/b", "/a"), number=2)
    found = Counters(changed, os.dup(ledger.open(1, changed)))
    add(found, ("shop", "/b"), 3)
    assert total(ledger, ("shop", "/b")) == 3
    assert total(other, SHOP) == 0
    assert ledger._spare == []
    release(ledger, other)


def test_upgrades_follow_one_another_without_a_loss(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    every, found = [ledger], worker(ledger, 1, "/a")
    for number in range(1, 6):
        add(found, SHOP, number)
        every.append(succeed(every[-1], generation("/a"), monkeypatch))
        found = worker(every[-1], 1, "/a")
    leave(monkeypatch)
    assert total(every[-1], SHOP) == 15
    assert total(every[-1], SHOP) == 15
    release(*every)


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "another"},
        {"kept": {"mounts": [[["shop", "/a"], [1, 2]]], "listeners": []}},
        {"kept": {"mounts": [[["shop"], []]], "listeners": []}},
        {"kept": []},
        {"charts": []},
        {"charts": [{"mounts": 1}]},
        {"pid": None},
    ],
)
def test_what_is_not_understood_is_not_counted_and_nothing_is_left_open(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, other = Ledger(), Ledger()
    add(worker(ledger, 1, "/a"), SHOP, 5)
    text, descriptors = ledger.hand_over(generation("/a"))
    copies = [os.dup(descriptor) for descriptor in descriptors]
    assert not other.take_over(json.dumps({**json.loads(text), **change}), copies)
    for copy in copies:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(copy)
    assert other.total().mounts == {}
    assert not Ledger().take_over("nonsense", [])
    release(ledger)
