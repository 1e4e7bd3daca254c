"""The chunked coding (RFC 9112 §7.1): every cut of a body gives the same result, what is malformed is refused."""

from __future__ import annotations

import pytest

from serverd.errors import PeerError
from serverd.protocol import chunked
from serverd.protocol.chunked import LINES_AT_ONCE, ChunkedDecoder
from tests.support.every import every
from tests.support.wire import pieces_of

SIZE, COUNT = 1000, 10


def decode(
    data: bytes, cuts: object = (), limit: int = 0, size: int = SIZE, count: int = COUNT
) -> tuple[bytes, bytes] | int | None:
    """Return body and rest, or the status of the refusal, or None for an unfinished body."""
    decoder = ChunkedDecoder(limit, size, count)
    body = b""
    pieces = pieces_of(data, cuts)  # type: ignore[arg-type]
    for number, piece in enumerate(pieces):
        try:
            part, rest = decoder.feed(piece)
            while decoder.is_held:
                body += part
                part, rest = decoder.go_on()
        except PeerError as error:
            return error.status
        body += part
        if rest is not None:
            return body, rest + b"".join(pieces[number + 1 :])
    return None


def decode_every_way(data: bytes, **limits: int) -> tuple[bytes, bytes] | int | None:
    """Return the result of `decode`, which is the same whole, cut anywhere, and byte by byte, known before or not."""
    chunked._sizes.clear()
    whole = decode(data, **limits)
    assert decode(data, **limits) == whole, "when its chunk lines are known"
    for cut in range(1, len(data)):
        assert decode(data, [cut], **limits) == whole, f"cut at {cut}"
    for step in (1, 2, 3):
        assert decode(data, range(0, len(data), step), **limits) == whole, f"in steps of {step}"
    return whole


GOOD = [
    pytest.param(b"0\r\n\r\n", b"", id="empty"),
    pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", id="one chunk"),
    pytest.param(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", id="two chunks"),
    pytest.param(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, id="hexadecimal in both cases"),
    pytest.param(b"0005\r\nhello\r\n000\r\n\r\n", b"hello", id="leading zeros"),
    pytest.param(b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", id="sixteen digits"),
    pytest.param(b"5;a\r\nhello\r\n0;b\r\n\r\n", b"hello", id="extension"),
    pytest.param(b"5;a=b\r\nhello\r\n0\r\n\r\n", b"hello", id="extension with a value"),
    pytest.param(b"5 ; a = b ;c\r\nhello\r\n0\r\n\r\n", b"hello", id="white space around an extension"),
    pytest.param(b'5;a="q\\"; \xe9\t"\r\nhello\r\n0\r\n\r\n', b"hello", id="quoted value"),
    pytest.param(b"5\r\n\r\n\r\n0\r\n0\r\n\r\n", b"\r\n\r\n0", id="data that looks like framing"),
    pytest.param(b"4\r\n0\r\n\r\r\n0\r\n\r\n", b"0\r\n\r", id="data that looks like the end"),
    pytest.param(b"0\r\nX: y\r\n\r\n", b"", id="trailer"),
    pytest.param(b"3\r\nabc\r\n0\r\nX: y\r\nZ:\r\nContent-Length: 9\r\n\r\n", b"abc", id="trailers"),
]


class TestGoodBodies:
    """RFC 9112 §7.1."""

    @pytest.mark.parametrize(("data", "body"), GOOD)
    def test_every_cut_gives_the_same_body(self, data: bytes, body: bytes) -> None:
        assert decode_every_way(data) == (body, b"")

    @pytest.mark.parametrize(("data", "body"), GOOD)
    def test_what_follows_is_left_alone(self, data: bytes, body: bytes) -> None:
        assert decode_every_way(data + b"GET / HTTP/1.1\r\n") == (body, b"GET / HTTP/1.1\r\n")

    @pytest.mark.parametrize(("data", "body"), GOOD)
    def test_every_beginning_is_unfinished(self, data: bytes, body: bytes) -> None:
        for end in range(1, len(data)):
            assert decode(data[:end], range(end)) is None

    def test_data_is_passed_on_before_its_chunk_is_complete(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        assert decoder.feed(b"a\r\n01") == (b"01", None)
        assert decoder.feed(b"23") == (b"23", None)
        assert decoder.feed(b"456789\r\n3\r\nab") == (b"456789ab", None)
        assert decoder.feed(b"c\r\n0\r\n\r\nrest") == (b"c", b"rest")


MALFORMED = [
    pytest.param(b"\r\n", id="no size"),
    pytest.param(b";a\r\n", id="an extension without a size"),
    pytest.param(b" 5\r\nhello\r\n", id="white space before the size"),
    pytest.param(b"5 \r\nhello\r\n", id="white space after the size"),
    pytest.param(b"5\t\r\nhello\r\n", id="a tab after the size"),
    pytest.param(b"+5\r\nhello\r\n", id="a signed size"),
    pytest.param(b"-5\r\nhello\r\n", id="a negative size"),
    pytest.param(b"0x5\r\nhello\r\n", id="a prefix"),
    pytest.param(b"5_0\r\n", id="an underscore"),
    pytest.param(b"5h\r\nhello\r\n", id="no hexadecimal digit"),
    pytest.param(b"5.\r\nhello\r\n", id="a point"),
    pytest.param(b"\xb2\r\n", id="a digit that is not ASCII"),
    pytest.param(b"5\nhello\n0\n\n", id="bare LF"),
    pytest.param(b"5\rhello\r\n", id="bare CR"),
    pytest.param(b"5\r\r\nhello\r\n", id="CR CR LF"),
    pytest.param(b"5\r\nhello0\r\n\r\n", id="no terminator"),
    pytest.param(b"5\r\nhello\n0\r\n\r\n", id="LF as terminator"),
    pytest.param(b"5\r\nhello\rX\r\n0\r\n\r\n", id="CR as terminator"),
    pytest.param(b"5\r\nhelloXX0\r\n\r\n", id="two other bytes as terminator (h11 CVE-2025-43859)"),
    pytest.param(b"5\r\nhello world\r\n0\r\n\r\n", id="more data than announced"),
    pytest.param(b"6\r\nhello\r\n0\r\n\r\n", id="less data than announced"),
    pytest.param(b"0\r\n\n", id="bare LF at the end"),
    pytest.param(b"0\n\r\n", id="bare LF after the last chunk"),
    pytest.param(b"0\r\nX: y\n\r\n", id="bare LF in a trailer"),
    pytest.param(b"0\r\nX : y\r\n\r\n", id="white space before the colon of a trailer"),
    pytest.param(b"0\r\n X: y\r\n\r\n", id="folded trailer"),
    pytest.param(b"0\r\nno colon\r\n\r\n", id="trailer without a colon"),
    pytest.param(b"0\r\nX: \x00\r\n\r\n", id="NUL in a trailer"),
    pytest.param(b"0\r\nX: a\rb\r\n\r\n", id="bare CR in a trailer"),
    pytest.param(b"0\r\nGET / HTTP/1.1\r\n\r\n", id="the next request instead of the end"),
    pytest.param(b"10000000000000000\r\n", id="seventeen digits"),
    pytest.param(b"8000000000000000\r\n", id="beyond 63 bits"),
    pytest.param(b"ffffffffffffffff\r\n", id="all bits"),
    pytest.param(b"5;\r\nhello\r\n", id="an empty extension"),
    pytest.param(b"5;=b\r\nhello\r\n", id="an extension without a name"),
    pytest.param(b"5;a=\r\nhello\r\n", id="an extension with an empty value"),
    pytest.param(b'5;a="\r\nhello\r\n', id="an open quote"),
    pytest.param(b'5;a="b\nc"\r\nhello\r\n', id="LF inside quotes"),
    pytest.param(b"5;a b\r\nhello\r\n", id="two words"),
    pytest.param(b"5;a\rb\r\nhello\r\n", id="CR in an extension"),
]


class TestMalformedBodies:
    """RFC 9112 §7.1, §7.1.1."""

    @pytest.mark.parametrize("data", MALFORMED)
    def test_it_is_refused_however_it_is_cut(self, data: bytes) -> None:
        assert decode_every_way(data) == 400

    @pytest.mark.parametrize("end", [b"X", b"\rX", b"\n", b"\r\r"], ids=repr)
    def test_a_wrong_terminator_is_refused_at_its_first_wrong_byte(self, end: bytes) -> None:
        assert decode_every_way(b"5\r\nhello" + end) == 400

    @every("byte", range(256))
    def test_a_chunk_size_takes_hexadecimal_digits_only(self, byte: int) -> None:
        result = decode_every_way(bytes([byte]) + b"\r\n")
        assert result == (None if byte in b"0123456789abcdefABCDEF" else 400)

    @every("byte", range(256))
    def test_an_extension_takes_tokens_only(self, byte: int) -> None:
        token = b"!#$%&'*+-.^_`|~" + b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        result = decode_every_way(b"1;a" + bytes([byte]) + b"b=c\r\nx\r\n0\r\n\r\n")
        assert result == ((b"x", b"") if byte in token + b";" else 400)

    @every("byte", range(256))
    def test_a_trailer_takes_what_a_field_takes(self, byte: int) -> None:
        result = decode_every_way(b"0\r\nX: a" + bytes([byte]) + b"b\r\n\r\n")
        assert result == (400 if (byte < 0x20 and byte != 9) or byte == 0x7F else (b"", b""))


class TestLimits:
    """What a peer can make us keep or count."""

    def test_the_body_may_be_as_large_as_the_limit(self) -> None:
        assert decode_every_way(b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", limit=10) == (b"helloworld", b"")

    def test_a_larger_body_is_refused_when_its_chunk_is_announced(self) -> None:
        assert decode_every_way(b"5\r\nhello\r\n6\r\n", limit=10) == 413
        assert decode_every_way(b"b\r\n", limit=10) == 413

    def test_a_body_limit_comes_before_what_is_malformed_behind_it(self) -> None:
        assert decode_every_way(b"5\r\nhello\r\n6\r\nbroken\n", limit=10) == 413
        assert decode_every_way(b"5\r\nhello\n6\r\n", limit=10) == 400

    def test_a_chunk_line_without_end_is_refused(self) -> None:
        assert decode(b"5;" + b"a" * 4090) is None
        assert decode(b"5;" + b"a" * 5000) == 400
        assert decode(b"0" * 5000, range(5000)) == 400

    def test_a_long_chunk_line_is_refused_also_when_it_is_whole(self) -> None:
        assert decode(b"5;" + b"a" * 4000 + b"\r\nhello") is None
        assert decode(b"5;" + b"a" * 5000 + b"\r\nhello") == 400

    def test_trailers_may_be_as_large_as_the_limit(self) -> None:
        line = b"X: " + b"y" * 15 + b"\r\n"  # 20 bytes
        assert decode_every_way(b"0\r\n" + line * 2 + b"\r\n", size=42) == (b"", b"")
        assert decode_every_way(b"0\r\n" + line * 2 + b"\r\n", size=39) == 431
        assert decode_every_way(b"0\r\n" + line * 3 + b"\r\n", size=42) == 431

    def test_trailers_may_be_as_many_as_the_limit(self) -> None:
        assert decode_every_way(b"0\r\n" + b"X: y\r\n" * 3 + b"\r\n", count=3) == (b"", b"")
        assert decode_every_way(b"0\r\n" + b"X: y\r\n" * 4 + b"\r\n", count=3) == 431

    def test_a_trailer_line_without_end_is_refused(self) -> None:
        assert decode_every_way(b"0\r\nX: " + b"y" * 100, size=100) == 431
        assert decode_every_way(b"0\r\n" + b"y" * 200 + b"\n", size=100) == 431

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"1" + b" " * 200_000, id="white space"),
            pytest.param(b"1" + b" ;a" * 60_000 + b"\x00", id="extensions"),
            pytest.param(b"1;a" + b" = b;a" * 30_000 + b"\x00", id="values"),
            pytest.param(b'1;a="' + b"\\a" * 100_000, id="quoted pairs"),
        ],
    )
    @pytest.mark.timeout(5)
    def test_a_hostile_chunk_line_costs_no_more_than_its_length(self, line: bytes) -> None:
        assert decode(line + b"\r\n") == 400

    def test_extensions_may_add_so_much_and_no_more(self) -> None:
        # 1016 bytes and CRLF, of which 16 and twice the byte of data are free: 1000 bytes in excess for each chunk.
        chunk = b"1;" + b"a" * 1014 + b"\r\nx\r\n"
        assert decode(chunk * 16 + b"0\r\n\r\n") == (b"x" * 16, b"")
        assert decode(chunk * 17 + b"0\r\n\r\n") == 400
        for step in (1, 7, 500, 1000, 4096):
            assert decode(chunk * 17, range(0, 20_000, step)) == 400

    def test_data_makes_up_for_extensions(self) -> None:
        chunk = b"200;" + b"a" * 1000 + b"\r\n" + b"x" * 512 + b"\r\n"
        assert decode(chunk * 100 + b"0\r\n\r\n") == (b"x" * 51_200, b"")

    def test_lines_without_extensions_are_never_in_excess(self) -> None:
        assert decode(b"0000000000000001\r\nx\r\n" * 20_000 + b"0\r\n\r\n") == (b"x" * 20_000, b"")


class TestKnownLines:
    """A chunk line that came before is not read again, and nothing else is different."""

    @pytest.fixture(autouse=True)
    def known(self) -> None:
        assert decode(b"a\r\n0123456789\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n") is not None
        assert {b"a": 10, b"3e8": 1000}.items() <= chunked._sizes.items()

    @pytest.mark.parametrize(
        "line", [b"+a", b"-a", b" a", b"a ", b"0xa", b"a_a", b"\xd9\xa3", b"a\x00", b"a\r", b"\na", b"a\n", b"g"]
    )
    def test_one_that_only_python_takes_for_a_number_is_refused(self, line: bytes) -> None:
        data = b"a\r\n0123456789\r\n" + line + b"\r\n0123456789\r\n0\r\n\r\n"
        assert decode(data) == 400
        assert decode(data) == 400

    @pytest.mark.parametrize("after", [b"\n", b"\r", b"\n\r", b"x\r\n", b"\rx"])
    def test_data_has_to_end_with_crlf(self, after: bytes) -> None:
        assert decode(b"a\r\n0123456789" + after + b"a\r\n0123456789\r\n0\r\n\r\n") == 400

    @pytest.mark.parametrize(("limit", "result"), [(3020, (b"0123456789" * 2 + b"x" * 3000, b"")), (3019, 413)])
    def test_the_limit_is_exact(self, limit: int, result: object) -> None:
        chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
        assert decode(b"a\r\n0123456789\r\n" * 2 + chunk * 3 + b"0\r\n\r\n", limit=limit) == result

    def test_it_is_counted_where_extensions_are_in_excess(self) -> None:
        # 16 KiB of excess: each line with an extension adds 984 bytes, each known chunk of 10 bytes takes 33 off.
        extended = b"1;" + b"a" * 998 + b"\r\nx\r\n"
        known = b"a\r\n0123456789\r\n"
        assert decode((extended + known * 30) * 100 + b"0\r\n\r\n") is not None
        assert decode((extended + known * 29) * 10_000 + b"0\r\n\r\n") == 400

    def test_peers_cannot_make_more_known_than_so_many(self) -> None:
        for size in range(1, 3 * chunked._SIZES_KEPT):
            decode(b"%x\r\n" % size)
            assert len(chunked._sizes) <= chunked._SIZES_KEPT
        decode(b"0000001\r\n")
        assert b"0000001" not in chunked._sizes


TINY = b"1\r\nx\r\n"
END = b"0\r\n\r\n"
MANY, BODY = (TINY * 20 + b"5;a=b\r\nhello\r\n") * 100, (b"x" * 20 + b"hello") * 100


class TestTurns:
    """A body of many small chunks is decoded a part at a time."""

    def test_so_many_lines_are_decoded_and_the_rest_is_held(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        assert decoder.feed(TINY * (2 * LINES_AT_ONCE + 10) + END + b"rest") == (b"x" * LINES_AT_ONCE, None)
        assert decoder.is_held
        assert decoder.go_on() == (b"x" * LINES_AT_ONCE, None)
        assert decoder.is_held
        assert decoder.go_on() == (b"x" * 10, b"rest")
        assert not decoder.is_held

    def test_nothing_is_held_when_nothing_is_left(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        assert decoder.feed(TINY * LINES_AT_ONCE) == (b"x" * LINES_AT_ONCE, None)
        assert not decoder.is_held
        assert decoder.feed(TINY + END) == (b"x", b"")

    def test_what_comes_while_it_is_held_is_kept_for_later(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        decoder.feed(TINY * LINES_AT_ONCE + b"2\r")
        assert decoder.feed(b"\ny") == (b"", None)
        assert decoder.feed(b"z\r\n" + END) == (b"", None)
        assert decoder.is_held
        assert decoder.go_on() == (b"yz", b"")

    def test_what_is_wrong_behind_a_part_is_refused_in_its_turn(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        assert decoder.feed(TINY * LINES_AT_ONCE + b"broken\r\n") == (b"x" * LINES_AT_ONCE, None)
        with pytest.raises(PeerError) as caught:
            decoder.go_on()
        assert caught.value.status == 400

    def test_long_lines_count_for_more(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        body, _ = decoder.feed((b"800;" + b"a" * 4000 + b"\r\n" + b"x" * 2048 + b"\r\n") * 40)
        assert decoder.is_held
        assert len(body) <= 2048 * 8

    def test_large_chunks_are_decoded_at_once(self) -> None:
        decoder = ChunkedDecoder(0, SIZE, COUNT)
        body, _ = decoder.feed((b"400\r\n" + b"x" * 1024 + b"\r\n") * 256)
        assert len(body) == 256 * 1024
        assert not decoder.is_held

    @pytest.mark.parametrize(
        ("end", "result"),
        [
            pytest.param(END, (BODY, b""), id="whole"),
            pytest.param(b"", None, id="unfinished"),
            pytest.param(b"broken\r\n", 400, id="broken"),
            pytest.param(b"fffff\r\n", 413, id="too large"),
        ],
    )
    def test_the_result_does_not_depend_on_the_cuts(self, end: bytes, result: object) -> None:
        data = MANY + end
        for step in (1, 2, 5, 6, 7, 1000, 3072, 3073, 5000, len(data)):
            assert decode(data, range(0, len(data), step), limit=1_000_000) == result
