"""Frames as a WebSocket client sends them, right and wrong, and what a decoder makes of them.

For tests that must choose every bit; written from RFC 6455 and not with the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from serverd.errors import SessionError
from serverd.protocol.websocket import MessageBounds, MessageDecoder
from serverd.protocol.websocket_deflate import DeflateTerms, Inflater

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
MASK = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455 §5.7

BOUNDS = MessageBounds(message_size=1 << 20, frame_size=1 << 20)

Event = tuple[object, ...]
"""The name of the sink's method that was called, and its arguments."""


def header(first: int, size: int, digits: int | None = None) -> bytes:
    """Return a masked frame's header without the mask; `digits`: bytes of extended length, else the fewest."""
    if digits is None:
        digits = 0 if size < 126 else 2 if size < 1 << 16 else 8
    short = {0: size, 2: 126, 8: 127}[digits]
    return bytes((first, 0x80 | short)) + size.to_bytes(8, "big")[8 - digits :]


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK, digits: int | None = None
) -> bytes:
    """Return a masked frame."""
    size = len(payload)
    stream = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
    return header(fin << 7 | rsv | opcode, len(payload), digits) + mask + masked


def fragments(opcode: int, pieces: Sequence[bytes], rsv: int = 0) -> list[bytes]:
    """Return the frames of one message, one for each piece."""
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if number else opcode, piece, fin=number == last, rsv=0 if number else rsv)
        for number, piece in enumerate(pieces)
    ]


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a Close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class Received:
    """A sink that keeps what it is told, and never has enough unless `enough` says so."""

    def __init__(self, enough: bool = False) -> None:
        self.events: list[Event] = []
        self.enough = enough

    def on_message(self, message: str | bytes) -> bool:
        self.events.append(("message", message))
        return self.enough

    def on_ping(self, payload: bytes) -> None:
        self.events.append(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        self.events.append(("pong", payload))

    def on_close(self, code: int, reason: str) -> None:
        self.events.append(("close", code, reason))


def decoder_of(sink: Received, bounds: MessageBounds = BOUNDS, terms: DeflateTerms | None = None) -> MessageDecoder:
    """Return a decoder of a session; `terms`: with compression."""
    return MessageDecoder(sink, bounds, Inflater(terms) if terms else None)


def decode(
    pieces: Iterable[bytes], bounds: MessageBounds = BOUNDS, terms: DeflateTerms | None = None
) -> tuple[list[Event], int | None]:
    """Return what arrived, and the close code of the refusal, None without one."""
    sink = Received()
    decoder = decoder_of(sink, bounds, terms)
    try:
        for piece in pieces:
            waits = decoder.feed(piece)
            while waits:
                waits = decoder.go_on()
    except SessionError as error:
        return sink.events, int(error.code)
    return sink.events, None


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces."""
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *places}))]


def decode_every_way(
    data: bytes, bounds: MessageBounds = BOUNDS, terms: DeflateTerms | None = None
) -> tuple[list[Event], int | None]:
    """Return the result of `decode`, which is the same whole, cut anywhere, and byte by byte."""
    whole = decode([data], bounds, terms)
    for place in range(1, len(data)):
        assert decode(cut(data, [place]), bounds, terms) == whole, f"cut at {place}"
    for step in (1, 2, 3):
        assert decode(cut(data, range(0, len(data), step)), bounds, terms) == whole, f"in steps of {step}"
    return whole
