"""What the workers have counted, of those that live and of those that have gone.

Each worker gets a file in memory, which it maps and adds to (`observe/counters`). Here it is only ever read, with
pread(2) and never through a mapping: a worker that cuts the file short, or writes nonsense, spoils its own numbers and
nothing else. When a worker has gone, its counts are added to what is kept. `supervisor` owns the ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from dataclasses import dataclass

from serverd.generation import Generation
from serverd.observe.counters import Chart, Tally

__all__ = ["Ledger"]


@dataclass(slots=True)
class _Page:
    """The counters of a worker that lives."""

    chart: Chart
    descriptor: int

    def read(self) -> bytes:
        with contextlib.suppress(OSError):
            return os.pread(self.descriptor, self.chart.used, 0)
        return b""


class Ledger:
    """The counters of all workers there ever were."""

    def __init__(self) -> None:
        self._kept = Tally()  # of workers that have gone
        self._pages: dict[int, _Page] = {}  # by the number of the worker

    def open(self, worker: int, generation: Generation) -> int:
        """Return the descriptor of fresh counters for a worker, which stays ours.

        What is kept for mounts that neither it nor any other knows becomes one. Raises OSError.
        """
        chart = Chart(generation)
        self._pages[worker] = _Page(chart, _open_file(chart.size))
        charts = [page.chart for page in self._pages.values()]
        self._kept.fold(
            {key for one in charts for key in one.mounts}, {name for one in charts for name in one.listeners}
        )
        return self._pages[worker].descriptor

    def adopt(self, worker: int, generation: Generation) -> None:
        """Take note that a worker goes on with another generation, for which it has found room."""
        page = self._pages.get(worker)
        if page is not None and page.chart.has_room(generation):
            page.chart.adopt(generation)

    def close(self, worker: int) -> None:
        """Keep what a worker has counted that has gone; without effect on one that has no counters."""
        page = self._pages.pop(worker, None)
        if page is not None:
            data = page.read()
            os.close(page.descriptor)  # with those of its handle, before anything takes time
            tally = page.chart.read(data)
            tally.end()
            self._kept.add(tally)

    def total(self) -> Tally:
        """Return everything that has been counted."""
        tally = Tally()
        tally.add(self._kept)
        for page in self._pages.values():
            tally.add(page.chart.read(page.read()))
        return tally


def _open_file(size: int) -> int:
    """Return the descriptor of a file of zeros, in memory or else in the directory for temporary files."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("serverd-counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        # Nobody makes it shorter, which would end the worker (SIGBUS), or longer, which would fill the memory.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
