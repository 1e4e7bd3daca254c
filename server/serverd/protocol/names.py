"""Names of fields that stand for more than themselves, and which of them an application gets.

CGI-style adapters turn "-", and some "." too, into "_": `X_Forwarded_For` becomes what `X-Forwarded-For` does, which a
proxy may have set or checked (nginx: underscores_in_headers off). Names of which an application learns where a
request comes from are looked at by `forwarded`, an offer to speak another protocol by `websocket_handshake`, the name
of a request by `request_id`. All others are plain, and a head of plain names costs nothing here.
"""

from __future__ import annotations

from serverd.errors import PeerError
from serverd.protocol.forwarded import tells_origin
from serverd.protocol.head import Fields
from serverd.protocol.request_id import IDENTIFIERS

__all__ = ["is_plain", "without_ambiguous"]


def is_plain(name: bytes) -> bool:
    """Return whether the name, in lower case, is none that anything but framing and routing depends on."""
    return not _is_ambiguous(name) and not tells_origin(name) and name != b"upgrade" and name not in IDENTIFIERS


def without_ambiguous(fields: Fields, rule: str) -> Fields:
    """Return the fields that `rule` (drop, pass or refuse) lets through; raises PeerError 400."""
    if rule == "pass":
        return fields
    kept = [field for field in fields if not _is_ambiguous(field[0])]
    if rule == "refuse" and len(kept) < len(fields):
        raise PeerError(400, "a field name with _ or . can stand for another one")
    return kept


def _is_ambiguous(name: bytes) -> bool:
    return b"_" in name or b"." in name
