"""The heartbeat of a worker: told from its event loop, so that it fails when the loop does.

`process` starts it when the worker is ready and sends what it makes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Callable

from serverd.messages import BEAT_INTERVAL, Beat
from serverd.worker.in_flight import InFlight
from serverd.worker.serving import Serving

__all__ = ["Pulse", "ResidentMemory"]

log = logging.getLogger("serverd.worker")


class Pulse:
    """One beat every BEAT_INTERVAL seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, serving: Serving, in_flight: InFlight, on_beat: Callable[[Beat], None]
    ) -> None:
        self._loop = loop
        self._serving = serving
        self._in_flight = in_flight
        self._on_beat = on_beat
        self._lag = 0.0  # seconds, the most since the last beat
        self._due = 0.0
        self._memory = ResidentMemory()

    def start(self) -> None:
        """Beat from now on, as long as the event loop turns."""
        self._due = self._loop.time() + BEAT_INTERVAL
        self._loop.call_at(self._due, self._beat)

    def note_lag(self, seconds: float) -> None:
        """Take note that the event loop was late by so much."""
        self._lag = max(self._lag, seconds)

    def _beat(self) -> None:
        self.note_lag(self._loop.time() - self._due)
        self.start()  # first: without a beat the worker is taken for hung
        lag, self._lag = self._lag, 0.0
        try:
            in_flight = self._in_flight.look()
            self._expire()
            self._serving.count()
            self._on_beat(
                Beat(
                    requests=self._serving.requests,
                    in_flight=in_flight,
                    connections=self._serving.connections,
                    rss=self._memory.read(),
                    lag=round(lag, 6),
                    oldest=self._in_flight.shown(),
                )
            )
        except Exception:
            log.exception("no heartbeat: this is a bug of serverd")

    def _expire(self) -> None:
        for exchange in self._in_flight.overdue():
            endpoint = exchange.endpoint
            log.warning(
                "app %s has not answered %s within %g s (request_timeout), cancelling it",
                endpoint.name,
                exchange.description,
                endpoint.request_timeout,
            )
            exchange.expire()


class ResidentMemory:
    """What this process holds in memory; its file stays open, as a worker may run out of descriptors."""

    def __init__(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = -1  # there is no /proc

    def read(self) -> int:
        """Return the resident memory in bytes; where there is no /proc, the most that it ever was."""
        try:
            return int(os.pread(self._statm, 256, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            # getrusage(2): bytes on macOS, kilobytes elsewhere.
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
