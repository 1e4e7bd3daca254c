"""Responses into bytes (RFC 9112 §6, §7): framing by method, version and status; what belongs to the server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.protocol.http1_response import DefaultFields, ResponseEncoder, encode_informational, status_line
from tests.support.every import every
from tests.support.fuzzing import examples
from tests.support.wire import DATE

LENGTH = (b"content-length", b"5")
TYPE = (b"content-type", b"text/plain")


def encoder(
    method: str = "GET", version: str = "1.1", keep_alive: bool = True, server: bytes = b"s"
) -> ResponseEncoder:
    defaults = DefaultFields(server)
    defaults.set_date(DATE)
    made = ResponseEncoder(defaults)
    made.start(method, version, keep_alive)
    return made


def lines_of(head: bytes) -> list[bytes]:
    """Return status line and field lines of a head, which is complete."""
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def framing_of(head: bytes) -> dict[bytes, bytes]:
    """Return the fields of a head that decide framing and persistence; none of them comes twice."""
    names = (b"content-length", b"transfer-encoding", b"connection")
    fields = [line.partition(b": ")[::2] for line in lines_of(head)[1:]]
    found = [(name, value) for name, value in fields if name in names]
    assert len(dict(found)) == len(found)
    return dict(found)


class TestFraming:
    """RFC 9112 §6.1 to §6.3, RFC 9110 §8.6."""

    @every(
        ("method", "version", "status", "fields", "end", "framing", "keep_alive"),
        [
            pytest.param("GET", "1.1", 200, [LENGTH], False, {b"content-length": b"5"}, True, id="length"),
            pytest.param("GET", "1.1", 200, [], False, {b"transfer-encoding": b"chunked"}, True, id="chunked"),
            pytest.param("GET", "1.1", 200, [], True, {b"content-length": b"0"}, True, id="nothing follows"),
            pytest.param("GET", "1.1", 500, [], True, {b"content-length": b"0"}, True, id="error"),
            pytest.param("HEAD", "1.1", 200, [LENGTH], True, {b"content-length": b"5"}, True, id="HEAD with length"),
            pytest.param("HEAD", "1.1", 200, [], True, {}, True, id="HEAD"),
            pytest.param("HEAD", "1.1", 200, [], False, {}, True, id="HEAD, streamed"),
            pytest.param("GET", "1.1", 204, [], True, {}, True, id="204"),
            pytest.param("GET", "1.1", 204, [LENGTH], True, {}, True, id="204 with length"),
            pytest.param("GET", "1.1", 304, [], True, {}, True, id="304"),
            pytest.param("GET", "1.1", 304, [LENGTH], True, {b"content-length": b"5"}, True, id="304 with length"),
            pytest.param("GET", "1.1", 205, [], True, {b"content-length": b"0"}, True, id="205"),
            pytest.param(
                "GET", "1.0", 200, [LENGTH], False, {b"content-length": b"5", b"connection": b"keep-alive"}, True,
                id="1.0 with length",
            ),
            pytest.param("GET", "1.0", 200, [], False, {b"connection": b"close"}, False, id="1.0 ends by closing"),
            pytest.param(
                "GET", "1.0", 200, [], True, {b"content-length": b"0", b"connection": b"keep-alive"}, True,
                id="1.0, nothing follows",
            ),
            pytest.param("HEAD", "1.0", 200, [], True, {b"connection": b"keep-alive"}, True, id="1.0 HEAD"),
            pytest.param("GET", "1.0", 204, [], True, {b"connection": b"keep-alive"}, True, id="1.0 204"),
        ],
    )  # fmt: skip
    def test_it_follows_method_version_and_status(
        self,
        method: str,
        version: str,
        status: int,
        fields: list[tuple[bytes, bytes]],
        end: bool,
        framing: dict[bytes, bytes],
        keep_alive: bool,
    ) -> None:
        made = encoder(method, version)
        assert framing_of(made.encode_head(status, fields, end)) == framing
        assert made.keep_alive is keep_alive
        assert made.ends_with_connection is (version == "1.0" and not keep_alive)

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_a_connection_that_ends_says_so(self, version: str) -> None:
        made = encoder(version=version, keep_alive=False)
        assert framing_of(made.encode_head(200, [LENGTH], False))[b"connection"] == b"close"

    def test_the_version_is_always_ours(self) -> None:
        assert lines_of(encoder(version="1.0").encode_head(200, [LENGTH], False))[0] == b"HTTP/1.1 200 OK"

    def test_an_encoder_forgets_the_response_before(self) -> None:
        made = encoder("HEAD", "1.0", False)
        made.encode_head(200, [], False)
        made.start("GET", "1.1", True)
        assert framing_of(made.encode_head(200, [LENGTH], False)) == {b"content-length": b"5"}
        assert made.keep_alive
        assert not made.takes_trailers
        made.start("GET", "1.1", True)
        made.encode_head(200, [], False)
        assert made.takes_trailers
        made.start("GET", "1.1", True)
        assert not made.takes_trailers
        assert not made.ends_with_connection


FIELDS = [
    [LENGTH],
    [LENGTH, TYPE],
    [TYPE],
    [],
    [LENGTH, (b"connection", b"close")],
    [LENGTH, (b"connection", b"keep-alive")],
    [LENGTH, (b"upgrade", b"h2c")],
    [LENGTH, (b"date", b"today")],
]
responses = st.tuples(
    st.sampled_from(FIELDS),
    st.sampled_from([200, 204, 205, 304, 404]),
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from(["1.1", "1.1", "1.0"]),
    st.booleans(),  # whether the connection goes on
    st.booleans(),  # whether nothing follows the head
    st.sampled_from([b"1", b"1", b"1", b"2"]),  # the date
)


class TestRepeatedHeads:
    """A head that comes again is remembered with the Date field, for all connections."""

    @given(st.lists(responses, min_size=2, max_size=8))
    @examples(200)
    def test_they_are_what_a_fresh_encoder_makes(self, course: list[tuple[Any, ...]]) -> None:
        defaults = DefaultFields(b"s")
        connections = [ResponseEncoder(defaults), ResponseEncoder(defaults)]
        for number, (fields, status, method, version, keep_alive, end, date) in enumerate(course):
            if date != (course[number - 1][-1] if number else b""):
                defaults.set_date(date)
            fresh = DefaultFields(b"s")
            fresh.set_date(date)
            outcomes = []
            for one in (connections[number % 2], ResponseEncoder(fresh)):
                one.start(method, version, keep_alive)
                head = one.encode_head(status, fields, end)
                outcomes.append((head, one.keep_alive, one.ends_with_connection, one.takes_trailers))
            assert outcomes[0] == outcomes[1]

    def test_a_large_one_is_not_kept(self) -> None:
        defaults = DefaultFields(b"s")
        for size, is_kept in ((100, True), (5000, False)):
            fields = [LENGTH, (b"x", b"y" * size)]
            one = ResponseEncoder(defaults)
            one.start("GET", "1.1", True)
            one.encode_head(200, fields, False)
            assert (defaults.known_fields is fields) == is_kept


class TestOwnedFields:
    """RFC 9110 §7.6.1: framing and persistence are the server's; what an application says of them is dropped."""

    @pytest.mark.parametrize(
        "field",
        [
            (b"transfer-encoding", b"chunked"),
            (b"transfer-encoding", b"gzip"),
            (b"connection", b"keep-alive"),
            (b"connection", b"upgrade"),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-connection", b"keep-alive"),
        ],
        ids=repr,
    )
    def test_hop_by_hop_fields_are_dropped(self, field: tuple[bytes, bytes]) -> None:
        made = encoder()
        head = made.encode_head(200, [field, LENGTH, TYPE], False)
        assert framing_of(head) == {b"content-length": b"5"}
        assert b"content-type: text/plain" in lines_of(head)
        assert field[0] not in head
        assert made.keep_alive

    @pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close"])
    def test_a_close_of_the_application_is_heard(self, value: bytes) -> None:
        made = encoder()
        assert framing_of(made.encode_head(200, [(b"connection", value), LENGTH], False))[b"connection"] == b"close"
        assert not made.keep_alive

    @pytest.mark.parametrize(
        ("version", "keep_alive", "expected"),
        [
            ("1.1", True, b"connection: upgrade"),
            ("1.1", False, b"connection: upgrade, close"),
            ("1.0", True, b"connection: upgrade, keep-alive"),
            ("1.0", False, b"connection: upgrade, close"),
        ],
    )
    def test_an_upgrade_field_is_marked_as_meant_for_the_next_hop_in_the_one_connection_field(
        self, version: str, keep_alive: bool, expected: bytes
    ) -> None:
        made = encoder()
        made.start("GET", version, keep_alive)
        lines = lines_of(made.encode_head(426, [(b"upgrade", b"h2c")], True))
        assert b"upgrade: h2c" in lines
        assert [line for line in lines if line.startswith(b"connection:")] == [expected]

    def test_date_and_server_are_added(self) -> None:
        lines = lines_of(encoder().encode_head(200, [LENGTH], False))
        assert lines == [b"HTTP/1.1 200 OK", b"content-length: 5", b"date: " + DATE, b"server: s"]

    @pytest.mark.parametrize(
        ("fields", "kept"),
        [
            pytest.param([(b"date", b"D")], [b"date: D", b"server: s"], id="date"),
            pytest.param([(b"server", b"S")], [b"date: " + DATE, b"server: S"], id="server"),
            pytest.param([(b"server", b"S"), (b"date", b"D")], [b"date: D", b"server: S"], id="both"),
        ],
    )
    def test_date_and_server_of_the_application_are_not_doubled(
        self, fields: list[tuple[bytes, bytes]], kept: list[bytes]
    ) -> None:
        lines = lines_of(encoder().encode_head(200, [LENGTH, *fields], False))
        assert sorted(line for line in lines if line.startswith((b"date:", b"server:"))) == sorted(kept)

    def test_a_server_field_is_left_out_when_it_has_no_value(self) -> None:
        assert b"server" not in encoder(server=b"").encode_head(200, [LENGTH], False)

    def test_other_fields_keep_order_and_repetitions(self) -> None:
        cookies = [(b"set-cookie", b"a=1"), TYPE, (b"set-cookie", b"b=2")]
        lines = lines_of(encoder().encode_head(200, [*cookies, LENGTH], False))
        assert lines[1:4] == [b"set-cookie: a=1", b"content-type: text/plain", b"set-cookie: b=2"]


class TestBodies:
    """RFC 9112 §7.1."""

    def test_a_body_of_known_length_goes_as_it_is(self) -> None:
        made = encoder()
        made.encode_head(200, [LENGTH], False)
        assert b"".join(made.encode_body(b"hel", False) + made.encode_body(b"lo", True)) == b"hello"

    def test_a_chunked_body(self) -> None:
        made = encoder()
        made.encode_head(200, [], False)
        parts = made.encode_body(b"hello", False) + made.encode_body(b"x" * 17, False) + made.encode_body(b"", True)
        assert b"".join(parts) == b"5\r\nhello\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"

    def test_the_last_part_of_a_chunked_body_carries_the_end(self) -> None:
        made = encoder()
        made.encode_head(200, [], False)
        assert b"".join(made.encode_body(b"hello", True)) == b"5\r\nhello\r\n0\r\n\r\n"

    def test_an_empty_part_does_not_end_a_chunked_body(self) -> None:
        made = encoder()
        made.encode_head(200, [], False)
        assert b"".join(made.encode_body(b"", False)) == b""

    def test_trailers_end_a_chunked_body(self) -> None:
        made = encoder()
        made.encode_head(200, [], False)
        assert made.takes_trailers
        assert made.encode_trailers([(b"x", b"y"), (b"z", b"")]) == b"0\r\nx: y\r\nz: \r\n\r\n"

    def test_a_body_of_known_length_takes_no_trailers(self) -> None:
        made = encoder()
        made.encode_head(200, [LENGTH], False)
        assert not made.takes_trailers
        assert made.encode_trailers([(b"x", b"y")]) == b""


class TestStatus:
    """RFC 9112 §4, RFC 9110 §15.2."""

    @pytest.mark.parametrize(
        ("status", "line"),
        [
            (200, b"HTTP/1.1 200 OK\r\n"),
            (404, b"HTTP/1.1 404 Not Found\r\n"),
            (421, b"HTTP/1.1 421 Misdirected Request\r\n"),
            (299, b"HTTP/1.1 299 \r\n"),
            (599, b"HTTP/1.1 599 \r\n"),
        ],
    )
    def test_a_status_line_has_its_phrase_or_none(self, status: int, line: bytes) -> None:
        assert status_line(status) == line

    def test_an_interim_response_has_only_its_own_fields(self) -> None:
        assert encode_informational(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert encode_informational(103, [(b"link", b"<a>")]) == b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"

    def test_the_date_is_renewed(self) -> None:
        defaults = DefaultFields(b"s")
        made = ResponseEncoder(defaults)
        made.start("GET", "1.1", True)
        assert b"date" not in made.encode_head(204, [], True)
        defaults.set_date(DATE)
        made.start("GET", "1.1", True)
        assert b"date: " + DATE in made.encode_head(204, [], True)
