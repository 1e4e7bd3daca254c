"""What one peer or application may take from the others: turns of the loop, memory of the kernel, descriptors."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from serverd.connection.base import TOLD_AT_ONCE
from serverd.generation import Limits
from serverd.protocol.chunked import LINES_AT_ONCE
from tests.support.applications import Manual, Recorder, hello, read_body
from tests.support.wire import PARSERS, Wire


class TestTurnedAway:
    """A flood of connections beyond limits.connections."""

    def test_only_so_many_are_told_at_a_time_and_the_others_are_cut(self) -> None:
        with Wire(hello, limits=Limits(connections=1)) as wire:
            for _ in range(TOLD_AT_ONCE):
                wire.connect()
                assert wire.received().startswith(b"HTTP/1.1 503 ")
            for _ in range(10):
                wire.connect()
                assert wire.received() == b""
                assert wire.transport.closed
            assert len(wire.service.connections) == 1 + TOLD_AT_ONCE
            wire.advance(5)
            assert len(wire.service.connections) == 1
            wire.connect()
            assert wire.received().startswith(b"HTTP/1.1 503 ")


def test_a_peer_that_stops_reading_is_reset_so_that_the_kernel_keeps_nothing_for_it() -> None:
    async def floods(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    with Wire(floods, limits=Limits(send_timeout=3)) as wire:
        wire.transport.room = 100_000
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.advance(2)
        assert not wire.transport.closed
        wire.advance(2)
        assert wire.transport.closed
        assert wire.transport.reset


def test_an_application_that_sends_nothing_but_hints_gives_others_their_turn() -> None:
    order: list[str] = []

    async def hints(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(100):
            await send({"type": "http.response.early_hint", "links": []})
            order.append(scope["path"])
        await hello(scope, receive, send)

    with Wire(hints) as wire:
        wire.transport.deliver(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.connect()
        wire.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert max(len(list(turns)) for _, turns in groupby(order)) <= 64


@pytest.mark.parametrize(("size", "most"), [(1, 64), (1024, 52), (64 * 1024, 4), (1024 * 1024, 1)])
def test_an_application_that_awaits_nothing_else_gives_others_their_turn(size: int, most: int) -> None:
    order: list[str] = []

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
            order.append(scope["path"])
        await send({"type": "http.response.body"})

    with Wire(streams) as wire:
        wire.transport.deliver(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.connect()
        wire.send(b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (order.count("/one"), order.count("/two")) == (100, 100)
    # The first part leaves with the head and is not counted.
    assert max(len(list(group)) for _, group in groupby(order)) <= most + 1


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TINY = b"1\r\nx\r\n"
COUNT = 20 * LINES_AT_ONCE
END = b"0\r\n\r\n"


def turn(wire: Wire) -> None:
    """Let one turn of the loop pass."""
    wire.loop.call_soon(wire.loop.stop)
    wire.loop.run_forever()


@pytest.mark.parametrize("parser", PARSERS)
class TestTinyChunks:
    """A body of many small chunks costs a hundred times what its bytes cost: it is decoded in turns."""

    def test_another_connection_is_served_in_between(self, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            hostile = wire.transport
            hostile.deliver(CHUNKED + TINY * COUNT + END)
            assert not hostile.reading
            wire.connect()
            wire.transport.deliver(GET)
            for _ in range(5):
                turn(wire)
            assert wire.received().startswith(b"HTTP/1.1 200 ")
            assert recorder.bodies == [b""]
            wire.settle()
            assert bytes(hostile.written).startswith(b"HTTP/1.1 200 ")
            assert recorder.bodies == [b"", b"x" * COUNT]
            assert hostile.reading

    @pytest.mark.parametrize("size", [1000, 5000, 1_000_000])
    def test_the_request_behind_the_body_is_served_after_it(self, size: int, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            data = wire.send_slowly((CHUNKED + TINY * COUNT + END) * 2 + GET, size)
            assert data.count(b"HTTP/1.1 200 ") == 3
            assert recorder.bodies == [b"x" * COUNT, b"x" * COUNT, b""]
            assert not wire.closed

    def test_nothing_is_read_while_it_is_held_whatever_the_application_reads(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.transport.deliver(CHUNKED + TINY * COUNT)
            turn(wire)
            for _ in range(5):
                message = wire.loop.run_until_complete(manual.call.receive())
                assert message["more_body"]
                assert not wire.transport.reading
            wire.settle()
            assert wire.transport.reading

    def test_reading_stays_paused_for_an_application_that_does_not_read(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED + (b"100\r\n" + b"x" * 256 + b"\r\n") * (2 * LINES_AT_ONCE))
            assert not wire.transport.reading
            received = wire.run(manual.call.receive()).result()
            assert received["body"] == b"x" * 256 * 2 * LINES_AT_ONCE
            assert wire.transport.reading

    @pytest.mark.parametrize("whole", [True, False])
    def test_the_end_of_the_peer_comes_after_the_body(self, whole: bool, parser: str) -> None:
        bodies = []

        async def reads(scope: Any, receive: Any, send: Any) -> None:
            bodies.append(await read_body(receive))
            await hello(scope, receive, send)

        with Wire(reads, parser) as wire:
            wire.transport.deliver(CHUNKED + TINY * COUNT + (END if whole else b""))
            # A transport may tell at once, although it does not read.
            assert wire.connection.eof_received()
            wire.settle()
            assert wire.received().startswith(b"HTTP/1.1 200 " if whole else b"HTTP/1.1 400 ")
            assert wire.closed
        assert bodies == [b"x" * COUNT if whole else None]

    def test_the_body_timeout_does_not_end_what_has_arrived(self, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser, Limits(body_timeout=3)) as wire:
            wire.transport.deliver(CHUNKED + TINY * COUNT + END)
            for _ in range(10):
                wire.loop.now += 4  # others take their time
                wire.connection.sweep(wire.loop.now)
                turn(wire)
            wire.settle()
            assert wire.received().startswith(b"HTTP/1.1 200 ")
            assert recorder.bodies == [b"x" * COUNT]

    def test_the_body_timeout_ends_what_does_not_arrive(self, parser: str) -> None:
        with Wire(Recorder(), parser, Limits(body_timeout=3)) as wire:
            assert wire.send(CHUNKED + TINY * COUNT) == b""
            assert wire.advance(4).startswith(b"HTTP/1.1 408 ")

    def test_it_is_thrown_away_after_the_response_and_the_connection_ends(self, parser: str) -> None:
        with Wire(hello, parser) as wire:
            received = wire.send(CHUNKED + TINY * COUNT + END + GET)
            assert received.count(b"HTTP/1.1 200 ") == 1
            assert b"\r\nconnection: close\r\n" in received, "nobody knew how much would follow"
            assert wire.transport.reading
            assert wire.transport.eof, "after all of it"

    def test_more_of_it_than_is_thrown_away_ends_the_connection(self, parser: str) -> None:
        with Wire(hello, parser) as wire:
            chunk = b"100\r\n" + b"x" * 256 + b"\r\n"
            assert wire.send(CHUNKED + chunk * (4 * LINES_AT_ONCE) + END + GET).count(b"HTTP/1.1 200 ") == 1
            assert wire.closed

    def test_what_is_wrong_behind_a_part_is_refused(self, parser: str) -> None:
        with Wire(Recorder(), parser) as wire:
            assert wire.send(CHUNKED + TINY * COUNT + b"broken\r\n").startswith(b"HTTP/1.1 400 ")
            assert wire.closed

    def test_a_connection_that_is_cut_meanwhile_decodes_nothing_more(self, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            wire.transport.deliver(CHUNKED + TINY * COUNT + END)
            turn(wire)
            wire.lose()
            assert recorder.bodies == []
