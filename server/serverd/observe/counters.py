"""What a worker counts, and where in its memory: rows of integers that the supervisor reads, also when it has gone.

The memory is a file of the supervisor's that the worker has mapped: what has been added to it is there whatever ends
the worker. Which row is for what nobody says: both sides draw the same `Chart` from the same generations, the one a
worker starts with and those it adopts. A row keeps its meaning for the worker's life; mounts that come later get
further rows, and a worker that has none left declines the generation, so that a new one begins with fresh memory.

Pure: no file, no mapping. `worker/counting` adds, `supervisor/ledger` reads; what it reads was written by a process
that is not trusted, and any bytes are numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from serverd.generation import AppTarget, Generation, Mount

__all__ = [
    "BOUNDS",
    "CLASSES",
    "ELSEWHERE",
    "GONE",
    "LAYOUT",
    "LISTENER_GAUGES",
    "LISTENER_WIDTH",
    "MOUNT_GAUGES",
    "MOUNT_WIDTH",
    "REFUSALS",
    "Chart",
    "Ended",
    "Key",
    "Tally",
    "class_at",
    "ended",
    "key_of",
]

Place = TypeVar("Place")

Key = tuple[str, str]
"""App and mount, as the labels of a metric have them; without an app, the server answers by itself."""

ELSEWHERE: Key = ("", "")  # what no mount serves
GONE: Key = ("", "(gone)")  # what was counted for mounts that are no more; of apps that others have, with their name

# Upper bounds of the histogram, in seconds: those of the Prometheus clients, and some for what is faster and slower.
BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# By the first digit of the status; 0: the client had gone before there was one.
CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")

# The row of a mount. Gauges are written twice a second and end with the worker, counters are added to.
IN_FLIGHT, SESSIONS_OPEN, SESSIONS, MESSAGES_RECEIVED, MESSAGES_SENT = range(5)
MOUNT_GAUGES = (IN_FLIGHT, SESSIONS_OPEN)
_FIRST_CLASS = 5
# Within the class of a status: how many took how long (their sum is the number of requests), then the totals.
MICROSECONDS = len(BOUNDS) + 1
RECEIVED, SENT = MICROSECONDS + 1, MICROSECONDS + 2  # bytes of bodies
CLASS_WIDTH = MICROSECONDS + 3
MOUNT_WIDTH = _FIRST_CLASS + len(CLASSES) * CLASS_WIDTH

# Statuses that the server refuses requests with before anything has been routed; others count as the last.
REFUSALS = (400, 408, 413, 414, 417, 421, 426, 431, 501, 503, 505, 0)

# What a connection speaks, and the first columns of the row of a listener: those that are open, by that.
NOTHING_YET, HTTP1, HTTP2, WEBSOCKET = range(4)
LISTENER_GAUGES = (NOTHING_YET, HTTP1, HTTP2, WEBSOCKET)
# Connections since the beginning, by what they spoke first: those that ended without having said it, HTTP/1, HTTP/2.
SPOKE = 4
ACCEPTED, HANDSHAKES, HANDSHAKES_FAILED = range(7, 10)
FIRST_REFUSAL = 10
LISTENER_WIDTH = FIRST_REFUSAL + len(REFUSALS)

# By what rows are read, for who takes over those of another supervisor; another number first when a column means
# something else.
LAYOUT = f"1 {LISTENER_WIDTH} {MOUNT_WIDTH} {BOUNDS} {CLASSES} {REFUSALS}"

# Rows for listeners and mounts that a worker does not know when it begins, beside as many as it does.
_SPARE_LISTENERS = 4
_SPARE_MOUNTS = 64
_ITEM = 8  # bytes


def class_at(status_class: int) -> int:
    """Return where in the row of a mount the class of a status begins."""
    return _FIRST_CLASS + status_class * CLASS_WIDTH


class Ended(NamedTuple):
    """The requests of a mount that have ended with one class of status."""

    status: str
    buckets: Sequence[int]  # how many took how long, by BOUNDS; the last of them longer
    microseconds: int
    received: int  # bytes
    sent: int

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(self.buckets)


def ended(row: Sequence[int]) -> Iterator[Ended]:
    """Yield what the row of a mount has counted, class by class."""
    for number, status in enumerate(CLASSES):
        part = row[class_at(number) : class_at(number + 1)]
        yield Ended(status, part[:MICROSECONDS], part[MICROSECONDS], part[RECEIVED], part[SENT])


def key_of(mount: Mount) -> Key:
    """Return what a mount is counted as; two that differ in their listeners alone are the same."""
    app = mount.target.app if isinstance(mount.target, AppTarget) else ""
    return app, ",".join(mount.hosts) + mount.path


@dataclass(slots=True)
class Tally:
    """Counted by key, and by the name of the listener: rows as they are in memory."""

    mounts: dict[Key, list[int]] = field(default_factory=dict)
    listeners: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        for key, row in other.mounts.items():
            _add(self.mounts, key, row)
        for name, row in other.listeners.items():
            _add(self.listeners, name, row)

    def record(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {"mounts": [*self.mounts.items()], "listeners": [*self.listeners.items()]}

    @classmethod
    def restore(cls, record: dict[str, Any]) -> Tally:
        """Return what `record` has written down; raises ValueError, LookupError or TypeError."""
        return cls(
            {(str(app), str(mount)): _checked(row, MOUNT_WIDTH) for (app, mount), row in record["mounts"]},
            {str(name): _checked(row, LISTENER_WIDTH) for name, row in record["listeners"]},
        )

    def end(self) -> None:
        """Forget the gauges: whoever had something open has gone, and what had said nothing has said nothing."""
        for row in self.listeners.values():
            known = row[SPOKE + HTTP1] + row[SPOKE + HTTP2]
            row[SPOKE + NOTHING_YET] = max(row[SPOKE + NOTHING_YET], row[ACCEPTED] - known)
        for rows, gauges in ((self.mounts.values(), MOUNT_GAUGES), (self.listeners.values(), LISTENER_GAUGES)):
            for row in rows:
                for column in gauges:
                    row[column] = 0

    def fold(self, mounts: Iterable[Key], listeners: Iterable[str]) -> None:
        """Keep only these apart: the mounts of an app that are no more become one, their listeners are forgotten.

        So what an app has had is its own as long as it has a mount; after that it is nobody's.
        """
        known = set(mounts)
        apps = {app for app, _ in known}
        for key in self.mounts.keys() - known:
            gone = (key[0] if key[0] in apps else "", GONE[1])
            if key != gone:
                _add(self.mounts, gone, self.mounts.pop(key))
        for name in self.listeners.keys() - set(listeners):
            del self.listeners[name]


def _add(rows: dict[Place, list[int]], key: Place, row: list[int]) -> None:
    before = rows.get(key)
    rows[key] = row.copy() if before is None else [one + more for one, more in zip(before, row, strict=True)]


def _checked(row: Iterable[int], width: int) -> list[int]:
    numbers = [int(number) for number in row]
    if len(numbers) != width:
        raise ValueError(f"{len(numbers)} columns")
    return numbers


class Chart:
    """Which row is for what."""

    def __init__(self, generation: Generation) -> None:
        """Draw the chart of a worker that starts with `generation`."""
        self.mounts: dict[Key, int] = {}  # by key: the number of the row
        self.listeners: dict[str, int] = {}
        keys, names = _wanted(generation)
        self._most_mounts = 2 * len(keys) + _SPARE_MOUNTS
        self._most_listeners = 2 * len(names) + _SPARE_LISTENERS
        self.adopt(generation)

    def record(self) -> dict[str, Any]:
        """Return the chart for JSON."""
        return {
            "mounts": [*self.mounts],
            "listeners": [*self.listeners],
            "most": [self._most_mounts, self._most_listeners],
        }

    @classmethod
    def restore(cls, record: dict[str, Any]) -> Chart:
        """Return what `record` has written down; raises ValueError, LookupError or TypeError."""
        chart = cls.__new__(cls)
        chart.mounts = {(str(app), str(mount)): row for row, (app, mount) in enumerate(record["mounts"])}
        chart.listeners = {str(name): row for row, name in enumerate(record["listeners"])}
        chart._most_mounts, chart._most_listeners = map(int, record["most"])
        return chart

    @property
    def size(self) -> int:
        """Bytes of the memory."""
        return (self._most_listeners * LISTENER_WIDTH + self._most_mounts * MOUNT_WIDTH) * _ITEM

    def has_room(self, generation: Generation) -> bool:
        """Return whether there are rows for all that is new in `generation`."""
        keys, names = _wanted(generation)
        return (
            len(self.mounts.keys() | keys.keys()) <= self._most_mounts
            and len(self.listeners.keys() | names.keys()) <= self._most_listeners
        )

    def adopt(self, generation: Generation) -> None:
        """Give rows to what is new in `generation`, for which there is room."""
        keys, names = _wanted(generation)
        for key in keys:
            self.mounts.setdefault(key, len(self.mounts))
        for name in names:
            self.listeners.setdefault(name, len(self.listeners))

    def place_of_listener(self, name: str) -> int:
        """Return where the row of a listener begins."""
        return self.listeners[name] * LISTENER_WIDTH

    def place_of_mount(self, key: Key) -> int:
        """Return where the row of a mount begins."""
        return self._most_listeners * LISTENER_WIDTH + self.mounts[key] * MOUNT_WIDTH

    def read(self, data: bytes) -> Tally:
        """Return what memory with these contents has counted; rows of nothing but zeros, or beyond the end, are out."""
        mounts = {key: self.place_of_mount(key) for key in self.mounts}
        listeners = {name: self.place_of_listener(name) for name in self.listeners}
        return Tally(_rows(data, mounts, MOUNT_WIDTH), _rows(data, listeners, LISTENER_WIDTH))

    @property
    def used(self) -> int:
        """Bytes up to the end of the last row that is for anything."""
        return (self._most_listeners * LISTENER_WIDTH + len(self.mounts) * MOUNT_WIDTH) * _ITEM


def _wanted(generation: Generation) -> tuple[dict[Key, None], dict[str, None]]:
    """Return the keys and the listeners of a generation, each once, in their order."""
    keys = dict.fromkeys([ELSEWHERE, *map(key_of, generation.mounts)])
    return keys, dict.fromkeys(listener.name for listener in generation.listeners)


def _rows(data: bytes, places: Mapping[Place, int], width: int) -> dict[Place, list[int]]:
    rows: dict[Place, list[int]] = {}
    size = width * _ITEM
    zeros = bytes(size)
    for key, place in places.items():
        row = data[place * _ITEM : place * _ITEM + size]
        if len(row) == size and row != zeros:  # of ten thousand mounts most are asked for rarely
            # Nothing is counted down below zero by whoever is honest.
            rows[key] = [max(number, 0) for number in array("q", row)]
    return rows
