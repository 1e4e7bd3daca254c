"""The name of a request in logs: X-Request-ID, or the trace id of traceparent (W3C Trace Context §3.2), as they came.

Reads and checks; whether the peer is believed is `connection.intake`'s to know.
"""

from __future__ import annotations

import re
from typing import Final

from serverd.protocol.head import Fields

__all__ = ["IDENTIFIERS", "Identifiers", "read_identifiers"]

IDENTIFIERS: Final = (b"x-request-id", b"traceparent")
"""The fields that are looked at, in lower case."""

# What goes into logs and headers as it is: no white space, quotes or backslashes. nginx's own ids are 32 characters,
# UUIDs 36, AWS's X-Amzn-Trace-Id about 80.
_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._:;=/+@-]{1,128}")
# version, trace-id, parent-id, flags; what a later version appends is not looked at (§3.2.4).
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")

Identifiers = tuple[str, str]
"""Request id and trace id; "" where there is none, or none that is one."""


def read_identifiers(fields: Fields) -> Identifiers:
    """Return what the fields of a request say."""
    said: dict[bytes, bytes | None] = {}
    for name, value in fields:
        if name in IDENTIFIERS:
            said[name] = None if name in said else value  # of two neither is believed
    request = _REQUEST_ID.fullmatch(said.get(b"x-request-id") or b"")
    trace = _TRACEPARENT.fullmatch(said.get(b"traceparent") or b"")
    return request[0].decode() if request else "", trace[1].decode() if trace else ""
