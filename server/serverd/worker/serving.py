"""Serving one generation: its listeners' routes, the accepting of connections, the sweep, the drain.

`process` makes one `Serving` when the applications are up. There is a `Service` for each listener that
the worker has sockets of; one sweep a second looks at the deadlines of all their connections and renews
the Date field.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.asgi.types import Scope
from serverd.connection.http1 import Http1Connection
from serverd.connection.service import OpenConnection, Service
from serverd.generation import AppTarget, Generation, Listener, Mount, RedirectTarget, RespondTarget
from serverd.messages import SocketGrant
from serverd.protocol.head import normalise_host
from serverd.protocol.http1_head import FieldParser
from serverd.protocol.http1_response import DefaultFields

__all__ = ["Serving"]

log = logging.getLogger("serverd.worker")

_SWEEP_INTERVAL = 1.0  # s: how exact a timeout of a few seconds has to be
_DRAIN_INTERVAL = 0.05  # s: while draining somebody waits for the end
_QUEUE_TIMEOUT = 1.0  # s to empty the queues of the listening sockets: what is left then fills as fast as we accept
_ACCEPT_BATCH = 64  # connections that asyncio accepts, or fails to, and logs, in one turn of the loop
_CONNECT_TURNS = 3  # of the loop, at most, from the accepting of a connection to its `connection_made`
_CUT_TIMEOUT = 1.0  # s that a cancelled application has to come to its end

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Serving:
    """The serving of one generation in one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, generation: Generation, endpoints: dict[str, Endpoint]) -> None:
        """Build the routes; `endpoints` holds the running applications by name."""
        self._loop = loop
        self._generation = generation
        server = generation.server
        self._defaults = DefaultFields(b"serverd" if server.server_header else b"")
        make_parser = _parser_factory(server.http1_parser)
        self._services = {
            listener.name: Service(
                loop, _router(generation, listener, endpoints), listener.limits, self._defaults, make_parser
            )
            for listener in generation.listeners
        }
        self._servers: list[asyncio.Server] = []
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._interval = _SWEEP_INTERVAL
        self._drained: asyncio.Future[None] | None = None  # while draining: nothing is in flight any more

    async def open(self, grants: Iterable[SocketGrant]) -> None:
        """Begin to accept connections on the inherited listening sockets."""
        backlogs = {listener.name: listener.backlog for listener in self._generation.listeners}
        self._sweep()
        for grant in grants:
            service = self._services[grant.listener]
            self._servers.append(await _serve(self._loop, grant.fd, service, backlogs[grant.listener]))

    async def close(self) -> None:
        """Accept what is queued, because closing would reset it, then close the listening sockets."""
        listening = [sock.fileno() for server in self._servers for sock in server.sockets]
        queues = select.poll()
        for fd in listening:
            queues.register(fd, select.POLLIN)
        end = self._loop.time() + _QUEUE_TIMEOUT
        while queues.poll(0) and self._loop.time() < end:
            await _turn()  # uvloop accepts one connection of each queue in it
        # asyncio drops without a word what it has accepted and made no transport for when its server is closed.
        for fd in listening:
            self._loop.remove_reader(fd)
        await _turn(_CONNECT_TURNS)
        for server in self._servers:
            server.close()
        await _turn(_CONNECT_TURNS)  # uvloop, which loses nothing, has gone on accepting

    async def drain(self, patience: float) -> None:
        """Let what is in flight end within `patience` seconds, cut the rest and log it; `close` comes before."""
        for service in self._services.values():
            service.draining = True
        for connection in self._connections():
            connection.drain()
        self._interval = _DRAIN_INTERVAL
        self._drained = self._loop.create_future()
        self._sweep()
        await asyncio.wait({self._drained}, timeout=patience)
        if self._busy():
            await self._cut(patience)
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()

    async def _cut(self, patience: float) -> None:
        tasks = set()
        for exchange in [exchange for service in self._services.values() for exchange in service.exchanges]:
            log.warning("cut after draining for %g s: %s", patience, exchange.description)
            tasks.add(exchange.cancel())
        if tasks:
            await asyncio.wait(tasks, timeout=_CUT_TIMEOUT)
        for connection in self._connections():
            connection.cut()

    def _busy(self) -> bool:
        return any(service.connections or service.exchanges for service in self._services.values())

    def _connections(self) -> list[OpenConnection]:
        return [connection for service in self._services.values() for connection in service.connections]

    def _sweep(self) -> None:
        """Renew the Date field, look at every deadline, and come back after the interval."""
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        if self._generation.server.date_header:
            self._defaults.set_date(_imf_fixdate(time.time()))
        now = self._loop.time()
        for connection in self._connections():
            try:
                connection.sweep(now)
            except Exception:
                # A bug of ours; it must not take the deadlines of all other connections along.
                log.exception("a connection could not be swept, cutting it: this is a bug of serverd")
                connection.cut()
        if self._drained is not None and not self._drained.done() and not self._busy():
            self._drained.set_result(None)
        self._sweep_handle = self._loop.call_later(self._interval, self._sweep)


async def _turn(times: int = 1) -> None:
    """Let the event loop turn."""
    for _ in range(times):
        await asyncio.sleep(0)


async def _serve(loop: asyncio.AbstractEventLoop, fd: int, service: Service, backlog: int) -> asyncio.Server:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)

    def make_connection() -> Http1Connection:
        return Http1Connection(service)

    if sock.family != socket.AF_UNIX:
        server = await loop.create_server(make_connection, sock=sock, backlog=_ACCEPT_BATCH)
    else:
        # The path belongs to the supervisor: a worker that ends must not take it from the others.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        server = await loop.create_unix_server(make_connection, sock=sock, backlog=_ACCEPT_BATCH, **options)
    with socket.socket(fileno=os.dup(fd)) as listening:
        listening.listen(backlog)  # the queue itself may be longer
    return server


def _parser_factory(name: str) -> Callable[[], FieldParser]:
    if name == "h11" or (name == "auto" and not importlib.util.find_spec("httptools")):
        from serverd.protocol.http1_h11 import H11Parser  # only the one that is used costs memory

        return H11Parser
    from serverd.protocol.http1_httptools import HttptoolsParser

    return HttptoolsParser


def _imf_fixdate(now: float) -> bytes:
    """Return the time in seconds since the epoch as an IMF-fixdate (RFC 9110 §5.6.7), whatever the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(now)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month]} {year} {hour:02}:{minute:02}:{second:02} GMT".encode()


def _router(generation: Generation, listener: Listener, endpoints: dict[str, Endpoint]) -> Router:
    routes = [
        Route(mount.hosts, mount.path, _endpoint(mount, endpoints))
        for mount in generation.mounts
        if listener.name in mount.listeners
    ]
    return Router(
        routes,
        unmounted=Endpoint(builtin.not_found, "serverd"),
        unserved=Endpoint(builtin.misdirected, "serverd"),
        options=Endpoint(builtin.options, "serverd"),
    )


def _endpoint(mount: Mount, endpoints: dict[str, Endpoint]) -> Endpoint:
    target = mount.target
    if isinstance(target, AppTarget):
        strip = mount.path if target.strip_prefix and mount.path != "/" else ""
        return replace(endpoints[target.app], root_path=target.root_path, strip=strip)
    if isinstance(target, RespondTarget):
        fields = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in target.headers]
        return Endpoint(builtin.respond(target.status, target.body.encode(), fields), "serverd")
    return Endpoint(builtin.redirect(_location(target)), "serverd")


def _location(target: RedirectTarget) -> Callable[[Scope], bytes]:
    """Return what fills {host} and {uri} of a redirect from a request's scope; one pass, nothing is expanded twice."""
    parts = [part.encode() for part in target.location.replace("{uri}", "\0u\0").replace("{host}", "\0h\0").split("\0")]

    def location(scope: Scope) -> bytes:
        host = next((normalise_host(value) for name, value in scope["headers"] if name == b"host"), "")
        query = scope["query_string"]
        uri = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        filled = {b"u": uri, b"h": (host or _own_host(scope)).encode()}
        # Every second part stood between two marks.
        return b"".join(filled[part] if index % 2 else part for index, part in enumerate(parts))

    return location


def _own_host(scope: Scope) -> str:
    """Return where the request came in, for an HTTP/1.0 client that does not say where it wanted to go."""
    host, port = scope["server"] or ("localhost", None)
    if port is None:
        return "localhost"  # a unix socket: whoever stands before it knows the name
    return f"[{host}]" if ":" in host else host
