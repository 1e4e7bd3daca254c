"""Serving one generation: its listeners' routes, the accepting of connections, the sweep, the drain.

`process` makes one `Serving` when the applications are up. There is a `Service` for each listener; one sweep a
second looks at the deadlines of all their connections and renews the Date field. Another generation is adopted in
place: the connections of a listener that stays keep their service and find the new routes in it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from serverd.asgi.cycle import Cycle
from serverd.asgi.scope import Endpoint
from serverd.asgi.session import Session
from serverd.connection.service import OpenConnection, Service
from serverd.errors import reason_of
from serverd.generation import Generation
from serverd.messages import SocketGrant
from serverd.protocol.http1_head import FieldParser
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.websocket_frames import CloseCode
from serverd.worker.acceptors import Acceptors
from serverd.worker.identities import Identities, identity_of, make_identities
from serverd.worker.in_flight import InFlight
from serverd.worker.inside import Inside
from serverd.worker.routes import make_router, request_id_name

__all__ = ["Serving"]

log = logging.getLogger("serverd.worker")

_SWEEP_INTERVAL = 1.0  # s: how exact a timeout of a few seconds has to be
_DRAIN_INTERVAL = 0.05  # s: while draining somebody waits for the end
_CUT_TIMEOUT = 1.0  # s that a cancelled application has to come to its end

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Serving:
    """The serving of one generation in one worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        generation: Generation,
        endpoints: Mapping[str, Endpoint],
        slot: int = 0,
        identities: Identities | None = None,
        inside: Inside | None = None,
    ) -> None:
        """Build the routes; `endpoints` holds the applications by name and is looked at again by `reroute`.

        `identities` are those of `generation`; made here if None, which raises ConfigError. `inside` has the counters.
        """
        self._inside = inside or Inside(generation)
        self._loop = loop
        self._endpoints = endpoints
        self._defaults = DefaultFields()
        self._services: dict[str, Service] = {}
        self.identities: Identities = {}  # by which the listeners speak TLS
        self._leaving: list[Service] = []  # of listeners that are no more; their last requests are in flight
        self._departed = 0  # requests of services that are forgotten
        self._acceptors = Acceptors(loop, slot, lambda: self.connections, self._on_crowd)
        self._settling: set[asyncio.Task[None]] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._interval = _SWEEP_INTERVAL
        self.in_flight = InFlight(self.exchanges, loop.time, self.sessions)
        self._drained: asyncio.Future[None] | None = None  # while draining: nothing is in flight any more
        self._take(generation, identities)

    async def open(self, grants: Iterable[SocketGrant], fds: Sequence[int]) -> None:
        """Begin to accept connections on the listening sockets `fds`, which belong to `grants` one by one."""
        self._sweep()
        await self._acceptors.hold(grants, fds, self._services)

    async def hold(self, grants: Iterable[SocketGrant], fds: Sequence[int]) -> None:
        """Take these listening sockets in the place of all others; raises OSError as `Acceptors.hold` does."""
        await self._acceptors.hold(grants, fds, self._services)

    async def cover(self, slots: Iterable[int]) -> None:
        """Accept on the sockets of these slots as well, and of no others; raises OSError."""
        await self._acceptors.cover(slots)

    async def adopt(
        self,
        generation: Generation,
        grants: Iterable[SocketGrant],
        fds: Sequence[int],
        identities: Identities | None = None,
    ) -> None:
        """Serve another generation of the same applications from now on; raises OSError.

        The connections of a listener that stays are not touched: routes and timeouts are the new ones from their
        next request on, bounds, parser and TLS are those they were opened with. A listener that goes accepts what is
        queued; its connections are invited to leave, and nothing in flight is cut.
        """
        self._forget_empty()
        before = self._services
        self._take(generation, identities)
        leaving = [service for name, service in before.items() if name not in self._services]
        self._leaving = [*self._leaving, *leaving]
        _drain(leaving)
        await self._acceptors.hold(grants, fds, self._services)

    def reroute(self) -> None:
        """Build the routes again, because an application has another endpoint."""
        for listener in self._generation.listeners:
            self._services[listener.name].router = make_router(
                self._generation, listener, self._endpoints, self._inside
            )

    def _take(self, generation: Generation, identities: Identities | None) -> None:
        """Make `generation` the one that is served; services of listeners that stay are changed in place."""
        self._inside.counters.adopt(generation)
        self.identities = make_identities(generation, self.identities) if identities is None else identities
        server = generation.server
        self._defaults.set_server(b"serverd" if server.server_header else b"")
        if server.date_header:
            self._defaults.set_date(_imf_fixdate(time.time()))
        parser = _make_parser(server.http1_parser)
        id_name = request_id_name(generation)
        services = {}
        for listener in generation.listeners:
            router = make_router(generation, listener, self._endpoints, self._inside)
            service = self._services.get(listener.name)
            if service is None:
                service = Service(self._loop, router, listener.limits, self._defaults, parser)
            service.adopt(router, listener, parser)
            service.identity = identity_of(listener, self.identities)
            service.on_crowd = self._on_crowd
            service.counts = self._inside.counters.row_of(listener.name)
            service.request_id_name = id_name
            service.observer = self._inside.observers.of_listener(listener)
            services[listener.name] = service
        # As a whole: the watchdog's thread may be looking.
        self._services = services
        self._generation = generation

    def _on_crowd(self) -> None:
        """Have the sockets of a listener left alone, or accepted on again."""
        task = self._loop.create_task(self._settle())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self) -> None:
        try:
            await self._acceptors.settle()
        except OSError as error:
            log.error("cannot accept on a socket again: %s", reason_of(error))

    def _forget_empty(self) -> None:
        """Forget services without connections; not in the sweep, as one may still be accepting its last ones."""
        for service in self._leaving:
            if not _is_used(service):
                self._departed += service.requests
        self._leaving = [service for service in self._leaving if _is_used(service)]

    # What there is.

    def count(self) -> None:
        """Write down what is open and in flight."""
        self._inside.counters.look(self._every_service())

    @property
    def requests(self) -> int:
        """How many requests have begun."""
        return self._departed + sum(service.requests for service in self._every_service())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(len(service.connections) for service in self._every_service())

    def descriptors(self) -> list[int]:
        """Return the descriptors of all sockets: those that listen and those of the connections."""
        connections = (connection.fileno() for connection in self._connections())
        return [*self._acceptors.descriptors(), *(fd for fd in connections if fd >= 0)]

    def exchanges(self) -> list[Cycle]:
        """Return the requests in flight; any thread may ask."""
        # A set becomes a list in one step of the interpreter.
        return [exchange for service in self._every_service() for exchange in list(service.exchanges)]

    def sessions(self) -> list[Session]:
        """Return the WebSockets whose application runs."""
        return [session for service in self._every_service() for session in list(service.sessions.open)]

    def _every_service(self) -> list[Service]:
        return [*self._services.values(), *self._leaving]

    def _busy(self) -> bool:
        return any(_is_used(service) for service in self._every_service())

    def _connections(self) -> list[OpenConnection]:
        return [connection for service in self._every_service() for connection in service.connections]

    # The end.

    async def close(self) -> None:
        """Accept what is queued, then close the listening sockets."""
        await self._acceptors.close()

    async def drain(self, patience: float, replaced: bool = False) -> None:
        """Let what is in flight end within `patience` seconds, cut the rest and log it; `close` comes before.

        WebSockets are open until then; the peers are told whether others serve on (`replaced`).
        """
        _drain(self._every_service())
        self._interval = _DRAIN_INTERVAL
        self._drained = self._loop.create_future()
        self._sweep()
        await asyncio.wait({self._drained}, timeout=patience)
        if self._busy():
            await self._cut(patience, CloseCode.SERVICE_RESTART if replaced else CloseCode.GOING_AWAY)
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()

    async def _cut(self, patience: float, code: CloseCode) -> None:
        tasks = set()
        for exchange in self.exchanges():
            log.warning("cut after draining for %g s: %s", patience, self.in_flight.describe(exchange))
            tasks.add(exchange.cancel())
        await self._close_sessions(code)
        for session in self.sessions():
            log.warning("cut after draining for %g s: WebSocket %s", patience, self.in_flight.name(session))
            tasks.add(session.cancel())
        if tasks:
            await asyncio.wait(tasks, timeout=_CUT_TIMEOUT)
        for connection in self._connections():
            connection.cut()

    async def _close_sessions(self, code: CloseCode) -> None:
        """Close all WebSockets, and leave their peers and applications a moment for their part of it."""
        sessions = self.sessions()
        if not sessions:
            return
        log.info("closing %d WebSocket%s with %d", len(sessions), "s" if len(sessions) > 1 else "", code)
        for session in sessions:
            session.leave(code)
        assert self._drained is not None  # only a drain cuts
        await asyncio.wait({self._drained}, timeout=_CUT_TIMEOUT)

    def _sweep(self) -> None:
        """Renew the Date field, look at every deadline, and come back after the interval."""
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        if self._generation.server.date_header:
            self._defaults.set_date(_imf_fixdate(time.time()))
        self._acceptors.look()
        now = self._loop.time()
        for connection in self._connections():
            try:
                connection.sweep(now)
            except Exception:
                # A bug of ours; it must not take the deadlines of all other connections along.
                log.exception("a connection could not be swept, cutting it: this is a bug of serverd")
                connection.cut()
        for cycle in [cycle for service in self._every_service() for cycle in (*service.exchanges, *service.answers)]:
            try:
                cycle.conclude()
            except Exception:
                log.exception("a request could not be concluded: this is a bug of serverd")
        if self._drained is not None and not self._drained.done() and not self._busy():
            self._drained.set_result(None)
        self._sweep_handle = self._loop.call_later(self._interval, self._sweep)


def _is_used(service: Service) -> bool:
    """Return whether anybody is connected, or an application works for somebody who was."""
    return bool(service.connections or service.exchanges or service.answers or service.sessions.open)


def _drain(services: Iterable[Service]) -> None:
    """Invite no further request on any of their connections."""
    for service in services:
        service.draining = True
        for connection in list(service.connections):
            connection.drain()


def _make_parser(name: str) -> FieldParser:
    if name == "h11" or (name == "auto" and not importlib.util.find_spec("httptools")):
        from serverd.protocol.http1_h11 import H11Parser  # only the one that is used costs memory

        return H11Parser()
    from serverd.protocol.http1_httptools import HttptoolsParser

    return HttptoolsParser()


def _imf_fixdate(now: float) -> bytes:
    """Return the time in seconds since the epoch as an IMF-fixdate (RFC 9110 §5.6.7), whatever the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(now)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month]} {year} {hour:02}:{minute:02}:{second:02} GMT".encode()
