"""The requests in flight as log and supervisor show them: method, path, app and age, the oldest first.

Ages cost a request nothing, because nothing is noted when it begins: `Pulse` looks with every beat, and an age counts
from the look that saw the request first, so that up to a BEAT_INTERVAL of it is missing. Of a request that no look has
seen it is known that it began after the last one: its age is shown as less than that ("< 0.7 s"). The event loop
looks, the watchdog's thread reads while the event loop is blocked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

from serverd.asgi.cycle import Cycle
from serverd.messages import IN_FLIGHT_SHOWN
from serverd.observe.logs import escape

__all__ = ["InFlight"]

# Characters of one request that are shown; a path may be as long as the limit on the request line.
_SHOWN_SIZE = 200


class InFlight:
    """What is known about the requests in flight."""

    def __init__(
        self,
        exchanges: Callable[[], list[Cycle]],
        clock: Callable[[], float],
        sessions: Callable[[], Sequence[Cycle]] = tuple,
    ) -> None:
        """Begin to look; `exchanges` returns those in flight and may be called by any thread, as may the others.

        Sessions are not in flight, they stay; but one of them may be what blocks the event loop.
        """
        self._exchanges = exchanges
        self._sessions = sessions
        self._clock = clock
        # When each was first seen, the oldest first, and when the last look was. Replaced as a whole: one thread looks,
        # the other reads.
        self._known: tuple[dict[Cycle, float], float] = ({}, clock())

    def look(self) -> int:
        """Note which requests are in flight now; return their number."""
        now = self._clock()
        active = self._exchanges()
        left = set(active)
        seen = {exchange: since for exchange, since in self._known[0].items() if exchange in left}
        for exchange in active:
            seen.setdefault(exchange, now)
        self._known = seen, now
        return len(active)

    def overdue(self) -> list[Cycle]:
        """Return the requests whose response has not been completed in their application's request_timeout."""
        now = self._clock()
        return [
            exchange
            for exchange, since in self._known[0].items()
            if 0 < exchange.endpoint.request_timeout <= now - since and not exchange.is_complete
        ]

    def shown(self) -> tuple[str, ...]:
        """Return the oldest requests, IN_FLIGHT_SHOWN at most, each as one line."""
        active = self._exchanges()
        seen, _ = self._known
        left = set(active)
        known = (exchange for exchange in seen if exchange in left)
        fresh = (exchange for exchange in active if exchange not in seen)
        return tuple(self.describe(exchange) for exchange in islice(chain(known, fresh), IN_FLIGHT_SHOWN))

    def describe(self, exchange: Cycle) -> str:
        """Return one request as a line, with its application and what is known of its age."""
        return _line(exchange, f" (app {exchange.endpoint.name}, {self._age(exchange)})")

    def name(self, cycle: Cycle) -> str:
        """Return one request, or session, as a line, with its application."""
        return _line(cycle, f" (app {cycle.endpoint.name})")

    def _age(self, exchange: Cycle) -> str:
        seen, looked = self._known
        now = self._clock()
        since = seen.get(exchange)
        if since is not None:
            return f"{now - since:.1f} s"
        # Rounded up, or it would not be true; the clock may be that of the look.
        return f"< {max(math.ceil((now - looked) * 10), 1) / 10:.1f} s"

    def of_task(self, task: asyncio.Task[Any] | None) -> Cycle | None:
        """Return the request that `task` runs; None when it is none, or was started by one."""
        cycles = chain(self._exchanges(), self._sessions())
        return next((cycle for cycle in cycles if cycle.task is task), None) if task else None


def _line(cycle: Cycle, suffix: str) -> str:
    request = escape(cycle.description)
    room = max(_SHOWN_SIZE - len(suffix), 0)
    return f"{request if len(request) <= room else f'{request[: room - 3]}...'}{escape(suffix)}"[:_SHOWN_SIZE]
