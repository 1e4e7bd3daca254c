"""What workers have counted, in files of the supervisor's, whatever becomes of the workers and of the files."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

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
    assert total(ledger, GONE) == 290
    assert ledger.total().mounts.keys() <= {GONE, ELSEWHERE, SHOP}


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
