"""What the connections of one listener share inside a worker: the routes, the bounds, the clock.

Made by `worker.serving`, one for each listener; connections read it and enter themselves into its sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serverd.asgi.exchange import Exchange
from serverd.asgi.router import Router
from serverd.generation import Limits
from serverd.protocol.http1_head import Bounds, FieldParser
from serverd.protocol.http1_response import DefaultFields

__all__ = ["OpenConnection", "Service"]


class OpenConnection(Protocol):
    """What the worker may ask of an open connection, whatever it speaks."""

    def sweep(self, now: float) -> None:
        """End what is overdue; `now` is the loop's time in seconds."""

    def drain(self) -> None:
        """Invite no further request."""

    def cut(self) -> None:
        """End at once."""


@dataclass(slots=True, eq=False)
class Service:
    """The surroundings of a connection."""

    loop: asyncio.AbstractEventLoop
    router: Router
    limits: Limits
    defaults: DefaultFields
    make_parser: Callable[[], FieldParser]
    connections: set[OpenConnection] = field(default_factory=set)  # open ones
    exchanges: set[Exchange] = field(default_factory=set)  # requests in flight, background work included
    draining: bool = False  # no further request is invited
    requests: int = 0  # that have begun
    backlog: int = 0  # length of the queue of its listening sockets, for who makes them listen
    bounds: Bounds = field(init=False)

    def __post_init__(self) -> None:
        self._set_bounds()

    def adopt(self, router: Router, limits: Limits, make_parser: Callable[[], FieldParser]) -> None:
        """Change what connections find here at their next request: routes and timeouts.

        Bounds and parser are for connections that are opened from now on: one that is reading a head, or
        remembers one, goes on by the measure it began with.
        """
        self.router = router
        self.limits = limits
        self.make_parser = make_parser
        self._set_bounds()

    def _set_bounds(self) -> None:
        limits = self.limits
        self.bounds = Bounds(limits.request_line, limits.header_size, limits.header_count, limits.body_size)
