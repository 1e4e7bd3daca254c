"""Addresses of listeners, and of the proxies they trust: reading one entry, and whether two of the former clash.

Pure text; nothing is resolved or bound here, that is `net/sockets`. Called by `kinds` and `listeners`.
Errors are predicates without the value, as in `values`.
"""

from __future__ import annotations

import ipaddress
import re

from serverd.config.values import Substituted, parse_file_path
from serverd.generation import Address, AddressKind

__all__ = ["EVERY_PEER", "UNIX_PATH_BYTES", "UNIX_PEER", "clash", "parse_address", "parse_proxy"]

UNIX_PATH_BYTES = 107  # sun_path holds 108 bytes on Linux with the closing NUL (unix(7))
EVERY_IPV4 = "0.0.0.0"  # noqa: S104 (compared with what the operator wrote, never bound)
EVERY_IPV6 = "::"
UNIX_PEER = "unix"  # whoever connects to a unix socket, as `trusted_proxies` calls it
EVERY_PEER = (f"{EVERY_IPV4}/0", f"{EVERY_IPV6}/0")  # as `parse_proxy` returns them

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_EXPECTED = '(expected like "127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/run/app.sock", "fd:3" or "systemd:web")'
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")
_FD = re.compile(r"[0-9]{1,9}")
# FileDescriptorName= in systemd.socket(5): ASCII without control characters and without ":", which separates the names
# in LISTEN_FDNAMES (sd_listen_fds(3)).
_ACTIVATION_NAME = re.compile(r"[\x20-\x39\x3b-\x7e]{1,255}")
_PROXY_EXPECTED = '(expected like "10.0.0.7", "10.0.0.0/8", "fd00::/8" or "unix")'
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_WITH_PORT = re.compile(r"[0-9.]+:[0-9]+|\[.*\](:[0-9]+)?")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 addresses as IPv6 sockets show them (RFC 4291 §2.5.5.2)


def parse_address(value: object) -> Address:
    """Return the address that one `bind` entry names; a unix path is as written, maybe relative.

    Raises ValueError when it names none.
    """
    if not isinstance(value, str):
        raise ValueError(f"is not a string {_EXPECTED}")
    if value.startswith("unix:"):
        return Address(AddressKind.UNIX, str(value), path=parse_file_path(value[5:]))
    if value.startswith("fd:") and _FD.fullmatch(value[3:]):
        return Address(AddressKind.FD, str(value), fd=int(value[3:]))
    if value.startswith("systemd:"):
        return Address(AddressKind.SYSTEMD, str(value), name=_parse_activation_name(value[8:]))
    if "://" in value:
        raise ValueError(f"is a URL, not an address {_EXPECTED}")
    host, colon, port = value.rpartition(":")
    if not _PORT.fullmatch(port):
        raise ValueError(f"{'is not an address' if colon else 'has no port'} {_EXPECTED}")
    if int(port) > 65535:
        raise ValueError("has a port above 65535 (expected 0 to 65535; 0 lets the kernel choose)")
    if not colon:
        raise ValueError(f'is a port alone (expected "127.0.0.1:{value}", or ":{value}" for every interface)')
    return Address(AddressKind.TCP, str(value), host=_parse_bind_host(host), port=int(port))


def _parse_activation_name(name: str) -> str:
    """Return a name as socket activation has it."""
    if not _ACTIVATION_NAME.fullmatch(name):
        raise ValueError(
            'holds no name of a socket (expected like "systemd:web": the FileDescriptorName= of the .socket unit,'
            ' up to 255 printable ASCII characters without ":")'
        )
    return str(name)


def _parse_bind_host(host: str) -> str:
    """Return the host of a TCP address without brackets; "" is every interface."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError('holds no IPv6 address in its brackets (expected like "[::1]:8000")') from None
    if ":" in host:
        raise ValueError('holds an IPv6 address without brackets (expected like "[::1]:8000")')
    if host and set(host) <= set("0123456789."):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError('holds no IPv4 address (expected like "127.0.0.1:8000")') from None
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"is not an address {_EXPECTED}")
    return host.lower()


def clash(one: Address, other: Address) -> bool:
    """Return whether binding both addresses must fail, as far as that can be told without resolving names."""
    if one.kind is not other.kind:
        return False
    if one.kind is AddressKind.FD:
        return one.fd == other.fd
    if one.kind is AddressKind.SYSTEMD:
        return one.name == other.name
    if one.kind is AddressKind.UNIX:
        return one.path == other.path
    if one.port != other.port or one.port == 0:
        return False
    return any(_overlap(here, there) for here in _interfaces(one.host) for there in _interfaces(other.host))


def _interfaces(host: str) -> tuple[str, ...]:
    """Return the interfaces that `host` stands for, every one of a family as its zero address."""
    if host == "":
        return (EVERY_IPV4, EVERY_IPV6)
    if host == "localhost":
        return ("127.0.0.1", "::1")
    return (host,)


def _overlap(here: str, there: str) -> bool:
    """Return whether two interfaces, or all of a family and one of it, are the same at some point."""
    if here == there:
        return True
    for every, one in ((here, there), (there, here)):
        if every == EVERY_IPV6 and ":" in one:
            return True
        if every == EVERY_IPV4 and ":" not in one:
            return True
    return False


def parse_proxy(value: object) -> str:
    """Return an entry of `trusted_proxies`: "unix", an address, or a network that has more than one.

    What is written in several ways has one result; IPv4 within IPv6 is IPv4, as the peers of a dual stack socket are
    compared. Raises ValueError when it is none of these.
    """
    if not isinstance(value, str):
        raise ValueError(f"is not a string {_PROXY_EXPECTED}")
    if value == UNIX_PEER:
        return UNIX_PEER
    if value == "*":
        raise ValueError(
            "would let every client say on whose behalf it speaks (expected the proxies alone: their addresses, or the"
            ' network they share with no client, like "10.0.0.0/8"; "unix" for one on a unix socket)'
        )
    if _WITH_PORT.fullmatch(value):
        raise ValueError(f"holds a port or brackets, which no peer is compared with {_PROXY_EXPECTED}")
    network = _unmapped(_parse_network(value))
    if network.prefixlen < network.max_prefixlen:
        return str(network)
    if network.network_address.is_unspecified:
        raise ValueError(f"is an address that no peer has {_PROXY_EXPECTED}")
    return str(network.network_address)


def _parse_network(value: str) -> Network:
    """Return the network that an address or a network in CIDR notation is."""
    host, slash, prefix = value.partition("/")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"is neither an address nor a network; names are not looked up {_PROXY_EXPECTED}") from None
    if "%" in host:
        raise ValueError("holds a zone, which no peer is compared with (expected the address without it)")
    if slash and not (_PREFIX.fullmatch(prefix) and int(prefix) <= address.max_prefixlen):
        raise ValueError(
            f'has no prefix length after its slash (expected 0 to {address.max_prefixlen}, like "10.0.0.0/8")'
        )
    network = ipaddress.ip_network((host, int(prefix) if slash else address.max_prefixlen), strict=False)
    if network.network_address != address:
        # What came from a variable is not shown, as everywhere.
        meant = "" if isinstance(value, Substituted) else f': the network "{network}", or the address "{address}"'
        raise ValueError(f"is an address within a network, and could mean either (expected one of them{meant})")
    return network


def _unmapped(network: Network) -> Network:
    if not isinstance(network, ipaddress.IPv6Network) or not network.subnet_of(_MAPPED):
        return network
    first = int(network.network_address) & 0xFFFF_FFFF
    return ipaddress.IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
