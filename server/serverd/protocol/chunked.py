"""The chunked transfer coding of a request (RFC 9112 §7.1), strict, incremental and bounded.

Used by `http1` for both parsers, because this is where parsers differ most (chunk extensions, bare LF,
terminators; h11 CVE-2025-43859). Trailer fields are checked and dropped: ASGI has no place for them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from serverd.errors import PeerError
from serverd.protocol.head import TOKEN, check_field_lines

__all__ = ["LINES_AT_ONCE", "ChunkedDecoder"]

_TOKEN: Final = TOKEN.pattern
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_PLAIN_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")  # without extensions: what every client sends
# Plain chunk lines without their CRLF, and the size that each says: few differ, of any client. Bounded, as clients may
# send any.
_sizes: dict[bytes, int] = {}
_SIZES_KEPT: Final = 4096
_SIZE_DIGITS: Final = 6  # of those that are kept
_LARGEST_CHUNK: Final = 2**63 - 1  # what a signed 64-bit size can hold; RFC 9112 §7.1 asks to anticipate overflow
_LONGEST_LINE: Final = 4096  # a chunk line with its extensions, which nobody uses; h11 and Go allow as much

# Chunk lines decoded before others get their turn: they cost 1 to 2 us each, and one read may hold forty thousand.
LINES_AT_ONCE: Final = 512
_LINE_WEIGHT: Final = 32  # bytes of extensions that cost as much as a line without any

# Chunk lines in one body beyond _LINE_SHARE bytes each and _DATA_SHARE for each byte of data: what extensions may add
# (RFC 9112 §7.1.1 asks for such a limit). The figures are those of Go's net/http since CVE-2023-39326.
_EXCESS_LIMIT: Final = 16 * 1024
_LINE_SHARE: Final = 16
_DATA_SHARE: Final = 2


class _State(Enum):
    """What the next byte belongs to."""

    SIZE = "chunk size line"
    DATA = "chunk data"
    DATA_END = "CRLF after the chunk data"
    TRAILERS = "trailer section"


# Hot path: members looked up once, as in `http1`; a small chunk passes two of them (tests/counts.json "100 chunks").
_SIZE: Final[_State] = _State.SIZE
_DATA: Final[_State] = _State.DATA
_DATA_END: Final[_State] = _State.DATA_END
_TRAILERS: Final[_State] = _State.TRAILERS


class ChunkedDecoder:
    """Takes one chunked body apart; used once per body.

    It decodes no more than LINES_AT_ONCE chunk lines in one call; then `is_held` is true until `go_on` has decoded what
    is left. Of a body that is held `feed` only keeps what it is given.
    """

    __slots__ = (
        "_body_size",
        "_buffer",
        "_excess",
        "_left",
        "_limit",
        "_position",
        "_state",
        "_trailer_count",
        "_trailer_left",
        "is_held",
    )

    def __init__(self, limit: int, trailer_size: int, trailer_count: int) -> None:
        """Begin a body of at most `limit` bytes, 0: any, with at most so many bytes and lines of trailers."""
        self.is_held = False  # others have their turn before the rest is decoded
        self._state = _SIZE
        self._left = 0  # bytes of the current chunk still to come
        self._body_size = 0  # bytes of all chunks so far, the current one in full
        self._excess = 0  # bytes of chunk lines beyond their share
        self._limit = limit
        self._buffer = b""  # arrived and not decoded, from `_position` on: an incomplete line, or what is held
        self._position = 0
        self._trailer_left = trailer_size
        self._trailer_count = trailer_count

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body bytes in `data`, and what follows the body or None while it goes on.

        Raises PeerError 400, 413 or 431.
        """
        if self._buffer:
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0
        return (b"", None) if self.is_held else self.go_on()

    def go_on(self) -> tuple[bytes, bytes | None]:
        """Decode what has arrived, as much as there is a turn for; return what `feed` does.

        Raises PeerError like `feed`.
        """
        data = self._buffer
        position = self._position
        size = len(data)
        budget = LINES_AT_ONCE
        pieces: list[bytes] = []
        self.is_held = False
        while position < size:
            if self._state is _DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    break  # there is no more of it
                if data.startswith(b"\r\n", position):
                    position += 2
                    self._state = _SIZE
                else:
                    self._state = _DATA_END
                continue
            if self._state is _SIZE:
                if budget <= 0:
                    self.is_held = True
                    break
                budget += len(pieces)
                position = self._take_known(data, position, budget - len(pieces), pieces)
                budget -= len(pieces)
                if budget <= 0 or position >= size:
                    continue
                budget -= 1
                # Hot path: what every client sends; tests/counts.json "100 chunks".
                plain = _PLAIN_LINE.match(data, position)
                if plain is not None:
                    position = plain.end()
                    self._begin_chunk(_size_of(plain[1]), position - plain.start())
                    continue
            end = self._line_end(data, position)
            if end < 0:
                break
            line = data[position:end]
            position = end + 2
            if self._state is _TRAILERS and not line:
                self._buffer = b""
                return b"".join(pieces), data[position:]
            budget -= len(line) // _LINE_WEIGHT
            self._receive_line(line)
        self._buffer = data if self.is_held else data[position:]
        self._position = position if self.is_held else 0
        return b"".join(pieces), None

    def _take_known(self, data: bytes, position: int, most: int, pieces: list[bytes]) -> int:
        """Take whole chunks from `position` on whose lines are known, at most so many; return where they end.

        No check is left out: what is no such chunk, whatever is wrong with it, is left to the caller.
        """
        # Hot path: a chunk is four calls this way, ten otherwise; tests/counts.json "100 chunks".
        if self._excess:
            return position  # each line has to be counted
        total = self._body_size
        limit = self._limit
        known = _sizes.get
        for _ in range(most):
            end = data.find(b"\r\n", position, position + _SIZE_DIGITS + 2)
            size = known(data[position:end]) if end > 0 else 0
            if not size:
                break
            end += 2
            following = end + size
            if not data.startswith(b"\r\n", following) or (limit and total + size > limit):
                break
            # Its line takes no more than its share: a line of _SIZE_DIGITS and CRLF is below _LINE_SHARE.
            pieces.append(data[end:following])
            total += size
            position = following + 2
        self._body_size = total
        return position

    def _line_end(self, data: bytes, position: int) -> int:
        """Return where the line at `position` ends, or -1 when its CRLF has not arrived."""
        end = data.find(b"\n", position)
        if end < 0:
            self._check_incomplete(data, position)
            return -1
        if self._state is _TRAILERS and end + 1 - position > self._trailer_left:
            raise PeerError(431, "trailer section too large")
        if end == position or data[end - 1] != 0x0D:
            raise PeerError(400, "bare LF in a chunked body")
        return end - 1

    def _check_incomplete(self, data: bytes, position: int) -> None:
        """Refuse a line that cannot become a good one, before more of it is kept."""
        if self._state is _DATA_END and data[position:] != b"\r":
            raise PeerError(400, "chunk data is longer than its size")
        longest = self._trailer_left if self._state is _TRAILERS else _LONGEST_LINE
        if len(data) - position > longest:
            raise PeerError(431 if self._state is _TRAILERS else 400, "line too long in a chunked body")

    def _receive_line(self, line: bytes) -> None:
        if self._state is _SIZE:
            self._receive_size(line)
        elif self._state is _DATA_END:
            if line:
                raise PeerError(400, "chunk data is longer than its size")
            self._state = _SIZE
        else:
            self._receive_trailer(line + b"\r\n")

    def _receive_size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > _LONGEST_LINE:
            raise PeerError(400, "malformed chunk size line")
        self._begin_chunk(int(match[1], 16), len(line) + 2)

    def _begin_chunk(self, size: int, line_size: int) -> None:
        """Go on to the data of a chunk, or to the trailers, after holding the chunk against the limits."""
        if size > _LARGEST_CHUNK:
            raise PeerError(400, "chunk size too large")
        self._excess = max(0, self._excess + line_size - _LINE_SHARE - _DATA_SHARE * size)
        if self._excess > _EXCESS_LIMIT:
            raise PeerError(400, "too many chunk extensions")
        self._left = size
        self._body_size += size
        if self._limit and self._body_size > self._limit:
            # By what is announced: the bytes need not arrive first.
            raise PeerError(413, "body larger than limits.body_size")
        self._state = _DATA if size else _TRAILERS

    def _receive_trailer(self, line: bytes) -> None:
        self._trailer_left -= len(line)  # not below zero: `_line_end` has looked
        self._trailer_count -= 1
        if self._trailer_count < 0:
            raise PeerError(431, "trailer section too large")
        check_field_lines(line, 0, len(line))


def _size_of(digits: bytes) -> int:
    """Return what the digits of a plain chunk line say, and remember it."""
    size = int(digits, 16)
    if len(digits) <= _SIZE_DIGITS:
        if len(_sizes) >= _SIZES_KEPT:
            _sizes.clear()
        _sizes[digits] = size
    return size
