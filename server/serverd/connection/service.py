"""What the connections of one listener share inside a worker: the routes, the bounds, the clock.

Made by `worker.serving`, one for each listener; connections read it and enter themselves into its sets.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from serverd.asgi.cycle import Cycle
from serverd.asgi.observer import UNOBSERVED, RefusalObserver
from serverd.asgi.router import Router
from serverd.asgi.session import Sessions
from serverd.asgi.turn import Turn
from serverd.generation import Limits, Listener
from serverd.observe.counters import LISTENER_WIDTH, NOTHING_YET, SPOKE
from serverd.protocol.http1_head import Bounds, FieldParser
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.trust import Trust

__all__ = ["Identity", "OpenConnection", "Service"]

NOBODY: Final = Trust(())

# A crowd has dispersed when one part in so many of limits.connections is free.
CROWD_SHARE: Final = 16


class OpenConnection(Protocol):
    """What the worker may ask of an open connection, whatever it speaks."""

    speaks: int  # which of them, as `observe.counters` numbers them

    def sweep(self, now: float) -> None:
        """End what is overdue; `now` is the loop's time in seconds."""

    def drain(self) -> None:
        """Invite no further request."""

    def cut(self) -> None:
        """End at once."""

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""


class Identity(Protocol):
    """Who we are to clients that speak TLS; `net.tls.Contexts` is one."""

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's end of a TLS connection whose bytes come and go by two buffers."""

    def hear(self, connection: ssl.SSLObject, data: bytes) -> None:
        """Take note of what the client says, before OpenSSL gets it; raises ValueError when it has said too much."""

    def heard(self, connection: ssl.SSLObject) -> bytes:
        """Return what the client has said as long as it is no ClientHello."""

    def objection_to(self, connection: ssl.SSLObject) -> str:
        """Return why the identity itself has ended a handshake; "" when it was OpenSSL."""

    def certificate_of(self, connection: ssl.SSLObject) -> str | None:
        """Return the certificate, in PEM, that the client was shown; None when that cannot be told."""

    def names_of(self, connection: ssl.SSLObject) -> frozenset[str]:
        """Return the names, in lower case, that the certificates for this connection are for."""


def _nobodys_counts() -> list[int]:
    return [0] * LISTENER_WIDTH


@dataclass(slots=True, eq=False)
class Service:
    """The surroundings of a connection."""

    loop: asyncio.AbstractEventLoop
    router: Router
    limits: Limits
    defaults: DefaultFields
    parser: FieldParser
    connections: set[OpenConnection] = field(default_factory=set)  # open ones
    exchanges: set[Cycle] = field(default_factory=set)  # requests in flight, background work included
    answers: set[Cycle] = field(default_factory=set)  # requests that the server answers by itself
    turn: Turn = field(init=False)  # who begins together
    sessions: Sessions = field(init=False)  # WebSockets that have been accepted
    draining: bool = False  # no further request is invited
    name: str = ""  # of the listener
    requests: int = 0  # that have begun
    refused: int = 0  # what never was one
    counts: memoryview[int] | list[int] = field(default_factory=_nobodys_counts)  # a listener's row of the counters
    id_prefix: str = field(init=False)  # of the ids that are made for requests, which their number completes
    observer: RefusalObserver = UNOBSERVED  # of what is answered before it has a cycle
    request_id_name: bytes = b""  # of the field of its answer that holds its id; b"": none
    backlog: int = 0  # length of the queue of its listening sockets, for who makes them listen
    bounds: Bounds = field(init=False)
    http2_bounds: Http2Bounds = field(init=False)
    speaks_http1: bool = True
    speaks_http2: bool = True
    trust: Trust = NOBODY  # whom connections that are opened from now on believe
    demands_proxy: bool = False  # each begins with a PROXY header
    identity: Identity | None = None  # by which each speaks TLS; None: in the clear
    ambiguous_names: str = "drop"  # what becomes of field names with "_" or "."
    most_exchanges: int = field(init=False)  # 0: unlimited
    turned_away: int = 0  # of the connections, those that found no room and are about to end
    is_crowded: bool = False  # nothing more should be accepted (limits.connections_beyond = "wait")
    on_crowd: Callable[[], None] | None = None  # called when `is_crowded` changes

    def __post_init__(self) -> None:
        self.turn = Turn(self.loop)
        self.sessions = Sessions(self.limits.websocket, self.exchanges)
        self.id_prefix = f"{os.urandom(6).hex()}-"  # no other worker has it, before and after
        self._set_bounds()

    def enter(self, connection: OpenConnection) -> bool:
        """Add a connection; return whether there is room for it, by limits.connections."""
        limits = self.limits
        most = limits.connections
        has_room = not most or len(self.connections) - self.turned_away < most
        self.connections.add(connection)
        if most and limits.connections_beyond == "wait":
            self._watch_crowd()
            return True  # it was accepted before the others were made to wait
        return has_room

    def leave(self, connection: OpenConnection) -> None:
        """Remove a connection that has ended."""
        self.connections.discard(connection)
        if connection.speaks == NOTHING_YET:
            self.counts[SPOKE + NOTHING_YET] += 1
        if self.is_crowded:
            self._watch_crowd()

    def replace(self, connection: OpenConnection, successor: OpenConnection) -> None:
        """Put one that speaks another protocol in the place of a connection: nobody has left."""
        self.connections.discard(connection)
        self.connections.add(successor)

    def begin_to_speak(self, connection: OpenConnection, protocol: int) -> None:
        """Note, once for each connection, what it speaks."""
        connection.speaks = protocol
        self.counts[SPOKE + protocol] += 1

    def _watch_crowd(self) -> None:
        """Note, and tell, that nothing more should be accepted, or that something should again."""
        limits = self.limits
        most = limits.connections if limits.connections_beyond == "wait" else 0
        count = len(self.connections)
        # To begin again takes several free places, so that it does not happen with each connection that ends.
        is_crowded = 0 < most <= count or (self.is_crowded and count > most - max(1, most // CROWD_SHARE) and most > 0)
        if is_crowded is not self.is_crowded:
            self.is_crowded = is_crowded
            if self.on_crowd is not None:
                self.on_crowd()

    def adopt(self, router: Router, listener: Listener, parser: FieldParser) -> None:
        """Change what connections find here at their next request: routes and timeouts.

        Bounds, parser and whom to believe are for connections that are opened from now on: one that is reading a
        head, or remembers one, goes on by the measure it began with.
        """
        self.router = router
        self.name = listener.name
        self.limits = listener.limits
        self.backlog = listener.backlog
        self.trust = Trust(listener.trusted_proxies, (name.encode() for name in listener.forwarded_headers))
        self.demands_proxy = listener.proxy_protocol
        self.ambiguous_names = listener.ambiguous_headers
        self.parser = parser
        self.speaks_http1, self.speaks_http2 = ("http/1.1" in listener.protocols), ("h2" in listener.protocols)
        self._set_bounds()
        self._watch_crowd()

    def _set_bounds(self) -> None:
        limits = self.limits
        self.most_exchanges = limits.concurrency
        self.sessions.limits = limits.websocket
        self.bounds = Bounds(
            limits.request_line, limits.header_size, limits.header_count, limits.body_size, self.ambiguous_names
        )
        http2 = limits.http2
        self.http2_bounds = Http2Bounds(
            concurrent_streams=http2.concurrent_streams,
            initial_window=http2.initial_window,
            max_frame_size=http2.max_frame_size,
            resets=http2.resets,
            continuations=http2.continuations,
            header_list_size=limits.header_size,
            header_count=limits.header_count,
            request_line=limits.request_line,
            ambiguous_names=self.ambiguous_names,
            body_size=limits.body_size,
            send_timeout=math.ceil(limits.send_timeout),
        )
