"""Many requests in one read: all are there, in order, and each is found without copying those behind it again."""

from __future__ import annotations

import tracemalloc

import pytest

from serverd.protocol.http1 import DONE, Http1Decoder
from tests.support.wire import PARSERS, Outcome, bounds, decode

READ = 256 * 1024  # of uvloop
GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def mixed() -> tuple[bytes, int]:
    """Return requests of every kind, with bodies and heads that lie across every border, and their number."""
    requests: list[bytes] = []
    while sum(map(len, requests)) < READ:
        number = len(requests)
        requests.append(GET % number)
        requests.append(POST % (number + 1, number * 7) + b"x" * (number * 7))
        requests.append(CHUNKED % (number + 2) + b"2\r\nab\r\n" * (number % 900) + b"0\r\n\r\n")
        requests.append(b"\r\n" + GET[:-2] % (number + 3) + b"X: %b\r\n\r\n" % (b"y" * (number * 11 % 20_000)))
    return b"".join(requests), len(requests)


@pytest.mark.parametrize("parser", PARSERS)
def test_all_are_there_however_they_come(parser: str) -> None:
    data, count = mixed()
    found = decode(data, parser)
    assert (found.status, len(found.requests)) == (None, count)
    assert [one.head.path for one in found.requests] == [f"/{number}" for number in range(count)]
    assert all(one.complete for one in found.requests)
    for cuts in (range(0, len(data), 65_536), (100_000,), (len(data) - 10,)):
        assert decode(data, parser, cuts=cuts).summary() == found.summary()


def test_what_comes_behind_them_stays_behind_them() -> None:
    outcome = Outcome()
    decoder = Http1Decoder(PARSERS["httptools"](), outcome, bounds())
    first = [GET % number for number in range(3000)]
    decoder.feed(b"".join(first))
    decoder.feed(GET % 3000 + (GET % 3001)[:10])
    while decoder.state is DONE and decoder.buffered:
        decoder.next_request()
    assert [one.head.path for one in outcome.requests] == [f"/{number}" for number in range(3001)]
    assert not decoder.idle
    decoder.feed((GET % 3001)[10:])
    assert outcome.requests[-1].head.path == "/3001"
    assert not decoder.buffered


def test_another_protocol_gets_all_that_follows() -> None:
    decoder = Http1Decoder(PARSERS["httptools"](), Outcome(), bounds())
    rest = bytes(range(256)) * 1024
    decoder.feed(GET % 1 + rest)
    assert decoder.take_rest() == rest


def test_to_find_the_next_one_takes_no_copy_of_the_others() -> None:
    decoder = Http1Decoder(PARSERS["httptools"](), Outcome(), bounds())
    decoder.feed(b"".join(GET % number for number in range(8000)))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            decoder.next_request()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < READ / 2
