"""The checksum CRC-32C, which the PROXY protocol may carry (RFC 9260 Appendix A); used by `proxy` alone.

zlib has only the other polynomial. A header is short and checked once per connection, so a table of 256 will do.
"""

from __future__ import annotations

from typing import Final

__all__ = ["crc32c"]

_POLYNOMIAL: Final = (
    0x82F63B78  # Castagnoli's 0x1EDC6F41 with its bits reversed, as the bits of a byte go first to last
)
_ONES: Final = 0xFFFFFFFF


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_remainder(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """Return the checksum of `data`."""
    table = _TABLE
    value = _ONES
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ _ONES
