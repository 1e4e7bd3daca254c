"""The opening handshake of a WebSocket (RFC 6455 §4, RFC 8441 §5): what the client asks, and the answer to it.

Pure: `connection.intake` reads the request with it, `asgi.session` answers when the application accepts.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.head import TOKEN, Fields, RequestHead
from serverd.protocol.http2_head import TunnelHead
from serverd.protocol.websocket_deflate import EXTENSION, DeflateTerms, Parameters, agree

__all__ = ["Handshake", "offers_websocket", "read_handshake"]

VERSION: Final = b"13"  # RFC 6455 §4.1; the others were drafts
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY_SIZE: Final = 16  # bytes, before base64
_TOKEN: Final = TOKEN.pattern.decode()
# RFC 6455 §9.1; a value may be quoted if it is a token without the quotes.
_PARAMETER: Final = re.compile(rf"({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|\"({_TOKEN})\"))?")


class Handshake(NamedTuple):
    """A client's request for a session, found good."""

    subprotocols: list[str]  # in the order of the client's preference
    fields: Fields  # that the answer has to have
    terms: DeflateTerms | None  # None: no compression


def offers_websocket(head: RequestHead) -> bool:
    """Return whether the request wants to become a session; other requests are answered as they are (RFC 9110 §7.8)."""
    if isinstance(head, TunnelHead):
        return head.protocol == b"websocket"
    if head.version != "1.1":
        return False
    return _offers(head.fields, b"upgrade", "websocket") and _offers(head.fields, b"connection", "upgrade")


def read_handshake(head: RequestHead, compresses: bool) -> Handshake:
    """Return what the client asks for; `compresses`: permessage-deflate may be agreed on.

    Raises PeerError 400, or 426 for a version that nobody speaks (RFC 6455 §4.2.1, §4.4).
    """
    is_tunnel = isinstance(head, TunnelHead)
    if not is_tunnel and (head.method != "GET" or head.length):
        raise PeerError(400, "WebSocket handshake is not a GET without a body")
    versions = _values(head.fields, b"sec-websocket-version")
    if len(versions) != 1:
        raise PeerError(400, "WebSocket handshake without one Sec-WebSocket-Version")
    if versions[0] != VERSION:
        raise PeerError(426, "version of the WebSocket protocol is not 13")
    fields: Fields = []
    if not is_tunnel:  # RFC 8441 §5: there is nothing to upgrade, and no key
        fields += [(b"upgrade", b"websocket"), (b"sec-websocket-accept", _accept(head.fields))]
    terms = None
    for name, parameters in _extensions(head.fields):
        agreed = agree(parameters) if terms is None and compresses and name == EXTENSION else None
        if agreed is not None:
            terms, answer = agreed
            fields.append((b"sec-websocket-extensions", answer))
    return Handshake(_subprotocols(head.fields), fields, terms)


def _values(fields: Fields, wanted: bytes) -> list[bytes]:
    return [value for name, value in fields if name == wanted]


def _members(fields: Fields, name: bytes) -> list[str]:
    """Return the members of a list field (RFC 9110 §5.6.1)."""
    joined = b",".join(_values(fields, name)).decode("latin-1")
    return [member for part in joined.split(",") if (member := part.strip(" \t"))]


def _offers(fields: Fields, name: bytes, option: str) -> bool:
    return any(member.lower() == option for member in _members(fields, name))


def _accept(fields: Fields) -> bytes:
    """Return the Sec-WebSocket-Accept that belongs to the client's key (RFC 6455 §4.2.2); raises PeerError 400."""
    keys = _values(fields, b"sec-websocket-key")
    if len(keys) != 1:
        raise PeerError(400, "WebSocket handshake without one Sec-WebSocket-Key")
    try:
        nonce = binascii.a2b_base64(keys[0], strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != _KEY_SIZE:
        raise PeerError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    digest = hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def _subprotocols(fields: Fields) -> list[str]:
    """Return what the client offers to speak (RFC 6455 §11.3.4); raises PeerError 400."""
    names = _members(fields, b"sec-websocket-protocol")
    if len(set(names)) < len(names) or not all(TOKEN.fullmatch(name.encode("latin-1")) for name in names):
        raise PeerError(400, "Sec-WebSocket-Protocol is not a list of different tokens")
    return names


def _extensions(fields: Fields) -> Iterable[tuple[str, Parameters]]:
    """Yield the extensions that the client offers, with their parameters (RFC 6455 §9.1); raises PeerError 400."""
    for offer in _members(fields, b"sec-websocket-extensions"):
        matches = [_PARAMETER.fullmatch(part.strip(" \t")) for part in offer.split(";")]
        pairs = [(match[1], match[2] or match[3]) for match in matches if match is not None]
        if len(pairs) < len(matches) or pairs[0][1] is not None:
            raise PeerError(400, "Sec-WebSocket-Extensions is malformed")
        yield pairs[0][0], pairs[1:]
