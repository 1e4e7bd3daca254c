"""A WebSocket over a socket of its own (RFC 6455): what an HTTP/1.1 connection becomes when a session is accepted.

It takes the place of the `Http1Connection` and is the stream of the session: bytes in, bytes out.
"""

from __future__ import annotations

from serverd.asgi.session import Session
from serverd.connection.base import NEVER, Connection
from serverd.connection.departure import Departure, look_for_departure
from serverd.observe.counters import WEBSOCKET

__all__ = ["WebSocketConnection"]


class WebSocketConnection(Connection):
    """One connection that carries one session; also the stream of the session."""

    __slots__ = ("_gone_since", "_session")

    def __init__(self, predecessor: Connection, session: Session) -> None:
        """Take the place of a connection that has sent the 101."""
        super().__init__(predecessor.service, predecessor.peer)
        self.speaks = WEBSOCKET
        self._session = session
        self._gone_since = NEVER  # loop's time since when the peer has been known to send nothing more
        self._take_over(predecessor)

    def begin(self, rest: bytes) -> None:
        """Go on with what has arrived behind the request."""
        if rest and not self.closed:
            self.data_received(rest)
        if not self._session.is_held:
            self._resume_reading()

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        if self._session.deliver_body(data, False):
            self._pause_reading()

    def eof_received(self) -> bool:
        """Take the peer's end; a session has no other half (RFC 6455 §7.1.1)."""
        self._session.deliver_disconnect()
        if not self.closed:
            self._end(linger=False)  # what is unsent has its time, and no more
        return False

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._session.deliver_disconnect()

    @property
    def idle(self) -> bool:
        """False: a session lasts until somebody closes it."""
        return False

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self.closed:
            return
        departure = Departure.NONE if self._reading else look_for_departure(self.fileno())
        if departure is Departure.HALF:
            # It may have sent messages before, which the application has some time to read.
            self._gone_since = min(self._gone_since, now)
            if now - self._gone_since >= self.service.limits.send_timeout:
                departure = Departure.WHOLE
        else:
            self._gone_since = NEVER
        if departure is Departure.WHOLE:
            self.cut()
        else:
            self._session.sweep(now)

    # The stream of the session.

    def send_body(self, data: bytes, end: bool) -> None:
        if self.closed:
            return
        if data:
            self._transport.write(data)
        if end:
            self._end(linger=True)

    def resume_reading(self) -> None:
        self._resume_reading()

    def abort(self) -> None:
        if not self.closed:
            self.cut()
