"""What `serverd explain` is asked: a URL as a client would use it, and the bytes of its request."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from serverd.errors import OperatorError
from serverd.generation import Address, AddressKind

__all__ = ["Question", "read_question"]

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_EXPECTED = '(expected like "http://localhost:8000/shop", or "/shop" to ask every listener)'
# What clients escape in what people type; everything else goes out as it is, and may be refused as it would be.
_UNESCAPED = "/%:@!$&'()*+,;=~-._|{}[]^`\"<>\\?"
_FIELD = re.compile(r"([^\s:]+)[ \t]*:[ \t]*(.*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# RFC 6455 §1.3 has this one as its example.
_HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@dataclass(frozen=True, slots=True)
class Question:
    """One request that somebody might make."""

    url: str
    scheme: str  # http | https | ws | wss; "": that of the listener
    host: str  # without brackets and port, in lower case; "": that of the listener
    port: int  # 0: that of the listener
    target: str  # path and query, as they go over the wire
    method: str
    fields: tuple[tuple[str, str], ...]
    client: str  # the address that it comes from

    @property
    def is_encrypted(self) -> bool:
        """Whether the client speaks TLS."""
        return self.scheme in ("https", "wss")

    def at(self, address: Address) -> Question:
        """Return the question as it is asked at this address, when it does not say where it is asked."""
        if self.scheme:
            return self
        return replace(self, host=address.host or "localhost", port=address.port)

    @property
    def authority(self) -> str:
        """What the Host field has."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _PORTS.get(self.scheme)) else f"{host}:{self.port}"

    def request(self) -> bytes:
        """Return the head of the request in HTTP/1.1."""
        own = {name.lower() for name, _ in self.fields}
        fields = [("Host", self.authority)] if "host" not in own else []
        fields += [*self.fields, *(_HANDSHAKE if self.scheme in ("ws", "wss") else ())]
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode(errors="surrogateescape")

    def reaches(self, address: Address, *, speaks_tls: bool) -> bool:
        """Return whether a client that follows the URL may come to this address of a listener.

        Names are not looked up: any name but localhost may lead to any interface.
        """
        if not self.scheme:
            return True
        if address.kind is not AddressKind.TCP or address.port != self.port or speaks_tls is not self.is_encrypted:
            return False
        bound = _ip(address.host)
        if not address.host or (bound is not None and bound.is_unspecified) or address.host == self.host:
            return True
        wanted = _ip(self.host)
        if wanted is not None:
            return bound == wanted or (bound is None and address.host == "localhost" and wanted.is_loopback)
        return self.host != "localhost" or (bound is not None and bound.is_loopback)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def read_question(url: str, method: str = "GET", headers: Sequence[str] = (), client: str = "127.0.0.1") -> Question:
    """Return what is asked; `headers` are field lines as curl takes them.

    Raises OperatorError with a sentence for what is no URL, no header or no address.
    """
    for what, text in (("the URL", url), ("the method", method), *(("the header", header) for header in headers)):
        if _CONTROL.search(text):
            raise OperatorError(f"{what} holds a control character: {text!r}")
    fields = tuple(_read_field(header) for header in headers)
    if _ip(client) is None:
        raise OperatorError(f'the client "{client}" is not an address (expected like "192.0.2.1")')
    if url.startswith("/"):
        return Question(url, "", "", 0, _target(url), method, fields, client)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise OperatorError(f'"{url}" is not a URL: {str(error).lower()} {_EXPECTED}') from None
    if parts.scheme not in _PORTS or not host:
        raise OperatorError(f'"{url}" is not a URL of http, https, ws or wss {_EXPECTED}')
    if port == 0:
        raise OperatorError(f'"{url}" names port 0, which nobody can connect to')
    query = f"?{parts.query}" if parts.query else ""
    target = _target((parts.path or "/") + query)
    return Question(url, parts.scheme, _ascii(host, url), port or _PORTS[parts.scheme], target, method, fields, client)


def _target(text: str) -> str:
    # Bytes that are no UTF-8, which a shell passes on, go out as the bytes that they are.
    return quote(text.partition("#")[0], safe=_UNESCAPED, errors="surrogateescape")


def _ascii(host: str, url: str) -> str:
    """Return the host as it goes over the wire."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise OperatorError(f'the host of "{url}" is no name that a client could ask for') from None


def _read_field(header: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(header)
    if found is None:
        raise OperatorError(f'"{header}" is not a header (expected like "X-Forwarded-For: 192.0.2.1")')
    return found[1], found[2].rstrip()
