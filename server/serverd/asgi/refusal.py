"""What observers are told of a request that was answered before it had a cycle: a `Cycle`'s words for it.

`connection.refusing` makes one; `observer` says who is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from serverd.protocol.head import RequestHead
from serverd.protocol.partial_head import PartialHead

__all__ = ["Refusal"]


class Refusal:
    """An answer in nobody's name."""

    __slots__ = (
        "began",
        "client",
        "ended",
        "first_byte",
        "head",
        "host",
        "request_id",
        "sent",
        "status",
        "tls",
        "trace_id",
    )

    received = 0
    given_up = False

    def __init__(self, status: int, head: RequestHead | PartialHead, client: tuple[str, int] | None) -> None:
        self.status = status
        self.head = head
        self.host: str | None = head.host
        self.client = client  # as it is believed
        self.began = self.first_byte = self.ended = perf_counter()
        self.sent = 0  # bytes of the body of the answer
        self.request_id = ""
        self.trace_id = ""
        self.tls: Mapping[str, object] | None = None  # what TLS says of the connection; None: it is in the clear
