"""What comes before the first request: a PROXY header, on listeners that demand one (proxy_protocol).

It takes the place of the connection until the header is complete, then hands the transport on. Who may send one is
decided by the address of the socket; what is not answered here is not answered at all, because the peer is a proxy.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from serverd.asgi.scope import Peer
from serverd.connection.base import DRAIN_IDLE_TIMEOUT, NEVER
from serverd.connection.handshake import Handshake
from serverd.connection.http1 import Http1Connection
from serverd.connection.peers import is_believed, peer_of
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.observe.counters import NOTHING_YET
from serverd.protocol.proxy import Proxied, ProxyHeader, Speaker

__all__ = ["Negotiation"]

log = logging.getLogger("serverd.connection")


class Negotiation(asyncio.Protocol):
    """A connection that has not said yet on whose behalf it is made."""

    __slots__ = ("_deadline", "_header", "_peer", "_service", "_transport", "speaks")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._header = ProxyHeader()
        self._peer = Peer(None, None)
        self._deadline = NEVER
        self.speaks = NOTHING_YET

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_of(transport)
        service = self._service
        # One deadline for the header and the first head: from accept on.
        self._deadline = service.loop.time() + service.limits.header_timeout
        has_room = service.enter(self)
        if not has_room:
            self._refuse("there are too many connections")
        elif not is_believed(self._peer, service.trust):
            self._refuse("it is not in trusted_proxies")
        elif service.draining:
            self.drain()  # it was accepted in the last moment

    def data_received(self, data: bytes) -> None:
        try:
            proxied = self._header.feed(data)
        except PeerError as error:
            self._refuse(error.reason)
            return
        if proxied is None:
            return
        service = self._service
        service.connections.discard(self)  # its place is taken at once: nobody has left
        peer, trusted = _peer_by(proxied, self._peer), _believes(proxied)
        connection: Http1Connection | Handshake
        if service.identity is None:
            connection = Http1Connection(service, peer, trusted)
        else:
            connection = Handshake(service, service.identity, peer, trusted)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.deadline = min(connection.deadline, self._deadline)
        if proxied.rest:
            connection.data_received(proxied.rest)

    def connection_lost(self, error: Exception | None) -> None:
        self._service.leave(self)

    # Called by the worker.

    def sweep(self, now: float) -> None:
        """End the connection if its header is overdue; `now` is the loop's time in seconds."""
        if now >= self._deadline:
            self._refuse("its PROXY header did not arrive in time")

    def drain(self) -> None:
        """Leave the peer as long as a request may be on the wire."""
        self._deadline = min(self._deadline, self._service.loop.time() + DRAIN_IDLE_TIMEOUT)

    def cut(self) -> None:
        """End at once."""
        self._transport.abort()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def _refuse(self, reason: str) -> None:
        log.debug("closed a connection of %s: %s", self._peer, reason)
        self._transport.abort()


def _peer_by(proxied: Proxied, peer: Peer) -> Peer:
    """Return the two ends of the connection as the header has them."""
    if proxied.speaker is not Speaker.CLIENT:
        return peer  # the proxy itself, or nobody that has an address
    tls = proxied.fields.tls
    return Peer(proxied.source, proxied.destination or peer.server, "https" if tls is not None else peer.scheme)


def _believes(proxied: Proxied) -> bool | None:
    """Return whether what the requests say of their origin is believed; None: if the client is a trusted proxy."""
    return False if proxied.speaker is Speaker.UNNAMED else None
