"""What the workers have counted, of those that live and of those that have gone.

Each worker gets a file in memory, which it maps and adds to (`observe/counters`). Here it is only ever read, with
pread(2) and never through a mapping: a worker that cuts the file short, or writes nonsense, spoils its own numbers and
nothing else. When a worker has gone, its counts are added to what is kept. `supervisor` owns the ledger.

A supervisor that takes the place of another has its ledger, too: what was kept, and the files, to which the workers of
the other one add until they have drained.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from serverd.generation import Generation
from serverd.observe.counters import LAYOUT, Chart, Tally

__all__ = ["Ledger"]

# Workers that may begin while a successor starts, beside one for each that there is: those of crashes in a row.
_SPARE = 4


@dataclass(slots=True)
class _Page:
    """The counters of a worker that lives."""

    chart: Chart
    descriptor: int

    def read(self) -> bytes:
        with contextlib.suppress(OSError):
            return os.pread(self.descriptor, self.chart.used, 0)
        return b""

    def close(self) -> Tally:
        """Return what was counted by a worker that has gone."""
        data = self.read()
        os.close(self.descriptor)  # with those of its handle, before anything takes time
        tally = self.chart.read(data)
        tally.end()
        return tally


class Ledger:
    """The counters of all workers there ever were."""

    def __init__(self) -> None:
        self._kept = Tally()  # of workers that have gone
        self._pages: dict[int, _Page] = {}  # by the number of the worker
        self._inherited: list[_Page] = []  # of the workers of the supervisor before, while it has not left
        self._predecessor = 0  # its pid
        self._spare: list[_Page] = []  # that a successor has already, for workers of the generation `_spare_for`
        self._spare_for = 0

    def open(self, worker: int, generation: Generation) -> int:
        """Return the descriptor of fresh counters for a worker, which stays ours.

        What is kept for mounts that neither it nor any other knows becomes one. Raises OSError.
        """
        self._let_go()
        if self._spare_for != generation.number:
            self._drop_spare()
        self._pages[worker] = self._spare.pop() if self._spare else _make_page(generation)
        charts = [page.chart for page in (*self._pages.values(), *self._inherited)]
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
            self._kept.add(page.close())

    def total(self) -> Tally:
        """Return everything that has been counted."""
        self._let_go()
        tally = Tally()
        tally.add(self._kept)
        for page in (*self._pages.values(), *self._inherited):
            tally.add(page.chart.read(page.read()))
        return tally

    def hand_over(self, generation: Generation) -> tuple[str, list[int]]:
        """Return all of it as text for the supervisor that takes our place, and the files, in the text's order.

        They stay ours. Workers of `generation` that begin while it starts count in files that it has then. Raises
        OSError.
        """
        self._let_go()
        self._drop_spare()
        self._spare_for = generation.number
        for _ in range(len(self._pages) + _SPARE):
            self._spare.append(_make_page(generation))
        pages = [*self._pages.values(), *self._inherited, *self._spare]
        document = {
            "layout": LAYOUT,
            "pid": os.getpid(),
            "kept": self._kept.record(),
            "charts": [page.chart.record() for page in pages],
        }
        return json.dumps(document), [page.descriptor for page in pages]

    def take_over(self, text: str, descriptors: Sequence[int]) -> bool:
        """Go on with what another supervisor's `hand_over` returned; the files are ours from here on.

        Return False, and begin anew, when it counts differently or the text cannot be understood.
        """
        try:
            document = json.loads(text)
            if document["layout"] != LAYOUT:
                raise ValueError("another layout")
            kept = Tally.restore(document["kept"])
            charts = [Chart.restore(record) for record in document["charts"]]
            pages = [_Page(chart, descriptor) for chart, descriptor in zip(charts, descriptors, strict=True)]
            self._predecessor = int(document["pid"])
        except (ValueError, LookupError, TypeError, AttributeError):
            for descriptor in descriptors:
                os.close(descriptor)
            return False
        self._kept.add(kept)
        self._inherited = pages
        return True

    def _drop_spare(self) -> None:
        """Close the files that no worker has come to count in."""
        for page in self._spare:
            page.close()
        self._spare.clear()

    def _let_go(self) -> None:
        """Keep what the workers of the supervisor before have counted when it has left, and they with it."""
        if self._inherited and os.getppid() != self._predecessor:
            for page in self._inherited:
                self._kept.add(page.close())
            self._inherited = []


def _make_page(generation: Generation) -> _Page:
    chart = Chart(generation)
    return _Page(chart, _open_file(chart.size))


def _open_file(size: int) -> int:
    """Return the descriptor of a file of zeros, in memory or else in the directory for temporary files."""
    if not hasattr(os, "memfd_create"):
        import tempfile

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
