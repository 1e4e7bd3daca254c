"""The head of a request: which bytes, methods, targets, hosts and framing fields are let through, over both parsers."""

from __future__ import annotations

from itertools import product

import pytest

from serverd.errors import PeerError
from serverd.protocol.head import frame_request, normalise_host, parse_request_line, parse_target
from serverd.protocol.http1_h11 import H11Parser
from serverd.protocol.http1_httptools import HttptoolsParser
from serverd.protocol.methods import METHODS
from tests.support.every import every
from tests.support.wire import PARSERS, Outcome, decode

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
EVERY_BYTE = [pytest.param(byte, id=f"0x{byte:02x}") for byte in range(256)]

both_parsers = pytest.mark.parametrize("parser", PARSERS)


def head(line: bytes = b"GET / HTTP/1.1", *fields: bytes, host: bytes | None = b"Host: a") -> bytes:
    lines = [line, *([host] if host is not None else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def status_of(data: bytes, parser: str) -> int | None:
    """Return the status that a head is refused with, the same however it is cut; None: let through."""
    whole = decode(data, parser)
    slow = decode(data, parser, cuts=range(len(data)))
    assert whole.summary() == slow.summary()
    assert (whole.status is None) == (len(whole.requests) == 1)
    return whole.status


# RFC 9110 §5.1, RFC 9112 §5: field names and values.


@both_parsers
@pytest.mark.parametrize("template", [b"%bX", b"X%b", b"X%bY"], ids=["first", "last", "inside"])
@every("byte", EVERY_BYTE)
def test_a_field_name_takes_token_characters_only(byte: int, template: bytes, parser: str) -> None:
    name = template % bytes([byte])
    data = head(b"GET / HTTP/1.1", name + b": v")
    if byte == ord(":"):
        assert status_of(data, parser) == (400 if template == b"%bX" else None)
    elif byte in TCHAR:
        assert status_of(data, parser) is None
        assert decode(data, parser).requests[0].head.fields[1] == (name.lower(), b"v")
    else:
        assert status_of(data, parser) == 400


@both_parsers
@pytest.mark.parametrize("template", [b"%bv", b"v%b", b"v%bv"], ids=["first", "last", "inside"])
@every("byte", EVERY_BYTE)
def test_a_field_value_takes_all_but_control_bytes(byte: int, template: bytes, parser: str) -> None:
    value = template % bytes([byte])
    data = head(b"GET / HTTP/1.1", b"X:" + value)
    if (byte < 0x20 and byte != 0x09) or byte == 0x7F:
        assert status_of(data, parser) == 400
    else:
        assert status_of(data, parser) is None
        assert decode(data, parser).requests[0].head.fields[1] == (b"x", value.strip(b" \t"))


@both_parsers
@pytest.mark.parametrize("value", [b"", b" ", b"\t \t"], ids=["nothing", "space", "mixed"])
def test_a_field_value_may_be_empty(value: bytes, parser: str) -> None:
    data = head(b"GET / HTTP/1.1", b"X:" + value)
    assert status_of(data, parser) is None
    assert decode(data, parser).requests[0].head.fields[1] == (b"x", b"")


@both_parsers
@every(
    "line",
    [
        pytest.param(b"X : v", id="white space before the colon"),
        pytest.param(b" X: v", id="white space before the name"),
        pytest.param(b"X: v\r\n folded", id="obsolete folding by a space"),
        pytest.param(b"X: v\r\n\tfolded", id="obsolete folding by a tab"),
        pytest.param(b": v", id="no name"),
        pytest.param(b"X", id="no colon"),
        pytest.param(b"X: v\nY: w", id="bare LF between fields"),
        pytest.param(b"X: v\rY: w", id="bare CR between fields"),
        pytest.param(b"X: v\n", id="LF CR LF"),
        pytest.param(b"X: v\r", id="CR CR LF"),
        pytest.param(b"X: v\r\n\n", id="LF at the end"),
    ],
)
def test_a_malformed_field_line_is_refused(line: bytes, parser: str) -> None:
    assert status_of(head(b"GET / HTTP/1.1", line), parser) == 400
    assert status_of(b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: a\r\n\r\n", parser) == 400


@both_parsers
def test_fields_keep_their_order_and_repetitions(parser: str) -> None:
    data = head(b"GET / HTTP/1.1", b"Cookie: a=1", b"X-One: 1", b"COOKIE:b=2  ")
    assert decode(data, parser).requests[0].head.fields == [
        (b"host", b"a"),
        (b"cookie", b"a=1"),
        (b"x-one", b"1"),
        (b"cookie", b"b=2"),
    ]


# RFC 9112 §3: the request line.


@both_parsers
@every("method", [name.decode() for name in METHODS])
def test_every_registered_method_is_let_through(method: str, parser: str) -> None:
    data = head(f"{method} /x HTTP/1.1".encode())
    assert status_of(data, parser) is None
    assert decode(data, parser).requests[0].head.method == method


@both_parsers
@every(
    ("method", "status"),
    [
        pytest.param(b"CONNECT", 501, id="CONNECT"),
        pytest.param(b"get", 501, id="lower case is another method"),
        pytest.param(b"Get", 501, id="mixed case"),
        pytest.param(b"FOO", 501, id="unknown"),
        pytest.param(b"GETX", 501, id="longer"),
        pytest.param(b"GE", 501, id="shorter"),
        pytest.param(b"PRI", 501, id="HTTP/2 preface"),
        pytest.param(b"SOURCE", 501, id="ICE"),
        pytest.param(b"DESCRIBE", 501, id="RTSP"),
        pytest.param(b"G(T", 400, id="no token"),
        pytest.param(b"", 400, id="missing"),
        pytest.param(b"G\xc4T", 400, id="not ASCII"),
        pytest.param(b"\x16\x03\x01", 400, id="TLS"),
    ],
)
def test_another_method_is_refused(method: bytes, status: int, parser: str) -> None:
    assert status_of(head(method + b" / HTTP/1.1"), parser) == status


@both_parsers
@every(
    ("line", "status"),
    [
        pytest.param(b"GET / HTTP/1.1", None, id="1.1"),
        pytest.param(b"GET / HTTP/1.0", None, id="1.0"),
        pytest.param(b"GET / HTTP/1.2", 505, id="1.2"),
        pytest.param(b"GET / HTTP/1.9", 505, id="1.9"),
        pytest.param(b"GET / HTTP/0.9", 505, id="0.9"),
        pytest.param(b"GET / HTTP/2.0", 505, id="2.0"),
        pytest.param(b"FOO / HTTP/2.0", 505, id="2.0 with an unknown method"),
        pytest.param(b"GET /", 400, id="no version"),
        pytest.param(b"GET", 400, id="only a method"),
        pytest.param(b"GET / http/1.1", 400, id="lower case protocol"),
        pytest.param(b"GET / HTTP/1.10", 400, id="two digits"),
        pytest.param(b"GET / HTTP/1", 400, id="no minor version"),
        pytest.param(b"GET / HTTP/1.", 400, id="empty minor version"),
        pytest.param(b"GET / HTTP 1.1", 400, id="space in the protocol"),
        pytest.param(b"GET / HTTP/1.1 ", 400, id="space behind"),
        pytest.param(b" GET / HTTP/1.1", 400, id="space in front"),
        pytest.param(b"GET  / HTTP/1.1", 400, id="two spaces before the target"),
        pytest.param(b"GET /  HTTP/1.1", 400, id="two spaces after the target"),
        pytest.param(b"GET\t/ HTTP/1.1", 400, id="tab"),
        pytest.param(b"GET / HTTP/1.1\r", 400, id="CR CR LF"),
        pytest.param(b"GET  HTTP/1.1", 400, id="empty target"),
        pytest.param(b"GET HTTP/1.1", 400, id="no target"),
        pytest.param(b"FOO /\x80 HTTP/1.1", 400, id="unknown method and a bad target"),
        pytest.param(b"GET /\x80 HTTP/2.0", 400, id="unknown version and a bad target"),
    ],
)
def test_the_request_line_is_strict(line: bytes, status: int | None, parser: str) -> None:
    assert status_of(head(line), parser) == status


@both_parsers
def test_a_request_line_that_ends_in_bare_lf_is_refused(parser: str) -> None:
    assert status_of(b"GET / HTTP/1.1\nHost: a\r\n\r\n", parser) == 400
    assert status_of(b"GET / HTTP/1.1\nHost: a\n\n", parser) == 400


# RFC 9112 §3.2: the target.

REFUSED_IN_TARGET = frozenset(range(0x21)) | frozenset(range(0x7F, 0x100)) | frozenset(b'"#<>\\')


@both_parsers
@pytest.mark.parametrize("template", [b"/a%bb", b"/a%b", b"/?a%bb"], ids=["in the path", "last", "in the query"])
@every("byte", EVERY_BYTE)
def test_a_target_takes_what_browsers_send_and_nothing_ambiguous(byte: int, template: bytes, parser: str) -> None:
    target = template % bytes([byte])
    data = head(b"GET " + target + b" HTTP/1.1")
    in_path = template != b"/?a%bb"
    if byte in REFUSED_IN_TARGET - set(b"\\") or (byte == ord("\\") and in_path) or (byte == ord("%") and in_path):
        assert status_of(data, parser) == 400
        return
    if byte == ord("\\"):
        assert status_of(data, parser) is None  # harmless in a query
        return
    assert status_of(data, parser) is None
    request = decode(data, parser).requests[0].head
    path, _, query = target.partition(b"?")
    assert (request.raw_path, request.query) == (path, query)
    assert request.path == path.decode("ascii")


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        pytest.param(b"/", "/", b"/", b"", id="root"),
        pytest.param(b"/a?b=c", "/a", b"/a", b"b=c", id="query"),
        pytest.param(b"/a?", "/a", b"/a", b"", id="empty query"),
        pytest.param(b"/a??b?", "/a", b"/a", b"?b?", id="question marks in the query"),
        pytest.param(b"//a//b", "//a//b", b"//a//b", b"", id="empty segments are kept"),
        pytest.param(b"/a/../b", "/a/../b", b"/a/../b", b"", id="dot segments are kept"),
        pytest.param(b"/%61", "/a", b"/%61", b"", id="decoded once"),
        pytest.param(b"/%2561", "/%61", b"/%2561", b"", id="never twice"),
        pytest.param(b"/%2f%2E%2e", "//..", b"/%2f%2E%2e", b"", id="slash and dots"),
        pytest.param(b"/%5c", "/\\", b"/%5c", b"", id="backslash"),
        pytest.param(b"/%C3%A9", "/é", b"/%C3%A9", b"", id="UTF-8"),
        pytest.param(b"/%C3", "/�", b"/%C3", b"", id="broken UTF-8"),
        pytest.param(b"/%ED%A0%80", "/���", b"/%ED%A0%80", b"", id="surrogate"),
        pytest.param(b"/a?%zz%00", "/a", b"/a", b"%zz%00", id="the query is not looked at"),
        pytest.param(b"/%0d%0aX:y", "/\r\nX:y", b"/%0d%0aX:y", b"", id="CR LF encoded"),
        pytest.param(b"/http://b/c", "/http://b/c", b"/http://b/c", b"", id="a URL in the path"),
    ],
)
def test_an_origin_form_target_is_taken_apart(target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    assert parse_target(b"GET", target) == (None, path, raw_path, query)


@every(
    "target",
    [
        pytest.param(b"/%", id="percent alone"),
        pytest.param(b"/%4", id="half an escape"),
        pytest.param(b"/%g0", id="no hexadecimal digit"),
        pytest.param(b"/%u0041", id="IIS escape"),
        pytest.param(b"/%00", id="NUL"),
        pytest.param(b"/a%00b", id="NUL inside"),
        pytest.param(b"a", id="no slash"),
        pytest.param(b"*", id="asterisk without OPTIONS"),
        pytest.param(b"a:80", id="authority form"),
        pytest.param(b"?a", id="only a query"),
        pytest.param(b"/a#b", id="fragment"),
        pytest.param(b"http://", id="absolute without a host"),
        pytest.param(b"http:///a", id="absolute with an empty host"),
        pytest.param(b"http:/a", id="absolute with one slash"),
        pytest.param(b"ftp://a/", id="another scheme"),
        pytest.param(b"http://a/#b", id="absolute with a fragment"),
        pytest.param(b"http://a/%zz", id="absolute with a bad escape"),
        pytest.param(b"http://a/\\", id="absolute with a backslash"),
        pytest.param(b"http://a\\b/", id="backslash in the authority"),
    ],
)
def test_a_malformed_target_is_refused(target: bytes) -> None:
    for parser in PARSERS:
        assert status_of(head(b"GET " + target + b" HTTP/1.1"), parser) == 400


@both_parsers
@pytest.mark.parametrize(
    ("target", "host", "path", "query", "field"),
    [
        pytest.param(b"http://b/c?d", "b", "/c", b"d", b"b", id="plain"),
        pytest.param(b"http://b", "b", "/", b"", b"b", id="empty path"),
        pytest.param(b"http://b?d", "b", "/", b"d", b"b", id="empty path with a query"),
        pytest.param(b"HTTPS://B.c.:8443/", "b.c", "/", b"", b"B.c.:8443", id="case, dot and port"),
        pytest.param(b"http://[::1]:80/x", "[::1]", "/x", b"", b"[::1]:80", id="IPv6"),
    ],
)
def test_the_authority_of_an_absolute_target_replaces_host(
    target: bytes, host: str, path: str, query: bytes, field: bytes, parser: str
) -> None:
    request = decode(head(b"GET " + target + b" HTTP/1.1", b"X: y"), parser).requests[0].head
    assert (request.host, request.path, request.query) == (host, path, query)
    assert request.fields == [(b"host", field), (b"x", b"y")]


@both_parsers
@every(
    "target",
    [b"http://user@b/", b"http://user:pass@b/", b"http://b c/", b"http://b:x/", b"http://[::1/", b"http://b%2f/"],
)
def test_an_absolute_target_with_a_bad_authority_is_refused(target: bytes, parser: str) -> None:
    assert status_of(head(b"GET " + target + b" HTTP/1.1"), parser) == 400


@both_parsers
def test_an_absolute_target_still_needs_one_good_host_field(parser: str) -> None:
    line = b"GET http://b/ HTTP/1.1"
    assert status_of(head(line, host=None), parser) == 400
    assert status_of(head(line, b"Host: c"), parser) == 400
    assert status_of(head(line, host=b"Host: a b"), parser) == 400


@both_parsers
def test_options_asterisk_is_let_through(parser: str) -> None:
    request = decode(head(b"OPTIONS * HTTP/1.1"), parser).requests[0].head
    assert (request.path, request.raw_path, request.query) == ("*", b"*", b"")
    assert status_of(head(b"OPTIONS *?a HTTP/1.1"), parser) == 400


# RFC 9112 §3.2, RFC 9110 §7.2: Host.


@every(
    ("value", "host"),
    [
        pytest.param(b"example.com", "example.com", id="name"),
        pytest.param(b"EXAMPLE.Com", "example.com", id="case"),
        pytest.param(b"example.com:8080", "example.com", id="port"),
        pytest.param(b"example.com:", "example.com", id="empty port"),
        pytest.param(b"example.com.", "example.com", id="trailing dot"),
        pytest.param(b"example.com.:80", "example.com", id="trailing dot and port"),
        pytest.param(b"127.0.0.1:80", "127.0.0.1", id="IPv4"),
        pytest.param(b"[::1]", "[::1]", id="IPv6"),
        pytest.param(b"[::1]:80", "[::1]", id="IPv6 with port"),
        pytest.param(b"[0:0:0:0:0:0:0:1]", "[::1]", id="IPv6 written out"),
        pytest.param(b"[2001:DB8::A]", "[2001:db8::a]", id="IPv6 case"),
        pytest.param(b"my_host~1", "my_host~1", id="unreserved characters"),
        pytest.param(b"", "", id="empty"),
    ],
)
def test_a_host_is_normalised(value: bytes, host: str) -> None:
    assert normalise_host(value) == host
    assert normalise_host(value) == host  # also from memory


BAD_HOSTS = [
    pytest.param(b"example.com..", id="two trailing dots"),
    pytest.param(b"a..b", id="empty label"),
    pytest.param(b".", id="dot"),
    pytest.param(b":80", id="port without a host"),
    pytest.param(b"a:65536", id="port too large"),
    pytest.param(b"a:000080", id="port too long"),
    pytest.param(b"a b", id="space"),
    pytest.param(b"a,b", id="list"),
    pytest.param(b"a/b", id="slash"),
    pytest.param(b"a\\b", id="backslash"),
    pytest.param(b"a@b", id="userinfo"),
    pytest.param(b"a?b", id="question mark"),
    pytest.param(b"a#b", id="fragment"),
    pytest.param(b"a%2eb", id="percent escape"),
    pytest.param(b"http://a", id="URL"),
    pytest.param(b"a:b", id="port is no number"),
    pytest.param(b"a:80:80", id="two ports"),
    pytest.param(b"::1", id="IPv6 without brackets"),
    pytest.param(b"[::1", id="bracket open"),
    pytest.param(b"::1]", id="bracket closed"),
    pytest.param(b"[]", id="empty brackets"),
    pytest.param(b"[1.2.3.4]", id="IPv4 in brackets"),
    pytest.param(b"[::g]", id="no IPv6"),
    pytest.param(b"[fe80::1%25eth0]", id="zone"),
    pytest.param(b"[::1]x", id="behind the bracket"),
    pytest.param(b"[v1.a]", id="IPvFuture"),
    pytest.param(b"\xc3\xa9", id="not ASCII"),
    pytest.param(b"a\tb", id="tab"),
]


@every("value", BAD_HOSTS)
def test_an_invalid_host_is_refused(value: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        normalise_host(value)
    assert caught.value.status == 400
    for parser in PARSERS:
        assert status_of(head(host=b"Host: " + value), parser) == 400
        assert status_of(head(b"GET / HTTP/1.0", host=b"Host: " + value), parser) == 400


@both_parsers
@every("version", ["1.0", "1.1"])
@every("count", [0, 1, 2])
def test_http_1_1_has_exactly_one_host_field(version: str, count: int, parser: str) -> None:
    line = f"GET / HTTP/{version}".encode()
    status = status_of(head(line, *[b"Host: a"] * count, host=None), parser)
    assert status == (400 if count == 2 or (count == 0 and version == "1.1") else None)


def test_remembered_hosts_are_bounded_in_number_and_size() -> None:
    from serverd.protocol.head import _hosts

    for number in range(3000):
        normalise_host(b"h%d.example" % number)
    assert len(_hosts) <= 1024
    long = b"a" * 60_000
    assert normalise_host(long) == long.decode()
    assert long not in _hosts, "1024 of them would keep 60 MB of a worker"


# RFC 9112 §6: Content-Length and Transfer-Encoding.

LENGTHS: list[tuple[tuple[bytes, ...], int | None]] = [
    # The values of the Content-Length fields, and the status that they cause; None: good.
    ((), None),
    ((b"0",), None),
    ((b"5 \t",), None),
    ((b"5",), None),
    ((b"005",), None),
    ((b"5", b"5"), 400),
    ((b"5", b"6"), 400),
    ((b"5, 5",), 400),
    ((b"5,6",), 400),
    ((b"+5",), 400),
    ((b"-5",), 400),
    ((b"5 5",), 400),
    ((b"0x5",), 400),
    ((b"5.0",), 400),
    ((b"5_0",), 400),
    ((b"\xb2",), 400),
    ((b"",), 400),
    ((b"five",), 400),
    ((b"99999999999999999999",), 400),
    ((b"18446744073709551621",), 400),
]

CODINGS: list[tuple[tuple[bytes, ...], int | None]] = [
    ((), None),
    ((b"chunked",), None),
    ((b"chunked \t",), None),
    ((b"Chunked",), None),
    ((b"CHUNKED",), None),
    ((b"gzip, chunked",), 501),
    ((b"gzip", b"chunked"), 501),
    ((b"identity, chunked",), 501),
    ((b", chunked",), 501),
    ((b"chunked, chunked",), 400),
    ((b"chunked", b"chunked"), 400),
    ((b"chunked, gzip",), 400),
    ((b"chunked", b"gzip"), 400),
    ((b"chunked,",), 400),
    ((b"gzip",), 400),
    ((b"identity",), 400),
    ((b"",), 400),
    ((b"xchunked",), 400),
    ((b"chunkedx",), 400),
    ((b"chunked;a=b",), 400),
    ((b'"chunked"',), 400),
    ((b"\x0bchunked",), 400),
    ((b"chunked\x0b",), 400),
    ((b"chu nked",), 400),
]


def framing_cases() -> list[object]:
    cases = []
    for version, (lengths, length_status), (codings, coding_status) in product(("1.1", "1.0"), LENGTHS, CODINGS):
        if codings and any(b"\x0b" in coding for coding in codings):
            status: int | None = 400  # a control byte, in any version
        elif len(lengths) > 1 or (codings and (lengths or version == "1.0")):
            status = 400
        else:
            status = coding_status if codings else length_status
        shown = [b" + ".join(values).decode("latin-1") if values else None for values in (lengths, codings)]
        name = f"{version} CL={shown[0]!r} TE={shown[1]!r}"
        cases.append(pytest.param(version, lengths, codings, status, id=name))
    return cases


@every(("version", "lengths", "codings", "status"), framing_cases())
def test_framing_is_unambiguous_or_refused(
    version: str, lengths: tuple[bytes, ...], codings: tuple[bytes, ...], status: int | None
) -> None:
    fields = [b"Content-Length: " + value for value in lengths] + [b"Transfer-Encoding: " + value for value in codings]
    line = f"POST / HTTP/{version}".encode()
    for order in (fields, fields[::-1]):
        if order == fields[::-1] and len(codings) > 1:
            continue  # the order of the codings is what counts
        for parser in PARSERS:
            outcome = decode(head(line, *order), parser)
            assert outcome.status == status, outcome.reason
            if status is None:
                length = -1 if codings else int(lengths[0]) if lengths else 0
                assert outcome.requests[0].head.length == length


@both_parsers
@pytest.mark.parametrize("name", [b"Content_Length", b"Transfer_Encoding", b"Content-Length-", b"X-Transfer-Encoding"])
def test_names_that_look_like_framing_fields_are_none(name: bytes, parser: str) -> None:
    outcome = decode(head(b"POST / HTTP/1.1", name + b": chunked"), parser)
    assert outcome.requests[0].head.length == 0


# RFC 9112 §9.3: persistence.


@both_parsers
@every(
    ("version", "options", "persists"),
    [
        pytest.param("1.1", [], True, id="1.1"),
        pytest.param("1.1", [b"keep-alive"], True, id="1.1 keep-alive"),
        pytest.param("1.1", [b"close"], False, id="1.1 close"),
        pytest.param("1.1", [b"Close"], False, id="1.1 Close"),
        pytest.param("1.1", [b"keep-alive, close"], False, id="1.1 both"),
        pytest.param("1.1", [b"close", b"keep-alive"], False, id="1.1 both, two fields"),
        pytest.param("1.1", [b"upgrade , \tclose"], False, id="1.1 close in a list"),
        pytest.param("1.1", [b"closed"], True, id="1.1 another word"),
        pytest.param("1.1", [b"upgrade"], True, id="1.1 upgrade"),
        pytest.param("1.1", [b""], True, id="1.1 empty"),
        pytest.param("1.0", [], False, id="1.0"),
        pytest.param("1.0", [b"keep-alive"], True, id="1.0 keep-alive"),
        pytest.param("1.0", [b"Keep-Alive, x"], True, id="1.0 keep-alive in a list"),
        pytest.param("1.0", [b"keep-alive, close"], False, id="1.0 both"),
        pytest.param("1.0", [b"close"], False, id="1.0 close"),
    ],
)
def test_persistence_follows_version_and_connection(
    version: str, options: list[bytes], persists: bool, parser: str
) -> None:
    data = head(f"GET / HTTP/{version}".encode(), *[b"Connection: " + option for option in options])
    assert decode(data, parser).requests[0].head.keep_alive is persists


# RFC 9110 §10.1.1: Expect.


@both_parsers
@every(
    ("version", "fields", "expected"),
    [
        pytest.param("1.1", [b"Expect: 100-continue", b"Content-Length: 5"], True, id="with a length"),
        pytest.param("1.1", [b"Expect: 100-Continue", b"Transfer-Encoding: chunked"], True, id="chunked"),
        pytest.param("1.1", [b"Expect: 100-continue"], False, id="without a body"),
        pytest.param("1.1", [b"Expect: 100-continue", b"Content-Length: 0"], False, id="with an empty body"),
        pytest.param("1.0", [b"Expect: 100-continue", b"Content-Length: 5"], False, id="ignored in 1.0"),
        pytest.param("1.0", [b"Expect: something", b"Content-Length: 5"], False, id="1.0 ignores all of them"),
        pytest.param("1.1", [b"Content-Length: 5"], False, id="not asked for"),
        pytest.param("1.1", [b"Expect: something", b"Content-Length: 5"], 417, id="unknown"),
        pytest.param("1.1", [b"Expect: 100-continue, x", b"Content-Length: 5"], 417, id="one unknown"),
        pytest.param("1.1", [b"Expect:", b"Content-Length: 5"], 417, id="empty"),
    ],
)
def test_expectations(version: str, fields: list[bytes], expected: bool | int, parser: str) -> None:
    outcome = decode(head(f"POST / HTTP/{version}".encode(), *fields), parser)
    if expected == 417:
        assert outcome.status == 417
    else:
        assert outcome.status is None
        assert outcome.requests[0].head.expects_continue is expected


# The parsers: what one of them sees first must not decide the status.


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"Expect: x", b"Content-Length: 5", b"Content-Length: 5"], id="Expect and two lengths"),
        pytest.param([b"Expect: x", b"Content-Length: five"], id="Expect and a bad length"),
        pytest.param([b"Content-Length: five", b"Expect: x"], id="a bad length and Expect"),
        pytest.param([b"Expect: x", b"Content-Length: 5", b"Transfer-Encoding: chunked"], id="Expect, CL and TE"),
        pytest.param([b"Transfer-Encoding: gzip, chunked", b"Expect: x"], id="unknown coding and Expect"),
        pytest.param([b"Host: b", b"Expect: x"], id="two hosts and Expect"),
        pytest.param([b"X: y"] * 101 + [b"Host: b"], id="too many fields and two hosts"),
        pytest.param([b"X: y"] * 101 + [b"Content-Length: x"], id="too many fields and a bad length"),
        pytest.param([b"X: y"] * 101 + [b"Content-Length: 5"] * 2, id="too many fields and two lengths"),
        pytest.param([b"Content-Length: 99999999999999999999", b"Expect: x"], id="overflow and Expect"),
        pytest.param([b"Connection: close", b"Upgrade: h2c", b"Content-Length: x"], id="Upgrade and a bad length"),
    ],
)
def test_both_parsers_give_the_same_status_to_a_head_with_two_mistakes(fields: list[bytes]) -> None:
    data = head(b"POST / HTTP/1.1", *fields)
    outcomes = {name: decode(data, name).summary() for name in PARSERS}
    assert outcomes["httptools"] == outcomes["h11"]


@pytest.mark.parametrize("parser", [HttptoolsParser, H11Parser])
def test_a_parser_refuses_what_the_grammar_would_not_have_let_through(parser: type) -> None:
    splitter = parser()
    with pytest.raises(PeerError) as caught:
        splitter.split(b"GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n")
    assert caught.value.status == 400
    # It is as good as new for the next head.
    assert splitter.split(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == [(b"host", b"a")]


def test_a_request_line_is_parsed_alone() -> None:
    assert parse_request_line(b"GET /a?b HTTP/1.0") == ("GET", "1.0", (None, "/a", b"/a", b"b"))


def test_framing_is_judged_alone() -> None:
    assert frame_request("1.1", [(b"host", b"A:1"), (b"content-length", b"3")]) == ("a", 3, True, False)


def test_an_outcome_counts_as_refused_only_with_a_status() -> None:
    assert Outcome().status is None
