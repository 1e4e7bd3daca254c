"""The frames of HTTP/2 as such (RFC 9113 §4, §6, §7): types, flags, codes, and those that the server sends, as bytes.

What frames mean is known by `http2`, where one ends by `http2_reader`. The errors that a peer can make are here, too:

    PeerError
    ├── ConnectionFault    the connection ends with GOAWAY and this code (RFC 9113 §5.4.1)
    └── StreamFault        the stream ends with RST_STREAM and this code (RFC 9113 §5.4.2)
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from serverd.errors import PeerError

__all__ = [
    "ACK",
    "DEFAULT_FRAME_SIZE",
    "END_HEADERS",
    "END_STREAM",
    "FRAME_HEADER",
    "LARGEST_FRAME_SIZE",
    "LARGEST_ID",
    "LARGEST_WINDOW",
    "PADDED",
    "PREFACE",
    "PRIORITY",
    "ConnectionFault",
    "ErrorCode",
    "FrameType",
    "StreamFault",
    "encode_frame",
    "encode_goaway",
    "encode_header_block",
    "encode_reset",
    "encode_settings",
    "encode_window_update",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4

# RFC 9113 §4.1: a length of 24 bits with the type behind it, flags, and a reserved bit with the stream identifier.
FRAME_HEADER: Final = Struct(">LBL")

DEFAULT_FRAME_SIZE: Final = 2**14  # RFC 9113 §4.2: what everybody has to take
LARGEST_FRAME_SIZE: Final = 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1  # RFC 9113 §6.9.1
LARGEST_ID: Final = 2**31 - 1


class FrameType(IntEnum):
    """RFC 9113 §6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


# Flags, by the frame types that have them.
END_STREAM: Final = 0x1  # DATA, HEADERS
ACK: Final = 0x1  # SETTINGS, PING
END_HEADERS: Final = 0x4  # HEADERS, CONTINUATION
PADDED: Final = 0x8  # DATA, HEADERS
PRIORITY: Final = 0x20  # HEADERS


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(PeerError):
    """The peer broke the connection: what follows on it cannot be understood, or should not be answered."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(400, reason)
        self.code = code


class StreamFault(PeerError):
    """The peer broke one stream; the others go on."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(400, reason)
        self.code = code


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return a frame, its payload less than 2**24 bytes."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def encode_header_block(stream_id: int, block: bytes, end: bool, frame_size: int) -> bytes:
    """Return a header block as a HEADERS frame and as many CONTINUATION frames as it takes (RFC 9113 §4.3)."""
    flags = END_STREAM if end else 0
    size = len(block)
    if size <= frame_size:
        # Hot path: the frame of nearly every response, without a call for it; benchmarks/ "HTTP/2".
        return FRAME_HEADER.pack(size << 8 | 1, flags | END_HEADERS, stream_id) + block
    frames = [encode_frame(FrameType.HEADERS, flags, stream_id, block[:frame_size])]
    for start in range(frame_size, len(block), frame_size):
        last = END_HEADERS if start + frame_size >= len(block) else 0
        frames.append(encode_frame(FrameType.CONTINUATION, last, stream_id, block[start : start + frame_size]))
    return b"".join(frames)


def encode_settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame (RFC 9113 §6.5)."""
    payload = b"".join([key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items()])
    return encode_frame(FrameType.SETTINGS, 0, 0, payload)


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame (RFC 9113 §6.9); stream 0 is the connection."""
    return encode_frame(FrameType.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def encode_reset(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame (RFC 9113 §6.4)."""
    return encode_frame(FrameType.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def encode_goaway(last_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """Return a GOAWAY frame (RFC 9113 §6.8) with a reason for whoever debugs the peer."""
    payload = last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode("ascii", "backslashreplace")
    return encode_frame(FrameType.GOAWAY, 0, 0, payload)
