"""The PROXY protocol, versions 1 and 2: who is at the other end of the proxy (haproxy's doc/proxy-protocol.txt).

A `ProxyHeader` takes the first bytes of one connection, before TLS, on listeners where every connection has to begin
with a header; whether the peer may send one, and how long it may take, decides the connection. A header that is
wrong in any way is a PeerError 400 that is never answered: the connection is closed, as the specification asks
(§2.1), because nobody knows whether HTTP would come. What is refused does not depend on how the bytes are cut.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.proxy_fields import ProxiedTls, ProxyFields, read_fields

__all__ = ["HEADER_SIZE", "Proxied", "ProxiedTls", "ProxyFields", "ProxyHeader", "Speaker"]

Address = tuple[str, int]

_LINE_SIZE: Final = 107  # bytes of a version 1 header with its CRLF, at most (§2.1)
_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD: Final = 16  # bytes before the address block (§2.2)

# Bytes of a version 2 header, at most. The specification promises that a header fits the smallest segment, 536 bytes,
# but fields with certificates do not; nginx takes as much (NGX_PROXY_PROTOCOL_MAX_HEADER).
HEADER_SIZE: Final = 4096

# Two addresses and two ports of one family; nothing but UNKNOWN may be followed by anything else.
_PORTS: Final = rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
_TCP4: Final = rb"TCP4 ([0-9.]+) ([0-9.]+) %b" % _PORTS
_TCP6: Final = rb"TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b" % _PORTS
_LINE: Final = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|%b|%b)" % (_TCP4, _TCP6))
_LARGEST_PORT: Final = 65535

_VERSION: Final = 0x20
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TRANSPORTS: Final = frozenset((0, 1, 2))  # unspecified, stream, datagram
_DATAGRAM_OR_STREAM: Final = frozenset((1, 2))
_UNSPECIFIED, _INET, _INET6, _UNIX = range(4)
_ADDRESS_SIZES: Final = {_UNSPECIFIED: 0, _INET: 4, _INET6: 16, _UNIX: 108}  # bytes of one address by family
_PORT_SIZE: Final = 2


class Speaker(Enum):
    """On whose behalf a connection was made."""

    PROXY = "the proxy itself, to check our health: the addresses of the socket hold"
    CLIENT = "the client that the header names"
    UNNAMED = "somebody the proxy has no address for: not the proxy, so nothing it says is to be trusted"


class Proxied(NamedTuple):
    """A complete header."""

    speaker: Speaker
    source: Address | None  # the client; None: not named
    destination: Address | None  # what it connected to
    fields: ProxyFields
    rest: bytes  # what has arrived behind the header


class ProxyHeader:
    """Reads the header of one connection."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Proxied | None:
        """Take bytes from the peer; return the header when it is complete, else None.

        Raises PeerError 400 when they cannot become a header; nothing is taken after that, or after the header.
        """
        data = self._data + data
        if data.startswith(_V1):
            proxied = _read_line(data)
        elif data.startswith(_V2):
            proxied = _read_binary(data)
        elif _V1.startswith(data) or _V2.startswith(data):
            proxied = None
        else:
            raise PeerError(400, "connection does not begin with a PROXY header")
        self._data = data if proxied is None else b""
        return proxied


def _read_line(data: bytes) -> Proxied | None:
    """Return the header of version 1 at the beginning of `data`, None when its end has not arrived (§2.1)."""
    end = data.find(b"\n", 0, _LINE_SIZE) + 1
    if not end:
        if len(data) >= _LINE_SIZE:
            raise PeerError(400, "PROXY line longer than 107 bytes")
        return None
    match = _LINE.fullmatch(data, 0, end - 2) if data.startswith(b"\r", end - 2) else None
    if match is None:
        raise PeerError(400, "malformed PROXY line")
    if match.lastindex is None:
        return Proxied(Speaker.UNNAMED, None, None, ProxyFields(), data[end:])
    source, destination, *ports = (part.decode("ascii") for part in match.groups() if part is not None)
    make = IPv4Address if match[1] else IPv6Address
    try:
        hosts = make(source), make(destination)
    except ValueError:
        raise PeerError(400, "malformed address in a PROXY line") from None
    source_port, destination_port = map(int, ports)
    if max(source_port, destination_port) > _LARGEST_PORT:
        raise PeerError(400, "port above 65535 in a PROXY line")
    return Proxied(
        Speaker.CLIENT,
        (_plain(hosts[0]), source_port),
        (_plain(hosts[1]), destination_port),
        ProxyFields(),
        data[end:],
    )


def _read_binary(data: bytes) -> Proxied | None:
    """Return the header of version 2 at the beginning of `data`, None when its end has not arrived (§2.2)."""
    size = len(data)
    if size > len(_V2):
        _check_command(data[12])
    if size > 13 and data[12] == _PROXY:
        _check_family(data[13])
    if size < _V2_HEAD:
        return None
    end = _V2_HEAD + int.from_bytes(data[14:_V2_HEAD], "big")
    if end > HEADER_SIZE:
        raise PeerError(400, f"PROXY header longer than {HEADER_SIZE} bytes")
    if size < end:
        return None
    header, rest = data[:end], data[end:]
    if header[12] == _LOCAL:
        # §2.2: the whole block is discarded, even the family.
        return Proxied(Speaker.PROXY, None, None, ProxyFields(), rest)
    return _read_addresses(header, rest)


def _check_command(byte: int) -> None:
    if byte & 0xF0 != _VERSION:
        raise PeerError(400, "PROXY header of a version other than 1 and 2")
    if byte not in (_LOCAL, _PROXY):
        raise PeerError(400, "unknown command in a PROXY header")


def _check_family(byte: int) -> None:
    if byte >> 4 not in _ADDRESS_SIZES or byte & 0x0F not in _TRANSPORTS:
        raise PeerError(400, "unknown address family or transport in a PROXY header")


def _read_addresses(header: bytes, rest: bytes) -> Proxied:
    """Return what a complete header with the command PROXY says."""
    family, transport = header[13] >> 4, header[13] & 0x0F
    if family == _UNSPECIFIED or transport not in _DATAGRAM_OR_STREAM:
        # §2.2: what stands in the block of an unspecified family or transport is nobody's to read.
        return Proxied(Speaker.UNNAMED, None, None, ProxyFields(), rest)
    size = _ADDRESS_SIZES[family]
    ports = _V2_HEAD + 2 * size
    start = ports if family == _UNIX else ports + 2 * _PORT_SIZE
    if start > len(header):
        raise PeerError(400, "PROXY header shorter than its addresses")
    fields = read_fields(header, start)
    if family == _UNIX:
        return Proxied(Speaker.UNNAMED, None, None, fields, rest)
    # A datagram has come to the proxy as HTTP/3; the client is the same one.
    make = IPv4Address if family == _INET else IPv6Address
    source, destination = header[_V2_HEAD : _V2_HEAD + size], header[_V2_HEAD + size : ports]
    return Proxied(
        Speaker.CLIENT,
        (_plain(make(source)), int.from_bytes(header[ports : ports + _PORT_SIZE], "big")),
        (_plain(make(destination)), int.from_bytes(header[ports + _PORT_SIZE : start], "big")),
        fields,
        rest,
    )


def _plain(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text, an IPv4 one that a dual-stack socket shows as IPv6 in its own form."""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address)
    return str(address)
