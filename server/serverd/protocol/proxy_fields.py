"""What a PROXY header of version 2 says beside the addresses: its type-length-value fields (specification §2.2).

Read by `proxy` once the header is complete. Fields of other types are skipped, as the specification allows, but
only when their lengths fit: what does not add up has been read differently by somebody before us.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.crc32c import crc32c

__all__ = ["ProxiedTls", "ProxyFields", "read_fields"]


class _Type(IntEnum):
    """The registered types that are read (§2.2)."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23


_READ: Final = frozenset(_Type)
_HEAD: Final = 3  # bytes of type and length
_SSL_HEAD: Final = 5  # bytes of client flags and verify result
_CRC_SIZE: Final = 4
_UNIQUE_ID_SIZE: Final = 128  # §2.2.5

# The client flags of SSL (§2.2.6).
_CLIENT_SSL: Final = 0x01
_CLIENT_CERT: Final = 0x02 | 0x04  # shown over this connection, or earlier in this session


class ProxiedTls(NamedTuple):
    """The client's TLS connection to the proxy; "" is what the proxy does not tell."""

    version: str  # "TLSv1.3"
    cipher: str  # "ECDHE-RSA-AES128-GCM-SHA256"
    certificate: bool  # the client has shown one
    verified: bool  # and the proxy has verified it
    common_name: str  # of its subject; means something only if `verified`


class ProxyFields(NamedTuple):
    """The fields of one header."""

    tls: ProxiedTls | None = None  # None: the client came without TLS, or the proxy does not tell
    alpn: bytes = b""
    authority: str = ""  # the name the client asked for, in TLS by SNI; any string that it liked
    unique_id: bytes = b""  # opaque


def read_fields(header: bytes, start: int) -> ProxyFields:
    """Return the fields of a whole header, of which they are the part from `start`.

    Raises PeerError 400.
    """
    if start == len(header):
        return ProxyFields()
    found: dict[int, bytes] = {}
    for kind, position, end in _split(header, start):
        if kind == _Type.CRC32C:
            _check(header, position, end)
        _keep(found, kind, header[position:end])
    unique_id = found.get(_Type.UNIQUE_ID, b"")
    if len(unique_id) > _UNIQUE_ID_SIZE:
        raise PeerError(400, "unique id of a PROXY header longer than 128 bytes")
    ssl = found.get(_Type.SSL)
    return ProxyFields(
        None if ssl is None else _read_tls(ssl),
        found.get(_Type.ALPN, b""),
        _text(found, _Type.AUTHORITY),
        unique_id,
    )


def _split(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Return type, and begin and end of the value, of each field in `data` from `start`."""
    size = len(data)
    while start < size:
        position = start + _HEAD
        end = position + int.from_bytes(data[start + 1 : position], "big")
        if end > size:
            raise PeerError(400, "field of a PROXY header longer than the header")
        yield data[start], position, end
        start = end


def _keep(found: dict[int, bytes], kind: int, value: bytes) -> None:
    """Put a field to those found; one that is read stands once, lest two readers take different ones."""
    if kind in _READ:
        if kind in found:
            raise PeerError(400, f"several fields of type {kind:#04x} in a PROXY header")
        found[kind] = value


def _check(header: bytes, position: int, end: int) -> None:
    """Check the header against its checksum, which counts as zeros in it (§2.2.3)."""
    if end - position != _CRC_SIZE:
        raise PeerError(400, "checksum of a PROXY header that is not 4 bytes long")
    if crc32c(header[:position] + bytes(_CRC_SIZE) + header[end:]) != int.from_bytes(header[position:end], "big"):
        raise PeerError(400, "PROXY header that does not match its checksum")


def _read_tls(value: bytes) -> ProxiedTls | None:
    """Return what the field SSL says (§2.2.6)."""
    if len(value) < _SSL_HEAD:
        raise PeerError(400, "field SSL of a PROXY header shorter than 5 bytes")
    found: dict[int, bytes] = {}
    for kind, position, end in _split(value, _SSL_HEAD):
        _keep(found, kind, value[position:end])
    client = value[0]
    if not client & _CLIENT_SSL:
        return None
    certificate = bool(client & _CLIENT_CERT)
    return ProxiedTls(
        _text(found, _Type.SSL_VERSION),
        _text(found, _Type.SSL_CIPHER),
        certificate,
        certificate and not any(value[1:_SSL_HEAD]),
        _text(found, _Type.SSL_CN),
    )


def _text(found: dict[int, bytes], kind: _Type) -> str:
    """Return a value that is text in UTF-8; "" if it is not there."""
    try:
        return found.get(kind, b"").decode()
    except UnicodeDecodeError:
        raise PeerError(400, f"field {kind.name} of a PROXY header is not UTF-8") from None
