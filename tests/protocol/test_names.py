"""Which field names stand for more than themselves, what becomes of them, and what a parser remembers of names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverd.errors import PeerError
from serverd.protocol import http1_httptools
from serverd.protocol.http1_head import Bounds
from serverd.protocol.names import is_plain, without_ambiguous
from tests.support.wire import PARSERS, Outcome, decode

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    kept = dict(http1_httptools._plain)
    http1_httptools._plain.clear()
    yield
    http1_httptools._plain.clear()
    http1_httptools._plain.update(kept)


@pytest.mark.parametrize("name", [b"host", b"x-mine", b"accept-encoding", b"x-forward", b"forward", b"-", b"a~b"])
def test_a_name_that_stands_for_itself_is_plain(name: bytes) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    [b"a_b", b"a.b", b"_", b".", b"forwarded", b"x-forwarded-for", b"x-forwarded-", b"x-real-ip", b"x_forwarded_for"],
)
def test_a_name_that_may_stand_for_another_or_tells_an_origin_is_not(name: bytes) -> None:
    assert not is_plain(name)


FIELDS = [(b"a_b", b"1"), (b"host", b"a"), (b"c.d", b"2"), (b"x-forwarded-for", b"3")]


def test_pass_leaves_the_same_list() -> None:
    assert without_ambiguous(FIELDS, "pass") is FIELDS


def test_drop_takes_the_ambiguous_ones_and_no_other() -> None:
    assert without_ambiguous(FIELDS, "drop") == [FIELDS[1], FIELDS[3]]


def test_refuse_is_a_400_only_if_there_is_one() -> None:
    assert without_ambiguous(FIELDS[1:2] + FIELDS[3:], "refuse") == [FIELDS[1], FIELDS[3]]
    with pytest.raises(PeerError) as refusal:
        without_ambiguous(FIELDS, "refuse")
    assert refusal.value.status == 400


# Through both parsers


def read(parser: str, *names: str, rule: str = "drop", count: int = 100) -> Outcome:
    fields = "".join(f"{name}: 1\r\n" for name in names)
    bounds = Bounds(8192, 65536, count, 0, rule)
    return decode(f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode(), parser, bounds)


@EVERY_PARSER
@pytest.mark.parametrize(
    ("name", "notable"),
    [("X-Mine", False), ("A_B", True), ("a.b", True), ("X-Forwarded-For", True), ("X-REAL-IP", True), ("Via", False)],
)
def test_a_head_is_notable_for_a_name_that_is_not_plain_however_often_it_comes(
    parser: str, name: str, notable: bool
) -> None:
    for _ in range(3):
        for other in ("X-Before", name, "x-after"):
            [request] = read(parser, other, rule="pass").requests
            assert request.head.notable is (notable and other == name)


@EVERY_PARSER
def test_one_name_among_many_is_enough(parser: str) -> None:
    [request] = read(parser, *(f"x-{number}" for number in range(40)), "x_y", *(f"y-{n}" for n in range(40))).requests
    assert request.head.notable
    assert b"x_y" not in dict(request.head.fields)
    assert len(request.head.fields) == 81


@EVERY_PARSER
@pytest.mark.parametrize("rule", ["drop", "pass", "refuse"])
def test_they_count_as_fields_whatever_becomes_of_them(parser: str, rule: str) -> None:
    assert read(parser, "a_b", "c_d", "e_f", rule=rule, count=3).status == 431


@EVERY_PARSER
def test_what_is_dropped_decides_nothing(parser: str) -> None:
    outcome = read(parser, "Content_Length", "Transfer.Encoding", "ho_st")
    assert outcome.status is None
    assert outcome.requests[0].head.length == 0
    assert [name for name, _ in outcome.requests[0].head.fields] == [b"host"]


@EVERY_PARSER
def test_both_parsers_forget_what_was_notable_with_the_next_head(parser: str) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nA_B: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nA-B: 1\r\n\r\n"
    outcome = decode(data * 2, parser, Bounds(8192, 65536, 100, 0))
    assert [request.head.notable for request in outcome.requests] == [True, False] * 2


# What the parser of httptools remembers


def test_only_plain_names_are_remembered() -> None:
    for _ in range(2):
        read("httptools", "X-Mine", "A_B", "c.d", "X-Forwarded-For", "x-real-ip", "Forwarded", rule="pass")
    assert set(http1_httptools._plain) == {b"Host", b"X-Mine"}
    assert all(is_plain(lower) and lower == name.lower() for name, lower in http1_httptools._plain.items())


def test_what_a_client_can_make_it_remember_is_bounded() -> None:
    for first in range(0, 3000, 50):
        read("httptools", *(f"X-Made-Up-{number}" for number in range(first, first + 50)), "x-" + "l" * 5000)
    assert len(http1_httptools._plain) == http1_httptools._PLAIN_KEPT
    assert max(map(len, http1_httptools._plain)) <= http1_httptools._PLAIN_SIZE


@pytest.mark.parametrize("rule", ["drop", "pass", "refuse"])
def test_a_client_that_has_filled_it_changes_no_result(rule: str) -> None:
    heads = [("X-Mine", "VIA"), ("A_B", "x"), ("X-Forwarded-For",), ("x.y", "X-Real-IP"), ("Accept",)]
    before = [read("httptools", *names, rule=rule) for names in heads]
    http1_httptools._plain.clear()
    for first in range(0, 1100, 50):
        read("httptools", *(f"X-Made-Up-{number}" for number in range(first, first + 50)))
    assert len(http1_httptools._plain) == http1_httptools._PLAIN_KEPT
    for names, expected in zip(heads, before, strict=True):
        again = read("httptools", *names, rule=rule)
        assert again.summary() == expected.summary() == read("h11", *names, rule=rule).summary()
        notable = [request.head.notable for request in expected.requests]
        assert [request.head.notable for request in again.requests] == notable
