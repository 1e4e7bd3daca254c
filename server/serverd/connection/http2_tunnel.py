"""One WebSocket's end of an HTTP/2 connection: the stream of an extended CONNECT (RFC 8441), bytes in, bytes out.

It begins as any request: until a session accepts it, what answers is a response. `http2_stream` has what both share.
"""

from __future__ import annotations

import logging
from enum import Enum

from serverd.asgi.session import Session
from serverd.asgi.stream import ByteStream
from serverd.connection.base import LINGER_TIMEOUT
from serverd.connection.http2_stream import Carrier, RequestStream
from serverd.errors import PeerError
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http2 import ErrorCode
from serverd.protocol.http2_states import StreamState

__all__ = ["Tunnel"]

log = logging.getLogger("serverd.connection")


class State(Enum):
    """How far the tunnel is."""

    ASKED = "a request: what the peer sends behind it waits, and its end is that of the peer"
    ACCEPTED = "a session has accepted it, and has not begun to take what waits"
    OPEN = "bytes go both ways"


class Tunnel(RequestStream):
    """One stream that may become a session."""

    __slots__ = ("_early", "_has_eof", "_progress")

    _abort_code = ErrorCode.CANCEL  # RFC 8441 §5: what a reset is to TCP

    def __init__(
        self, connection: Carrier, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool
    ) -> None:
        super().__init__(connection, stream_id, state, send_window, is_tunnel)
        self._progress = State.ASKED
        self._early = bytearray()  # what has come before the session takes it; bounded by the window
        self._has_eof = False  # the peer sends nothing more

    # Called by the core.

    def on_request(self, head: RequestHead, end: bool) -> None:
        """Route the request and start its cycle."""
        super().on_request(head, end)
        if end and not self.is_refused:
            self.receive_eof()

    def on_body(self, data: bytes, end: bool) -> None:
        """Hand a part of what the peer sends on."""
        self._unread += len(data)
        if self._progress is State.OPEN and not self._session.is_held:
            self._deliver(data)
        else:
            self._early += data
        if end:
            self.receive_eof()

    # The connection's side.

    def receive_eof(self) -> None:
        """Take note that the peer sends nothing more, which a session hears behind all that came before."""
        self._has_eof = True
        cycle = self.cycle
        if cycle is None:
            return
        if self._progress is State.ASKED:
            cycle.deliver_disconnect()
        elif self._progress is State.OPEN:
            self._look_for_end()

    def sweep(self, now: float) -> None:
        """Look after the session, and end what its peer leaves half open; `now` is the loop's time in seconds."""
        if self._progress is not State.OPEN:
            return
        if not self._has_ended:
            self._session.sweep(now)
        elif self.backlog is not None:
            self.deadline = now + LINGER_TIMEOUT  # not all has left; the core looks whether it goes on
        elif now >= self.deadline:
            self._connection.core.reset(self, ErrorCode.NO_ERROR)
            self.closed = True

    # The stream of the cycle.

    def send_headers(self, status: int, headers: Fields, end: bool) -> None:
        if status < 300:
            # RFC 9110 §9.3.6: any 2xx would open the tunnel, and who answers here knows nothing of tunnels.
            if self.cycle is not None:
                log.error(
                    "app %s refuses %s with %d: over HTTP/2 that would open the session, and the client gets 501"
                    " (expected 300 to 599)",
                    self.cycle.endpoint.name,
                    self.cycle.description,
                    status,
                )
            self.refuse(PeerError(501, "nothing here speaks the protocol of the tunnel"))
            return
        self.is_tunnel = False  # a request like any other
        super().send_headers(status, headers, end)

    def send_response(self, status: int, headers: Fields, body: bytes) -> None:
        self.send_headers(status, headers, False)
        self.send_body(body, True)

    def send_upgrade(self, headers: Fields) -> ByteStream:
        self._progress = State.ACCEPTED
        self._has_head = True
        connection = self._connection
        connection.core.send_headers(self, 200, headers, False)
        connection.flush_soon()
        # Soon: the session goes on as soon as it knows this stream.
        connection.service.loop.call_soon(self._begin)
        return self

    def resume_reading(self) -> None:
        if self._progress is State.OPEN:
            self._go_on()

    # The session.

    @property
    def _session(self) -> Session:
        assert isinstance(self.cycle, Session)  # nobody else asks for a tunnel
        return self.cycle

    def _begin(self) -> None:
        self._progress = State.OPEN
        if self.cycle is not None and not self.closed:
            self._go_on()

    def _go_on(self) -> None:
        """Hand on what has come while the session did not take it."""
        early = bytes(self._early)
        self._early.clear()
        self._deliver(early)
        self._look_for_end()

    def _deliver(self, data: bytes) -> None:
        if not data or not self._session.deliver_body(data, False):
            self._give_back()

    def _look_for_end(self) -> None:
        """End the session when its peer has, and it has taken all that came before (RFC 8441 §5)."""
        if self._has_eof and not self._session.is_held:
            self._session.deliver_disconnect()
            self.send_body(b"", True)

    def _note_end(self) -> None:
        cycle = self.cycle
        super()._note_end()
        self.cycle = cycle  # the session hears what has come from its peer
        self.deadline = self._connection.service.loop.time() + LINGER_TIMEOUT

    def _let_go(self) -> None:
        """Keep the session, which hears what has come from its peer."""
