"""A connection in memory: bytes in, bytes out, virtual time; no socket, no waiting.

`Wire` drives a real `Http1Connection` over a transport that keeps what is written. Time stands still
until a test advances it. `decode` drives a decoder alone. Used by the tests of protocol, asgi, connection,
conformance and fuzzing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.connection.http1 import Http1Connection
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.generation import Limits
from serverd.protocol.head import RequestHead
from serverd.protocol.http1 import DONE, Http1Decoder
from serverd.protocol.http1_h11 import H11Parser
from serverd.protocol.http1_head import Bounds, FieldParser
from serverd.protocol.http1_httptools import HttptoolsParser
from serverd.protocol.http1_response import DefaultFields
from tests.support.applications import Call, Manual

PARSERS: dict[str, Callable[[], FieldParser]] = {"httptools": HttptoolsParser, "h11": H11Parser}

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"

TCP_ENDS = {"peername": ("127.0.0.1", 54321), "sockname": ("127.0.0.1", 8000)}


# A decoder alone.


@dataclass
class Request:
    """What a decoder made of one request."""

    head: RequestHead
    body: bytes = b""
    complete: bool = False

    def summary(self) -> tuple[Any, ...]:
        """Return all of it that has to be the same however the bytes came; an unfinished body is None."""
        head = self.head
        names = ("method", "version", "path", "raw_path", "query", "host", "length", "keep_alive", "expects_continue")
        return (*(getattr(head, name) for name in names), tuple(head.fields), self.body if self.complete else None)


@dataclass
class Outcome:
    """What a decoder made of the bytes of one connection."""

    requests: list[Request] = field(default_factory=list)
    status: int | None = None  # of the error that ended it
    reason: str = ""

    @property
    def bodies(self) -> list[bytes]:
        """The bodies that are complete."""
        return [request.body for request in self.requests if request.complete]

    def summary(self) -> tuple[Any, ...]:
        """Return all of it that has to be the same however the bytes came and whoever split the fields."""
        return [request.summary() for request in self.requests], self.status

    # The RequestSink of a decoder.

    def on_head(self, head: RequestHead) -> None:
        self.requests.append(Request(head, complete=not head.length))

    def on_body(self, data: bytes, end: bool) -> None:
        assert data or end, "an empty part of a body"
        assert not self.requests[-1].complete, "more behind the end of a body"
        self.requests[-1].body += data
        self.requests[-1].complete = end


def bounds(
    request_line: int = 8 * 1024, header_size: int = 64 * 1024, header_count: int = 100, body_size: int = 0
) -> Bounds:
    """Return the default bounds of a request, some of them changed; every name that is a token passes."""
    return Bounds(request_line, header_size, header_count, body_size, "pass")


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return `data` cut at these positions, without empty pieces."""
    edges = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def decode(
    data: bytes,
    parser: str = "httptools",
    limits: Bounds | None = None,
    cuts: Iterable[int] = (),
    eof: bool = False,
) -> Outcome:
    """Decode the bytes of one connection, each request as soon as the one before it is complete."""
    outcome = Outcome()
    decoder = Http1Decoder(PARSERS[parser](), outcome, limits or bounds())
    try:
        for piece in pieces_of(data, cuts):
            decoder.feed(piece)
            # A connection never looks at what follows its last request.
            while decoder.is_held or (decoder.state is DONE and outcome.requests[-1].head.keep_alive):
                if decoder.is_held:
                    decoder.go_on()
                else:
                    decoder.next_request()
        if eof:
            decoder.feed_eof()
    except PeerError as error:
        outcome.status = error.status
        outcome.reason = error.reason
    return outcome


# A whole connection.


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock a test moves; what would only be logged is kept in `failures`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.failures.append(context))

    def time(self) -> float:
        return self.now

    def is_at_rest(self) -> bool:
        """Tell whether a turn would do nothing: nothing is ready, no timer is due, no socket is watched but its own."""
        timer = self._scheduled[0] if self._scheduled else None  # type: ignore[attr-defined]
        is_due = timer is not None and timer.when() < self.now + self._clock_resolution  # type: ignore[attr-defined]
        return not (self._ready or is_due or len(self._selector.get_map()) > 1)  # type: ignore[attr-defined]


# A socket whose other end stays open, for who looks at the descriptor of a connection.
_STANDING = socket.socketpair()


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; `room` bytes are taken by the peer at once, the rest stays unsent.

    What the peer sends while reading is paused waits, as it would in the kernel.
    """

    def __init__(self, connection: asyncio.Protocol, loop: asyncio.AbstractEventLoop, ends: dict[str, Any]) -> None:
        super().__init__({**ends, "socket": self})
        self.written = bytearray()
        self.writes = 0
        self.unsent = 0
        self.room = float("inf")
        self.reading = True
        self.waiting = bytearray()  # sent by the peer, not read yet
        self.eof_waiting = False
        self.eof = False  # our half of the connection is closed
        self.closed = False
        self.reset = False
        self.high = 64 * 1024
        self._connection = connection
        self._loop = loop
        self._lost = False
        self._paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._connection = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._connection

    def fileno(self) -> int:
        return _STANDING[0].fileno()

    def setsockopt(self, *_: Any) -> None:
        self.reset = True

    # The peer's side.

    def deliver(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self.closed:
            return
        self.waiting += data
        self._read()

    def deliver_eof(self) -> None:
        """Take the end of the peer's half."""
        self.eof_waiting = True
        self._read()

    def _read(self) -> None:
        if self.closed or not self.reading:
            return
        if self.waiting:
            data = bytes(self.waiting)
            self.waiting.clear()
            self._connection.data_received(data)
        if self.eof_waiting and self.reading and not self.waiting and not self.closed:
            self.eof_waiting = False
            if not self._connection.eof_received():
                self.close()

    def take(self, count: float) -> None:
        """Let the peer read `count` bytes of what is unsent."""
        self.unsent -= int(min(count, self.unsent))
        if self._paused and self.unsent <= self.high // 4:
            self._paused = False
            self._connection.resume_writing()
        if self.closed:
            self._lose()

    # The server's side.

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), data
        assert not self.eof, "write after write_eof"
        if self.closed:
            return
        self.written += data
        self.writes += 1
        taken = min(len(data), self.room)
        self.room -= taken
        self.unsent += len(data) - int(taken)
        self._maybe_pause()

    def _maybe_pause(self) -> None:
        if self.unsent > self.high and not self._paused:
            self._paused = True
            self._connection.pause_writing()

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high if high is not None else 64 * 1024
        self._maybe_pause()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        assert not self.closed
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self._loop.call_soon(self._read)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self._lose()

    def abort(self) -> None:
        self.closed = True
        self.unsent = 0
        self._lose()

    def _lose(self) -> None:
        if not self.unsent and not self._lost:
            self._lost = True
            connection, self._connection = self._connection, asyncio.Protocol()  # as transports forget it
            connection.connection_lost(None)


def router_to(endpoint: Endpoint) -> Router:
    """Return the routes of a listener with one mount, at its root."""
    return Router(
        [Route((), "/", endpoint)],
        unmounted=Endpoint(builtin.not_found, "serverd"),
        unserved=Endpoint(builtin.misdirected, "serverd"),
        options=Endpoint(builtin.options, "serverd"),
    )


class Wire:
    """One connection to an application, in memory."""

    def __init__(
        self,
        application: Any,
        parser: str = "httptools",
        limits: Limits | None = None,
        ends: dict[str, Any] | None = None,
    ) -> None:
        """Connect; `application` is an ASGI application, an Endpoint or a Router, `ends` the two addresses."""
        self.loop = StillLoop()
        if not isinstance(application, (Endpoint, Router)):
            application = Endpoint(application, "test")
        router = router_to(application) if isinstance(application, Endpoint) else application
        defaults = DefaultFields(b"serverd")
        defaults.set_date(DATE)
        self.service = Service(self.loop, router, limits or Limits(), defaults, PARSERS[parser]())
        self.ends = ends or TCP_ENDS
        self.connect()

    def connect(self) -> None:
        """Open another connection to the same service; the one before is left to itself."""
        self.connection = Http1Connection(self.service)
        self.transport = MemoryTransport(self.connection, self.loop, self.ends)
        self.connection.connection_made(self.transport)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for cycle in [*self.service.exchanges, *self.service.sessions.open]:
            cycle.cancel()
        for connection in list(self.service.connections):
            connection.cut()
        self.settle()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()
        if kind is None:
            assert not self.service.exchanges, "an exchange is left"
            assert not self.service.sessions.open, "a session is left"
            assert not self.service.connections, "a connection is left"
            assert not self.loop.failures, self.loop.failures

    def settle(self) -> None:
        """Run the loop until nothing is ready any more."""
        if self.loop.is_at_rest():
            return  # after most bytes of a request that comes byte by byte
        for _ in range(10_000):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if not self.loop._ready:  # type: ignore[attr-defined]
                return
        raise AssertionError("the loop does not come to rest")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a coroutine, such as a `send` or `receive` of an application, and let it get as far as it can."""
        task = self.loop.create_task(coroutine)
        self.settle()
        return task

    def send(self, data: bytes) -> bytes:
        """Let the peer send `data`; return what the server has written since the last call."""
        self.transport.deliver(data)
        self.settle()
        return self.received()

    def send_slowly(self, data: bytes, size: int = 1) -> bytes:
        """Let the peer send `data` in pieces of `size` bytes."""
        for position in range(0, len(data), size):
            self.transport.deliver(data[position : position + size])
            self.settle()
        return self.received()

    def send_eof(self) -> bytes:
        """Let the peer close its half of the connection."""
        self.transport.deliver_eof()
        self.settle()
        return self.received()

    def lose(self) -> None:
        """Let the connection break, as by a reset of the peer."""
        self.transport.abort()
        self.settle()

    def take(self, count: float = float("inf")) -> bytes:
        """Let the peer read `count` bytes of what is unsent; return what the server has written since the last call."""
        self.transport.take(count)
        self.settle()
        return self.received()

    def received(self) -> bytes:
        """Return what the server has written since the last call."""
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return data

    def advance(self, seconds: float) -> bytes:
        """Let time pass, a sweep a second, and return what the server has written."""
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.now = min(self.loop.now + 1.0, end)
            for connection in list(self.service.connections):
                connection.sweep(self.loop.now)
            self.settle()
        return self.received()

    def drain(self) -> bytes:
        """Begin to drain, as a worker does; return what the server has written."""
        self.service.draining = True
        for connection in list(self.service.connections):
            connection.drain()
        self.settle()
        return self.received()

    @property
    def closed(self) -> bool:
        """True when the server has ended its half of the connection."""
        return self.transport.closed or self.transport.eof


# A connection that becomes a session.

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3, and what it leads to
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def handshake(*more: bytes, target: bytes = b"/chat", key: bytes = KEY) -> bytes:
    """Return a client's opening handshake; `more` are further field lines."""
    lines = [
        b"GET %b HTTP/1.1" % target,
        b"Host: a",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + key,
        b"Sec-WebSocket-Version: 13",
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return the frames that a server has written, each as its first byte and its payload; none is masked."""
    frames = []
    while data:
        first, size, start = data[0], data[1], 2
        assert size < 128, "a server's frame is masked"
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size, "half a frame"
        frames.append((first, data[start : start + size]))
        data = data[start + size :]
    return frames


class SessionWire(Wire):
    """One connection to an application that takes WebSockets, and in whose place the test acts (see `Manual`)."""

    def __init__(self, parser: str = "httptools", limits: Limits | None = None, **endpoint: Any) -> None:
        """Connect; `endpoint`: more of what the mount leads to."""
        self.manual = Manual()
        super().__init__(Endpoint(self.manual, "test", **endpoint), parser, limits)

    @property
    def call(self) -> Call:
        """The last call of the application."""
        return self.manual.call

    def send(self, data: bytes) -> bytes:
        self.loop.call_soon(self.transport.deliver, data)  # a session asks for the loop that runs
        self.settle()
        return self.received()

    def accept(self, *fields: bytes, **message: Any) -> bytes:
        """Open a session; `fields` are of the handshake, `message` more of `websocket.accept`; return the answer."""
        assert self.send(handshake(*fields)) == b""
        assert self.receive() == {"type": "websocket.connect"}
        answer = self.tell("accept", **message)
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        return answer

    def receive(self) -> dict[str, Any]:
        """Return what the application receives next, which has to be there."""
        task = self.run(self.call.receive())
        assert task.done(), "nothing to receive"
        message: dict[str, Any] = task.result()
        return message

    def tell(self, kind: str, **message: Any) -> bytes:
        """Let the application send `websocket.{kind}`; return what the server has written."""
        task = self.run(self.call.send({"type": f"websocket.{kind}", **message}))
        assert task.done(), "send waits"
        task.result()
        return self.received()

    def finish(self, error: BaseException | None = None) -> bytes:
        """Let the application return, or raise `error`; return what the server has written."""
        self.call.finish(error)
        self.settle()
        return self.received()
