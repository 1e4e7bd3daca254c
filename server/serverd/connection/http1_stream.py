"""What an HTTP/1 connection sends: the writing side of the `Stream` of its exchange (RFC 9112 §6, §7).

The head of a response waits for the first bytes of its body and leaves with them. `http1` builds on this and says what
follows a response.
"""

from __future__ import annotations

from serverd.asgi.scope import Peer
from serverd.connection.base import Connection
from serverd.connection.service import Service
from serverd.protocol.head import Fields
from serverd.protocol.http1_response import ResponseEncoder, encode_informational

__all__ = ["Http1Stream"]

# Above this a body leaves beside its head instead of being copied behind it.
JOIN_LIMIT = 16 * 1024


class Http1Stream(Connection):
    """The side of an HTTP/1 connection that writes responses, one after the other."""

    __slots__ = ("_encoder", "_held", "_started")

    def __init__(self, service: Service, peer: Peer | None = None, trusted: bool | None = None) -> None:
        """Prepare; `peer` and `trusted` are what a PROXY header says, None: what the socket says."""
        super().__init__(service, peer, trusted)
        self._encoder = ResponseEncoder(service.defaults)
        self._held: bytes | None = None  # the response head that waits for the first body bytes
        self._started = False  # something of the final response is on the wire

    def _is_last(self) -> bool:
        """Return whether the connection has to end after the response that begins."""
        raise NotImplementedError

    def _finish_response(self) -> None:
        """Go on after a complete response."""
        raise NotImplementedError

    @property
    def takes_trailers(self) -> bool:
        """Whether the response can carry trailers."""
        return self._encoder.takes_trailers

    def send_informational(self, status: int, headers: Fields) -> None:
        if not self.closed:
            self._transport.write(encode_informational(status, headers))

    def send_headers(self, status: int, headers: Fields, end: bool) -> None:
        if self.closed:
            return
        if self._is_last():
            self._encoder.keep_alive = False
        head = self._encoder.encode_head(status, headers, end)
        if not end:
            self._held = head
            return
        self._started = True
        self._transport.write(head)
        self._finish_response()

    def send_response(self, status: int, headers: Fields, body: bytes) -> None:
        if self.closed:
            return
        if self._is_last():
            self._encoder.keep_alive = False
        head = self._encoder.encode_head(status, headers, False)
        self._started = True
        # Hot path: head and body leave in one write; benchmarks/ "plain GET".
        if len(body) > JOIN_LIMIT:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)
        self._finish_response()

    def send_body(self, data: bytes, end: bool) -> None:
        if self.closed:
            return
        pieces = self._encoder.encode_body(data, end)
        head = self._held
        if head is not None:
            self._held = None
            self._started = True
            pieces = (head, *pieces)
        if len(data) > JOIN_LIMIT:
            self._transport.writelines(pieces)
        else:
            self._transport.write(b"".join(pieces))
        if end:
            self._finish_response()

    def send_trailers(self, headers: Fields) -> None:
        if self.closed:
            return
        self._send_held()
        self._transport.write(self._encoder.encode_trailers(headers))
        self._finish_response()

    async def send_file(self, fd: int, count: int) -> None:
        self._send_held()
        await self._send_from(fd, count)

    def _send_held(self) -> None:
        head = self._held
        if head is not None:
            self._held = None
            self._started = True
            self._transport.write(head)
