"""WebSocket frames (RFC 6455 §5.2, §5.5, §7.4), sans-IO: opcodes, close codes, headers, control frames.

`websocket` decodes what a client sends with it; `asgi.websocket` makes with it what is sent.
"""

from __future__ import annotations

from enum import IntEnum
from struct import pack
from typing import Final

from serverd.errors import SessionError

__all__ = [
    "BINARY",
    "CLOSE",
    "CLOSE_REASON_SIZE",
    "COMPRESSED",
    "CONTINUATION",
    "CONTROL",
    "CONTROL_SIZE",
    "FIN",
    "MASKED",
    "NOT_UTF8",
    "OPCODE",
    "PING",
    "PONG",
    "RESERVED",
    "SIZE_16",
    "SIZE_64",
    "TEXT",
    "CloseCode",
    "decode_utf8",
    "encode_close",
    "encode_control",
    "frame_header",
    "is_sendable",
    "read_close",
    "read_size",
]

# Opcodes (RFC 6455 §5.2).
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

# The first byte of a frame.
FIN: Final = 0x80
COMPRESSED: Final = 0x40  # RSV1 (RFC 7692 §6)
RESERVED: Final = 0x30  # RSV2, RSV3
OPCODE: Final = 0x0F
CONTROL: Final = 0x08  # set in the opcodes of control frames

# The second byte.
MASKED: Final = 0x80
SIZE_16, SIZE_64 = 126, 127  # the payload length follows in so many bits

CONTROL_SIZE: Final = 125  # RFC 6455 §5.5
CLOSE_REASON_SIZE: Final = CONTROL_SIZE - 2  # behind the code

NOT_UTF8: Final = "text is not UTF-8"


class CloseCode(IntEnum):
    """Why a session ends (RFC 6455 §7.4.1 and the IANA registry); those that the server itself uses."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005  # never sent: the peer's Close had no code
    ABNORMAL = 1006  # never sent: there was no Close
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


# 1004 is undefined, 1005, 1006 and 1015 are never sent; 1012 to 1014 were registered after the RFC.
_REGISTERED: Final = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


def is_sendable(code: int) -> bool:
    """Return whether a Close frame may hold this code (RFC 6455 §7.4.2)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def read_size(digits: bytes) -> int:
    """Return a payload length of 2 or 8 bytes (RFC 6455 §5.2); raises SessionError."""
    size = int.from_bytes(digits, "big")
    if size <= (CONTROL_SIZE if len(digits) == 2 else 0xFFFF) or size >= 2**63:
        raise SessionError(CloseCode.PROTOCOL_ERROR, "payload length is not in its one shortest form")
    return size


def decode_utf8(data: bytes) -> str:
    """Return the text that `data` is (RFC 6455 §8.1); raises SessionError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SessionError(CloseCode.INVALID_DATA, NOT_UTF8) from None


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a Close frame (RFC 6455 §5.5.1, §7.1.5); raises SessionError."""
    if not payload:
        return CloseCode.NO_STATUS, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not is_sendable(code):
        raise SessionError(CloseCode.PROTOCOL_ERROR, "invalid close code")
    return code, decode_utf8(payload[2:])


def frame_header(first: int, size: int) -> bytes:
    """Return the header of an unmasked frame; `first` is its opcode, and FIN or COMPRESSED (RFC 6455 §5.2)."""
    if size <= CONTROL_SIZE:
        return bytes((first, size))
    if size <= 0xFFFF:
        return pack("!BBH", first, SIZE_16, size)
    return pack("!BBQ", first, SIZE_64, size)


def encode_control(opcode: int, payload: bytes) -> bytes:
    """Return a control frame; `payload` has at most 125 bytes."""
    return bytes((FIN | opcode, len(payload))) + payload


def encode_close(code: int, reason: str) -> bytes:
    """Return a Close frame; one without code for NO_STATUS. The reason has at most CLOSE_REASON_SIZE bytes in UTF-8."""
    return encode_control(CLOSE, b"" if code == CloseCode.NO_STATUS else pack("!H", code) + reason.encode())
