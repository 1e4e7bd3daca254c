"""The access log of a worker: which requests have a line, and where the lines go.

`worker.observers` has one for the life of the worker and an `AccessObserver` for each mount. Not how a line looks,
which is `access_formats`, nor how it is written, which is `lines`. A request is only noted at its end; the lines of
many are made together, a moment later.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from serverd.generation import AccessLog as Settings
from serverd.observe.access_fields import Clock, Entry, Noted, Place
from serverd.observe.access_formats import make_format
from serverd.observe.lines import LineWriter

__all__ = ["AccessLog", "AccessObserver"]

log = logging.getLogger("serverd.access")

# Characters of a line, all of them ASCII, that every kind of descriptor keeps together: PIPE_BUF on Linux.
LONGEST_LINE = 4096
# Bytes that are left of each value in a line that would be longer; six characters each at most.
SHORT = 96

# Requests that are noted before their lines are made at once; so many are kept a moment longer than they take. What 128
# keep, 3 KB each, is more than the second cache of some processors has beside all else: there a log took a
# quarter of the processor's time, with 32 it took 5 to 22 % in four runs (benchmarks/ "access log"); elsewhere no
# difference could be told. With 16 it took more again.
BATCH = 32

_WRONG = 400  # the first status that is somebody's mistake


class AccessLog:
    """The lines of one worker."""

    def __init__(self, settings: Settings, schedule: Callable[[Callable[[], None]], object]) -> None:
        """Begin with no descriptor; `schedule` calls a function a moment later."""
        self._schedule = schedule
        self._writer = LineWriter(schedule)
        self._clock = Clock()
        self.noted: list[Noted] = []  # the observers add to it
        self.is_due = False  # `_on_due` is scheduled
        self._use(settings)

    def adopt(self, settings: Settings) -> None:
        """Log as `settings` say from now on."""
        self.make_lines()
        self._use(settings)

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._format = make_format(settings.format, is_terminal=self._writer.is_terminal)
        self._exact = frozenset(path for path in settings.exclude if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in settings.exclude if path.endswith("*"))
        self._leaves_out = bool(settings.exclude) or settings.sample < 1 or settings.min_duration > 0

    @property
    def is_enabled(self) -> bool:
        """Whether there is one."""
        return self._settings.enabled

    def reopen(self, descriptor: int) -> None:
        """Write to this descriptor, which is ours to close."""
        self.make_lines()
        self._writer.reopen(descriptor)
        self._clock.adjust()
        self.adopt(self._settings)

    def close(self) -> None:
        """Write what is left."""
        self.make_lines()
        self._writer.close()

    def wait(self) -> None:
        """Write what is noted a moment from now, with what is until then."""
        self.is_due = True
        self._schedule(self._on_due)

    def _on_due(self) -> None:
        self.is_due = False
        self.write_down()

    def write_down(self) -> None:
        """Write the lines of what has been noted, as far as they are taken."""
        self.make_lines()
        self._writer.flush()

    def make_lines(self) -> None:
        """Make the lines of what has been noted, which are written when it is due, or they are many."""
        noted, self.noted = self.noted, []
        if self._leaves_out:
            noted = [one for one in noted if self._wants(one[0], one[0].ended - one[0].began)]
        if not noted:
            return
        try:
            text = self._text_of(noted)
        except Exception:
            text = "".join(map(self._text_of_one, noted))
        if text:
            self._writer.write(text)

    def _text_of(self, noted: list[Noted]) -> str:
        """Return the lines of what was noted."""
        lines = self._format(noted, self._clock)
        text = "".join(lines)
        if max(map(len, lines)) > LONGEST_LINE or not text.isascii():  # a template may hold anything
            text = "".join(map(self._fit, lines, noted))
        return text

    def _text_of_one(self, noted: Noted) -> str:
        """Return the line of one request; none if it cannot be made, which is a bug of ours."""
        try:
            return self._text_of([noted])
        except Exception:
            log.exception("no line in the access log for %r", noted[0].head.raw_path[:SHORT])
            return ""

    def _fit(self, line: str, noted: Noted) -> str:
        """Return a line of at most LONGEST_LINE bytes; one of a template that names ever so much is cut."""
        if len(line) <= LONGEST_LINE and line.isascii():
            return line
        if len(line.encode(errors="backslashreplace")) > LONGEST_LINE:
            entry, place = noted
            (line,) = self._format([(_Shortened(entry), place)], self._clock)
        data = line.encode(errors="backslashreplace")
        if len(data) > LONGEST_LINE:
            line = data[: LONGEST_LINE - 1].decode(errors="ignore") + "\n"
        return line

    def _wants(self, entry: Entry, duration: float) -> bool:
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
        """Take note of a request that has ended, of which nothing changes any more."""
        # Hot path: what makes a line is not at hand amid a request, and takes half the time when it makes many
        # (benchmarks/ "access log").
        log = self._log
        noted = log.noted
        noted.append((cycle, self._place))
        if not log.is_due:
            log.wait()
        elif len(noted) >= BATCH:
            log.make_lines()

    on_session = on_refusal = on_exchange


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
        self.shown = ((), "", "")
        self.raw_path = head.raw_path[:SHORT]
        self.query = head.query[:SHORT]
        self.fields = [(name, value[:SHORT]) for name, value in head.fields]
