"""HPACK's tables and integers (RFC 7541 §2.3, §5.1, Appendix A); what decoder and encoder have in common.

`hpack_decoder` and `hpack_encoder` are what a connection uses, one of each; `hpack_huffman` has the string code.
"""

from __future__ import annotations

from typing import Final

from serverd.errors import PeerError
from serverd.protocol.head import Fields

__all__ = [
    "DEFAULT_TABLE_SIZE",
    "ENTRY_OVERHEAD",
    "STATIC_TABLE",
    "HeaderListTooLarge",
    "HpackBomb",
    "HpackError",
    "encode_integer",
]

# RFC 9113 §6.5.2: what both ends begin with.
DEFAULT_TABLE_SIZE: Final = 4096
# RFC 7541 §4.1: what an entry is taken to cost beside its bytes; SETTINGS_MAX_HEADER_LIST_SIZE counts alike.
ENTRY_OVERHEAD: Final = 32


class HpackError(PeerError):
    """A header block cannot be decoded: nothing that follows on the connection can be (RFC 9113 §4.3)."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, reason)


class HpackBomb(HpackError):
    """A header block says so much more than is allowed that decoding it to the end is refused."""


class HeaderListTooLarge(PeerError):
    """A header list is larger than allowed; the block was decoded to its end, and the next one can be.

    ``first`` are the first fields of it, among which those have to be that say what is asked for.
    """

    def __init__(self, reason: str, first: Fields) -> None:
        super().__init__(431, reason)
        self.first = first


def encode_integer(value: int, prefix: int, first: int) -> bytes:
    """Return `value` with a prefix of `prefix` bits, of which the byte `first` has the others (RFC 7541 §5.1)."""
    largest = (1 << prefix) - 1
    if value < largest:
        return bytes((first | value,))
    octets = bytearray((first | largest,))
    value -= largest
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


# RFC 7541 Appendix A; index 0 is not used.
STATIC_TABLE: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"", b""),
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
