"""Requests in HTTP/2 (RFC 9113 §8): heads, bodies, trailers, CONNECT; what is malformed and what is answered."""

from __future__ import annotations

import pytest

from serverd.protocol.head import CHUNKED, Fields, RequestHead
from serverd.protocol.http2 import ErrorCode, Http2Bounds, TunnelHead
from tests.protocol.http2_peer import (
    ACK,
    CONNECT,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    POST,
    PREFACE,
    SETTINGS,
    Peer,
    data,
    frame,
    settings,
)
from tests.support.every import every

HOST = (b"host", b"example.com")


def head_of(fields: Fields, end: bool = True, bounds: Http2Bounds | None = None) -> RequestHead:
    """Return the head that the server makes of the fields."""
    peer = Peer(bounds)
    peer.open(1, fields, end)
    request = peer.request(1)
    assert request.head is not None, request.error
    return request.head


def status_of(fields: Fields, end: bool = True, bounds: Http2Bounds | None = None) -> int:
    """Return the status with which a head is refused."""
    peer = Peer(bounds)
    peer.open(1, fields, end)
    request = peer.request(1)
    assert request.head is None
    assert request.error is not None
    return request.error.status


def changed(name: bytes, value: bytes | None, fields: Fields = GET) -> Fields:
    """Return the fields with another value for one, or without it."""
    return [(other, value if other == name else known) for other, known in fields if other != name or value is not None]


class TestHeads:
    """RFC 9113 §8.3.1; the ASGI HTTP specification."""

    def test_a_request_becomes_the_head_of_every_protocol(self) -> None:
        fields = [*changed(b":path", b"/a%20b?c=d%20e"), (b"accept", b"*/*"), (b"x-name", b"value\t1")]
        head = head_of(fields)
        assert (head.method, head.version, head.path, head.raw_path) == ("GET", "2", "/a b", b"/a%20b")
        assert (head.query, head.host, head.length) == (b"c=d%20e", "example.com", 0)
        assert head.fields == [HOST, (b"accept", b"*/*"), (b"x-name", b"value\t1")]
        assert head.keep_alive
        assert not head.expects_continue
        assert not head.notable

    def test_a_head_that_comes_again_is_the_same(self) -> None:
        peer = Peer()
        heads = []
        for number in range(1, 13, 2):
            peer.open(number, [*GET, (b"x-name", b"value")])
            heads.append(peer.request(number).head)
        assert heads[-1] is heads[-2]
        assert all(head is not None and head.fields == [HOST, (b"x-name", b"value")] for head in heads)

    def test_what_a_block_says_changes_with_the_table(self) -> None:
        peer = Peer()
        for number, name in enumerate([b"a", b"a", b"a", b"b", b"a", b"b", b"b", b"b", b"c", b"c", b"a", b"b", b"c"]):
            fields = [*GET, (b"x-name", name)]
            peer.open(2 * number + 1, fields)
            head = peer.request(2 * number + 1).head
            assert head is not None
            assert head.fields == [HOST, (b"x-name", name)]

    def test_a_refused_block_that_changes_the_table_makes_what_is_known_forgotten(self) -> None:
        peer = Peer(Http2Bounds(header_list_size=300))
        for number in range(1, 9, 2):
            peer.open(number, [*GET, (b"x-name", b"first")])
        indexed = peer.block([*GET, (b"x-name", b"first")])
        assert indexed[-1] == 0x80 | 62  # the newest entry
        value = bytes([0x7F, 200 - 0x7F]) + bytes(200)
        too_large = indexed[:-1] + b"\x40\x06x-name\x05other" + b"\x00\x01a" + value
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 9, too_large))
        error = peer.request(9).error
        assert error is not None
        assert error.status == 431
        # What was :authority is the first x-name now: the block that was served names no authority any more.
        peer.breaks_stream(11, frame(HEADERS, END_HEADERS | END_STREAM, 11, indexed))

    def test_a_known_block_is_refused_while_the_table_has_yet_to_shrink(self) -> None:
        peer = Peer(Http2Bounds(table_size=100), greet=False)
        peer.send(PREFACE + settings())
        for number in range(1, 9, 2):
            peer.open(number, GET)
        block = peer.headers(9, GET)
        peer.send(frame(SETTINGS, ACK))
        peer.breaks_connection(block, code=ErrorCode.COMPRESSION_ERROR)  # RFC 7541 §4.2

    def test_the_same_block_with_and_without_a_body_are_two_heads(self) -> None:
        peer = Peer()
        for number in range(0, 24, 4):
            assert peer.open(number + 1, POST).state.name == "REMOTE_ENDED"
            assert peer.open(number + 3, POST, end=False).state.name == "OPEN"
            heads = [peer.request(number + step).head for step in (1, 3)]
            assert [head.length for head in heads if head is not None] == [0, CHUNKED]

    def test_methods_are_those_of_http1(self) -> None:
        assert head_of(changed(b":method", b"QUERY")).method == "QUERY"
        assert status_of(changed(b":method", b"get")) == 501
        assert status_of(changed(b":method", b"BREW")) == 501

    def test_the_asterisk_is_for_options(self) -> None:
        fields = changed(b":path", b"*")
        assert head_of(changed(b":method", b"OPTIONS", fields)).path == "*"
        assert status_of(fields) == 400

    @pytest.mark.parametrize("path", [b"/a b", b"/%zz", b"/%00", b"/a#b", b'/"', b"/\\", b"/\xff"])
    def test_targets_are_as_strict_as_in_http1(self, path: bytes) -> None:
        assert status_of(changed(b":path", path)) == 400

    def test_cookies_are_joined(self) -> None:
        cookies = [(b"cookie", b"a=1"), (b"x-between", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
        assert head_of([*GET, *cookies]).fields == [HOST, (b"cookie", b"a=1; b=2; c=3"), (b"x-between", b"1")]

    def test_one_cookie_is_left_alone(self) -> None:
        assert head_of([*GET, (b"cookie", b"a=1; b=2")]).fields[1:] == [(b"cookie", b"a=1; b=2")]

    def test_fields_may_be_repeated(self) -> None:
        fields = [(b"x-name", b"1"), (b"x-name", b""), (b"x-name", b"2")]
        assert head_of([*GET, *fields]).fields[1:] == fields

    def test_te_may_be_trailers(self) -> None:
        assert head_of([*GET, (b"te", b"trailers")]).fields[1:] == [(b"te", b"trailers")]

    def test_a_list_too_large_is_answered_and_the_connection_goes_on(self) -> None:
        peer = Peer(Http2Bounds(header_list_size=1000))
        peer.open(1, [*GET, (b"x-large", b"a" * 900)])
        error = peer.request(1).error
        assert error is not None
        assert error.status == 431
        peer.open(3, [*GET, (b"x-name", b"value")])
        assert peer.request(3).head is not None

    def test_fields_too_many_are_answered(self) -> None:
        fields = [(b"x-%d" % number, b"1") for number in range(10)]
        cookies = [(b"cookie", b"%d" % number) for number in range(50)]
        assert len(head_of([*GET, *fields[1:], *cookies], bounds=Http2Bounds(header_count=10)).fields) == 11
        assert status_of([*GET, *fields, *cookies], bounds=Http2Bounds(header_count=10)) == 431

    def test_the_request_line_is_bounded_as_in_http1(self) -> None:
        bounds = Http2Bounds(request_line=100)
        longest = 100 - len(b"GET  HTTP/1.1")
        assert head_of(changed(b":path", b"/" + b"a" * (longest - 1)), bounds=bounds).method == "GET"
        assert status_of(changed(b":path", b"/" + b"a" * longest), bounds=bounds) == 414

    def test_expectations_are_those_of_http1(self) -> None:
        expecting = [*POST, (b"expect", b"100-continue")]
        assert head_of(expecting, end=False).expects_continue
        assert head_of([*expecting, (b"content-length", b"5")], end=False).expects_continue
        assert not head_of([*expecting, (b"content-length", b"0")], end=False).expects_continue
        assert not head_of(expecting).expects_continue
        assert status_of([*POST, (b"expect", b"more")], end=False) == 417

    def test_a_scheme_that_is_not_served_is_answered(self) -> None:
        assert head_of(changed(b":scheme", b"https")).method == "GET"
        assert status_of(changed(b":scheme", b"coap")) == 400


class TestNames:
    """Names that stand for others, as `protocol.names` has them."""

    def test_a_name_that_tells_of_the_origin_is_notable(self) -> None:
        assert head_of([*GET, (b"x-forwarded-for", b"192.0.2.1")]).notable
        assert head_of([*GET, (b"x-real-ip", b"192.0.2.1")]).notable

    @pytest.mark.parametrize(("rule", "kept"), [("drop", []), ("pass", [(b"x_name", b"1"), (b"x.name", b"2")])])
    def test_an_ambiguous_name_is_dropped_or_passed(self, rule: str, kept: Fields) -> None:
        head = head_of([*GET, (b"x_name", b"1"), (b"x.name", b"2")], bounds=Http2Bounds(ambiguous_names=rule))
        assert head.notable
        assert head.fields[1:] == kept

    def test_an_ambiguous_name_may_be_refused(self) -> None:
        assert status_of([*GET, (b"x_name", b"1")], bounds=Http2Bounds(ambiguous_names="refuse")) == 400


class TestAuthority:
    """RFC 9113 §8.3.1."""

    def test_host_may_stand_for_the_authority(self) -> None:
        head = head_of([*changed(b":authority", None), (b"accept", b"*/*"), (b"host", b"EXAMPLE.com:8080")])
        assert head.fields == [(b"host", b"EXAMPLE.com:8080"), (b"accept", b"*/*")]
        assert head.host == "example.com"

    def test_host_may_say_the_same(self) -> None:
        head = head_of([*GET, (b"accept", b"*/*"), (b"host", b"Example.COM")])
        assert head.fields == [HOST, (b"accept", b"*/*")]

    @pytest.mark.parametrize("authority", [b"user@example.com", b"a b", b"exa_mple.com/", b"[::1", b"a:b"])
    def test_an_authority_that_no_host_can_be_is_answered(self, authority: bytes) -> None:
        expected = 400
        assert status_of(changed(b":authority", authority)) == expected


MALFORMED: dict[str, Fields] = {
    "§8.2.1 upper case": [*GET, (b"X-Name", b"1")],
    "§8.2.1 an empty name": [*GET, (b"", b"1")],
    "§8.2.1 a space in a name": [*GET, (b"x name", b"1")],
    "§8.2.1 a colon in a name": [*GET, (b"x:name", b"1")],
    "§8.2.1 a byte beyond ASCII in a name": [*GET, (b"x-n\xe4me", b"1")],
    "§8.2.1 NUL in a value": [*GET, (b"x-name", b"a\x00b")],
    "§8.2.1 CR in a value": [*GET, (b"x-name", b"a\rb")],
    "§8.2.1 LF in a value": [*GET, (b"x-name", b"a\nb")],
    "§8.2.1 CRLF at the end of a value": [*GET, (b"x-name", b"a\r\n")],
    "§8.2.1 LF as a value": [*GET, (b"x-name", b"\n")],
    "§8.2.1 DEL in a value": [*GET, (b"x-name", b"a\x7fb")],
    "§8.2.1 white space before a value": [*GET, (b"x-name", b" a")],
    "§8.2.1 white space behind a value": [*GET, (b"x-name", b"a\t"), (b"x-other", b"b")],
    "§8.2.2 connection": [*GET, (b"connection", b"keep-alive")],
    "§8.2.2 keep-alive": [*GET, (b"keep-alive", b"1")],
    "§8.2.2 proxy-connection": [*GET, (b"proxy-connection", b"keep-alive")],
    "§8.2.2 transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "§8.2.2 upgrade": [*GET, (b"upgrade", b"h2c")],
    "§8.2.2 te that is not trailers": [*GET, (b"te", b"trailers, deflate")],
    "§8.3 an unknown pseudo-field": [*GET, (b":test", b"1")],
    "§8.3 a pseudo-field of responses": [*GET, (b":status", b"200")],
    "§8.3 a pseudo-field behind a field": [*GET[1:], (b"x-name", b"1"), GET[0]],
    "§8.3 a pseudo-field twice": [GET[0], *GET],
    "§8.3.1 no :method": changed(b":method", None),
    "§8.3.1 no :scheme": changed(b":scheme", None),
    "§8.3.1 no :path": changed(b":path", None),
    "§8.3.1 an empty :path": changed(b":path", b""),
    "§8.3.1 :path without a slash": changed(b":path", b"index.html"),
    "§8.3.1 :path in absolute form": changed(b":path", b"http://example.com/"),
    "§8.3.1 an empty :method": changed(b":method", b""),
    "§8.3.1 :method that is no token": changed(b":method", b"GET /"),
    "§8.3.1 neither :authority nor Host": changed(b":authority", None),
    "§8.3.1 an empty :authority": changed(b":authority", b""),
    "§8.3.1 Host for another": [*GET, (b"host", b"example.org")],
    "§8.3.1 two Hosts": [*GET, HOST, HOST],
    "§8.1.1 a Content-Length without a body": [*GET, (b"content-length", b"1")],
    "§8.1.1 a Content-Length that is no number": [*GET, (b"content-length", b"0x0")],
    "§8.1.1 two Content-Lengths": [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
    # §8.5 is with RFC 8441 §4
    "§8.5 CONNECT with :path": [(b":method", b"CONNECT"), (b":path", b"/"), GET[3]],
    "§8.5 CONNECT with :scheme": [(b":method", b"CONNECT"), (b":scheme", b"http"), GET[3]],
    "§8.5 CONNECT without :authority": [(b":method", b"CONNECT")],
    "§8.5 :protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
    "§8.5 :protocol that is no token": changed(b":protocol", b"web socket", CONNECT),
    "§8.5 extended CONNECT without :path": changed(b":path", None, CONNECT),
    "§8.5 extended CONNECT without :scheme": changed(b":scheme", None, CONNECT),
    "§8.5 extended CONNECT without :authority": changed(b":authority", None, CONNECT),
}


class TestMalformed:
    """RFC 9113 §8.1.1, §8.2.1, §8.2.2, §8.3, §8.3.1, §8.5: a stream error, and the connection goes on."""

    @every("fields", MALFORMED.values(), ids=MALFORMED.keys())
    def test_a_malformed_request_is_reset_and_nobody_is_told(self, fields: Fields) -> None:
        peer = Peer()
        peer.breaks_stream(1, peer.headers(1, fields))
        assert not peer.sink.requests
        peer.open(3)

    @every("octet", [*range(0x20), 0x7F])
    def test_no_control_byte_stands_in_a_value_but_the_tabulator(self, octet: int) -> None:
        fields = [*GET, (b"x-name", b"a" + bytes([octet]) + b"b")]
        peer = Peer()
        if octet == 0x09:
            peer.open(1, fields)
        else:
            peer.breaks_stream(1, peer.headers(1, fields))

    def test_the_values_of_pseudo_fields_are_checked_too(self) -> None:
        for name in (b":path", b":authority", b":scheme"):
            assert status_of(changed(name, dict(GET)[name] + b"\r\nx: y")) == 400

    def test_every_byte_in_a_name_is_judged_like_a_token_in_lower_case(self) -> None:
        from serverd.protocol.head import TOKEN

        for octet in range(256):
            name = b"x" + bytes([octet])
            peer = Peer(Http2Bounds(ambiguous_names="pass"))
            frame = peer.headers(1, [*GET, (name, b"1")])
            if TOKEN.fullmatch(name) and name == name.lower():
                peer.send(frame)
                assert peer.request(1).head is not None
            else:
                peer.breaks_stream(1, frame)


class TestBodies:
    """RFC 9113 §8.1, §8.1.1."""

    def test_a_body_is_handed_on_as_it_comes(self) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"10")], end=False)
        head = peer.request(1).head
        assert head is not None
        assert head.length == 10
        peer.send(data(1, b"hello"))
        assert (peer.request(1).body, peer.request(1).complete) == (b"hello", False)
        peer.send(data(1, b"world", end=True))
        assert (peer.request(1).body, peer.request(1).complete) == (b"helloworld", True)

    def test_a_length_need_not_be_announced(self) -> None:
        assert head_of(POST, end=False).length == CHUNKED

    def test_a_length_of_zero_may_end_with_an_empty_frame(self) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"0")], end=False)
        peer.send(data(1, b"", end=True))
        assert peer.request(1).complete

    @pytest.mark.parametrize(
        "parts",
        [
            pytest.param([(b"four", True)], id="too long in one"),
            pytest.param([(b"a", False), (b"bc", False), (b"d", True)], id="too long in several"),
            pytest.param([(b"ab", True)], id="too short"),
            pytest.param([(b"ab", False), (b"", True)], id="too short with an empty end"),
        ],
    )
    def test_a_body_has_to_be_as_long_as_announced(self, parts: list[tuple[bytes, bool]]) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"3")], end=False)
        *before, last = [data(1, *part) for part in parts]
        assert peer.send(*before) == []
        peer.breaks_stream(1, last)
        assert peer.request(1).is_reset
        assert not peer.request(1).complete

    def test_that_is_so_even_when_the_response_has_ended(self) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"1")], end=False)
        peer.respond(1)
        peer.take()
        peer.breaks_stream(1, data(1, b"test", end=True))

    def test_a_body_announced_too_large_is_answered(self) -> None:
        fields = [*POST, (b"content-length", b"11")]
        assert status_of(fields, end=False, bounds=Http2Bounds(body_size=10)) == 413

    def test_a_body_that_becomes_too_large_is_answered_and_thrown_away(self) -> None:
        peer = Peer(Http2Bounds(body_size=10))
        peer.open(1, POST, end=False)
        peer.send(data(1, b"0123456789"))
        assert peer.request(1).error is None
        peer.send(data(1, b"!"), data(1, b"more"))
        error = peer.request(1).error
        assert error is not None
        assert error.status == 413
        assert peer.request(1).body == b"0123456789"
        peer.respond(1, b"too large")
        answers = peer.take()
        assert [answer.kind for answer in answers] == [1, 0]
        peer.is_ignored(data(1, b"", end=True))


class TestTrailers:
    """RFC 9113 §8.1."""

    def test_trailers_end_a_body(self) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"5")], end=False)
        peer.send(data(1, b"hello"), peer.headers(1, [(b"x-checksum", b"1")]))
        assert (peer.request(1).body, peer.request(1).complete) == (b"hello", True)

    def test_trailers_without_end_stream_are_malformed(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.breaks_stream(1, peer.headers(1, [(b"x-checksum", b"1")], end=False))

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param([(b":method", b"GET")], id="pseudo-field"),
            pytest.param([(b"X-Checksum", b"1")], id="upper case"),
            pytest.param([(b"x-checksum", b"\n")], id="control byte"),
            pytest.param([(b"connection", b"close")], id="connection"),
        ],
    )
    def test_malformed_trailers_reset_the_stream(self, fields: Fields) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.breaks_stream(1, peer.headers(1, fields))

    def test_trailers_must_not_come_before_the_body_is_as_long_as_announced(self) -> None:
        peer = Peer()
        peer.open(1, [*POST, (b"content-length", b"5")], end=False)
        peer.breaks_stream(1, peer.headers(1, [(b"x-checksum", b"1")]))

    @pytest.mark.parametrize("bounds", [Http2Bounds(header_count=3), Http2Bounds(header_list_size=299)])
    def test_trailers_too_large_are_answered(self, bounds: Http2Bounds) -> None:
        peer = Peer(bounds)
        peer.open(1, POST, end=False)
        peer.send(peer.headers(1, [(b"x-%d" % number, b"1" * 40) for number in range(4)]))
        error = peer.request(1).error
        assert error is not None
        assert error.status == 431
        assert peer.request(1).stream.state.name == "REMOTE_ENDED"
        peer.respond(1)
        assert len(peer.take()) == 2

    def test_trailers_too_large_and_without_end_are_malformed(self) -> None:
        peer = Peer(Http2Bounds(header_count=3))
        peer.open(1, POST, end=False)
        fields = [(b"x-%d" % number, b"1") for number in range(4)]
        peer.breaks_stream(1, peer.headers(1, fields, end=False))


class TestConnect:
    """RFC 9113 §8.5, RFC 8441."""

    def test_a_tunnel_to_another_host_is_refused(self) -> None:
        assert status_of([(b":method", b"CONNECT"), (b":authority", b"example.com:443")], end=False) == 501

    def test_an_extended_connect_opens_a_tunnel(self) -> None:
        peer = Peer()
        stream = peer.open(1, [*CONNECT, (b"sec-websocket-version", b"13")], end=False)
        head = peer.request(1).head
        assert isinstance(head, TunnelHead)
        assert (head.method, head.protocol, head.path, head.host) == ("CONNECT", b"websocket", "/", "example.com")
        assert head.fields == [HOST, (b"sec-websocket-version", b"13")]
        assert head.length == CHUNKED
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, b"from the server", False)
        peer.send(data(1, b"from the client"))
        assert peer.request(1).body == b"from the client"

    def test_a_tunnel_has_no_trailers(self) -> None:
        peer = Peer()
        peer.open(1, CONNECT, end=False)
        peer.breaks_stream(1, peer.headers(1, [(b"x-trailer", b"1")]))

    def test_the_size_of_bodies_does_not_bound_tunnels(self) -> None:
        peer = Peer(Http2Bounds(body_size=10))
        peer.open(1, CONNECT, end=False)
        peer.send(data(1, b"more than ten bytes"))
        assert peer.request(1).error is None
