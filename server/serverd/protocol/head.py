"""The head of a request: grammar, target, host and framing, the same for every parser and protocol.

This is the one validation layer above the field parsers (`http1_httptools`, `http1_h11`). What is
accepted here is accepted by the server and nothing else is; the parsers only split field lines, and let
through none that the grammar below does not. `asgi` reads `RequestHead`, nobody changes it.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from serverd.errors import PeerError
from serverd.protocol.methods import METHODS

__all__ = [
    "CHUNKED",
    "TOKEN",
    "UNSHOWN",
    "Fields",
    "Framing",
    "RequestHead",
    "Shown",
    "Target",
    "check_field_lines",
    "check_line_beginning",
    "frame_request",
    "normalise_host",
    "parse_request_line",
    "parse_target",
    "split_fields",
]

Fields = list[tuple[bytes, bytes]]

_TCHAR: Final = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"  # RFC 9110 §5.6.2
TOKEN: Final = re.compile(rb"[%b]+" % _TCHAR)

# A field line is CRLF-terminated, starts with a token and a colon, and holds no control byte but HTAB:
# that excludes obs-fold, white space before the colon, bare CR, bare LF and NUL (RFC 9112 §5, §2.2).
_FIELD_LINE: Final = rb"[%b]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n" % _TCHAR
_FIELD_LINES: Final = re.compile(rb"(?:%b)*" % _FIELD_LINE)

# A request line of which the end has not arrived: anything else can be refused at once.
_LINE_BEGINNING: Final = re.compile(rb"[%b]+(?: [\x21-\x7e]*(?: [\x21-\x7e]*)?)?\r?" % _TCHAR)

# origin-form and absolute-form (RFC 9112 §3.2). Beyond the URI grammar the bytes that browsers send
# unescaped are let through ("|", "{", ...); those that other parsers treat as delimiters are not.
_USUAL_LINE: Final = re.compile(
    rb"([A-Z-]+) (/[^\x00-\x20\x7f-\xff\"#<>\\?%]*)(?:\?([^\x00-\x20\x7f-\xff\"#<>]*))? HTTP/(1\.[01])"
)
_PROTOCOL: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_VERSIONS: Final = {b"1.0": "1.0", b"1.1": "1.1"}
_ORIGIN_FORM: Final = re.compile(rb"(/[^\x00-\x20\x7f-\xff\"#<>\\?]*)(?:\?([^\x00-\x20\x7f-\xff\"#<>]*))?")
_ABSOLUTE_FORM: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")

# uri-host [ ":" port ] (RFC 9112 §3.2), the registered name without sub-delims and percent escapes: no
# name in use has them, and they are where Host parsers disagree.
_HOST: Final = re.compile(rb"((?:[0-9a-z_~-]+(?:\.[0-9a-z_~-]+)*\.?)|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?")
_LARGEST_PORT: Final = 65535

# Fields that decide framing and persistence, and those of them that may stand once only.
_FRAMING_NAMES: Final = (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect")
_SINGLE_NAMES: Final = frozenset((b"host", b"content-length", b"expect"))

# 18 digits stay below 2**63 and above any body that can be sent in a lifetime (RFC 9110 §8.6).
_LENGTH_DIGITS: Final = 18


# A request target, taken apart: the authority of an absolute-form target, the path percent-decoded once,
# the path as sent, the query as sent without "?". A plain tuple: one is made for every request.
Target = tuple[bytes | None, str, bytes, bytes]


# What the framing fields of a request say (RFC 9112 §6, §9.3): the host, normalised by `normalise_host`, or None in
# HTTP/1.0 without one; the bytes of the body, or CHUNKED; whether the connection persists; whether the client waits for
# a 100. A plain tuple, as well.
Framing = tuple[str | None, int, bool, bool]

CHUNKED: Final = -1

# Texts that a log has made of a request with this head, behind what it has made them of: kept for as long as the head,
# which connections recall. In the beginning: none.
Shown = tuple[tuple[object, ...], str, str]
UNSHOWN: Shown = ((), "", "")


class RequestHead:
    """The head of one request; made by a decoder, read by the connection and `asgi.scope`, changed by nobody."""

    __slots__ = (
        "expects_continue",
        "fields",
        "host",
        "keep_alive",
        "length",
        "method",
        "notable",
        "path",
        "query",
        "raw_path",
        "route",
        "shown",
        "version",
    )

    def __init__(self, method: str, version: str, target: Target, fields: Fields, framing: Framing) -> None:
        self.method = method
        self.version = version  # as ASGI's http_version: "1.0", "1.1"
        _, self.path, self.raw_path, self.query = target
        self.fields = fields  # names in lower case, values without surrounding white space
        self.host, self.length, self.keep_alive, self.expects_continue = framing
        self.notable = False  # a name among the fields is not `names.is_plain`
        self.shown = UNSHOWN  # `observe.access_formats` alone looks at it
        # For one that comes again, by whom it was routed: edition of the routes, endpoint, normalised path.
        self.route: tuple[object, Any, str] | None = None


def check_field_lines(block: bytes, start: int, end: int) -> None:
    """Check that ``block[start:end]`` is nothing but field lines (RFC 9112 §5).

    Raises PeerError 400.
    """
    match = _FIELD_LINES.match(block, start, end)
    if match is None or match.end() != end:
        raise PeerError(400, "malformed field line")


def split_fields(block: bytes) -> Fields:
    """Return the fields of a whole head that `check_field_lines` has let through, names in lower case."""
    parts = [line.partition(b":") for line in block[:-4].split(b"\r\n")[1:]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in parts]


def check_line_beginning(line: bytes) -> None:
    """Check that `line` can be the beginning of a request line.

    Raises PeerError 400.
    """
    if not _LINE_BEGINNING.fullmatch(line):
        raise PeerError(400, "malformed request line")


def parse_request_line(line: bytes) -> tuple[str, str, Target]:
    """Return method, version and target of a request line without its CRLF (RFC 9112 §3).

    Raises PeerError 400, 501 or 505.
    """
    match = _USUAL_LINE.fullmatch(line)
    if match is not None:
        # Hot path: one match for what nearly every request line is; benchmarks/ "plain GET".
        name, raw_path, query, version = match.groups(b"")
        method = METHODS.get(name)
        if method is not None:
            return method, _VERSIONS[version], (None, raw_path.decode("ascii"), raw_path, query)
    return _parse_unusual_line(line)


def _parse_unusual_line(line: bytes) -> tuple[str, str, Target]:
    check_line_beginning(line)  # first, as when the line arrives byte by byte: the status is the same
    name, _, rest = line.partition(b" ")
    target, _, protocol = rest.rpartition(b" ")
    if not TOKEN.fullmatch(name) or not _PROTOCOL.fullmatch(protocol):
        raise PeerError(400, "malformed request line")
    version = _VERSIONS.get(protocol[5:])
    if version is None:
        # HTTP/1.2 does not exist; the parsers disagree about it, so nobody gets to see it.
        raise PeerError(505, "HTTP version is neither 1.0 nor 1.1")
    method = METHODS.get(name)
    if method is None:
        raise PeerError(501, "unknown method")
    return method, version, parse_target(name, target)


def parse_target(method: bytes, target: bytes) -> Target:
    """Return the parts of a request target (RFC 9112 §3.2); ``*`` has the path "*".

    Raises PeerError 400.
    """
    match = _ORIGIN_FORM.fullmatch(target)
    if match is None:
        return _parse_other_form(method, target)
    raw_path, query = match.groups(b"")
    if raw_path.find(b"%") < 0:  # Hot path: `in` on bytes costs an exception in CPython 3.11; benchmarks/ "500 paths"
        return None, raw_path.decode("ascii"), raw_path, query
    if _BAD_ESCAPE.search(raw_path):
        raise PeerError(400, "malformed percent escape in the target")
    # Not every octet sequence is UTF-8, and ASGI wants a str: undecodable octets become U+FFFD.
    return None, unquote_to_bytes(raw_path).decode("utf-8", "replace"), raw_path, query


def _parse_other_form(method: bytes, target: bytes) -> Target:
    if target == b"*" and method == b"OPTIONS":
        return None, "*", target, b""
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise PeerError(400, "malformed request target")
    authority, rest = match.groups()
    if not authority:
        raise PeerError(400, "request target without a host")
    if not rest.startswith(b"/"):
        rest = b"/" + rest  # RFC 9110 §4.2.3: an empty path is "/"
    return authority, *parse_target(method, rest)[1:]


# RFC 9112 §3.2: an empty Host is one without a name, and nothing but that.
_NO_HOST: Final = re.compile(rb"()()").fullmatch(b"")
_hosts: dict[bytes, str] = {}
_HOSTS_KEPT: Final = 1024  # normalised names are remembered up to this many; a peer cannot make it more
_HOST_SIZE: Final = 300  # nor longer: a name has at most 253 bytes (RFC 1035 §2.3.4), and a port


def normalise_host(value: bytes) -> str:
    """Return the host of a Host value in lower case, without port and trailing dot (RFC 9112 §3.2).

    Raises PeerError 400.
    """
    host = _hosts.get(value)
    if host is None:
        match = _HOST.fullmatch(value.lower()) if value else _NO_HOST
        if match is None or int(match[2] or b"0") > _LARGEST_PORT:
            raise PeerError(400, "invalid Host")
        name = match[1].decode("ascii")
        host = _compress(name) if name.startswith("[") else name.removesuffix(".")
        if len(_hosts) >= _HOSTS_KEPT:
            _hosts.clear()
        if len(value) <= _HOST_SIZE:
            _hosts[value] = host
    return host


def _compress(literal: str) -> str:
    """Return an IPv6 literal in the one form that mounts are compared with (RFC 5952)."""
    from ipaddress import IPv6Address  # only a request for such a host needs it

    try:
        return f"[{IPv6Address(literal[1:-1]).compressed}]"
    except ValueError:
        raise PeerError(400, "invalid Host") from None


def frame_request(version: str, fields: Fields) -> Framing:
    """Decide host, body length and persistence from the fields of a request (RFC 9112 §3.2, §6.3, §9.3).

    Raises PeerError 400, 417 or 501.
    """
    by_name = dict(fields)
    if len(by_name) < len(fields):
        _join_repeated(fields, by_name)
    host = by_name.get(b"host")
    if host is None and version == "1.1":
        raise PeerError(400, "no Host field")
    size = 0
    coding = by_name.get(b"transfer-encoding")
    length = by_name.get(b"content-length")
    if coding is not None:
        size = _chunked(version, coding, length)
    elif length is not None:
        size = _content_length(length)
    expectation = by_name.get(b"expect")
    expects_continue = expectation is not None and version == "1.1" and _expects_continue(expectation)
    return (
        None if host is None else normalise_host(host),
        size,
        _persists(version, by_name.get(b"connection")),
        expects_continue and size != 0,
    )


def _join_repeated(fields: Fields, by_name: dict[bytes, bytes]) -> None:
    """Refuse a framing field that may stand once only, and join the values of the others (RFC 9110 §5.3)."""
    for name in _FRAMING_NAMES:
        values = [value for other, value in fields if other == name]
        if len(values) > 1:
            if name in _SINGLE_NAMES:
                raise PeerError(400, f"several {name.decode()} fields")
            by_name[name] = b",".join(values)


def _expects_continue(value: bytes) -> bool:
    """Return whether the client waits for a 100 (RFC 9110 §10.1.1; in HTTP/1.0 nobody does)."""
    if value.lower() != b"100-continue":
        raise PeerError(417, "unknown expectation")
    return True


def _chunked(version: str, value: bytes, length: bytes | None) -> int:
    if length is not None:
        raise PeerError(400, "both Transfer-Encoding and Content-Length")
    if version == "1.0":
        raise PeerError(400, "Transfer-Encoding in HTTP/1.0")
    names = [coding.strip(b" \t").lower() for coding in value.split(b",")]
    if names[-1] != b"chunked" or names.count(b"chunked") > 1:
        raise PeerError(400, "chunked is not the one last transfer coding")
    if len(names) > 1:
        raise PeerError(501, "unknown transfer coding")
    return CHUNKED


def _content_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise PeerError(400, "invalid Content-Length")
    return int(value)


def _persists(version: str, value: bytes | None) -> bool:
    """Return whether the connection persists after this request (RFC 9112 §9.3)."""
    if value is None:
        return version == "1.1"
    # Hot path: what most clients that say anything say; benchmarks/ "a connection per request".
    if value == b"keep-alive":
        return True
    if value == b"close":
        return False
    options = {option.strip(b" \t") for option in value.lower().split(b",")}
    if b"close" in options:
        return False
    return version == "1.1" or b"keep-alive" in options
