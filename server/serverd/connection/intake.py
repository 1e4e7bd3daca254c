"""From the head of a request to its exchange or session: who answers it, with which scope; the same for every protocol.

A connection calls it when a head has arrived. Whether there is room for the request is decided here, as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from serverd.asgi import builtin
from serverd.asgi.cycle import Cycle
from serverd.asgi.exchange import Exchange
from serverd.asgi.router import normalise_path
from serverd.asgi.scope import Endpoint, Peer, apply_origin, http_scope, make_websocket_scope
from serverd.asgi.session import Session
from serverd.asgi.stream import Stream
from serverd.asgi.types import Scope
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.head import RequestHead, normalise_host
from serverd.protocol.http2_head import TunnelHead
from serverd.protocol.request_id import read_identifiers
from serverd.protocol.websocket_handshake import offers_websocket, read_handshake

__all__ = ["begin"]

_OVERLOADED: Final = Endpoint(builtin.overloaded, "serverd", is_ours=True)
_NO_TRACE: Final = Endpoint(builtin.no_trace, "serverd", is_ours=True)


def begin(stream: Stream, head: RequestHead, peer: Peer, origins: OriginReader, service: Service) -> Cycle:
    """Return the cycle of the request, which is not started yet; `origins` tells where it comes from.

    Raises PeerError for a WebSocket handshake that is none, and for a protocol that the listener does not speak.
    """
    if not service.speaks_http1 and head.version != "2":
        raise PeerError(505, "only HTTP/2 is spoken here")  # RFC 9110 §15.6.6
    service.requests += 1
    # Hot path: most heads say nothing of where they come from; benchmarks/ "no two requests alike".
    origin = origins.read(head.fields) if head.notable else None
    host = head.host
    router = service.router
    route = head.route
    if origin is not None and origin.authority is not None:
        host = normalise_host(origin.authority)
        path = normalise_path(head.path)
        endpoint = router.find(host, path)
    elif route is not None and route[0] is router.edition:
        # Hot path: a head that comes again need not be routed again; benchmarks/ "1,000 mounts".
        _, endpoint, path = route
    else:
        path = normalise_path(head.path)
        endpoint = router.find(host, path)
        head.route = router.edition, endpoint, path
    if service.most_exchanges and len(service.exchanges) >= service.most_exchanges:
        endpoint = _in_place_of(endpoint, _OVERLOADED)
    elif head.method == "TRACE" and not endpoint.takes_trace:
        endpoint = _in_place_of(endpoint, _NO_TRACE)
    scope = http_scope(head, endpoint, peer, path)
    if origin is not None:
        apply_origin(scope, origin)
    # What costs no application anything takes no place of its requests, however slowly the answer is read.
    active = service.answers if endpoint.is_ours else service.exchanges
    given = ""
    if head.notable:
        if endpoint.is_ours and isinstance(head, TunnelHead):
            endpoint = replace(endpoint, application=builtin.no_tunnel(endpoint.application))
        cycle = _make_session(stream, head, endpoint, scope, service) or Exchange(stream, head, endpoint, scope, active)
        cycle.host = host
        given, cycle.trace_id = read_identifiers(head.fields)
        given = (given or cycle.trace_id) if origins.is_trusted else ""
    else:
        cycle = Exchange(stream, head, endpoint, scope, active)
    cycle.tls = peer.tls
    cycle.request_id = name = given or f"{service.id_prefix}{service.requests}"
    scope["state"].setdefault("request_id", name)
    return cycle


def _in_place_of(endpoint: Endpoint, ours: Endpoint) -> Endpoint:
    """Return our own endpoint, observed as the one that the request was for, and with its fields."""
    return replace(ours, observer=endpoint.observer, request_id_name=endpoint.request_id_name, fields=endpoint.fields)


def _make_session(
    stream: Stream, head: RequestHead, endpoint: Endpoint, scope: Scope, service: Service
) -> Session | None:
    """Return the session that the head offers, if it is an application's to take."""
    wants_session = offers_websocket(head)
    if wants_session and not endpoint.is_ours:
        sessions = service.sessions
        handshake = read_handshake(head, sessions.limits.compression)
        make_websocket_scope(scope, handshake.subprotocols)
        return Session(stream, head, endpoint, scope, handshake, sessions)
    if isinstance(head, TunnelHead) and not wants_session:
        raise PeerError(501, "nothing here speaks the protocol of the tunnel")  # RFC 9220 §3
    return None
