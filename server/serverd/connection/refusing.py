"""The answer to a request that its connection refuses, the same for every protocol, and who is told of it.

Either its application runs, and is answered for, or it never was a request for one. The connections call it and send
what it returns.
"""

from __future__ import annotations

import contextlib

from serverd.asgi.cycle import Cycle
from serverd.asgi.refusal import Refusal
from serverd.asgi.scope import Peer
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http1_response import refusal
from serverd.protocol.partial_head import NOTHING_READ, NOTHING_READ_HTTP2
from serverd.protocol.request_id import read_identifiers

__all__ = ["answer_for", "refuse"]


def refuse(error: PeerError, peer: Peer, origins: OriginReader, service: Service) -> tuple[Fields, bytes]:
    """Return fields and body of the answer to what is no request; the listener's observer has been told.

    There is no body for a HEAD, nor for what may be one (NOTHING_READ_HTTP2).
    """
    refused = Refusal(error.status, error.head or NOTHING_READ, peer.client)
    refused.tls = peer.tls
    service.refused += 1
    refused.request_id = f"{service.id_prefix}r{service.refused}"
    _believe(refused, origins)
    fields, body = refusal(error.status, error.reason)
    if service.request_id_name:
        fields.append((service.request_id_name, refused.request_id.encode()))
    is_unknown = refused.head is NOTHING_READ_HTTP2
    if is_unknown or refused.head.method == "HEAD":
        body = b""
    if is_unknown:  # RFC 9113 §8.1.1: no other response may announce a body and have none
        fields = [field for field in fields if field[0] != b"content-length"]
    refused.sent = len(body)
    service.observer.on_refusal(refused)
    return fields, body


def answer_for(cycle: Cycle, error: PeerError) -> tuple[Fields, bytes]:
    """Return fields and body of the answer in the place of an application, of which nothing is on the wire.

    What the mount adds to every response is among them.
    """
    fields, body = refusal(error.status, error.reason, cycle.more_fields())
    if cycle.head.method == "HEAD":
        body = b""
    cycle.refuse(error.status, len(body))
    return fields, body


def _believe(refused: Refusal, origins: OriginReader) -> None:
    """Take over what a trusted peer says of the request, if its fields are known."""
    head = refused.head
    if not isinstance(head, RequestHead) or not head.notable:
        return
    given, refused.trace_id = read_identifiers(head.fields)
    if origins.is_trusted:
        refused.request_id = given or refused.trace_id or refused.request_id
    with contextlib.suppress(PeerError):  # it may be that for which it is refused
        refused.client = origins.read(head.fields).client
