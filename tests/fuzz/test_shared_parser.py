"""One parser for all connections of a worker: what one of them sends changes nothing for another.

Two connections of one service send good and bad requests by turns, in pieces, and may break off anywhere. Each
has to come to what it comes to alone, with a parser that nobody else has used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.connection.http1 import Http1Connection
from serverd.generation import Limits
from serverd.protocol.http1_head import HeadReader
from serverd.protocol.http1_httptools import HttptoolsParser
from tests.fuzz.grammar import damaged, good_head
from tests.support.applications import respond
from tests.support.fuzzing import examples
from tests.support.wire import TCP_ENDS, MemoryTransport, Wire, bounds, pieces_of

LIMITS = Limits(request_line=200, header_size=600, header_count=6, body_size=64)
ENDS = [{**TCP_ENDS, "peername": ("127.0.0.1", port)} for port in (1001, 1002)]

Step = tuple[int, bytes | None]
"""Which connection, and what it sends; None: it is lost."""

Seen = tuple[list[dict[str, Any]], bytes]
"""The scopes that a connection has led to, each with its body, and what was written to it."""

# What a parser library may keep to itself: it offers another protocol, ends the connection in its eyes, means a body
# that is none, or leaves a line half read.
STICKY = [
    b"GET /u HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET /u HTTP/1.1\r\nHost: lab\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
    b"GET /p HTTP/1.1\r\nHost: lab\r\nProxy-Connection: close\r\n\r\n",
    b"GET /p HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n",
    b"GET /p HTTP/1.1\r\nHost: lab\r\nProxy-Connection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"GET /0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /0 HTTP/1.0\r\n\r\n",
    b"GET /c HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n",
    b"CONNECT lab:1 HTTP/1.1\r\nHost: lab:1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 00\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 64\r\n\r\n" + b"x" * 64,  # a head has room in it
    b"POST /l HTTP/1.1\r\nHost: lab\r\nContent-Length: 65\r\n\r\n",
    b"POST /t HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /t HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"POST /t HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nX-Empty:\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nX_Odd.Name: 1\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nSecret: 1\r\nX Y: 1\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nSecret: 1\r\nX: a\x00b\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nSecret: 1\r\n folded\r\n\r\n",
    b"GET /e HTTP/1.1\r\nHost: lab\r\nHost: lab\r\n\r\n",
    b"GET /n HTTP/1.1\r\nHost: lab\r\n" + b"".join(b"N%d: 1\r\n" % number for number in range(6)) + b"\r\n",
    b"GET /b HTTP/1.1\r\nHost: lab\r\nBig: " + b"a" * 600 + b"\r\n\r\n",
    b"GET /f HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nCookie: a=b\r\n\r\n",
    b"GET http://other/x HTTP/1.1\r\nHost: lab\r\nCookie: a=b\r\n\r\n",
]

REQUESTS = st.one_of(st.sampled_from(STICKY), st.sampled_from(STICKY), good_head, damaged())


class Witness:
    """An application that keeps what it is called with, for each client."""

    def __init__(self) -> None:
        self.seen: dict[int, list[dict[str, Any]]] = {1001: [], 1002: []}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kept = ("type", "method", "http_version", "raw_path", "path", "query_string", "headers")
        call = {**{key: scope.get(key) for key in kept}, "body": b""}
        self.seen[scope["client"][1]].append(call)
        while scope["type"] == "http":
            message = await receive()
            call["body"] += message.get("body", b"")
            if message["type"] != "http.request":
                call["body"] = None  # how much of it had come is not the subject
                return
            if not message["more_body"]:
                await respond(send, scope["path"].encode())
                return


def play(parser: str, steps: Iterable[Step]) -> list[Seen]:
    """Return what two connections of one service have led to that take these steps."""
    witness = Witness()
    with Wire(witness, parser, LIMITS, ENDS[0]) as wire:
        first = wire.transport
        connection = Http1Connection(wire.service)
        second = MemoryTransport(connection, wire.loop, ENDS[1])
        connection.connection_made(second)
        for number, data in steps:
            transport = (first, second)[number]
            if data is None:
                transport.abort()
            else:
                transport.deliver(data)
            wire.settle()
        return [(witness.seen[1001], bytes(first.written)), (witness.seen[1002], bytes(second.written))]


@st.composite
def sides(draw: st.DrawFn) -> list[bytes | None]:
    """Return what one connection sends, in pieces, and perhaps that it is lost."""
    requests = draw(st.lists(REQUESTS, min_size=1, max_size=4))
    pieces: list[bytes | None] = []
    for request in requests:
        cuts = draw(st.lists(st.integers(1, max(1, len(request) - 1)), max_size=2))
        pieces += pieces_of(request, cuts)
    if draw(st.booleans()):  # pipelined
        pieces = [b"".join(piece for piece in pieces if piece)]
    if draw(st.integers(0, 3)) == 0:
        pieces.insert(draw(st.integers(0, len(pieces))), None)
    return pieces


@st.composite
def interleaved(draw: st.DrawFn) -> list[Step]:
    """Return the steps of two connections, mixed."""
    left = [draw(sides()), draw(sides())]
    steps: list[Step] = []
    while left[0] or left[1]:
        number = draw(st.integers(0, 1))
        if not left[number]:
            number = 1 - number
        steps.append((number, left[number].pop(0)))
    return steps


@examples(200)
@given(st.sampled_from(["httptools", "httptools", "httptools", "h11"]), interleaved())
def test_a_connection_comes_to_what_it_comes_to_alone(parser: str, steps: list[Step]) -> None:
    together = play(parser, steps)
    for number in (0, 1):
        alone = play(parser, [step for step in steps if step[0] == number])
        assert together[number] == alone[number]


def test_nothing_that_sticks_in_a_parser_reaches_the_next_connection() -> None:
    alone = {request: play("httptools", [(1, request)])[1] for request in STICKY}
    for before in STICKY:
        for request in STICKY:
            assert play("httptools", [(0, before), (1, request)])[1] == alone[request], (before, request)


@pytest.mark.parametrize("error", [MemoryError, RecursionError, RuntimeError])
@pytest.mark.parametrize("callback", ["on_header", "on_headers_complete"])
def test_an_error_inside_a_callback_of_the_library_is_over_with_its_head(
    callback: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = fails_at = 0
    original = getattr(HttptoolsParser, callback)

    def fail_once(parser: HttptoolsParser, *args: bytes) -> None:
        nonlocal called
        called += 1
        if called == fails_at:
            raise error
        original(parser, *args)

    monkeypatch.setattr(HttptoolsParser, callback, fail_once)
    shared = HttptoolsParser()
    one, other = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nA: 2\r\n\r\n", b"GET / HTTP/1.1\r\nHost: b\r\nB: 1\r\n\r\n"
    for number in range(1, 5):
        called, fails_at = 0, number
        assert HeadReader(shared, bounds()).read(one).fields == [(b"host", b"a"), (b"a", b"1"), (b"a", b"2")]
        assert HeadReader(shared, bounds()).read(other).fields == [(b"host", b"b"), (b"b", b"1")]
