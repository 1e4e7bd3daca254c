"""The chunked transfer coding of a request (RFC 9112 §7.1), strict, incremental and bounded.

Used by `http1` for both parsers, because this is where parsers differ most (chunk extensions, bare LF,
terminators; h11 CVE-2025-43859). Trailer fields are checked and dropped: ASGI has no place for them.
"""

from __future__ import annotations

import re
from enum import Enum

from serverd.errors import PeerError
from serverd.protocol.head import TOKEN, check_field_lines

__all__ = ["ChunkedDecoder"]

_TOKEN = TOKEN.pattern
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_LARGEST_CHUNK = 2**63 - 1  # what a signed 64-bit size can hold; RFC 9112 §7.1 asks to anticipate overflow
_LONGEST_LINE = 4096  # a chunk line with its extensions, which nobody uses; h11 and Go allow as much


class _State(Enum):
    """What the next byte belongs to."""

    SIZE = "chunk size line"
    DATA = "chunk data"
    DATA_END = "CRLF after the chunk data"
    TRAILERS = "trailer section"


class ChunkedDecoder:
    """Takes one chunked body apart; used once per body."""

    __slots__ = ("_body_size", "_buffer", "_left", "_limit", "_state", "_trailer_count", "_trailer_left")

    def __init__(self, limit: int, trailer_size: int, trailer_count: int) -> None:
        """Begin a body of at most `limit` bytes, 0: any, with at most so many bytes and lines of trailers."""
        self._state = _State.SIZE
        self._left = 0  # bytes of the current chunk still to come
        self._body_size = 0  # bytes of all chunks so far, the current one in full
        self._limit = limit
        self._buffer = b""  # an incomplete line
        self._trailer_left = trailer_size
        self._trailer_count = trailer_count

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body bytes in `data`, and what follows the body or None while it goes on.

        Raises PeerError 400, 413 or 431.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        position = 0
        size = len(data)
        while position < size:
            if self._state is _State.DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _State.DATA_END
                continue
            end = self._line_end(data, position)
            if end < 0:
                self._buffer = data[position:]
                break
            line = data[position:end]
            position = end + 2
            if self._state is _State.TRAILERS and not line:
                return b"".join(pieces), data[position:]
            self._receive_line(line)
        return b"".join(pieces), None

    def _line_end(self, data: bytes, position: int) -> int:
        """Return where the line at `position` ends, or -1 when its CRLF has not arrived."""
        end = data.find(b"\n", position)
        if end < 0:
            self._check_incomplete(data, position)
            return -1
        if self._state is _State.TRAILERS and end + 1 - position > self._trailer_left:
            raise PeerError(431, "trailer section too large")
        if end == position or data[end - 1] != 0x0D:
            raise PeerError(400, "bare LF in a chunked body")
        return end - 1

    def _check_incomplete(self, data: bytes, position: int) -> None:
        """Refuse a line that cannot become a good one, before more of it is kept."""
        if self._state is _State.DATA_END and data[position:] != b"\r":
            raise PeerError(400, "chunk data is longer than its size")
        longest = self._trailer_left if self._state is _State.TRAILERS else _LONGEST_LINE
        if len(data) - position > longest:
            raise PeerError(431 if self._state is _State.TRAILERS else 400, "line too long in a chunked body")

    def _receive_line(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            self._receive_size(line)
        elif self._state is _State.DATA_END:
            if line:
                raise PeerError(400, "chunk data is longer than its size")
            self._state = _State.SIZE
        else:
            self._receive_trailer(line + b"\r\n")

    def _receive_size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > _LONGEST_LINE:
            raise PeerError(400, "malformed chunk size line")
        self._left = int(match[1], 16)
        if self._left > _LARGEST_CHUNK:
            raise PeerError(400, "chunk size too large")
        self._body_size += self._left
        if self._limit and self._body_size > self._limit:
            # By what is announced: the bytes need not arrive first.
            raise PeerError(413, "body larger than limits.body_size")
        self._state = _State.DATA if self._left else _State.TRAILERS

    def _receive_trailer(self, line: bytes) -> None:
        self._trailer_left -= len(line)  # not below zero: `_line_end` has looked
        self._trailer_count -= 1
        if self._trailer_count < 0:
            raise PeerError(431, "trailer section too large")
        check_field_lines(line, 0, len(line))
