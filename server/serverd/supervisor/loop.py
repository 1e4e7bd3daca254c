"""The loop of a supervisor: it sleeps until something happens, has `policy` decide, and has done what was decided.

There is no polling: it wakes for a descriptor, a signal, or the next moment at which something is due. What is done is
its owner's: `supervisor` serves, `rehearsal` only tries.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable

from serverd.supervisor import actions, events
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.policy import decide
from serverd.supervisor.signals import SignalInbox

__all__ = ["Loop"]


class Loop:
    """The loop of one fleet, and the context in which it turns: within it, signals are events."""

    def __init__(self, fleet: Fleet, perform: Callable[[actions.Action], None], reap: Callable[[], None]) -> None:
        """Prepare to have actions performed, and children looked after at SIGCHLD."""
        self.selector = selectors.DefaultSelector()  # the data of a descriptor is what is called with its events
        self._fleet = fleet
        self._perform = perform
        self._reap = reap
        self._queue: deque[events.Event] = deque([events.Begin()])
        self._timers: list[tuple[Callable[[], float | None], Callable[[float], None]]] = []
        self._context = contextlib.ExitStack()
        self.attend(fleet.deadline, self._on_time)

    def emit(self, event: events.Event) -> None:
        """Take an event, to be decided upon after those before it."""
        self._queue.append(event)

    def attend(self, deadline: Callable[[], float | None], on_time: Callable[[float], None]) -> None:
        """Wake at the `deadline` of something, None: it has none, and tell it the time whenever awake.

        Times are seconds of the monotonic clock.
        """
        self._timers.append((deadline, on_time))

    def __enter__(self) -> None:
        self._context.enter_context(self.selector)
        self._inbox = self._context.enter_context(SignalInbox())
        self.selector.register(self._inbox.descriptor, selectors.EVENT_READ, None)

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def run(self) -> int:
        """Turn until it is decided to exit; return the exit code."""
        while True:
            while self._queue:
                for action in decide(self._fleet, self._queue.popleft(), time.monotonic()):
                    self._perform(action)
                    if isinstance(action, actions.Exit):
                        return action.code
            self._wait()

    def _wait(self) -> None:
        """Sleep until something happens, and put it into the queue."""
        due = min((moment for deadline, _ in self._timers if (moment := deadline()) is not None), default=None)
        ready = self.selector.select(None if due is None else max(0.0, due - time.monotonic()))
        if not ready:
            # A wait that was interrupted, as by SIGSTOP, and whose time is over, returns without having looked.
            ready = self.selector.select(0)
        # Signals first: whoever stops a whole process group should not see its workers replaced.
        for number in self._inbox.take():
            if number is signal.SIGCHLD:
                self._reap()
            else:
                self.emit(events.SignalReceived(number))
        for key, mask in ready:
            if key.data is not None:
                key.data(mask)
        # Time last: beats that have waited because we were held up are not late.
        now = time.monotonic()
        for _, on_time in self._timers:
            on_time(now)

    def _on_time(self, now: float) -> None:
        deadline = self._fleet.deadline()
        if deadline is not None and now >= deadline:
            self.emit(events.Tick())
