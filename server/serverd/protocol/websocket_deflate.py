"""permessage-deflate (RFC 7692): what is agreed on, and the compression of single messages, sans-IO.

`websocket_handshake` negotiates with it, `websocket` inflates what arrives, `asgi.session` deflates what is sent.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from serverd.errors import SessionError

__all__ = ["COMPRESSED_SIZE", "DeflateTerms", "Deflater", "Inflater", "agree"]

EXTENSION: Final = "permessage-deflate"

# Shorter messages are sent as they are: they fill one packet anyway. The threshold of the ws library for Node.
COMPRESSED_SIZE: Final = 1024
# Memory against ratio: 16 + 16 KiB to deflate, 4 + 7 KiB to inflate, for as long as the session lasts. zlib's own
# 15 and 8 take ten times as much; the websockets library has these two values, too.
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
# nginx's gzip_comp_level: higher ones take two to three times as long for a few per cent.
_LEVEL: Final = 1
# zlib cannot deflate without header into a window of 256 bytes.
_LEAST_BITS: Final = 9

# Final blocks in a message, each of which begins another stream and has the rest copied: compressors make one at most.
_STREAMS: Final = 16

_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: taken off the end of each message

_PROTOCOL_ERROR: Final = 1002  # RFC 6455 §7.4.1; Chromium and the websockets library answer so, too


class DeflateTerms(NamedTuple):
    """What client and server have agreed on (RFC 7692 §7.1)."""

    server_bits: int  # the window that we deflate into, 9 to 15
    client_bits: int  # the one that the client does, 8 to 15
    server_takeover: bool  # each message goes on with the window of the one before
    client_takeover: bool

    def describe(self, answers_client_bits: bool) -> bytes:
        """Return the extension as the response has it; `answers_client_bits`: the client has asked for them."""
        parts = [EXTENSION]
        if not self.server_takeover:
            parts.append("server_no_context_takeover")
        if not self.client_takeover:
            parts.append("client_no_context_takeover")
        parts.append(f"server_max_window_bits={self.server_bits}")
        if answers_client_bits:
            parts.append(f"client_max_window_bits={self.client_bits}")
        return "; ".join(parts).encode()


Parameters = list[tuple[str, str | None]]


def agree(parameters: Parameters) -> tuple[DeflateTerms, bytes] | None:
    """Return what an offer leads to, with the value of the response's field; None: it is declined (RFC 7692 §7.1)."""
    offered = dict(parameters)
    if len(offered) < len(parameters) or not offered.keys() <= _PARAMETERS:
        return None
    for flag in ("server_no_context_takeover", "client_no_context_takeover"):
        if offered.get(flag) is not None:
            return None  # RFC 7692 §7.1.1: without a value
    client_asks = "client_max_window_bits" in offered
    server_bits = _window_bits(offered.get("server_max_window_bits", "15"))
    client_bits = _window_bits(offered.get("client_max_window_bits") or "15")
    if server_bits is None or client_bits is None or server_bits < _LEAST_BITS:
        return None
    terms = DeflateTerms(
        min(server_bits, _WINDOW_BITS),
        # RFC 7692 §7.1.2.2: only a client that names the parameter can be asked for a smaller window.
        min(client_bits, _WINDOW_BITS) if client_asks else 15,
        "server_no_context_takeover" not in offered,
        "client_no_context_takeover" not in offered,
    )
    return terms, terms.describe(client_asks)


_PARAMETERS: Final = {
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
}
_BITS: Final = {str(bits): bits for bits in range(8, 16)}  # RFC 7692 §7.1.2: decimal, without leading zeros


def _window_bits(value: str | None) -> int | None:
    return None if value is None else _BITS.get(value)


class Inflater:
    """Decompresses the messages of a client."""

    __slots__ = ("_bits", "_decompressor", "_streams", "_takeover")

    def __init__(self, terms: DeflateTerms) -> None:
        self._bits = terms.client_bits
        self._streams = 0  # that have ended within the message
        self._takeover = terms.client_takeover
        self._decompressor: zlib._Decompress | None = None  # only a session that uses it pays for it

    def inflate(self, data: bytes, room: int, is_last: bool) -> bytes:
        """Return what a part of a message says, in at most `room` + 1 bytes: more than `room` is too much.

        Raises SessionError for what is no deflate stream.
        """
        try:
            inflated = self._inflate(data + _EMPTY_BLOCK if is_last else data, room + 1)
        except zlib.error:
            raise SessionError(_PROTOCOL_ERROR, "message cannot be decompressed") from None
        if is_last:
            self._streams = 0
            if not self._takeover:
                self._decompressor = None
        return inflated

    def _inflate(self, data: bytes, most: int) -> bytes:
        inflated = b""
        while True:
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = zlib.decompressobj(-self._bits)
            inflated += decompressor.decompress(data, most - len(inflated))
            if not decompressor.eof or len(inflated) == most:
                return inflated
            # RFC 7692 §7.2.3.4: a final block ends the stream, and another one may begin behind it.
            self._streams += 1
            if self._streams > _STREAMS:
                raise SessionError(_PROTOCOL_ERROR, "message has too many final blocks")
            data = decompressor.unused_data
            self._decompressor = None


class Deflater:
    """Compresses messages for a client."""

    __slots__ = ("_bits", "_compressor", "_takeover")

    def __init__(self, terms: DeflateTerms) -> None:
        self._bits = terms.server_bits
        self._takeover = terms.server_takeover
        self._compressor: zlib._Compress | None = None

    def deflate(self, message: bytes) -> bytes:
        """Return the payload for a whole message (RFC 7692 §7.2.1)."""
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -self._bits, _MEMORY_LEVEL)
            if self._takeover:
                self._compressor = compressor
        return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
