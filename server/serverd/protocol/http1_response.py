"""HTTP/1.1 responses into bytes (RFC 9112 §6, §7.1), sans-IO; the other direction is `http1`.

It frames and nothing more: that names and values are legal, and that the body has the announced length,
is checked by `asgi.exchange` for every protocol. The connection owns one encoder and starts it anew for
each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from serverd.protocol.head import Fields

__all__ = ["DefaultFields", "ResponseEncoder", "encode_informational", "refusal", "status_line"]

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(100, 600)
}

# Fields that are the server's to write (RFC 9110 §7.6.1, RFC 9112 §6.1): what an application says here
# would contradict the framing. A "close" in its Connection field is heard.
_CONNECTION: Final = b"connection"
_OWNED: Final = frozenset((_CONNECTION, b"transfer-encoding", b"keep-alive", b"proxy-connection"))
# No body, and no word about one (RFC 9110 §8.6, §15.2.2, §15.4.5).
_UNFRAMED: Final = frozenset((101, 204, 304))
_NOTED: Final = _OWNED | {b"content-length", b"date", b"server", b"upgrade"}
# RFC 9110 §7.8: an Upgrade field is for the next hop only, as its Connection field has to say.
_UPGRADE: Final = b"connection: upgrade\r\n\r\n"
_UPGRADE_1_0: Final = b"connection: upgrade, keep-alive\r\n\r\n"
_CLOSE_UPGRADE: Final = b"connection: upgrade, close\r\n\r\n"
# What the answer to a refused request says beside its status: when to come again, and what to speak then.
_REMEDIES: Final[dict[int, Fields]] = {
    426: [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")],  # RFC 6455 §4.4, RFC 9110 §15.5.22
    503: [(b"retry-after", b"1")],  # RFC 9110 §10.2.3
}


_NOT_FIELDS: Final[Fields] = []  # of no response
_KNOWN_SIZE: Final = 4 * 1024  # as of what applications send otherwise (`asgi.fields`)


class DefaultFields:
    """The Date and Server field lines, made anew once a second by the worker, and the last response head with them."""

    __slots__ = ("both", "date", "known_fields", "known_head", "known_status", "server")

    def __init__(self, server: bytes = b"") -> None:
        # A head of which nothing but the status and these very fields, which nobody changes, decides.
        self.known_status = 0
        self.known_head = b""
        self.set_server(server)

    def set_server(self, value: bytes) -> None:
        """Set the Server value (RFC 9110 §10.2.4); b"" leaves the field out. There is no Date then until it is set."""
        self.server = b"server: " + value + b"\r\n" if value else b""
        self.set_date(b"")

    def set_date(self, value: bytes) -> None:
        """Set the Date value, an IMF-fixdate (RFC 9110 §5.6.7); b"" leaves the field out."""
        self.date = b"date: " + value + b"\r\n" if value else b""
        self.both = self.date + self.server
        self.known_fields = _NOT_FIELDS

    def remember(self, status: int, fields: Fields, head: bytes) -> None:
        """Keep the head of a response that has the default fields, until they change; a large one is not worth it."""
        if len(head) <= _KNOWN_SIZE:
            self.known_fields = fields
            self.known_status = status
            self.known_head = head


def status_line(status: int) -> bytes:
    """Return the status line for a `status` of 100 to 599."""
    return _STATUS_LINES[status]


def refusal(status: int, reason: str, more: Iterable[tuple[bytes, bytes]] = ()) -> tuple[Fields, bytes]:
    """Return fields and body of the answer to a request that is refused, the same for every protocol.

    Of `more` fields it gets those that it has none of the name of.
    """
    body = f"{_PHRASES[status]}: {reason}\n".encode()
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    fields += _REMEDIES.get(status, ())
    names = {name for name, _ in fields}
    return [*fields, *(field for field in more if field[0] not in names)], body


def encode_informational(status: int, fields: Fields) -> bytes:
    """Return an interim response (RFC 9110 §15.2)."""
    lines = [b"%b: %b\r\n" % field for field in fields]
    return b"%b%b\r\n" % (_STATUS_LINES[status], b"".join(lines))


class ResponseEncoder:
    """Frames the response to one request at a time."""

    __slots__ = ("_chunked", "_close_delimited", "_defaults", "_head_only", "_version", "keep_alive")

    def __init__(self, defaults: DefaultFields) -> None:
        self._defaults = defaults
        self._version = "1.1"
        self._head_only = False
        self._chunked = False
        self._close_delimited = False
        self.keep_alive = True  # whether the connection goes on after this response

    def start(self, method: str, version: str, keep_alive: bool) -> None:
        """Begin the response to a request with this method and version."""
        self._version = version
        self._head_only = method == "HEAD"
        self._chunked = False
        self._close_delimited = False
        self.keep_alive = keep_alive

    def encode_head(self, status: int, fields: Fields, end: bool) -> bytes:
        """Return the head of the final response; `end` says that no body follows it.

        Nobody changes the list of `fields`: the next response with the same one has the same head.
        """
        defaults = self._defaults
        # Hot path: most responses have the fields of the one before (`asgi.fields`); benchmarks/ "plain GET".
        if (
            fields is defaults.known_fields
            and status == defaults.known_status
            and self.keep_alive
            and self._version == "1.1"
        ):
            return defaults.known_head
        # Hot path: one loop, one join; benchmarks/ "plain GET".
        parts = [_STATUS_LINES[status]]
        length_known = date = server = upgrade = False
        for name, value in fields:
            if name in _NOTED:
                if name == b"content-length":
                    length_known = True
                    if status == 204:  # RFC 9110 §8.6: never in a 204
                        continue
                elif name == b"date":
                    date = True
                elif name == b"server":
                    server = True
                elif name == b"upgrade":
                    upgrade = True
                else:
                    if name == _CONNECTION and b"close" in value.lower():
                        self.keep_alive = False
                    continue
            parts += (name, b": ", value, b"\r\n")
        if not length_known:
            parts.append(self._frame(status, end))
        if date or server:
            parts.append((b"" if date else defaults.date) + (b"" if server else defaults.server))
        else:
            parts.append(defaults.both)
        if not self.keep_alive:
            parts.append(_CLOSE_UPGRADE if upgrade else b"connection: close\r\n\r\n")
        elif upgrade:
            parts.append(_UPGRADE_1_0 if self._version == "1.0" else _UPGRADE)
        elif self._version == "1.0":
            parts.append(b"connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
            if length_known:  # else `end`, the method and the version decide as well, and it is noted what they do
                head = b"".join(parts)
                defaults.remember(status, fields, head)
                return head
        return b"".join(parts)

    def _frame(self, status: int, end: bool) -> bytes:
        """Return the framing field for a response without Content-Length (RFC 9112 §6.3)."""
        if self._head_only or status in _UNFRAMED:
            return b""
        if end:
            return b"content-length: 0\r\n"
        if self._version == "1.0":
            self._close_delimited = True
            self.keep_alive = False
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"

    @property
    def ends_with_connection(self) -> bool:
        """True when only the end of the connection ends the body (RFC 9112 §6.3)."""
        return self._close_delimited

    @property
    def takes_trailers(self) -> bool:
        """True when this response can carry a trailer section (RFC 9110 §6.5)."""
        return self._chunked

    def encode_refusal(self, status: int, fields: Fields, body: bytes) -> bytes:
        """Return the whole answer to a request that is refused; the connection ends with it."""
        self.start("GET", "1.1", False)
        return self.encode_head(status, fields, False) + body

    def encode_body(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        """Return the pieces that carry a part of the body; with `end` the last."""
        if not self._chunked:
            return (data,)
        if not data:
            return (b"0\r\n\r\n",) if end else ()  # a chunk of size zero ends the body
        return b"%x\r\n" % len(data), data, b"\r\n0\r\n\r\n" if end else b"\r\n"

    def encode_trailers(self, fields: Fields) -> bytes:
        """Return the last chunk and the trailer section of a chunked response (RFC 9112 §7.1.2)."""
        if not self._chunked:
            return b""
        return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in fields])
