"""What a head means does not depend on the head before it: no parser keeps anything from one to the next."""

from __future__ import annotations

import base64
import json
from itertools import product
from pathlib import Path

import pytest

from tests.support.every import every
from tests.support.wire import PARSERS, decode

CASES = Path(__file__).parents[1] / "conformance" / "http1_cases.jsonl"

both_parsers = pytest.mark.parametrize("parser", PARSERS)

COMMON = [b"X-%02d: value of %d" % (number, number) for number in range(12)]
BASE = [b"Host: a", *COMMON]

LINES = [
    b"Referer: /a",
    b"Host: b",
    b"Host: a",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Connection: close",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Proxy-Connection: close",
    b"Expect: 100-continue",
    b"Forwarded: for=1.2.3.4",
    b"X-Forwarded-For: 1.2.3.4",
    b"X_Forwarded_For: 1.2.3.4",
    b"X-Request-Id: 1",
    b" folded",
    b"\tfolded",
    b"no colon",
    b": no name",
    b"Na me: a",
    b"Bare-LF: a\nHost: b",
    b"Bare-CR: a\rHost: b",
    b"NUL: \x00",
    b"Latin: \xe9",
    COMMON[0],
    COMMON[0] + b" ",
    COMMON[0].lower(),
]


def head(lines: list[bytes], request: bytes = b"GET /a HTTP/1.1") -> bytes:
    return b"\r\n".join([request, *lines, b"", b""])


def assert_as_if_fresh(first: bytes, second: bytes, parser: str) -> None:
    """Check that the second head means after the first what it means on a new connection."""
    before = decode(first, parser)
    assert before.status is None
    fresh = decode(second, parser)
    both = decode(first + second, parser, cuts=[len(first)])
    assert both.summary() == ([*before.summary()[0], *fresh.summary()[0]], fresh.status)
    assert [r.head.notable for r in both.requests[1:]] == [r.head.notable for r in fresh.requests]


@both_parsers
class TestMeaning:
    @every("line", LINES)
    def test_another_line(self, line: bytes, parser: str) -> None:
        for place in (0, 1, 6, len(BASE)):
            lines = [*BASE[:place], line, *BASE[place:]]
            assert_as_if_fresh(head(BASE), head(lines, b"POST /b HTTP/1.1") + b"abc", parser)
            assert_as_if_fresh(head(BASE), head(lines, b"GET /b HTTP/1.0"), parser)

    @every("line", LINES)
    def test_a_line_in_both(self, line: bytes, parser: str) -> None:
        first = head([*BASE, line])
        before = decode(first, parser)
        if before.status is None and before.requests[-1].complete and before.requests[-1].head.keep_alive:
            for other in LINES:
                assert_as_if_fresh(first, head([*BASE, line, other]), parser)
                assert_as_if_fresh(first, head([other, *COMMON]), parser)

    def test_every_case_of_the_conformance_tests(self, parser: str) -> None:
        for text in CASES.read_text().splitlines():
            request, end, rest = base64.b64decode(json.loads(text)["raw"]).partition(b"\r\n")
            if end and request:
                for second in (request + end + b"\r\n".join(COMMON) + end + rest, request + end + rest):
                    if b"\r\n\r\n" in second:
                        one = second[: second.index(b"\r\n\r\n") + 4]
                        assert_as_if_fresh(head(BASE), one, parser)

    def test_a_head_without_fields(self, parser: str) -> None:
        none = b"GET / HTTP/1.0\r\n\r\n"
        keeps = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        for first, second in product((keeps, head(BASE)), (none, keeps, head(COMMON, b"GET / HTTP/1.0"))):
            assert_as_if_fresh(first, second, parser)

    def test_of_three_heads_the_last_has_nothing_of_the_first(self, parser: str) -> None:
        heads = [head([*BASE, b"Cookie: %d" % number], b"GET /%d HTTP/1.1" % number) for number in range(3)]
        outcome = decode(b"".join(heads), parser, cuts=[len(heads[0]), len(heads[0]) * 2])
        assert [dict(request.head.fields)[b"cookie"] for request in outcome.requests] == [b"0", b"1", b"2"]
        assert [len(request.head.fields) for request in outcome.requests] == [14, 14, 14]
