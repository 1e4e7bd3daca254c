"""From the head of a request to its exchange: who answers it, with which scope; the same for every protocol.

A connection calls it when a head has arrived. Whether there is room for the request is decided here, as well.
"""

from __future__ import annotations

from serverd.asgi import builtin
from serverd.asgi.exchange import Exchange
from serverd.asgi.router import normalise_path
from serverd.asgi.scope import Endpoint, Peer, apply_origin, http_scope
from serverd.asgi.stream import Stream
from serverd.connection.service import Service
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.head import RequestHead, normalise_host

__all__ = ["begin"]

_OVERLOADED = Endpoint(builtin.overloaded, "serverd")
_NO_TRACE = Endpoint(builtin.no_trace, "serverd")


def begin(stream: Stream, head: RequestHead, peer: Peer, origins: OriginReader, service: Service) -> Exchange:
    """Return the exchange of the request, which is not started yet; `origins` tells where it comes from."""
    service.requests += 1
    # Hot path: most heads say nothing of where they come from; benchmarks/ "no two requests alike".
    origin = origins.read(head.fields) if head.notable else None
    host = head.host
    if origin is not None and origin.authority is not None:
        host = normalise_host(origin.authority)
    path = normalise_path(head.path)
    endpoint = service.router.find(host, path)
    if service.most_exchanges and len(service.exchanges) >= service.most_exchanges:
        endpoint = _OVERLOADED
    elif head.method == "TRACE" and not endpoint.takes_trace:
        endpoint = _NO_TRACE
    scope = http_scope(head, endpoint, peer, path)
    if origin is not None:
        apply_origin(scope, origin)
    return Exchange(stream, head, endpoint, scope, service.exchanges)
