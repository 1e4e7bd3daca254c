"""WebSocket messages out of a client's frames (RFC 6455 §5, §6), sans-IO.

`MessageDecoder` turns the bytes of one session into messages and control frames, which it pushes into a sink; for the
other direction `websocket_frames` has all that it takes. The decoder stops when the sink has enough, or after a
number of frames, and goes on when it is asked to: so what a peer sends costs neither memory nor the others' time
without bound. Compression is `websocket_deflate`, the opening handshake `websocket_handshake`. Used by
`asgi.session`, whatever the bytes travel on: a socket (RFC 6455) or a stream of HTTP/2 (RFC 8441).
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple, Protocol

from serverd.errors import SessionError
from serverd.protocol.masking import unmask
from serverd.protocol.websocket_deflate import Inflater
from serverd.protocol.websocket_frames import (
    BINARY,
    COMPRESSED,
    CONTINUATION,
    CONTROL,
    CONTROL_SIZE,
    FIN,
    MASKED,
    NOT_UTF8,
    OPCODE,
    PING,
    PONG,
    RESERVED,
    SIZE_16,
    TEXT,
    CloseCode,
    decode_utf8,
    read_close,
    read_size,
)

__all__ = ["FRAMES_AT_ONCE", "INFLATED_AT_ONCE", "MessageBounds", "MessageDecoder", "MessageSink"]

_WHOLE_TEXT: Final = FIN | TEXT
_WHOLE: Final = (_WHOLE_TEXT, FIN | BINARY)

_TOO_BIG: Final = "message larger than limits.websocket.message_size"

# Frames decoded before others get their turn: they cost 1 to 2 us each, and one read may hold forty thousand.
FRAMES_AT_ONCE: Final = 256

# Compressed bytes that are inflated at a time, which become a thousand times as many at most; and how many in one turn.
_SLICE: Final = 4096
INFLATED_AT_ONCE: Final = 1024 * 1024

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class MessageBounds(NamedTuple):
    """Limits on what a peer sends, in bytes."""

    message_size: int  # of a message, after decompression
    frame_size: int  # of the payload of one frame, as it is on the wire


class MessageSink(Protocol):
    """Whom the decoder tells what it received."""

    def on_message(self, message: str | bytes) -> bool:
        """Take a message; return whether that is enough for now."""

    def on_ping(self, payload: bytes) -> None:
        """The peer wants this payload back in a Pong."""

    def on_pong(self, payload: bytes) -> None:
        """The peer answers a Ping, or says unasked that it is there (RFC 6455 §5.5.3)."""

    def on_close(self, code: int, reason: str) -> None:
        """The peer closes the session: the last that comes from it; NO_STATUS when it does not say why."""


class MessageDecoder:
    """Turns the bytes of one client into messages."""

    __slots__ = (
        "_bounds",
        "_buffer",
        "_fin",
        "_inflated",
        "_inflater",
        "_is_closed",
        "_is_compressed",
        "_is_skipping",
        "_left",
        "_mask",
        "_message",
        "_opcode",
        "_position",
        "_sink",
        "_stops",
        "_utf8",
        "_whole_size",
    )

    def __init__(self, sink: MessageSink, bounds: MessageBounds, inflater: Inflater | None) -> None:
        """Prepare; `inflater` is there when permessage-deflate has been agreed on."""
        self._sink = sink
        self._bounds = bounds
        self._whole_size = min(bounds)  # bytes of a message in one frame
        self._inflater = inflater
        self._buffer = b""
        self._position = 0  # in the buffer: what comes before has been decoded
        self._stops = False  # the sink has enough
        self._is_closed = False  # nothing that follows counts
        self._is_skipping = False  # of what follows only control frames count
        self._inflated = 0  # bytes that compressed frames have become in this turn
        # The data frame that has begun and is not complete.
        self._left = 0  # bytes of its payload that have not arrived
        self._mask = b""  # turned to the next of them
        self._fin = True  # it is the last of its message
        # The message that has begun and is not complete.
        self._opcode = CONTINUATION  # CONTINUATION: there is none
        self._is_compressed = False
        self._message = bytearray()
        self._utf8: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> bool:
        """Take bytes from the peer; return whether to wait with `go_on` until the sink wants more.

        Raises SessionError when they break the protocol or a bound.
        """
        if self._is_closed:
            return False
        if self._buffer:
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0
        return self.go_on()

    def go_on(self) -> bool:
        """Decode what has arrived; return whether it stopped because the sink has enough, or others want their turn.

        Raises SessionError like `feed`.
        """
        self._stops = False
        self._inflated = 0
        for _ in range(FRAMES_AT_ONCE):
            if not (self._receive_payload() if self._left else self._receive_frame()):
                return self._stops
        return True

    def skip(self) -> None:
        """Look for the peer's Close only; its messages are taken off the wire without being made."""
        self._is_skipping = True
        self._message = bytearray()

    def refuse(self) -> None:
        """Take nothing more from this peer."""
        self._is_closed = True
        self._left = 0
        self._buffer = b""
        self._message = bytearray()
        self._inflater = None

    def _receive_frame(self) -> bool:
        """Decode the next frame, or as much of it as is there; return whether to go on."""
        data = self._buffer
        start = self._position
        if len(data) < start + 2 or self._is_closed:
            self._keep_rest()
            return False
        first = data[start]
        size = data[start + 1] - MASKED
        if size < 0:
            raise SessionError(CloseCode.PROTOCOL_ERROR, "frame of a client is not masked")
        body = start + 6
        if size > CONTROL_SIZE:
            body += 2 if size == SIZE_16 else 8
            if len(data) < body - 4:
                self._check_frame(first, size)  # what is wrong already needs no more of it
                self._keep_rest()
                return False
            size = read_size(data[start + 2 : body - 4])
        end = body + size
        # Hot path: most messages are one frame that arrives whole; benchmarks/ "WebSocket echo, 64 B".
        if first in _WHOLE and not self._opcode and size <= self._whole_size and end <= len(data):
            return self._receive_whole(first, body, end)
        self._check_frame(first, size)
        if end > len(data) and (first & CONTROL or body > len(data)):
            self._keep_rest()
            return False
        mask = data[body - 4 : body]
        self._position = body
        if first & CONTROL:
            self._position = end
            return self._receive_control(first & OPCODE, unmask(data[body:end], mask))
        self._begin_frame(first, size, mask)
        return self._receive_payload()

    def _receive_whole(self, first: int, body: int, end: int) -> bool:
        """Hand on the message of which the payload is there."""
        data = self._buffer
        payload = unmask(data[body:end], data[body - 4 : body])
        if end == len(data):
            self._buffer = b""
            end = 0
        self._position = end
        if self._is_skipping:
            return True
        self._stops = self._sink.on_message(decode_utf8(payload) if first == _WHOLE_TEXT else payload)
        return not self._stops

    def _keep_rest(self) -> None:
        """Keep the beginning of a frame, and nothing of what comes before it."""
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._position = 0

    def _check_frame(self, first: int, size: int) -> None:
        """Check opcode and reserved bits of a frame, and its size, before its payload is taken (RFC 6455 §5.2)."""
        opcode = first & OPCODE
        if first & RESERVED or (first & COMPRESSED and (opcode not in (TEXT, BINARY) or self._inflater is None)):
            raise SessionError(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        if first & CONTROL:
            if opcode > PONG:
                raise SessionError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
            if not first & FIN or size > CONTROL_SIZE:
                raise SessionError(CloseCode.PROTOCOL_ERROR, "control frame is fragmented or longer than 125 bytes")
            return
        if opcode > BINARY:
            raise SessionError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if (opcode == CONTINUATION) is (self._opcode == CONTINUATION):
            raise SessionError(CloseCode.PROTOCOL_ERROR, "fragments of a message are out of order")
        if size > self._bounds.frame_size:
            raise SessionError(CloseCode.TOO_BIG, "frame larger than limits.websocket.frame_size")
        is_compressed = first & COMPRESSED or (opcode == CONTINUATION and self._is_compressed)
        if not is_compressed and len(self._message) + size > self._bounds.message_size:
            raise SessionError(CloseCode.TOO_BIG, _TOO_BIG)

    def _receive_control(self, opcode: int, payload: bytes) -> bool:
        if opcode == PING:
            self._sink.on_ping(payload)
        elif opcode == PONG:
            self._sink.on_pong(payload)
        else:
            code, reason = read_close(payload)
            self.refuse()
            self._sink.on_close(code, reason)
        return not self._is_closed  # the sink may have refused the rest

    # Messages in several frames, compressed ones, and what arrives in pieces.

    def _begin_frame(self, first: int, size: int, mask: bytes) -> None:
        self._left = size
        self._mask = mask
        self._fin = bool(first & FIN)
        if first & OPCODE:
            self._opcode = first & OPCODE
            self._is_compressed = bool(first & COMPRESSED)
            self._utf8 = _new_utf8_decoder() if self._opcode == TEXT else None

    def _receive_payload(self) -> bool:
        """Take what has arrived of the payload of a data frame; return whether to go on."""
        data = self._buffer
        start = self._position
        end = start + (min(self._left, _SLICE) if self._is_compressed else self._left)
        if end < len(data):
            self._position = end
        else:
            self._buffer = b""
            self._position = 0
        mask = self._mask
        piece = unmask(data[start:end], mask)
        self._left -= len(piece)
        if self._left:
            turn = len(piece) & 3
            self._mask = mask[turn:] + mask[:turn]
        is_last = self._fin and not self._left
        self._extend_message(piece, is_last)
        if not is_last:
            self._stops = self._inflated > INFLATED_AT_ONCE
            return not self._stops and (not self._left or self._position < len(self._buffer))
        opcode, payload = self._opcode, self._message
        self._opcode = CONTINUATION
        self._message = bytearray()
        self._utf8 = None
        if self._is_skipping:
            return True
        message = payload.decode() if opcode == TEXT else bytes(payload)
        self._stops = self._sink.on_message(message)
        return not self._stops

    def _extend_message(self, piece: bytes, is_last: bool) -> None:
        """Add a part of the payload to the message, which is complete when it `is_last`."""
        if self._is_skipping:
            return
        if self._is_compressed:
            assert self._inflater is not None  # _check_frame has refused the bit
            room = self._bounds.message_size - len(self._message)
            piece = self._inflater.inflate(piece, room, is_last)
            if len(piece) > room:
                raise SessionError(CloseCode.TOO_BIG, _TOO_BIG)
            self._inflated += len(piece)
        if self._utf8 is not None:
            try:
                self._utf8.decode(piece, is_last)
            except UnicodeDecodeError:
                raise SessionError(CloseCode.INVALID_DATA, NOT_UTF8) from None
        self._message += piece
