"""One HTTP request and its response: the ASGI HTTP cycle, written once for every protocol.

An exchange speaks to the application through `receive` and `send` and to the wire through a `Stream`
only. The head of a response is held back until the first body message, so that an error before it can still
become a 500. Which message an application may send is a table at the end of this file: state (`progress`) x
message type -> what is done with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from serverd.asgi.cycle import Cycle
from serverd.asgi.failure import error_body, send_error
from serverd.asgi.fields import check_body, check_fields, check_trailers, left_after, missing_from
from serverd.asgi.pathsend import open_regular
from serverd.asgi.progress import BODILESS, BODY, COMPLETE, FILE, HEAD, START, TRAILERS, State
from serverd.asgi.scope import Endpoint
from serverd.asgi.stream import Stream
from serverd.asgi.types import Message, Scope
from serverd.errors import ClientDisconnected, ResponseError
from serverd.protocol.head import Fields, RequestHead

__all__ = ["Exchange"]

log = logging.getLogger("serverd.exchange")

# Request body kept for an application that does not read: one read of the event loop, as uvicorn and hypercorn do.
BODY_HIGH_WATER: Final = 64 * 1024
# Parts that are kept apart: one of two bytes, such as a peer sends in a TLS record of its own, takes sixty.
BODY_PARTS: Final = 256

# Seconds, and messages, for which what is sent to a client that has gone is lost without a word. ASGI has asked for an
# OSError since 2.4, which uvicorn has withdrawn again: applications take it for a failure of theirs. Their handlers and
# error reporters are called for each download that somebody breaks off, and what they do after the response is left
# out, such as removing the file. They come to an end by themselves or hear `http.disconnect`; an endless one that does
# not listen is ended by the error. So many messages are the rest of a file of 256 MiB, in the pieces of Starlette.
UNHEARD_TIMEOUT: Final = 10.0
UNHEARD_MESSAGES: Final = 4096


_NO_FIELDS: Final[Fields] = []  # of a response that has not begun; never added to


class Exchange(Cycle):
    """The ASGI cycle of one request."""

    __slots__ = (
        "_asked",
        "_bodiless",
        "_body",
        "_body_end",
        "_body_read",
        "_body_size",
        "_fields",
        "_left",
        "_trailers",
        "_unheard",
        "_wire",
        "owes_continue",
    )

    def __init__(self, stream: Stream, head: RequestHead, endpoint: Endpoint, scope: Scope, active: set[Cycle]) -> None:
        """Prepare the cycle; `active` is the worker's set of requests in flight."""
        # Hot path: `super()` costs 0.1 us more; benchmarks/ "plain GET".
        Cycle.__init__(self, stream, head, endpoint, scope, active, START)
        # `_stream`, which has the type of every cycle's. Not declared again, because then the collector would count its
        # reference twice in a class that mypyc compiles, and never free a circle of which it is a part.
        self._wire = stream
        self._body: list[bytes] | None = None  # received and not yet read by the application
        self._body_size = 0
        self._body_end = not head.length  # the whole request body has arrived
        self._body_read = False  # and the application has had the end of it
        self._asked = False  # the peer can be heard
        self.owes_continue = head.expects_continue  # the peer may hold the body back for a 100
        self._fields = _NO_FIELDS
        self._left: int | None = None  # bytes until the announced Content-Length; None: not announced
        self._bodiless = head.method == "HEAD"  # RFC 9110 §6.4.1; 204 and 304 as well, once known
        self._trailers: Fields | None = None  # None: none are announced
        # Messages that were lost because the client had gone, and until when they may be, in the loop's time.
        self._unheard: tuple[int, float] | None = None

    # The connection's side.

    def expire(self) -> None:
        """End a request that has taken too long: answer 504 if nothing is on the wire, and cancel the application."""
        super().expire()
        if self.state is not COMPLETE and not self._is_observed:
            self.given_up = True  # what is on the wire has been cut off
            self._complete()

    def deliver_body(self, data: bytes, end: bool) -> bool:
        """Take a part of the request body; return whether reading should pause: not at its end, bounded as it is."""
        self.owes_continue = False  # RFC 9110 §10.1.1: who sends the body waits for no 100
        self.received += len(data)
        self._body_end = self._body_end or end
        if self.state is COMPLETE:
            return False  # nobody will read it
        if data:
            body = self._body
            if body is None:
                self._body = [data]
            elif len(body) < BODY_PARTS:
                body.append(data)
            else:
                self._body = [b"".join(body), data]
            self._body_size += len(data)
        if self._waiters:
            self._wake()
        return not end and self._body_size >= BODY_HIGH_WATER

    @property
    def waits_for_body(self) -> bool:
        """True while the application waits for a part of the request body."""
        return not self._body_end and bool(self._waiters)

    @property
    def is_complete(self) -> bool:
        """True when the response is complete."""
        return self.state is COMPLETE

    def on_return(self) -> None:
        """Answer in the place of an application that has returned too early."""
        if self.state is COMPLETE:
            return
        if self._disconnected or self._wire.closed:
            self._wire.abort()  # it was told that the client has gone: there is nobody to answer
            return
        self._complain()
        self.end_incomplete(500)

    def end_incomplete(self, status: int) -> None:
        """Answer `status` while nothing is on the wire, else let the peer notice the missing end (RFC 9112 §8)."""
        if self.state is COMPLETE:
            return
        if self._cut or self._wire.closed or self.state not in (START, HEAD):
            self._wire.abort()
            return
        bodiless = self.head.method == "HEAD"
        self.status = status
        self.sent = 0 if bodiless else len(error_body(status))
        self._complete()
        send_error(self._wire, status, self.more_fields(), bodiless=bodiless)

    def _complete(self) -> None:
        """Note the end of the response: before the last write, because that may begin the next request."""
        self.state = COMPLETE
        self._body = None
        if self._waiters:
            self._wake()
        # Hot path: `_observe` without a call for it; benchmarks/ "plain GET".
        self._is_observed = True
        self.ended = perf_counter()
        self.endpoint.observer.on_exchange(self)

    # The application's side.

    async def receive(self) -> Message:
        """ASGI `receive`: the parts of the request body, then `http.disconnect`."""
        while True:
            if self.state is not COMPLETE and (self._body or (self._body_end and not self._body_read)):
                return self._take_body()
            if self.state is COMPLETE or self._disconnected:
                # At once: frameworks ask in a scope that is cancelled already (Starlette's `is_disconnected`).
                return {"type": "http.disconnect"}
            if not self._asked:
                self._ask()
            await self._wait()

    async def on_unheard(self) -> None:
        """Lose a message without a word; raises ClientDisconnected to an application of ours, or one that goes on."""
        now = asyncio.get_running_loop().time()
        lost, end = self._unheard or (0, now + UNHEARD_TIMEOUT)
        if self.endpoint.is_ours or now > end or lost == UNHEARD_MESSAGES:
            raise ClientDisconnected
        self._unheard = lost + 1, end
        await asyncio.sleep(0)  # nobody slows it down any more: others must have their turn

    def _take_body(self) -> Message:
        body = b"" if self._body is None else self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = None
        self._body_size = 0
        self._asked = False
        self._body_read = self._body_end
        if not self._body_end:
            self._wire.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self._body_end}

    def _ask(self) -> None:
        """Make sure that the peer can be heard: once for each event, however often the application asks for it."""
        self._asked = True
        if self.owes_continue:
            # RFC 9110 §10.1.1: answered when the application first asks for the body, not before.
            self.owes_continue = False
            if self.state is START or self.state is HEAD:
                self._wire.send_informational(100, [])
        self._wire.resume_reading()

    def _hold_head(self, message: Message) -> None:
        status = message["status"]
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ResponseError(f"status {status!r} is not a final status code: expected 200 to 599")
        self._fields, length = check_fields(message.get("headers", ()))
        if self.endpoint.fields or self.endpoint.request_id_name:
            self._fields = [*self._fields, *missing_from(self._fields, self.more_fields())]
        self.status = status
        self._trailers = [] if message.get("trailers") else None
        if status in BODILESS:
            self._bodiless = True
            if status == 205:
                self._fields = [field for field in self._fields if field[0] != b"content-length"]
        if not self._bodiless:
            self._left = length
        self.state = HEAD

    def _send_first_body(self, message: Message) -> None:
        data = message.get("body")
        if type(data) is bytes and len(data) == self._left and self._trailers is None and not message.get("more_body"):
            # Hot path: the response in one message, as long as announced; benchmarks/ "plain GET".
            self.sent = len(data)
            self._complete()
            self._wire.send_response(self.status, self._fields, data)
            return
        data, end = self._count(message)
        if end and not data and self._trailers is None:
            self._complete()
            self._wire.send_headers(self.status, self._fields, True)
            return
        self.first_byte = perf_counter()
        self._wire.send_headers(self.status, self._fields, False)
        self._send_part(data, end)

    def _send_more_body(self, message: Message) -> Awaitable[None] | None:
        data = message.get("body")
        if type(data) is bytes and self._left is None and not self._bodiless and message.get("more_body"):
            # Hot path: a part of a body of unknown length; benchmarks/ "50 parts".
            self.sent += len(data)
            self._wire.send_body(data, False)
        else:
            data, end = self._count(message)
            self._send_part(data, end)
        return self._give_way(len(data))

    def _send_part(self, data: bytes, end: bool) -> None:
        self.sent += len(data)
        if end and self._trailers is None:
            self._complete()
            self._wire.send_body(data, True)
            return
        self.state = TRAILERS if end else BODY
        self._wire.send_body(data, False)

    def _count(self, message: Message) -> tuple[bytes, bool]:
        """Return body and end of a body message, held against the Content-Length (RFC 9110 §8.6)."""
        data = check_body(message.get("body", b""))
        end = not message.get("more_body", False)
        if self._bodiless:
            return b"", end
        if self._left is not None:
            self._left = left_after(self._left, len(data), end)
        return data, end

    def _send_trailers(self, message: Message) -> None:
        assert self._trailers is not None  # only then is the state TRAILERS
        self._trailers += check_trailers(message.get("headers", ()))
        if message.get("more_trailers"):
            return
        self._complete()
        if self._wire.takes_trailers:
            self._wire.send_trailers(self._trailers)
        else:
            # RFC 9110 §6.5.1: what the protocol version cannot carry is left out.
            self._wire.send_body(b"", True)

    def _send_early_hint(self, message: Message) -> Awaitable[None] | None:
        """`http.response.early_hint`: a 103 with Link fields (RFC 8297)."""
        fields, _ = check_fields([(b"link", link) for link in message.get("links", ())])
        if self.head.version != "1.0":  # RFC 9110 §15.2: no 1xx to an HTTP/1.0 client
            self._wire.send_informational(103, fields)
        return self._give_way(0)

    async def _send_path(self, message: Message) -> None:
        """`http.response.pathsend`: the whole file is the body."""
        with open_regular(message["path"]) as file:
            try:
                await self._send_file(file.fileno(), os.fstat(file.fileno()).st_size)
            except ClientDisconnected:
                await self.on_unheard()

    async def _send_file(self, fd: int, size: int) -> None:
        if self._bodiless or not size:
            self._send_first_body({"type": "http.response.body"})
            return
        if self._left is None:
            self._fields = [*self._fields, (b"content-length", b"%d" % size)]
            self._left = size
        self._left = left_after(self._left, size, True)
        self.state = FILE
        self.first_byte = perf_counter()
        self._wire.send_headers(self.status, self._fields, False)
        await self._wire.send_file(fd, size)
        self.sent += size
        self._send_part(b"", True)


State.START.actions = {
    "http.response.start": Exchange._hold_head,
    "http.response.early_hint": Exchange._send_early_hint,
}
State.HEAD.actions = {
    "http.response.body": Exchange._send_first_body,
    "http.response.pathsend": Exchange._send_path,
}
State.BODY.actions = {"http.response.body": Exchange._send_more_body}
State.FILE.actions = {}
State.TRAILERS.actions = {"http.response.trailers": Exchange._send_trailers}
State.COMPLETE.actions = {}
