"""The requests in flight as log and supervisor show them: method, path, app and age, the oldest first.

Ages cost a request nothing: they count from the beat at which it was first seen. The event loop looks, the
watchdog's thread reads while the event loop is blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

from serverd.asgi.exchange import Exchange
from serverd.asgi.progress import COMPLETE
from serverd.messages import IN_FLIGHT_SHOWN
from serverd.observe.logs import escape

__all__ = ["InFlight", "describe"]

# Characters of one request that are shown; a path may be as long as the limit on the request line.
_SHOWN_SIZE = 200


class InFlight:
    """What is known about the requests in flight."""

    def __init__(self, exchanges: Callable[[], list[Exchange]], clock: Callable[[], float]) -> None:
        """Begin to look; `exchanges` returns those in flight and may be called by any thread, as may `clock`."""
        self._exchanges = exchanges
        self._clock = clock
        self._seen: dict[Exchange, float] = {}  # when first, the oldest first
        self._looked = clock()

    def look(self) -> int:
        """Note which requests are in flight now; return their number."""
        now = self._clock()
        active = self._exchanges()
        left = set(active)
        seen = {exchange: since for exchange, since in self._seen.items() if exchange in left}
        for exchange in active:
            seen.setdefault(exchange, now)
        # As a whole: the other thread may be reading.
        self._seen, self._looked = seen, now
        return len(active)

    def overdue(self) -> list[Exchange]:
        """Return the requests whose response has not been completed in their application's request_timeout."""
        now = self._clock()
        return [
            exchange
            for exchange, since in self._seen.items()
            if 0 < exchange.endpoint.request_timeout <= now - since and exchange.state is not COMPLETE
        ]

    def shown(self) -> tuple[str, ...]:
        """Return the oldest requests, IN_FLIGHT_SHOWN at most, each as one line."""
        now = self._clock()
        active = self._exchanges()
        seen, looked = self._seen, self._looked
        left = set(active)
        known = [(exchange, since) for exchange, since in seen.items() if exchange in left]
        # One that was not seen yet has begun after the last look.
        fresh = ((exchange, looked) for exchange in active if exchange not in seen)
        return tuple(describe(exchange, now - since) for exchange, since in islice((*known, *fresh), IN_FLIGHT_SHOWN))

    def of_task(self, task: asyncio.Task[Any] | None) -> Exchange | None:
        """Return the request that `task` runs; None when it is none, or was started by one."""
        return next((exchange for exchange in self._exchanges() if exchange.task is task), None) if task else None


def describe(exchange: Exchange, age: float) -> str:
    """Return the request as one line; `age` in seconds."""
    suffix = f" (app {exchange.endpoint.name}, {age:.1f} s)"
    request = escape(exchange.description)
    room = max(_SHOWN_SIZE - len(suffix), 0)
    return f"{request if len(request) <= room else f'{request[: room - 3]}...'}{escape(suffix)}"[:_SHOWN_SIZE]
