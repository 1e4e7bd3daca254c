"""A thread that sees when the event loop stands still, says by what, and ends a process that nobody can.

It asks the loop to answer, again and again. A loop that does not for `lag_threshold` has its stack and the requests
in flight logged, once per episode, and told to the supervisor, which cannot look inside; once more shortly before
`hang_timeout`, when the supervisor kills. It sees a loop that is blocked in Python or in a call that releases the
GIL; for one that holds the GIL there are the stacks that faulthandler writes upon SIGUSR2, and `last_resort`.

The other task is a worker whose supervisor has died: nobody would kill it. If its loop does not turn either, it
cannot drain, and ends itself after `graceful_timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from serverd.generation import Server
from serverd.messages import BEAT_INTERVAL, Blocked
from serverd.worker.channel import Channel
from serverd.worker.in_flight import InFlight

__all__ = ["Step", "Watchdog", "own_stack", "steps"]

log = logging.getLogger("serverd.worker")

# Of hang_timeout: early enough for the supervisor to have it when it kills.
_LAST_WORDS = 0.8
# Questions to the loop per lag_threshold: what is blocked that long is found at the latest a quarter later.
_PROBES = 4
_SHORTEST_INTERVAL = 0.01  # seconds: a smaller threshold would only keep the processor busy
_LOOK_INTERVAL = 1.0  # seconds between two looks for the supervisor while the loop is blocked
# What lies between the entry point of a worker and an application that its event loop runs.
_MACHINERY = (
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ""),
    os.path.join(os.path.dirname(asyncio.__file__), ""),
    "<frozen runpy>",
)


class Step(NamedTuple):
    """What is due when the loop has been blocked for so long."""

    seconds: float
    warn: bool  # log the stack; else only the supervisor is told


def steps(server: Server) -> list[Step]:
    """Return what the watchdog does during one episode, in order; a time of 0 switches its step off."""
    found = [Step(server.lag_threshold, True), Step(server.hang_timeout * _LAST_WORDS, False)]
    return sorted(step for step in found if step.seconds > 0)


class Watchdog:
    """The watching of one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        in_flight: InFlight,
        channel: Channel,
        note_lag: Callable[[float], None],
    ) -> None:
        """Prepare; `note_lag` is told in the loop how many seconds it took to answer."""
        self._loop = loop
        self._loop_thread = threading.get_ident()  # made by the thread that runs the loop
        self._server = server
        self._in_flight = in_flight
        self._channel = channel
        self._note_lag = note_lag
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._orphaned_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="serverd watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on, in a thread that does not keep the process from ending."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; not needed at the end of a process, which is watched to the last."""
        self._stopped.set()
        self._answered.set()
        self._thread.join()

    def adopt(self, server: Server) -> None:
        """Go by other times from the next question on."""
        self._server = server

    def _run(self) -> None:
        while not self._stopped.wait(self._interval()):
            self._probe()

    def _interval(self) -> float:
        threshold = self._server.lag_threshold
        return min(BEAT_INTERVAL, max(threshold / _PROBES, _SHORTEST_INTERVAL)) if threshold else BEAT_INTERVAL

    def _probe(self) -> None:
        """Ask the loop to answer, and see to what is due until it does."""
        begin = time.monotonic()
        self._answered.clear()
        if self._stopped.is_set():
            return  # `stop` waits for us, and the loop for it
        due = steps(self._server)
        try:
            self._loop.call_soon_threadsafe(self._answer, begin)
        except RuntimeError:
            due = []  # the loop is closed: the process is about to end, if threads of the application let it
        warned = False
        blocked = 0.0
        while not self._answered.wait(max(min(due[0].seconds - blocked, _LOOK_INTERVAL), 0) if due else _LOOK_INTERVAL):
            blocked = time.monotonic() - begin
            while due and blocked >= due[0].seconds:
                step = due.pop(0)
                self._tell(blocked, step.warn)
                warned = warned or step.warn
            self._look_for_supervisor()
        self._orphaned_at = None
        if warned and not self._stopped.is_set():
            log.info("event loop turns again after %.1f s", time.monotonic() - begin)

    def _answer(self, begin: float) -> None:
        self._answered.set()
        self._note_lag(time.monotonic() - begin)

    def _tell(self, blocked: float, warn: bool) -> None:
        requests = self._in_flight.shown()
        # First: the log's lock may be what the loop is blocked with.
        self._channel.offer(Blocked(round(blocked, 3), requests))
        if warn:
            log.warning(
                "event loop blocked for %.1f s%s", blocked, self._culprit(), extra={"detail": self._detail(requests)}
            )

    def _culprit(self) -> str:
        """Return who blocks the loop, as the sentence goes on; nothing when it cannot be told."""
        exchange = self._in_flight.of_task(asyncio.current_task(self._loop))
        return "" if exchange is None else f" by app {exchange.endpoint.name} on {exchange.description}"

    def _detail(self, requests: tuple[str, ...]) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        parts = ["Requests in flight:", *(f"  {request}" for request in requests)] if requests else []
        if frame is not None:
            parts += ["Stack (most recent call last):", "".join(traceback.format_list(own_stack(frame)))]
        return "\n".join(parts)

    def _look_for_supervisor(self) -> None:
        """End the process, as the supervisor would have, when it has gone and the loop cannot drain for so long."""
        if not self._channel.has_ended:
            return
        now = time.monotonic()
        if self._orphaned_at is None:
            self._orphaned_at = now
        if now - self._orphaned_at >= self._server.graceful_timeout:
            with contextlib.suppress(Exception):  # not even a log that fails keeps it
                log.error("the supervisor has gone and the event loop does not turn, ending")
            os.kill(os.getpid(), signal.SIGKILL)


def own_stack(frame: FrameType) -> traceback.StackSummary:
    """Return the stack of a running thread from where the application's code begins; all of it when there is none."""
    stack = traceback.extract_stack(frame)
    for position, entry in enumerate(stack):
        if not entry.filename.startswith(_MACHINERY):
            return traceback.StackSummary.from_list(stack[position:])
    return stack
