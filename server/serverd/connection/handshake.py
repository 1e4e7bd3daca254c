"""A connection whose TLS handshake is not complete: it is counted, bounded in time, and quiet about strangers.

It takes the place of the connection, from accept on or behind a PROXY header, and hands on when both sides have
agreed. What fails here is the other side's doing - a scanner, a probe, plain HTTP, a certificate that is not valid -
and worth one line for who debugs.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from serverd.asgi.scope import Peer
from serverd.connection.base import DRAIN_IDLE_TIMEOUT, LINGER_TIMEOUT, NEVER
from serverd.connection.http1 import Http1Connection
from serverd.connection.http2 import Http2Connection
from serverd.connection.peers import peer_of
from serverd.connection.refusing import refuse
from serverd.connection.service import Identity, Service
from serverd.connection.tls import TlsTransport
from serverd.connection.tls_extension import tls_extension
from serverd.errors import PeerError
from serverd.observe.counters import HANDSHAKES, HANDSHAKES_FAILED, NOTHING_YET
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.partial_head import read_request_line

__all__ = ["Handshake"]

log = logging.getLogger("serverd.connection")

# What a client is told that speaks HTTP where TLS is expected, as Go's net/http does: it cannot read an alert.
_THIS_PORT: Final = "this port speaks HTTPS"
_IN_THE_CLEAR: Final = (
    "HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
    f"Bad Request: {_THIS_PORT}\n"
).encode()


# What OpenSSL calls it when `ssl` cannot even ask `net.tls` what to do about a name.
_NAMELESS: Final = {"CALLBACK_FAILED": "the client asks for a name that is not ASCII"}


class Handshake(asyncio.Protocol):
    """A connection on its way to TLS."""

    __slots__ = (
        "_has_begun",
        "_identity",
        "_incoming",
        "_is_over",
        "_object",
        "_outgoing",
        "_peer",
        "_service",
        "_transport",
        "_trusted",
        "deadline",
        "speaks",
    )

    def __init__(
        self,
        service: Service,
        identity: Identity,
        peer: Peer | None = None,
        trusted: bool | None = None,
    ) -> None:
        """Prepare; `peer` and `trusted` are what a PROXY header says, None: what the socket says."""
        self._service = service
        self._identity = identity
        self._peer = peer
        self._trusted = trusted
        self.deadline = NEVER
        self.speaks = NOTHING_YET
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = identity.wrap(self._incoming, self._outgoing)
        self._has_begun = False  # something has come
        self._is_over = False  # it has failed, and the peer is given time to read why

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._peer is None:
            self._peer = peer_of(transport)
        service = self._service
        # One deadline for the handshake and the first head, from accept on: Go's ReadHeaderTimeout and nginx's
        # client_header_timeout are for both as well.
        self.deadline = service.loop.time() + service.limits.header_timeout
        if not service.enter(self):
            # To say 503 would take a handshake, which is what there is no room for.
            self._give_up("there are too many connections")
            self._transport.abort()
        elif service.draining:
            self.drain()  # it was accepted in the last moment

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._has_begun = True
        try:
            self._identity.hear(self._object, data)
        except ValueError as error:
            self._give_up(str(error))
            self._transport.abort()
            return
        self._incoming.write(data)
        # Hot path: a context manager would take 3 us, twice a handshake (benchmarks/ "a full handshake per request").
        before = sys.unraisablehook
        sys.unraisablehook = partial(_leave_name, before)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._refuse(error)
            return
        finally:
            sys.unraisablehook = before
        self._hand_on()

    def eof_received(self) -> bool:
        """Take the peer's end; nothing can come of it any more."""
        if not self._is_over:
            self._give_up("it has left during the TLS handshake")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = True
        self._service.leave(self)

    # Called by the worker.

    def sweep(self, now: float) -> None:
        """End the connection if its handshake is overdue; `now` is the loop's time in seconds."""
        if now >= self.deadline:
            if not self._is_over:
                self._give_up("its TLS handshake was not complete in time")
            self._transport.abort()

    def drain(self) -> None:
        """Leave a handshake that has begun its time, as a request comes after it; one that has not, only a moment."""
        if not self._has_begun:
            self.deadline = min(self.deadline, self._service.loop.time() + DRAIN_IDLE_TIMEOUT)

    def cut(self) -> None:
        """End at once."""
        self._transport.abort()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    # The end of it.

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _hand_on(self) -> None:
        """Let the connection begin that the handshake was for."""
        service, connection, identity, peer = self._service, self._object, self._identity, self._peer
        assert peer is not None  # since the connection was made
        try:
            extension = tls_extension(connection, identity.certificate_of(connection))
        except ValueError as error:
            self._give_up(f"the certificate of the client {error}")
            self._transport.abort()
            return
        peer = Peer(peer.client, peer.server, "https", extension, identity.names_of(connection))
        service.counts[HANDSHAKES] += 1
        service.connections.discard(self)  # its place is taken at once: nobody has left
        transport = TlsTransport(service.loop, self._transport, connection, self._incoming, self._outgoing)
        # Without ALPN it is HTTP/1, which notices by itself when a client speaks HTTP/2 (RFC 9113 §3.2, §3.3).
        make = Http2Connection if connection.selected_alpn_protocol() == "h2" else Http1Connection
        http = make(service, peer, self._trusted)
        transport.begin(http)
        http.deadline = min(http.deadline, self.deadline)
        transport.catch_up()

    def _refuse(self, error: ssl.SSLError) -> None:
        """Say why there is no connection, and give the peer time to read it (RFC 8446 §6.2)."""
        told = self._identity.objection_to(self._object) or getattr(error, "verify_message", "")
        told = told or _NAMELESS.get(error.reason)
        reason = told or (error.reason or "unknown reason").lower().replace("_", " ")
        self._give_up(f"the TLS handshake failed: {reason}")
        if error.reason == "HTTP_REQUEST" or _is_request(self._identity.heard(self._object)):
            self._outgoing.read()
            self._tell()
            self._transport.write(_IN_THE_CLEAR)
        self._flush()
        # Closed at once, what the peer has sent meanwhile would have the kernel take the alert back.
        self.deadline = self._service.loop.time() + LINGER_TIMEOUT
        try:
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # it has gone already

    def _tell(self) -> None:
        """Tell the listener's observer of an answer in the clear; as nginx, who looks for the request finds it."""
        peer, service = self._peer, self._service
        assert peer is not None  # since the connection was made
        error = PeerError(400, _THIS_PORT, read_request_line(self._identity.heard(self._object)))
        refuse(error, peer, OriginReader(service.trust, peer.client, peer.scheme, self._trusted), service)

    def _give_up(self, reason: str) -> None:
        self._is_over = True
        self._service.counts[HANDSHAKES_FAILED] += self._has_begun
        log.debug("closed a connection of %s: %s", self._peer, reason)


def _is_request(heard: bytes) -> bool:
    """Return whether a client has begun with the line of a request; of its methods OpenSSL knows four."""
    line = heard.partition(b"\n")[0]
    return b" HTTP/1." in line and read_request_line(line) is not None


def _leave_name(before: Callable[[sys.UnraisableHookArgs], object], raised: sys.UnraisableHookArgs) -> None:
    """Keep `ssl` from writing a traceback for a server name that is not ASCII, which ends the handshake anyway."""
    if raised.exc_type is not UnicodeDecodeError:
        before(raised)
