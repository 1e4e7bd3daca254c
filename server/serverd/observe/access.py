"""The access log of a worker: which requests have a line, and where the lines go.

`worker.observers` has one for the life of the worker and an `AccessObserver` for each mount. Not how a line looks,
which is `access_formats`, nor how it is written, which is `lines`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from time import perf_counter
from typing import Any

from serverd.generation import AccessLog as Settings
from serverd.observe.access_fields import Clock, Entry, Place
from serverd.observe.access_formats import make_format
from serverd.observe.lines import LineWriter

__all__ = ["AccessLog", "AccessObserver"]

log = logging.getLogger("serverd.access")

# Characters of a line, all of them ASCII, that every kind of descriptor keeps together: PIPE_BUF on Linux.
LONGEST_LINE = 4096
# Bytes that are left of each value in a line that would be longer; six characters each at most.
SHORT = 96

_WRONG = 400  # the first status that is somebody's mistake


class AccessLog:
    """The lines of one worker."""

    def __init__(self, settings: Settings, schedule: Callable[[Callable[[], None]], object]) -> None:
        """Begin with no descriptor; `schedule` calls a function a moment later."""
        self._writer = LineWriter(schedule)
        self.clock = Clock()
        self.write = self._writer.write
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Log as `settings` say from now on."""
        self._settings = settings
        self.format = make_format(settings.format, is_terminal=self._writer.is_terminal)
        self._exact = frozenset(path for path in settings.exclude if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in settings.exclude if path.endswith("*"))
        # Hot path: most logs leave nothing out; benchmarks/ "access log".
        self.leaves_out = bool(settings.exclude) or settings.sample < 1 or settings.min_duration > 0

    @property
    def is_enabled(self) -> bool:
        """Whether there is one."""
        return self._settings.enabled

    def reopen(self, descriptor: int) -> None:
        """Write to this descriptor, which is ours to close."""
        self._writer.reopen(descriptor)
        self.clock.adjust()
        self.adopt(self._settings)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def wants(self, entry: Entry, duration: float) -> bool:
        """Return whether a request that took `duration` seconds has a line."""
        settings, status = self._settings, entry.status
        path = entry.head.path
        if path in self._exact or path.startswith(self._prefixes):
            return not (200 <= status < 300) and not settings.exclude_failures
        if status >= _WRONG or entry.given_up:
            return True
        return duration >= settings.min_duration and (settings.sample >= 1 or random.random() < settings.sample)  # noqa: S311 - no secret


class AccessObserver:
    """Writes the lines of one mount; also of what a listener refuses."""

    __slots__ = ("_log", "_place")

    def __init__(self, log: AccessLog, place: Place) -> None:
        self._log = log
        self._place = place

    def on_exchange(self, cycle: Entry) -> None:
        """Write the line of a request."""
        end = perf_counter()
        access = self._log
        try:
            if access.leaves_out and not access.wants(cycle, end - cycle.began):
                return
            line = access.format(cycle, self._place, end, access.clock)
            if len(line) > LONGEST_LINE or not line.isascii():  # a template may hold anything
                line = _fitting(line, lambda: access.format(_Shortened(cycle), self._place, end, access.clock))
        except Exception:
            # The scope is the application's to change, and its response must not depend on what is logged of it.
            log.exception("no line in the access log for %r", cycle.head.raw_path[:SHORT])
            return
        access.write(line)

    on_session = on_refusal = on_exchange


def _fitting(line: str, shorten: Callable[[], str]) -> str:
    """Return a line of at most LONGEST_LINE bytes; one of a template that names ever so much is cut."""
    if len(line.encode(errors="backslashreplace")) > LONGEST_LINE:
        line = shorten()
    data = line.encode(errors="backslashreplace")
    if len(data) > LONGEST_LINE:
        line = data[: LONGEST_LINE - 1].decode(errors="ignore") + "\n"
    return line


class _Shortened:
    """An entry of which everything that the peer chose is cut."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.head = _ShortHead(entry.head)
        self.host = entry.host and entry.host[:SHORT]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)


class _ShortHead:
    """A head, cut likewise."""

    def __init__(self, head: Any) -> None:
        self.method = head.method[:SHORT]
        self.version = head.version
        self.raw_path = head.raw_path[:SHORT]
        self.query = head.query[:SHORT]
        self.fields = [(name, value[:SHORT]) for name, value in head.fields]
