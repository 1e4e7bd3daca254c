"""Whom a listener believes when it says on whose behalf it speaks, and what of it: made once per listener.

`Trust` answers for the peer of a connection and for every hop that a believed field names. Where no entry of the
configuration covers an address, nobody is believed. `forwarded` walks the hops, `connection` asks about peers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

__all__ = ["BELIEVABLE", "BELIEVED", "UNIX", "Node", "Trust"]

# The entry of `trusted_proxies` that stands for every peer on a unix socket.
UNIX: Final = "unix"

# The fields that `forwarded` can read, in lower case.
BELIEVABLE: Final = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
)
# The fields that are read unless the operator says otherwise: the two that nearly every proxy writes itself. Most let
# the others through as the client sent them, so that believing those would let any client choose host and prefix;
# uvicorn and werkzeug's ProxyFix start with the same two.
BELIEVED: Final = (b"x-forwarded-for", b"x-forwarded-proto")

# RFC 7239 has these in one field; a proxy that writes both kinds is believed in one of them.
_SAID_BY_FORWARDED = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"))

# A node as it stands in X-Forwarded-For and, unquoted, in Forwarded (RFC 7239 §6): IPv4 or a bracketed IPv6 address
# with or without a port, which may be obfuscated, or a bare IPv6 address, which the RFC lacks and proxies write.
_NODE: Final = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]+))?|([0-9A-Fa-f:.]{2,45})"
)
_UNIX_NODE: Final = b"unix:"  # what nginx writes for a client on a unix socket
_LARGEST_PORT: Final = 65535

_KEPT: Final = 1024  # nodes and hosts are remembered up to this many each; a peer cannot make it more
_LONGEST_NODE: Final = 64  # bytes; a bracketed IPv6 address has 47, a port 6

_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2


class Node(NamedTuple):
    """One hop that a field names."""

    host: str  # in its canonical form; "" is a unix socket
    port: int  # 0: not said
    trusted: bool


class Trust:
    """The proxies of one listener; asked once per connection and per hop, changed by nobody."""

    __slots__ = ("_hosts", "_networks", "_nodes", "_unix", "believed")

    def __init__(self, proxies: Iterable[str], believed: Iterable[bytes] = BELIEVED) -> None:
        """Trust these addresses, networks and `UNIX`, and believe these fields of theirs.

        Raises ValueError for an entry that is none of them and for fields that contradict each other.
        """
        entries = set(proxies)
        self._unix = UNIX in entries
        self._networks = tuple(_network(entry) for entry in sorted(entries - {UNIX}))
        self.believed = frozenset(believed)
        _check(self.believed)
        self._hosts: dict[str, bool] = {}
        self._nodes: dict[bytes, Node | None] = {}

    def __bool__(self) -> bool:
        """Return whether anybody is trusted."""
        return self._unix or bool(self._networks)

    def is_trusted(self, host: str | None) -> bool:
        """Return whether the peer at this address is one of the proxies; None is a peer on a unix socket."""
        if host is None:
            return self._unix
        known = self._hosts.get(host)
        if known is None:
            try:
                # A link-local peer is shown with its zone, "fe80::1%eth0"; networks have none.
                known = self._covers(ip_address(host.partition("%")[0]))
            except ValueError:
                known = False
            if len(self._hosts) >= _KEPT:
                self._hosts.clear()
            self._hosts[host] = known
        return known

    def read_node(self, text: bytes) -> Node | None:
        """Return the hop that a field names; None: it is unknown, obfuscated (RFC 7239 §6.2, §6.3) or garbage."""
        # Behind a proxy every request names one.
        try:
            return self._nodes[text]
        except KeyError:
            pass
        if len(text) > _LONGEST_NODE:
            return None
        node = self._parse(text)
        if len(self._nodes) >= _KEPT:
            self._nodes.clear()
        self._nodes[text] = node
        return node

    def _parse(self, text: bytes) -> Node | None:
        if text == _UNIX_NODE:
            return Node("", 0, self._unix)
        match = _NODE.fullmatch(text)
        if match is None:
            return None
        four, bracketed, port, bare = match.groups()
        try:
            address: IPv4Address | IPv6Address = (
                IPv4Address(four.decode()) if four else IPv6Address((bracketed or bare).decode())
            )
        except ValueError:
            return None
        number = int(port or 0)
        if number > _LARGEST_PORT:
            return None
        return Node(str(_unmapped(address)), number, self._covers(address))

    def _covers(self, address: IPv4Address | IPv6Address) -> bool:
        plain = _unmapped(address)
        return any(plain in network for network in self._networks)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an IPv4 address that a dual-stack socket or proxy shows as an IPv6 one in its own form."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def _network(entry: str) -> IPv4Network | IPv6Network:
    """Return the network that an entry means, one of IPv4 for IPv4-mapped IPv6."""
    network = ip_network(entry)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        four = network.network_address.ipv4_mapped
        return IPv4Network((int(four or 0), network.prefixlen - 96))
    return network


def _check(believed: frozenset[bytes]) -> None:
    unknown = sorted(believed.difference(BELIEVABLE))
    if unknown:
        raise ValueError(f"{unknown[0].decode('latin-1')} is not a field that says where a request comes from")
    clash = sorted(believed & _SAID_BY_FORWARDED)
    if b"forwarded" in believed and clash:
        # A client would send the one that the proxies do not write.
        raise ValueError(f"forwarded and {clash[0].decode()} say the same, and only one of them can be believed")
