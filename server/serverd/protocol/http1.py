"""HTTP/1.x requests out of bytes (RFC 9112), sans-IO: framing and validation, once, for both parsers.

The decoder finds where each head and each body ends and refuses everything that two readers could read
differently; `http1_head` reads the head between. What it refuses, and with which status, depends neither on
the parser nor on how the bytes are cut. It pushes into a sink: `on_head`, and for a request with a body
`on_body`. After a request it stops until `next_request`, so that a pipelined request waits for
the response before it (RFC 9112 §9.3.2). Of a body of many small chunks it decodes a part, and the rest on
`go_on`, so that no connection keeps the loop from the others. The connection drives it; the other direction is
`http1_response`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

from serverd.errors import PeerError
from serverd.protocol.chunked import ChunkedDecoder
from serverd.protocol.head import CHUNKED, RequestHead
from serverd.protocol.http1_head import Bounds, FieldParser, HeadReader
from serverd.protocol.partial_head import PartialHead, read_request_line

__all__ = ["CHUNKS", "DONE", "HEAD", "LENGTH", "REFUSED", "Http1Decoder", "Http2Expected", "RequestSink", "State"]


class RequestSink(Protocol):
    """Whom the decoder tells what it received."""

    def on_head(self, head: RequestHead) -> None:
        """A request has begun; one without a body is thereby complete."""

    def on_body(self, data: bytes, end: bool) -> None:
        """A part of the body; only the last, with `end`, may be empty."""


class _Nobody:
    """The sink of a decoder that is closed."""

    def on_head(self, head: RequestHead) -> None:
        """Do nothing."""

    def on_body(self, data: bytes, end: bool) -> None:
        """Do nothing."""


_NOBODY: Final[RequestSink] = _Nobody()


class State(Enum):
    """What the next byte from the peer belongs to."""

    HEAD = "the head of a request"
    LENGTH = "a body of known length"
    CHUNKS = "a chunked body"
    DONE = "nothing yet: the request is complete and the next one waits"
    REFUSED = "nothing ever: the peer broke the protocol or the connection ends"


# Hot path: members looked up once; Python 3.11 takes 0.3 us for each `State.NAME` (benchmarks/ "plain GET").
HEAD: Final[State] = State.HEAD
LENGTH: Final[State] = State.LENGTH
CHUNKS: Final[State] = State.CHUNKS
DONE: Final[State] = State.DONE
REFUSED: Final[State] = State.REFUSED


_UNKNOWN_LENGTH: Final = 2**63  # of a chunked body: more than any Content-Length that is accepted
_END_OF_HEAD: Final = b"\r\n\r\n"
# What an HTTP/2 client begins with, who knows whom it talks to; for others it is a request (RFC 9113 §3.4).
_HTTP2_LINE: Final = b"PRI * HTTP/2.0\r\n"
_UNKNOWN_VERSION: Final = 505
# Bytes behind a request that are looked at together. All that follows a head is copied when it is found, and a read of
# 256 KiB may hold six thousand.
_PIECE: Final = 16 * 1024
# RFC 9112 §2.2 wants one ignored, for clients that end a body with a CRLF that is not a part of it; any number of them
# would be a request that never begins. Sixteen are more than any such client sends, and cost nothing.
_EMPTY_LINES: Final = 16


class Http2Expected(PeerError):
    """The peer speaks HTTP/2, if nothing has come before: `data` is how its clients begin, and what follows."""

    def __init__(self, data: bytes) -> None:
        super().__init__(_UNKNOWN_VERSION, "HTTP/2 is not spoken here")
        self.data = data


class Http1Decoder:
    """Turns the bytes of one connection into requests, one at a time."""

    __slots__ = (
        "_bounds",
        "_buffer",
        "_checked",
        "_chunks",
        "_empty_lines",
        "_heads",
        "_later",
        "_sink",
        "body_left",
        "state",
    )

    def __init__(self, parser: FieldParser, sink: RequestSink, bounds: Bounds) -> None:
        self._heads = HeadReader(parser, bounds)
        self._sink = sink
        self._bounds = bounds
        self.state = HEAD
        self._buffer = b""  # an incomplete head, or what follows a complete request
        self._later = b""  # what follows that; only behind a complete request
        self._checked = 0  # bytes of the incomplete head that are known to be good lines
        self._empty_lines = 0  # before the request that is to come
        self.body_left = 0  # bytes of the current body that have not arrived
        self._chunks: ChunkedDecoder | None = None

    @property
    def idle(self) -> bool:
        """True between two requests when nothing of the next one has arrived."""
        return self.state is HEAD and not self._buffer

    @property
    def buffered(self) -> bool:
        """True when bytes have arrived that wait: of a later request, or behind the chunks of this turn."""
        chunks = self._chunks
        return bool(self._buffer or self._later) or (chunks is not None and chunks.is_held)

    @property
    def is_held(self) -> bool:
        """True while a part of the body has arrived and waits for `go_on`, in a later turn of the loop."""
        return self._chunks is not None and self._chunks.is_held

    @property
    def body_unfinished(self) -> bool:
        """True while the body of the current request has not arrived in full."""
        return self.state is LENGTH or self.state is CHUNKS

    @property
    def begun(self) -> PartialHead | None:
        """What has come of a head that is not complete."""
        return read_request_line(self._buffer) if self.state is HEAD else None

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer, at least one, and push what they complete into the sink.

        Raises PeerError when they cannot be a request, Http2Expected among them; the decoder then takes nothing more.
        """
        try:
            if self.state is HEAD:
                if self._buffer:
                    data = self._buffer + data
                self._receive_head(data)
            elif self.state is LENGTH:
                self._receive_length(data)
            elif self.state is CHUNKS:
                self._receive_chunked(data)
            elif self.state is DONE:
                if self._later:
                    self._later += data
                else:
                    self._keep(self._buffer + data)
        except PeerError as error:
            if error.head is None and self.state is HEAD:
                error.head = read_request_line(data)
            self.refuse()
            if error.status == _UNKNOWN_VERSION and data.startswith(_HTTP2_LINE):
                raise Http2Expected(data) from None
            raise

    def go_on(self) -> None:
        """Decode more of a body that is held, and push it into the sink.

        Raises PeerError like `feed`.
        """
        assert self._chunks is not None  # it is held
        try:
            self._push_chunks(*self._chunks.go_on())
        except PeerError:
            self.refuse()
            raise

    def feed_eof(self) -> None:
        """Take the end of the peer's bytes; not while a body is held.

        Raises PeerError 400 when it stands inside a request (RFC 9112 §8).
        """
        if self.state is DONE:
            return  # what has arrived is still answered
        unfinished = self.body_unfinished or self.buffered
        begun = self.begun
        self.refuse()
        if unfinished:
            raise PeerError(400, "end of the connection inside a request", begun)

    def next_request(self) -> bool:
        """Go on after a complete request with what has already arrived; return whether that is nothing.

        Raises PeerError like `feed`.
        """
        self.state = HEAD
        self._empty_lines = 0
        data = self._buffer
        if not (data or self._later):
            return True
        self._buffer = b""
        if data:
            self.feed(data)
        while self._later and self.state is not DONE:
            later = self._later
            cut = _PIECE if self.state is HEAD else None  # a body takes what there is
            self._later = b"" if cut is None else later[cut:]
            self.feed(later[:cut])
        return False

    def take_rest(self) -> bytes:
        """Return what follows a request after which the peer speaks another protocol (RFC 9110 §7.8)."""
        rest = self._buffer + self._later
        self.close()
        return rest

    def _keep(self, rest: bytes) -> None:
        """Keep what follows a complete request, before what may be there of later ones."""
        self._buffer = rest[:_PIECE]
        self._later = rest[_PIECE:] + self._later

    def refuse(self) -> None:
        """Take nothing more from this peer."""
        self.state = REFUSED
        self._buffer = b""
        self._later = b""
        self._chunks = None

    def close(self) -> None:
        """Take and push nothing more: the sink is let go, which leads back here."""
        self.refuse()
        self._sink = _NOBODY

    def _receive_head(self, data: bytes) -> None:
        head = self._heads.recall(data)
        if head is not None:
            self._buffer = b""
            self._checked = 0
            self.state = DONE
            self._sink.on_head(head)
            return
        end = data.find(_END_OF_HEAD)
        if end < 0 or data[0] in b"\r\n":
            self._receive_partial_head(data)
            return
        rest = data[end + 4 :]
        self._buffer = b""
        self._checked = 0
        if rest:
            # Hot path: of pipelined requests, too, most are alike; benchmarks/ "16 pipelined GETs".
            block = data[: end + 4]
            head = self._heads.recall(block) or self._heads.read(block)
        else:
            head = self._heads.read(data)
        length = head.length
        if not length:
            # No end for a request without a body: on_head says it.
            # Hot path: a slice is less than a call; benchmarks/ "16 pipelined GETs".
            if rest[_PIECE:]:
                self._keep(rest)
            else:
                self._buffer = rest
            self.state = DONE
            self._sink.on_head(head)
            return
        self._begin_body(head)
        self._sink.on_head(head)
        if not rest:
            return
        if self.state is LENGTH:
            self._receive_length(rest)
        elif self.state is CHUNKS:
            self._receive_chunked(rest)

    def _begin_body(self, head: RequestHead) -> None:
        length = head.length
        bounds = self._bounds
        if length == CHUNKED:
            self.state = CHUNKS
            self.body_left = _UNKNOWN_LENGTH
            self._chunks = ChunkedDecoder(bounds.body_size, bounds.header_size, bounds.header_count)
            return
        if bounds.body_size and length > bounds.body_size:
            raise PeerError(413, "body larger than limits.body_size", head)
        self.state = LENGTH
        self.body_left = length

    def _receive_partial_head(self, data: bytes) -> None:
        """Keep the beginning of a head, after refusing one that cannot become good or is too large."""
        if data[0] in b"\r\n":
            # RFC 9112 §2.2: empty lines before the request line are ignored.
            stripped = data.lstrip(b"\r\n")
            half = b"\r" if not stripped and data.endswith(b"\r") else b""  # of an empty line: its LF may come
            lines = data[: len(data) - len(stripped)]
            if lines.replace(b"\r\n", b"") != half:
                raise PeerError(400, "bare CR or LF before a request")
            self._empty_lines += lines.count(b"\r\n")
            if self._empty_lines > _EMPTY_LINES:
                raise PeerError(400, "too many empty lines before a request")
            self._buffer = half
            if stripped:
                self._receive_head(stripped)
            return
        self._buffer = data
        line_end = data.find(b"\r\n")
        if line_end < 0:
            self._heads.check_beginning(data)
            return
        if not self._checked:
            self._heads.check_line(data[:line_end])
            self._checked = line_end + 2
        self._checked = self._heads.check_lines(data, line_end, self._checked)

    def _receive_length(self, data: bytes) -> None:
        left = self.body_left
        if len(data) < left:
            self.body_left = left - len(data)
            self._sink.on_body(data, False)
            return
        self._finish_body(data[:left], data[left:])  # all of bytes is the same object

    def _receive_chunked(self, data: bytes) -> None:
        assert self._chunks is not None  # _begin_body made it
        self._push_chunks(*self._chunks.feed(data))

    def _push_chunks(self, body: bytes, rest: bytes | None) -> None:
        if rest is not None:
            self._chunks = None
            self._finish_body(body, rest)
        elif body:
            self._sink.on_body(body, False)

    def _finish_body(self, last: bytes, rest: bytes) -> None:
        self.state = DONE
        self.body_left = 0
        if rest:
            self._keep(rest)
        self._sink.on_body(last, True)
