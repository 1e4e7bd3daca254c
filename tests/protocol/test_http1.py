"""The HTTP/1 decoder (RFC 9112): where requests begin and end, the limits to the byte, what is remembered."""

from __future__ import annotations

import pytest

from serverd.errors import PeerError
from serverd.protocol.chunked import LINES_AT_ONCE
from serverd.protocol.http1 import CHUNKS, DONE, HEAD, LENGTH, REFUSED, Http1Decoder
from serverd.protocol.http1_head import Bounds
from tests.support.every import every
from tests.support.wire import PARSERS, Outcome, bounds, decode

both_parsers = pytest.mark.parametrize("parser", PARSERS)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def decode_every_way(data: bytes, parser: str, limits: Bounds | None = None, eof: bool = False) -> Outcome:
    """Return the outcome, which is the same whole, cut anywhere, and byte by byte."""
    whole = decode(data, parser, limits, eof=eof)
    for cut in range(1, len(data)):
        assert decode(data, parser, limits, [cut], eof).summary() == whole.summary(), f"cut at {cut}"
    assert decode(data, parser, limits, range(len(data)), eof).summary() == whole.summary()
    return whole


def decoder_for(parser: str, limits: Bounds | None = None) -> tuple[Http1Decoder, Outcome]:
    outcome = Outcome()
    return Http1Decoder(PARSERS[parser](), outcome, limits or bounds()), outcome


@both_parsers
class TestRequests:
    """RFC 9112 §2.2, §6."""

    @every(
        ("data", "bodies"),
        [
            pytest.param(GET, [b""], id="no body"),
            pytest.param(POST, [b"hello"], id="length"),
            pytest.param(CHUNKED, [b"hello"], id="chunked"),
            pytest.param(GET + POST + CHUNKED + GET, [b"", b"hello", b"hello", b""], id="pipelined"),
            pytest.param(b"\r\n" + GET, [b""], id="an empty line before"),
            pytest.param(b"\r\n\r\n\r\n" + GET, [b""], id="empty lines before"),
            pytest.param(POST + b"\r\n" + GET, [b"hello", b""], id="an empty line between"),
            pytest.param(GET + b"\r\n" * 3, [b""], id="empty lines after"),
            pytest.param(POST.replace(b": 5", b": 0")[:-5] + GET, [b"", b""], id="length 0"),
            pytest.param(b"GET / HTTP/1.0\r\n\r\n", [b""], id="no field at all"),
        ],
    )
    def test_every_cut_gives_the_same_requests(self, data: bytes, bodies: list[bytes], parser: str) -> None:
        outcome = decode_every_way(data, parser, eof=True)
        assert outcome.status is None
        assert outcome.bodies == bodies

    @every(
        "data",
        [
            pytest.param(b"\n" + GET, id="LF"),
            pytest.param(b"\r" + GET, id="CR"),
            pytest.param(b"\r\n\n" + GET, id="CR LF LF"),
            pytest.param(b"\n\r\n" + GET, id="LF CR LF"),
            pytest.param(b"\r\r\n" + GET, id="CR CR LF"),
            pytest.param(b" " + GET, id="space"),
            pytest.param(b"\x00" + GET, id="NUL"),
        ],
    )
    def test_anything_but_empty_lines_before_a_request_is_refused(self, data: bytes, parser: str) -> None:
        assert decode_every_way(data, parser).status == 400
        outcome = decode_every_way(POST + data, parser)
        assert (outcome.status, outcome.bodies) == (400, [b"hello"])

    def test_nothing_is_read_after_a_refusal(self, parser: str) -> None:
        decoder, outcome = decoder_for(parser)
        with pytest.raises(PeerError):
            decoder.feed(b"GET / HTTP/3\r\n\r\n")
        assert decoder.state is REFUSED
        decoder.feed(GET)
        decoder.feed_eof()
        assert not outcome.requests
        assert not decoder.buffered

    def test_empty_lines_keep_nothing(self, parser: str) -> None:
        decoder, _ = decoder_for(parser)
        for _ in range(16):
            decoder.feed(b"\r\n")
            assert decoder.idle
        decoder.feed(b"\r")
        assert not decoder.idle

    def test_only_so_many_empty_lines_come_before_a_request(self, parser: str) -> None:
        assert decode_every_way(b"\r\n" * 16 + GET, parser).bodies == [b""]
        assert decode_every_way(b"\r\n" * 17, parser).status == 400
        outcome = decode_every_way(b"\r\n" * 17 + GET, parser)
        assert (outcome.status, outcome.bodies) == (400, [])

    def test_empty_lines_are_counted_for_each_request(self, parser: str) -> None:
        lines = b"\r\n" * 16
        assert decode_every_way(lines + GET + lines + POST + lines + GET, parser).bodies == [b"", b"hello", b""]
        outcome = decode_every_way(lines + GET + lines + b"\r\n" + POST, parser)
        assert (outcome.status, outcome.bodies) == (400, [b""])


@both_parsers
class TestTurns:
    """RFC 9112 §7.1: a body of many small chunks is decoded a part at a time."""

    HEAD = CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4]
    TINY = b"1\r\nx\r\n"

    def test_a_part_is_decoded_and_the_rest_on_go_on(self, parser: str) -> None:
        decoder, outcome = decoder_for(parser)
        decoder.feed(self.HEAD + self.TINY * (LINES_AT_ONCE + 1) + b"0\r\n\r\n" + GET)
        assert decoder.is_held
        assert decoder.buffered
        assert decoder.body_unfinished
        assert outcome.requests[0].body == b"x" * LINES_AT_ONCE
        decoder.go_on()
        assert outcome.bodies == [b"x" * (LINES_AT_ONCE + 1)]
        assert decoder.state is DONE
        assert not decoder.is_held
        assert decoder.buffered, "the next request waits"

    def test_a_fault_is_found_in_its_turn_and_ends_it(self, parser: str) -> None:
        decoder, _ = decoder_for(parser)
        decoder.feed(self.HEAD + self.TINY * LINES_AT_ONCE + b"x\r\n")
        with pytest.raises(PeerError):
            decoder.go_on()
        assert decoder.state is REFUSED
        assert not decoder.is_held
        assert not decoder.buffered

    def test_a_refusal_keeps_nothing_of_it(self, parser: str) -> None:
        decoder, _ = decoder_for(parser)
        decoder.feed(self.HEAD + self.TINY * (LINES_AT_ONCE + 1))
        decoder.refuse()
        assert not decoder.is_held
        assert not decoder.buffered

    @pytest.mark.parametrize("step", [1, 7, 1000, 3001])
    def test_the_requests_do_not_depend_on_the_cuts(self, step: int, parser: str) -> None:
        data = (self.HEAD + self.TINY * (2 * LINES_AT_ONCE) + b"0\r\nX: y\r\n\r\n") * 2 + GET + b"broken\r\n\r\n"
        outcome = decode(data, parser, cuts=range(0, len(data), step))
        assert outcome.bodies == [b"x" * (2 * LINES_AT_ONCE)] * 2 + [b""]
        assert outcome.status == 400


@both_parsers
class TestPipelining:
    """RFC 9112 §9.3.2: a request waits for the response to the one before it."""

    @pytest.mark.parametrize("request_", [GET, POST, CHUNKED], ids=["no body", "length", "chunked"])
    def test_the_decoder_stops_until_next_request(self, request_: bytes, parser: str) -> None:
        decoder, outcome = decoder_for(parser)
        decoder.feed(request_ + request_ + b"GE")
        assert decoder.state is DONE
        assert decoder.buffered
        assert len(outcome.requests) == 1
        decoder.feed(b"T / HTT")
        assert decoder.state is DONE
        assert len(outcome.requests) == 1
        decoder.next_request()
        assert decoder.state is DONE
        assert len(outcome.requests) == 2
        decoder.next_request()
        assert decoder.state is HEAD
        assert not decoder.idle
        decoder.feed(b"P/1.1\r\nHost: a\r\n\r\n")
        assert decoder.state is DONE
        assert not decoder.buffered
        assert len(outcome.requests) == 3

    def test_a_broken_request_in_the_pipeline_is_refused_when_its_turn_comes(self, parser: str) -> None:
        decoder, outcome = decoder_for(parser)
        decoder.feed(GET + b"broken\r\n\r\n")
        assert len(outcome.requests) == 1
        with pytest.raises(PeerError) as caught:
            decoder.next_request()
        assert caught.value.status == 400
        assert decoder.state is REFUSED


@both_parsers
class TestEnd:
    """RFC 9112 §8: an end inside a request is an error, whatever has arrived of it."""

    @pytest.mark.parametrize("data", [POST, CHUNKED, GET], ids=["length", "chunked", "no body"])
    def test_an_end_inside_a_request_is_refused(self, data: bytes, parser: str) -> None:
        for end in range(1, len(data)):
            outcome = decode(data[:end], parser, eof=True)
            assert outcome.status == 400, data[:end]
            assert outcome.bodies == []

    def test_an_end_between_requests_is_none_of_our_business(self, parser: str) -> None:
        for data in (b"", GET, POST, CHUNKED, GET + POST):
            assert decode(data, parser, eof=True).status is None

    def test_what_had_arrived_before_the_end_is_still_answered(self, parser: str) -> None:
        decoder, outcome = decoder_for(parser)
        decoder.feed(GET + POST)
        decoder.feed_eof()
        decoder.next_request()
        assert outcome.bodies == [b"", b"hello"]

    def test_the_state_tells_what_is_missing(self, parser: str) -> None:
        decoder, _ = decoder_for(parser)
        assert decoder.idle
        decoder.feed(POST[:-5])
        assert decoder.state is LENGTH
        assert decoder.body_unfinished
        decoder.feed(b"hello")
        assert not decoder.body_unfinished
        decoder.next_request()
        decoder.feed(CHUNKED[:-1])
        assert decoder.state is CHUNKS
        assert decoder.body_unfinished
        assert not decoder.idle


def line_of(size: int) -> bytes:
    """Return a good request line of `size` bytes."""
    return b"GET /%b HTTP/1.1" % (b"a" * (size - len(b"GET / HTTP/1.1")))


def section_of(size: int) -> bytes:
    """Return a field section of `size` bytes: from the CRLF of the request line to the empty line, both included."""
    rest = b"\r\nHost: a\r\nX: \r\n\r\n"
    return b"\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * (size - len(rest)))


@both_parsers
class TestLimits:
    """RFC 9112 §3, RFC 6585 §5, RFC 9110 §15.5.14: to the byte, and however it is cut."""

    def test_request_line(self, parser: str) -> None:
        limits = bounds(request_line=100)
        assert decode_every_way(line_of(100) + section_of(60), parser, limits).status is None
        assert decode_every_way(line_of(101) + section_of(60), parser, limits).status == 414

    def test_a_request_line_without_end_is_refused_at_the_limit(self, parser: str) -> None:
        limits = bounds(request_line=100)
        assert decode_every_way(line_of(300)[:100], parser, limits).status is None
        assert decode_every_way(line_of(300)[:101], parser, limits).status == 414
        assert decode_every_way(b"G" * 101, parser, limits).status == 414

    def test_a_request_line_that_is_malformed_before_the_limit_is_that(self, parser: str) -> None:
        limits = bounds(request_line=100)
        assert decode_every_way(b"GET /\x80" + line_of(200), parser, limits).status == 400
        assert decode_every_way(b"GET /" + b"a" * 200 + b"\x80 HTTP/1.1" + section_of(60), parser, limits).status == 414

    def test_header_size(self, parser: str) -> None:
        limits = bounds(header_size=200)
        assert decode_every_way(line_of(50) + section_of(200), parser, limits).status is None
        assert decode_every_way(line_of(50) + section_of(201), parser, limits).status == 431

    def test_fields_without_end_are_refused_at_the_limit(self, parser: str) -> None:
        limits = bounds(header_size=200)
        assert decode_every_way(line_of(50) + section_of(300)[:200], parser, limits).status is None
        assert decode_every_way(line_of(50) + section_of(300)[:201], parser, limits).status == 431

    def test_fields_that_are_malformed_before_the_limit_are_that(self, parser: str) -> None:
        limits = bounds(header_size=200)
        bad = b"\r\nbad line" + section_of(300)
        assert decode_every_way(line_of(50) + bad, parser, limits).status == 400
        late = section_of(300)[:-2] + b"bad line\r\n\r\n"
        assert decode_every_way(line_of(50) + late, parser, limits).status == 431

    def test_header_count(self, parser: str) -> None:
        limits = bounds(header_count=10)
        start = b"GET / HTTP/1.1\r\nHost: a\r\n"
        assert decode_every_way(start + b"X: y\r\n" * 9 + b"\r\n", parser, limits).status is None
        assert decode_every_way(start + b"X: y\r\n" * 10 + b"\r\n", parser, limits).status == 431

    def test_body_size_by_content_length(self, parser: str) -> None:
        limits = bounds(body_size=5)
        assert decode_every_way(POST, parser, limits).bodies == [b"hello"]
        outcome = decode_every_way(POST.replace(b": 5", b": 6"), parser, limits)
        assert (outcome.status, outcome.requests) == (413, [])

    def test_body_size_by_chunks(self, parser: str) -> None:
        assert decode_every_way(CHUNKED, parser, bounds(body_size=5)).bodies == [b"hello"]
        outcome = decode_every_way(CHUNKED, parser, bounds(body_size=4))
        assert (outcome.status, outcome.bodies) == (413, [])

    def test_trailers_count_like_fields(self, parser: str) -> None:
        trailers = CHUNKED[:-2] + b"X: y\r\n" * 10 + b"\r\n"
        assert decode_every_way(trailers, parser, bounds(header_count=10)).bodies == [b"hello"]
        assert decode_every_way(trailers, parser, bounds(header_count=9)).status == 431
        assert decode_every_way(trailers, parser, bounds(header_size=61)).status == 431

    @pytest.mark.parametrize("size", [8 * 1024, 8 * 1024 + 1])
    def test_the_default_request_line(self, size: int, parser: str) -> None:
        status = decode(line_of(size) + section_of(60), parser).status
        assert status == (None if size == 8 * 1024 else 414)

    @pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1])
    def test_the_default_header_size(self, size: int, parser: str) -> None:
        status = decode(line_of(50) + section_of(size), parser).status
        assert status == (None if size == 64 * 1024 else 431)


@both_parsers
class TestPartialHeads:
    """A head that cannot become a good one is refused before its end has arrived."""

    @every(
        ("data", "status"),
        [
            pytest.param(b"\x16\x03\x01\x02\x00", 400, id="TLS"),
            pytest.param(b"G\x00", 400, id="NUL in the method"),
            pytest.param(b"GET /\x80", 400, id="not ASCII"),
            pytest.param(b"GET / HTTP/1.1 ", 400, id="a third space"),
            pytest.param(b"GET / HTTP/1.1\n", 400, id="bare LF after the request line"),
            pytest.param(b"GET / HTTP/2.0\r\n", 505, id="version"),
            pytest.param(b"GET /%zz HTTP/1.1\r\n", 400, id="escape"),
            pytest.param(b"PRI * HTTP/2.0\r\n", 505, id="HTTP/2 preface"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: a\n", 400, id="bare LF after a field"),
            pytest.param(b"GET / HTTP/1.1\r\n Host: a\r\n", 400, id="white space before the first field"),
            pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n", 400, id="white space before a colon"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: a\x00\r\n", 400, id="NUL in a field"),
        ],
    )
    def test_it_is_refused_early(self, data: bytes, status: int, parser: str) -> None:
        assert decode_every_way(data, parser).status == status

    @every(
        "data",
        [b"G", b"GET", b"GET ", b"GET /a?b", b"GET / ", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"NOSUCHMETHOD / "],
    )
    def test_what_may_become_a_request_is_waited_for(self, data: bytes, parser: str) -> None:
        assert decode_every_way(data, parser).status is None

    def test_an_unknown_method_is_refused_when_its_head_is_there(self, parser: str) -> None:
        start = b"FOO / HTTP/1.1\r\nHost: a\r\n"
        assert decode_every_way(start, parser).status is None
        assert decode_every_way(start + b"\r\n", parser).status == 501
        assert decode_every_way(start + b"bad line\r\n\r\n", parser).status == 400

    @pytest.mark.timeout(10)
    def test_a_head_that_is_dribbled_costs_no_more_than_it_has_to(self, parser: str) -> None:
        data = line_of(100) + section_of(20_000)
        assert decode(data, parser, cuts=range(len(data))).status is None


SECTIONS = {
    "plain": b"Host: a\r\nX: y\r\n\r\n",
    "empty length": b"Host: a\r\nContent-Length: 0\r\n\r\n",
    "close": b"Host: a\r\nConnection: close\r\n\r\n",
    "keep-alive": b"Host: a\r\nConnection: keep-alive\r\n\r\n",
    "upgrade": b"Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "expect": b"Host: a\r\nExpect: 100-continue\r\n\r\n",
    "unknown expect": b"Host: a\r\nExpect: x\r\n\r\n",
    "no host": b"X: y\r\n\r\n",
    "bad host": b"Host: a b\r\n\r\n",
    "body": b"Host: a\r\nContent-Length: 2\r\n\r\nhi",
    "chunked": b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "large": b"Host: a\r\nX: " + b"y" * 5000 + b"\r\n\r\n",
    "none": b"\r\n",
}

LINES = {
    "GET": b"GET / HTTP/1.1\r\n",
    "GET 1.0": b"GET / HTTP/1.0\r\n",
    "another path": b"GET /b?c=d HTTP/1.1\r\n",
    "escaped": b"POST /%41 HTTP/1.1\r\n",
    "HEAD": b"HEAD / HTTP/1.1\r\n",
    "absolute": b"GET http://b:1/ HTTP/1.1\r\n",
    "absolute, bad": b"GET http://b@c/ HTTP/1.1\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\n",
    "unknown": b"FOO / HTTP/1.1\r\n",
    "malformed": b"GET  / HTTP/1.1\r\n",
    "2.0": b"GET / HTTP/2.0\r\n",
    "too long": line_of(8 * 1024 + 1) + b"\r\n",
}


@both_parsers
class TestRememberedHeads:
    """A field section that comes again means what it meant, and a later request never sees an earlier one's."""

    @pytest.mark.parametrize("first", ["GET", "GET 1.0", "absolute", "options"])
    @every("second", LINES)
    @every("section", SECTIONS)
    def test_a_repeated_section_gives_what_a_fresh_connection_gives(
        self, section: str, first: str, second: str, parser: str
    ) -> None:
        one, other = LINES[first] + SECTIONS[section], LINES[second] + SECTIONS[section]
        outcome = decode(one + other, parser, cuts=[len(one)])
        fresh = decode(one, parser)
        if fresh.status is not None:
            assert outcome.summary() == fresh.summary()
            return
        if not fresh.requests[-1].head.keep_alive:
            assert outcome.summary() == fresh.summary()
            return
        again = decode(other, parser)
        assert outcome.summary() == ([*fresh.summary()[0], *again.summary()[0]], again.status)

    @every("section", SECTIONS)
    @every("before", SECTIONS)
    def test_another_section_is_read_anew(self, before: str, section: str, parser: str) -> None:
        one, other = LINES["GET"] + SECTIONS[before], LINES["GET"] + SECTIONS[section]
        fresh = decode(one, parser)
        if fresh.status is not None:
            return
        outcome = decode(one + other + one, parser, cuts=[len(one), len(one) + len(other)])
        again = decode(other, parser)
        expected = [fresh, again, fresh] if again.status is None else [fresh, again]
        requests = []
        for one_outcome in expected:
            requests += one_outcome.summary()[0]
            if not one_outcome.requests or not one_outcome.requests[-1].head.keep_alive:
                break
        assert outcome.summary()[0] == requests
        assert outcome.status == (again.status if fresh.requests[-1].head.keep_alive else None)

    def test_what_follows_a_remembered_head_is_not_lost(self, parser: str) -> None:
        outcome = decode(GET + GET + POST + GET, parser, cuts=[len(GET)])
        assert outcome.bodies == [b"", b"", b"hello", b""]

    def test_a_remembered_head_may_come_in_pieces(self, parser: str) -> None:
        for cut in range(1, len(GET)):
            outcome = decode(GET + GET, parser, cuts=[len(GET), len(GET) + cut])
            assert outcome.bodies == [b"", b""]

    def test_an_empty_line_before_a_remembered_head(self, parser: str) -> None:
        assert decode(GET + b"\r\n" + GET, parser, cuts=[len(GET)]).bodies == [b"", b""]
        assert decode(GET + b"\n" + GET, parser, cuts=[len(GET)]).status == 400

    def test_proxy_connection_ends_nothing(self, parser: str) -> None:
        one = b"GET /1 HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n"
        other = b"GET /2 HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\nReferer: /1\r\n\r\n"
        outcome = decode(one + other + one, parser, cuts=[len(one), len(one + other)])
        assert [request.head.path for request in outcome.requests] == ["/1", "/2", "/1"]
        assert outcome.status is None
