"""One request's end of an HTTP/2 connection: the `Stream` of its exchange.

`Http2Connection` makes one for each request, and its core tells it what comes of it; what is to be sent goes to the
core, and leaves with everything else of this turn of the event loop. A request that wants to become a session has a
`http2_tunnel.Tunnel`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final, Protocol

from serverd.asgi.cycle import Cycle
from serverd.asgi.scope import Peer
from serverd.asgi.stream import ByteStream
from serverd.connection.base import NEVER
from serverd.connection.intake import begin
from serverd.connection.refusing import answer_for, refuse
from serverd.connection.service import Service
from serverd.errors import ClientDisconnected, PeerError, ResponseError
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http2 import ErrorCode, Http2Core, Http2Stream
from serverd.protocol.http2_states import StreamState
from serverd.protocol.partial_head import NOTHING_READ_HTTP2

__all__ = ["RequestStream"]

log = logging.getLogger("serverd.connection")

# Of a file that is read at a time; as much as may wait for a stream (`http2_output`).
FILE_PIECE: Final = 64 * 1024


class Carrier(Protocol):
    """What a stream asks of its connection."""

    core: Http2Core
    origins: OriginReader
    peer: Peer
    service: Service
    host: str | None  # of the first request
    gathers: bool  # what streams have sent leaves soon, and what others add with it
    deadline: float  # loop's time at which something is overdue of the connection, and not of a stream
    blocked: bool  # the transport takes no more

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the peer that nobody should add to it."""

    @property
    def reads(self) -> bool:
        """Whether what the peer sends can arrive."""

    def flush(self, own: int) -> None:
        """Send what a stream has added, which is `own` of those that are open."""

    def flush_soon(self) -> None:
        """Send what there is to send."""

    def check_host(self, host: str | None) -> None:
        """Refuse a request for another host than that; raises PeerError."""

    def await_nothing(self) -> None:
        """Let the connection take its time, as long as there are streams."""

    def body_deadline(self) -> float:
        """Return the loop's time until which more of a body has to come that is waited for."""


class RequestStream(Http2Stream):
    """One stream of a connection."""

    __slots__ = (
        "_connection",
        "_has_ended",
        "_has_head",
        "_unread",
        "_writers",
        "blocked",
        "closed",
        "cycle",
        "deadline",
    )

    takes_trailers = True  # RFC 9113 §8.1: every response can have them
    _abort_code = ErrorCode.INTERNAL_ERROR

    def __init__(
        self, connection: Carrier, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool
    ) -> None:
        # Hot path: `super()` costs more; benchmarks/ "HTTP/2".
        Http2Stream.__init__(self, stream_id, state, send_window, is_tunnel)
        self._connection = connection
        self._has_head = False  # the head of the response has been sent
        self._has_ended = False  # the response is complete, though not all of it may have left
        self._unread = 0  # bytes of the request body that the application has been given and has not asked beyond
        self._writers: list[asyncio.Future[None]] | None = None  # applications that wait for the peer to read
        self.cycle: Cycle | None = None  # None: it is answered without one
        self.closed = False  # nothing that is sent arrives any more
        self.blocked = False  # who has sent something, and not all, should wait
        self.deadline = NEVER  # loop's time until which more of the request body has to come

    # Called by the core.

    def on_request(self, head: RequestHead, end: bool) -> None:
        """Route the request and start its cycle."""
        connection = self._connection
        if connection.deadline != NEVER:
            connection.await_nothing()
        try:
            if head.host != connection.host:
                connection.check_host(head.host)
            cycle = begin(self, head, connection.peer, connection.origins, connection.service)
        except PeerError as error:
            error.head = head
            self.is_refused = True
            self.refuse(error)
            return
        self.cycle = cycle
        cycle.start(connection.service.turn)

    def on_refused(self, error: PeerError) -> None:
        """Answer a request that is not, or no longer, its application's."""
        connection = self._connection
        log.debug("refused a request of %s: %d %s", connection.peer, error.status, error.reason)
        connection.await_nothing()
        self.refuse(error)

    def on_body(self, data: bytes, end: bool) -> None:
        """Hand a part of the request body on."""
        cycle = self.cycle
        if cycle is None or self._has_ended:
            self._consume(len(data))  # nobody will read it
            return
        self._unread += len(data)
        cycle.deliver_body(data, end)
        self.deadline = NEVER if end or not cycle.waits_for_body else self._connection.body_deadline()

    def on_reset(self) -> None:
        """The stream is gone; its place is free when the application is done."""
        self.closed = True
        self.deadline = NEVER
        self.on_writable()
        cycle = self.cycle
        self._let_go()
        if cycle is None or cycle.task is None or cycle.task.done():
            self._connection.core.release(self)
            return
        cycle.task.add_done_callback(self._release)
        cycle.deliver_disconnect()

    def on_writable(self) -> None:
        """Let those go on that wait for the peer to read."""
        self.blocked = False
        writers, self._writers = self._writers, None
        for writer in writers or ():
            if not writer.done():
                writer.set_result(None)

    # The connection's side.

    def receive_eof(self) -> None:
        """Take note that the peer sends nothing more on any stream; as in HTTP/1 it may still be answered."""
        if self.cycle is not None:
            self.cycle.deliver_disconnect()

    def refuse(self, error: PeerError) -> None:
        """Answer with the status of the error in the place of the application, or give the stream up."""
        if self._has_head:
            self.abort()
            return
        cycle, self.cycle = self.cycle, None
        self.deadline = NEVER
        if not self.closed:
            self._answer(error, cycle)
        if cycle is not None:
            self.closed = True
            cycle.deliver_disconnect()

    def _answer(self, error: PeerError, cycle: Cycle | None) -> None:
        connection = self._connection
        service = connection.service
        if cycle is not None:
            fields, body = answer_for(cycle, error)
        else:
            error.head = error.head or NOTHING_READ_HTTP2
            fields, body = refuse(error, connection.peer, connection.origins, service)
        self.send_headers(error.status, fields, not body)
        if body:
            self.send_body(body, True)

    def sweep(self, now: float) -> None:
        """End what is overdue; `now` is the loop's time in seconds."""
        cycle = self.cycle
        if self.deadline == NEVER or cycle is None:
            return
        if not self._connection.reads:
            self.deadline = self._connection.body_deadline()  # it cannot come
        elif now < self.deadline:
            return
        elif not cycle.waits_for_body:
            self.deadline = NEVER  # nobody misses it yet
        else:
            self.refuse(PeerError(408, "the body of the request did not arrive in time"))

    def resume_writing(self) -> None:
        """Let those go on that wait for the connection only: the peer reads again."""
        self._note_sent()
        if not self.blocked:
            self.on_writable()

    # The stream of the cycle.

    def send_informational(self, status: int, headers: Fields) -> None:
        if not self.closed:
            self._connection.core.send_informational(self, status, headers)
            self._note_sent()
            self._connection.flush(1)

    def send_headers(self, status: int, headers: Fields, end: bool) -> None:
        if self.closed:
            return
        self._has_head = True
        self._connection.core.send_headers(self, status, headers, end)
        if end:  # else it leaves with the beginning of the body
            self._note_end()
            self._connection.flush(0)

    def send_response(self, status: int, headers: Fields, body: bytes) -> None:
        if self.closed:
            return
        self._has_head = True
        connection = self._connection
        connection.core.send_response(self, status, headers, body)
        self._note_end()
        if not connection.gathers:  # Hot path: no call for what has others before it; benchmarks/ "HTTP/2"
            connection.flush(0)

    def send_body(self, data: bytes, end: bool) -> None:
        if self.closed or self._has_ended:
            return
        self._connection.core.send_body(self, data, end)
        if end:
            self._note_end()
            self._connection.flush(0)
        else:
            self._note_sent()
            self._connection.flush(1)

    def send_trailers(self, headers: Fields) -> None:
        if self.closed:
            return
        self._connection.core.send_trailers(self, headers)
        self._note_end()
        self._connection.flush(0)

    async def send_file(self, fd: int, count: int) -> None:
        while count:
            data = os.read(fd, min(count, FILE_PIECE))
            if not data:
                raise ResponseError("file became shorter while it was sent")
            if self.closed:
                raise ClientDisconnected
            count -= len(data)
            self.send_body(data, False)
            await self.writable()
            await asyncio.sleep(0)  # a fast peer must not hold the loop

    def send_upgrade(self, headers: Fields) -> ByteStream:
        raise NotImplementedError  # only what begins as a `Tunnel` becomes a session

    def resume_reading(self) -> None:
        self._give_back()
        if not self._has_ended:
            self.deadline = self._connection.body_deadline()

    def abort(self) -> None:
        if self.closed:
            return
        self._connection.core.reset(self, self._abort_code)
        self._connection.flush_soon()
        self.closed = True
        self.deadline = NEVER
        self.on_writable()
        cycle, self.cycle = self.cycle, None
        if cycle is not None:
            cycle.deliver_disconnect()  # to whatever the application has left waiting

    async def writable(self) -> None:
        while self.blocked and not self.closed:
            writer = self._connection.service.loop.create_future()
            if self._writers is None:
                self._writers = []
            self._writers.append(writer)
            await writer
            self._note_sent()  # others may have sent more meanwhile

    # Windows and ends.

    def _note_sent(self) -> None:
        """Note whether the peer reads too slowly, this stream or all of them; who has sent all need not wait for it."""
        connection = self._connection
        self.blocked = not self._has_ended and (self.overflows or (connection.blocked and connection.is_full))

    def _note_end(self) -> None:
        self._has_ended = True
        self.blocked = False
        self.deadline = NEVER
        self.cycle = None  # which leads back here: a circle would wait for the garbage collector
        if self._unread:
            self._give_back()  # nobody will read it
        if self._writers:
            self.on_writable()

    def _let_go(self) -> None:
        """Forget the cycle of a stream that has ended early."""
        self.cycle = None

    def _give_back(self) -> None:
        unread, self._unread = self._unread, 0
        if unread and not self.closed:
            self._consume(unread)

    def _consume(self, count: int) -> None:
        self._connection.core.consume(self, count)
        self._connection.flush_soon()

    def _release(self, _: asyncio.Task[None]) -> None:
        self._connection.core.release(self)
        self._connection.flush_soon()
