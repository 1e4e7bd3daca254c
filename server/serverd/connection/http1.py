"""HTTP/1.x over one socket: the shell around decoder and encoder, and the stream of its exchanges.

HTTP/1 has one exchange at a time, so the connection itself is the `Stream`. It routes each head to an
endpoint, starts the exchange, and when the response is complete goes on with what arrived meanwhile.
`http1_stream` is the side of it that writes.
"""

from __future__ import annotations

import logging
from typing import Final

from serverd.asgi.cycle import Cycle
from serverd.asgi.scope import Peer
from serverd.asgi.session import Session
from serverd.asgi.stream import ByteStream
from serverd.connection.base import (
    DRAIN_IDLE_TIMEOUT,
    NEVER,
    WAIT_BODY,
    WAIT_HEAD,
    WAIT_LINGER,
    WAIT_NOTHING,
    WAIT_REQUEST,
    Wait,
)
from serverd.connection.departure import Departure, look_for_departure
from serverd.connection.http1_stream import Http1Stream
from serverd.connection.http2 import Http2Connection
from serverd.connection.intake import begin
from serverd.connection.refusing import answer_for, refuse
from serverd.connection.service import Service
from serverd.connection.websocket import WebSocketConnection
from serverd.errors import PeerError
from serverd.observe.counters import HTTP1, NOTHING_YET
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http1 import DONE, HEAD, Http1Decoder, Http2Expected
from serverd.protocol.websocket_handshake import offers_websocket

__all__ = ["Http1Connection"]

log = logging.getLogger("serverd.connection")

# An unread request body up to this size is read and thrown away to keep the connection; Go's net/http does the same
# with 256 KiB. Beyond it closing is cheaper than reading. Where more may come, as of chunks, the response says so: a
# proxy that has sent it all would take the connection for the next request, perhaps another client's, which were lost.
DISCARD_LIMIT: Final = 256 * 1024


class Http1Connection(Http1Stream):
    """One HTTP/1.x connection; also the RequestSink of its decoder and the Stream of its exchange."""

    __slots__ = ("_decoder", "_discarded", "_eof", "_exchange", "_goes_on", "_is_full", "_outlasts")

    def __init__(self, service: Service, peer: Peer | None = None, trusted: bool | None = None) -> None:
        """Prepare; `peer` and `trusted` are what a PROXY header says, None: what the socket says."""
        super().__init__(service, peer, trusted)
        self._decoder = Http1Decoder(service.parser, self, service.bounds)
        self._exchange: Cycle | None = None  # the one whose response is not complete
        self._is_full = False  # the exchange has enough of the body for now
        self._goes_on = False  # more of a body that is held is decoded in the next turn of the loop
        self._discarded = 0  # bytes of an unread request body thrown away after the response
        self._outlasts = False  # such a body, that may be too large, is all for which the connection is not kept
        self._eof = False  # the peer has said that it sends nothing more

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        decoder = self._decoder
        try:
            decoder.feed(data)
        except PeerError as error:
            if isinstance(error, Http2Expected) and self.service.speaks_http2 and self.speaks == NOTHING_YET:
                Http2Connection(self.service, self.peer).take_over(self, error.data)
            else:
                self._refuse(error)
            return
        if decoder.state is DONE:
            if decoder.buffered:
                self._pause_reading()  # a pipelined request waits for the response before it
        elif decoder.state is HEAD and self._wait is WAIT_REQUEST and not decoder.idle:
            self._await(WAIT_HEAD, self.service.limits.header_timeout)
        elif decoder.is_held:
            self._hold()

    def _hold(self) -> None:
        """Let others have their turn before more of the body is decoded."""
        self._pause_reading()
        if not self._goes_on:
            self._goes_on = True
            self.service.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        decoder = self._decoder
        if self.closed or not decoder.is_held:
            return
        try:
            decoder.go_on()
        except PeerError as error:
            self._refuse(error)
            return
        if decoder.is_held:
            self._hold()
            return
        if self._exchange is None:
            self._resume_reading()  # what is left is thrown away, in the time that it has
        elif not self._is_full:
            self.resume_reading()
        if self._eof and not self.closed and not self._take_eof():
            self._end(linger=False)

    def eof_received(self) -> bool:
        """Take the peer's half-close; return True to go on writing (RFC 9112 §9.6)."""
        self._eof = True
        if self.closed:
            return False
        return self._decoder.is_held or self._take_eof()

    def _take_eof(self) -> bool:
        """Take the end after all that came before it; return whether to go on writing."""
        try:
            self._decoder.feed_eof()
        except PeerError as error:
            self._refuse(error)
            return True
        if self._exchange is None:
            self.send_held()  # the transport closes now
            return False
        # It may be a full close, which TCP cannot tell apart: the application is told, and may still answer.
        self._exchange.deliver_disconnect()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._decoder.close()
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.deliver_disconnect()

    @property
    def idle(self) -> bool:
        """True while nothing of a request has arrived since the last one was answered."""
        return self._decoder.idle

    def sweep(self, now: float) -> None:
        super().sweep(now)
        exchange = self._exchange
        if self._reading or self.closed or exchange is None:
            return
        departure = look_for_departure(self.fileno())  # of a peer that is not read
        if departure is Departure.WHOLE:
            self.cut()
        elif departure is Departure.HALF and not self._decoder.body_unfinished:
            # Else it has sent more of the body, and is told when that has been read.
            exchange.deliver_disconnect()

    # Called by the decoder.

    def on_head(self, head: RequestHead) -> None:
        """Route the request and start its exchange."""
        self._wait = WAIT_NOTHING  # Hot path: `await_nothing` without a call for it; benchmarks/ "plain GET"
        self.deadline = NEVER
        self._encoder.start(head.method, head.version, head.keep_alive)
        self._started = False
        self._discarded = 0
        service = self.service
        if not self.speaks:  # NOTHING_YET
            service.begin_to_speak(self, HTTP1)
        try:
            self._exchange = exchange = begin(self, head, self.peer, self.origins, service)
        except PeerError as error:
            error.head = head
            raise
        if head.notable and offers_websocket(head):
            # A client, or a proxy, that takes the session for granted may send frames: they must not become requests.
            self._encoder.keep_alive = False
        exchange.start(service.turn)

    def on_body(self, data: bytes, end: bool) -> None:
        """Hand a part of the body on, or throw it away after the response."""
        exchange = self._exchange
        if exchange is None:
            self._discard(len(data), end)
            return
        self._is_full = exchange.deliver_body(data, end)
        if self._is_full:
            self._pause_reading()
        if self._wait is WAIT_BODY:
            if end:
                self.await_nothing()
            else:
                self._await(WAIT_BODY, self.service.limits.body_timeout)

    def _discard(self, size: int, end: bool) -> None:
        """Take note of so many bytes that nobody reads any more."""
        self._discarded += size
        if self.closed:
            return
        if self._discarded > DISCARD_LIMIT or (end and self._outlasts):
            linger = not end or self._decoder.buffered
            self._decoder.refuse()
            self._end(linger)
        elif end:
            self.await_nothing()
            self._next_request()

    # The stream of the exchange.

    def send_upgrade(self, headers: Fields) -> ByteStream:
        session = self._exchange
        assert isinstance(session, Session)  # nobody else asks for it
        self._exchange = None
        self._encoder.keep_alive = True
        self._write((self._encoder.encode_head(101, headers, True),), 0)
        connection = WebSocketConnection(self, session)
        # Soon: the session goes on as soon as it knows this stream.
        self.service.loop.call_soon(connection.begin, self._decoder.take_rest())
        return connection

    @property
    def _is_busy(self) -> bool:
        return self._exchange is not None

    def _is_last(self) -> bool:
        exchange = self._exchange
        if (
            self.service.draining
            or (self._eof and not self._decoder.buffered)
            # A peer that still waits for a 100 may send the body or not: what follows cannot be told apart.
            or (exchange is not None and exchange.owes_continue)
        ):
            return True
        self._outlasts = outlasts = self._decoder.body_left > DISCARD_LIMIT and self._encoder.keep_alive
        return outlasts

    def resume_reading(self) -> None:
        self._is_full = False
        decoder = self._decoder
        if self.closed or decoder.buffered:
            return  # behind a pipelined request nothing is read, nor behind a body that is held
        self._resume_reading()
        if decoder.body_unfinished:
            self._await(WAIT_BODY, self.service.limits.body_timeout)

    def abort(self) -> None:
        if self.closed:
            return
        exchange, self._exchange = self._exchange, None
        self._decoder.refuse()
        if self._encoder.ends_with_connection:
            self._reset()  # an ordinary end would look like the end of the body
        else:
            self._held = None
            self._end(linger=not self._eof)
        if exchange is not None:
            exchange.deliver_disconnect()  # to whatever the application has left waiting

    # The end of a request.

    def _finish_response(self) -> None:
        self._exchange = None
        self._is_full = False
        decoder, encoder = self._decoder, self._encoder
        unfinished = decoder.state is not DONE and decoder.body_unfinished  # Hot path: no call; benchmarks/ "plain GET"
        if unfinished and (encoder.keep_alive or (self._outlasts and not encoder.ends_with_connection)):
            if not decoder.is_held:
                self._resume_reading()
            self._await(WAIT_BODY, self.service.limits.body_timeout)
        elif encoder.keep_alive:
            self._next_request()
        else:
            unread = unfinished or decoder.buffered
            decoder.refuse()
            self._end(linger=unread and not self._eof)

    def _next_request(self) -> None:
        """Go on with what has arrived meanwhile, else wait."""
        decoder = self._decoder
        limits = self.service.limits
        try:
            idle = decoder.next_request()
        except PeerError as error:
            self._refuse(error)
            return
        if self._eof and decoder.state is HEAD:
            self._end(linger=False)  # what has arrived is answered, and a part of a request is none
            return
        if idle:
            self._await(WAIT_REQUEST, DRAIN_IDLE_TIMEOUT if self.service.draining else limits.keep_alive_timeout)
            if not self._reading:
                self._resume_reading()
            return
        if decoder.state is HEAD:
            self._await(WAIT_HEAD, limits.header_timeout)
        elif self._eof and self._exchange is not None:
            self._exchange.deliver_disconnect()  # as to the exchange during which the end came
        if decoder.is_held:
            self._hold()
        elif not self._reading and not (decoder.state is DONE and decoder.buffered):
            self._resume_reading()

    def _refuse(self, error: PeerError) -> None:
        """Answer a broken request with the status of the error and end the connection (RFC 9112 §3, §6.3)."""
        exchange, self._exchange = self._exchange, None
        self._decoder.refuse()
        if self.closed:
            return
        log.debug("refused a request of %s: %d %s", self.peer, error.status, error.reason)
        if exchange is not None and self._started:
            self.abort()
        elif exchange is None and self._wait is WAIT_BODY:
            # The request has had its answer: a second one would be taken for that to the next request.
            self._end(linger=not self._eof)
        else:
            if exchange is None:
                if self.speaks == NOTHING_YET and error.head is not None and error.head.version.startswith("1."):
                    self.service.begin_to_speak(self, HTTP1)  # badly
                fields, body = refuse(error, self.peer, self.origins, self.service)
            else:
                fields, body = answer_for(exchange, error)
            self._write((self._encoder.encode_refusal(error.status, fields, body),), 0)
            self._held = None
            self._end(linger=not self._eof)
        if exchange is not None:
            exchange.deliver_disconnect()

    def _turn_away(self) -> None:
        self._refuse(PeerError(503, "too many connections"))

    def _on_deadline(self, wait: Wait) -> None:
        if wait is WAIT_HEAD and not self._decoder.idle:
            self._refuse(PeerError(408, "the head of the request did not arrive in time", self._decoder.begun))
        elif wait is WAIT_BODY:
            self._on_body_deadline()
        elif wait is WAIT_LINGER:
            super()._on_deadline(wait)
        else:
            self._decoder.refuse()
            self._end(linger=False)  # an idle connection is closed without a word

    def _on_body_deadline(self) -> None:
        exchange = self._exchange
        if self._decoder.is_held or (exchange is not None and not exchange.waits_for_body):
            self._await(WAIT_BODY, self.service.limits.body_timeout)  # it has arrived, or nobody misses it yet
        else:
            self._refuse(PeerError(408, "the body of the request did not arrive in time"))
