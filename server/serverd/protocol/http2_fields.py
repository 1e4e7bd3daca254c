"""The fields of an HTTP/2 request behind its pseudo-fields: legal, joined, framed (RFC 9113 §8.1.1, §8.2, §8.3.1).

`http2_head` puts them and the pseudo-fields together, and remembers a section for the requests that repeat it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.head import CHUNKED, TOKEN, Fields, Framing, frame_request, normalise_host
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_frames import ErrorCode, StreamFault
from serverd.protocol.names import is_plain, without_ambiguous

__all__ = ["CONNECTION_NAMES", "Section", "check_fields", "malformed", "read_section"]

# RFC 9113 §8.2.2: what belongs to an HTTP/1.1 connection.
CONNECTION_NAMES = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_HOST: Final = b"host"
_COOKIE: Final = b"cookie"
_TE: Final = b"te"
_LENGTH: Final = b"content-length"
_EXPECT: Final = b"expect"

# RFC 9113 §8.2.1, as strict as HTTP/1 is here: no control byte but HTAB. LF stands between the values looked at.
_VALUES: Final = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*")
_PADDED: Final = (b" \n", b"\n ", b"\t\n", b"\n\t")

# Names that need no look: tokens in lower case, plain, and none that is treated on its own. Bounded: clients may send
# any name.
_usual_names: set[bytes] = {b"accept", b"accept-encoding", b"accept-language", b"content-type", b"user-agent"}
_NAMES_KEPT: Final = 1024
_NAME_SIZE: Final = 64


class Section(NamedTuple):
    """What the fields of a request come to, and of which request."""

    regular: Fields  # as they were sent
    authority: bytes | None  # :authority
    end: bool  # no body follows
    fields: Fields  # as the application gets them
    framing: Framing
    notable: bool


def malformed(reason: str) -> StreamFault:
    """Return the error that a malformed request is (RFC 9113 §8.1.1)."""
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)


def read_section(regular: Fields, authority: bytes | None, end: bool, bounds: Http2Bounds) -> Section:
    """Return what the fields behind the pseudo-fields come to.

    Raises StreamFault for a malformed request, PeerError for one that is answered.
    """
    notable, cookies, host = check_fields(regular)
    name = _authority(authority, host)
    fields = _join_cookies(regular) if cookies > 1 else regular
    if len(fields) > bounds.header_count:
        raise PeerError(431, "more fields than limits.header_count")
    if notable:
        fields = without_ambiguous(fields, bounds.ambiguous_names)
    if host is not None:
        fields = [field for field in fields if field[0] != _HOST]
    # ASGI HTTP spec, "Connection scope": the authority is the first field, and called host.
    fields = [(_HOST, name), *fields]
    return Section(regular, authority, end, fields, _frame(fields, end, name, bounds.body_size), notable)


def check_fields(fields: Fields) -> tuple[bool, int, bytes | None]:
    """Return whether a name is notable, how many Cookie fields there are, and the Host (RFC 9113 §8.2.1, §8.2.2).

    Raises StreamFault.
    """
    notable = False
    cookies = 0
    host: bytes | None = None
    values = [b""]
    for name, value in fields:
        values.append(value)
        if name in _usual_names:
            continue
        if name == _COOKIE:
            cookies += 1
        elif name == _HOST:
            if host is not None:
                raise malformed("several Host fields")
            host = value
        elif name == _TE:
            if value.lower() != b"trailers":
                raise malformed("TE is not trailers")
        elif name in CONNECTION_NAMES:
            raise malformed(f"{name.decode()} is a field of HTTP/1.1")
        elif not TOKEN.fullmatch(name) or name != name.lower():
            raise malformed("field name is not a token in lower case, or a pseudo-field out of place")
        elif not is_plain(name):
            notable = True
        elif len(_usual_names) < _NAMES_KEPT and len(name) <= _NAME_SIZE:
            _usual_names.add(name)
    values.append(b"")
    joined = b"\n".join(values)
    if not _VALUES.fullmatch(joined) or joined.count(b"\n") != len(values) - 1:
        raise malformed("control character in a field value")
    for padded in _PADDED:  # four searches of bytes take a tenth of the time of one for a pattern
        if joined.find(padded) >= 0:
            raise malformed("white space around a field value")
    return notable, cookies, host


def _join_cookies(fields: Fields) -> Fields:
    """Return the fields with one Cookie field in the place of the first (RFC 9113 §8.2.3)."""
    first = [name for name, _ in fields].index(_COOKIE)
    cookie = b"; ".join([value for name, value in fields if name == _COOKIE])
    rest = [field for field in fields[first:] if field[0] != _COOKIE]
    return [*fields[:first], (_COOKIE, cookie), *rest]


def _authority(authority: bytes | None, host: bytes | None) -> bytes:
    """Return what the request is for: :authority, or Host where a client that translates has none (RFC 9113 §8.3.1)."""
    if authority is None:
        authority = host
    if not authority:
        raise malformed("neither :authority nor Host, or an empty one")
    if host is not None and host.lower() != authority.lower():
        raise malformed("Host contradicts :authority")
    return authority


def _frame(fields: Fields, end: bool, authority: bytes, body_size: int) -> Framing:
    """Return what the fields say of the body, which ends with END_STREAM whatever they say (RFC 9113 §8.1.1)."""
    normalise_host(authority)  # first: a host that we do not serve is answered with its status
    try:
        host, length, _, _ = frame_request("1.1", fields)
    except PeerError as error:
        if error.status != 400:
            raise
        raise malformed(error.reason) from None
    if end:
        if length:
            raise malformed("Content-Length without a body")
        return host, 0, True, False
    names = [name for name, _ in fields]
    if not length and _LENGTH not in names:
        length = CHUNKED
    if body_size and length > body_size:
        raise PeerError(413, "body larger than limits.body_size")
    return host, length, True, length != 0 and _EXPECT in names
