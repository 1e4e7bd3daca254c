"""Who is at the other end of a connection, and whether it is one of the trusted proxies."""

from __future__ import annotations

import asyncio

from serverd.asgi.scope import Peer
from serverd.protocol.trust import Trust

__all__ = ["is_believed", "peer_of"]


def is_believed(peer: Peer, trust: Trust) -> bool:
    """Return whether the peer is one of the trusted proxies; one whose address nobody knows is none.

    uvloop asks for the address after it has accepted, and a client that has reset its connection by then has none,
    although what it sent is still read.
    """
    if peer.client is None:
        return peer.is_local and trust.is_trusted(None)
    return trust.is_trusted(peer.client[0])


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return both ends as ASGI wants them: (host, port), or (path, None) for a unix socket."""
    client = transport.get_extra_info("peername")
    server = transport.get_extra_info("sockname")
    if not isinstance(server, tuple):
        return Peer(None, (server, None) if server else None)
    host = server[0]
    if ":" in host:
        return Peer((_plain(client[0]), client[1]) if client else None, (_plain(host), server[1]))
    return Peer(client or None, server)


def _plain(host: str) -> str:
    """Return an IPv4 address that a dual-stack socket shows as an IPv6 one in its own form (RFC 4291 §2.5.5.2)."""
    return host.removeprefix("::ffff:") if "." in host else host
