"""An HTTP/2 client in memory, which may break every rule, and a core that it talks to; for the tests of `http2`.

Its frames are made by hand and its header blocks by the `hpack` library, so that nothing of the server's own code
decides what the server is sent or what it is understood to have said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

import hpack
import pytest

from serverd.errors import PeerError
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2 import ConnectionFault, ErrorCode, Http2Bounds, Http2Core, Http2Stream
from serverd.protocol.http2_states import StreamState
from tests.support.compiled import skip_if_compiled

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"example.com")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
CONNECT: Fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"


class Frame(NamedTuple):
    """A frame that the server has sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def number(self) -> int:
        """The increment of WINDOW_UPDATE, or the last stream of GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"", size: int | None = None) -> bytes:
    """Return a frame; `size` is what it claims to have."""
    size = len(payload) if size is None else size
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def settings(*entries: tuple[int, int]) -> bytes:
    return frame(
        SETTINGS, payload=b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in entries)
    )


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def reset(stream_id: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def data(stream_id: int, payload: bytes = b"", end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream_id, payload)


def frames_of(stream: bytes) -> list[Frame]:
    """Return the frames that `stream` is, of which nothing may be left."""
    frames = []
    while stream:
        size = int.from_bytes(stream[:3], "big")
        assert len(stream) >= 9 + size, "a part of a frame"
        frames.append(Frame(stream[3], stream[4], int.from_bytes(stream[5:9], "big"), stream[9 : 9 + size]))
        stream = stream[9 + size :]
    return frames


@dataclass
class Request:
    """What the core has told of one stream."""

    stream: Http2Stream
    head: RequestHead | None = None
    error: PeerError | None = None
    body: bytes = b""
    parts: int = 0
    complete: bool = False
    is_reset: bool = False
    writable: int = 0


class StreamSink(Protocol):
    """Whom `ToldStream` tells what it is told."""

    def on_request(self, stream: Http2Stream, head: RequestHead, end: bool) -> None: ...
    def on_refused(self, stream: Http2Stream, error: PeerError) -> None: ...
    def on_body(self, stream: Http2Stream, data: bytes, end: bool) -> None: ...
    def on_reset(self, stream: Http2Stream) -> None: ...
    def on_writable(self, stream: Http2Stream) -> None: ...


class ToldStream(Http2Stream):
    """A stream that hands on what it is told."""

    __slots__ = ("_sink",)

    def __new__(cls, *_: object) -> Self:
        skip_if_compiled("no interpreted class is below a compiled one")
        return super().__new__(cls)

    def __init__(self, sink: StreamSink, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> None:
        super().__init__(stream_id, state, send_window, is_tunnel)
        self._sink = sink

    def on_request(self, head: RequestHead, end: bool) -> None:
        self._sink.on_request(self, head, end)

    def on_refused(self, error: PeerError) -> None:
        self._sink.on_refused(self, error)

    def on_body(self, data: bytes, end: bool) -> None:
        self._sink.on_body(self, data, end)

    def on_reset(self) -> None:
        self._sink.on_reset(self)

    def on_writable(self) -> None:
        self._sink.on_writable(self)


@dataclass
class Recorder:
    """The StreamSource of a core; keeps what its streams are told."""

    requests: dict[int, Request] = field(default_factory=dict)

    def make_stream(self, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> Http2Stream:
        return ToldStream(self, stream_id, state, send_window, is_tunnel)

    def on_request(self, stream: Http2Stream, head: RequestHead, end: bool) -> None:
        assert stream.id not in self.requests, "on_request twice"
        self.requests[stream.id] = Request(stream, head, complete=end)

    def on_refused(self, stream: Http2Stream, error: PeerError) -> None:
        request = self.requests.setdefault(stream.id, Request(stream))
        assert request.error is None, "on_refused twice"
        request.error = error

    def on_body(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        request = self.requests[stream.id]
        assert data or end, "an empty part of a body"
        assert type(data) is bytes
        assert not request.complete, "a body that goes on behind its end"
        assert not request.is_reset, "a body behind on_reset"
        request.body += data
        request.parts += 1
        request.complete = end

    def on_reset(self, stream: Http2Stream) -> None:
        request = self.requests[stream.id]
        assert not request.is_reset, "on_reset twice"
        request.is_reset = True

    def on_writable(self, stream: Http2Stream) -> None:
        assert not stream.overflows
        self.requests[stream.id].writable += 1


def feed(core: Http2Core, data: bytes) -> None:
    """Feed all of `data`, as a connection does that has its turn again and again."""
    while data:
        data = data[len(data) - core.feed(data) :]


class Peer:
    """A client and the core that it is connected to."""

    def __init__(self, bounds: Http2Bounds | None = None, greet: bool = True) -> None:
        """Connect; `greet` sends preface and SETTINGS, takes the server's and acknowledges them."""
        self.sink = Recorder()
        self.defaults = DefaultFields(b"serverd")
        self.defaults.set_date(DATE)
        self.core = Http2Core(self.sink, bounds or Http2Bounds(), self.defaults)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=1 << 24)
        self.first: list[Frame] = []
        if greet:
            self.first = self.send(PREFACE + settings() + frame(SETTINGS, ACK))

    def send(self, *frames: bytes) -> list[Frame]:
        """Let the client send; return what the server has sent since the last call."""
        self.feed(b"".join(frames))
        return self.take()

    def feed(self, data: bytes) -> None:
        """Have the server take all of `data`, and send nothing yet."""
        feed(self.core, data)

    def take(self) -> list[Frame]:
        """Return what the server has sent since the last call."""
        sent = b""
        while self.core.is_waiting:
            sent += b"".join(self.core.take())
        return frames_of(sent)

    def block(self, fields: Fields) -> bytes:
        """Return a header block."""
        return bytes(self.encoder.encode(fields, huffman=False))

    def headers(self, stream_id: int, fields: Fields = GET, end: bool = True) -> bytes:
        """Return a HEADERS frame."""
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream_id, self.block(fields))

    def open(self, stream_id: int, fields: Fields = GET, end: bool = True) -> Http2Stream:
        """Begin a request; return its stream."""
        self.send(self.headers(stream_id, fields, end))
        return self.sink.requests[stream_id].stream

    def request(self, stream_id: int) -> Request:
        return self.sink.requests[stream_id]

    def fields(self, answer: Frame) -> Fields:
        """Return the fields of a HEADERS frame of the server; each has to come by once, in order."""
        assert answer.kind == HEADERS
        assert answer.flags & END_HEADERS
        return [(bytes(name), bytes(value)) for name, value in self.decoder.decode(answer.payload, raw=True)]

    def respond(self, stream_id: int, body: bytes = b"", end: bool = True, fields: Fields | None = None) -> None:
        """Answer as an application would."""
        stream = self.request(stream_id).stream
        self.core.send_headers(stream, 200, fields or [], False)
        self.core.send_body(stream, body, end)

    # What the server makes of errors.

    def breaks_connection(self, *frames: bytes, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        """Send what has to end the connection with GOAWAY and this code."""
        with pytest.raises(ConnectionFault) as raised:
            self.feed(b"".join(frames))
        assert raised.value.code is code, raised.value
        last = self.take()[-1]
        assert (last.kind, last.stream_id, last.code) == (GOAWAY, 0, code)
        assert self.core.closed
        assert self.core.is_finished
        assert not self.core.streams
        assert self.send(frame(PING, payload=bytes(8))) == [], "it goes on behind GOAWAY"

    def breaks_stream(self, stream_id: int, *frames: bytes, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        """Send what has to reset the stream with this code, and leave the connection alone."""
        resets = [answer for answer in self.send(*frames) if answer.kind == RST_STREAM]
        assert [(answer.stream_id, answer.code) for answer in resets] == [(stream_id, code)]
        assert stream_id not in self.core.streams
        self.is_alive()

    def is_ignored(self, *frames: bytes) -> None:
        """Send what nothing may follow from."""
        assert self.send(*frames) == []
        self.is_alive()

    def is_alive(self) -> None:
        """Check that the connection goes on, as h2spec does: a PING is answered."""
        answers: Any = self.send(frame(PING, payload=b"12345678"))
        assert answers == [Frame(PING, ACK, 0, b"12345678")]
