"""How the answers to pipelined requests leave: one at once, the others together while each turn soon adds one."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from serverd.connection import http1_stream
from serverd.connection.http1_stream import ANSWER_GAP, JOIN_LIMIT
from serverd.protocol.head import Fields
from serverd.protocol.http1_httptools import HttptoolsParser
from tests.support.applications import Manual, echo, hello, respond
from tests.support.clock import Clock
from tests.support.wire import PARSERS, Wire, handshake

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(http1_stream, "perf_counter", clock)
    return clock


def get(path: str, more: bytes = b"") -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), more)


def turn(wire: Wire) -> bytes:
    """Let the loop take one turn; return what has been written in it."""
    wire.loop.call_soon(wire.loop.stop)
    wire.loop.run_forever()
    return wire.received()


async def by_path(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, after a turn of the loop for each "w" in it."""
    for _ in range(scope["path"].count("w")):
        await asyncio.sleep(0)
    await respond(send, scope["path"].encode())


def bodies(data: bytes) -> list[bytes]:
    """Return the bodies of responses of known length, which have to be complete."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append(data[:length])
        assert len(found[-1]) == length
        data = data[length:]
    return found


def test_answers_that_are_there_one_after_the_other_leave_together_behind_the_first() -> None:
    with Wire(by_path) as wire:
        data = wire.send(b"".join(get(str(number)) for number in range(16)))
        assert bodies(data) == [b"/%d" % number for number in range(16)]
        assert wire.transport.writes == 2
        assert wire.transport.reading


def test_so_do_those_to_requests_with_a_body() -> None:
    with Wire(echo) as wire:
        assert bodies(wire.send(POST * 8)) == [b"hello"] * 8
        assert wire.transport.writes == 2


def test_an_answer_waits_for_no_application_that_waits() -> None:
    with Wire(by_path) as wire:
        wire.transport.deliver(get("a") + get("b") + get("wwww") + get("c"))
        turns = [bodies(turn(wire)) for _ in range(12)]
        with_answers = [found for found in turns if found]
        assert with_answers == [[b"/a"], [b"/b"], [b"/wwww", b"/c"]]
        assert turns.index([b"/b"]) < turns.index([b"/wwww", b"/c"]) - 1


def test_an_answer_waits_for_none_that_takes_its_time(clock: Clock) -> None:
    """Also when the application, or another's, keeps the loop to itself meanwhile."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        clock.now += 2 * ANSWER_GAP
        await respond(send, scope["path"].encode())

    with Wire(application) as wire:
        wire.transport.deliver(get("a") + get("b") + get("c"))
        assert [bodies(turn(wire)) for _ in range(3)] == [[b"/a"], [b"/b"], [b"/c"]]


def test_nor_does_it_wait_for_many_that_come_soon(clock: Clock) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        clock.now += ANSWER_GAP / 3
        await respond(send, scope["path"].encode())

    with Wire(application) as wire:
        data = wire.send(b"".join(get(str(number)) for number in range(30)))
        assert bodies(data) == [b"/%d" % number for number in range(30)]
        assert wire.transport.writes >= 30 // 4


def test_heads_that_wait_count_as_much_as_bodies() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"", 304, [(b"x-long", b"x" * (JOIN_LIMIT // 4))])

    with Wire(application) as wire:
        wire.send(GET * 9)
        assert wire.transport.writes == 3


def test_an_answer_waits_for_nothing_that_has_not_arrived() -> None:
    manual = Manual()
    with Wire(manual) as wire:
        wire.send(GET + GET[:10])
        wire.run(manual.calls[0].respond())
        assert bodies(wire.received()) == [b"ok"]
        wire.send(GET[10:])
        wire.run(manual.calls[1].respond())
        assert bodies(wire.received()) == [b"ok"]


def test_no_more_waits_than_is_worth_joining() -> None:
    size = JOIN_LIMIT // 4

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * size)

    with Wire(application) as wire:
        assert bodies(wire.send(GET * 9)) == [b"x" * size] * 9
        assert wire.transport.writes == 3


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_heads_without_a_body_count_as_well(method: bytes) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-large", b"x" * (JOIN_LIMIT // 4))]
        await send({"type": "http.response.start", "status": 204 if method == b"GET" else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    with Wire(application) as wire:
        assert wire.send(GET.replace(b"GET", method) * 9).count(b"x-large") == 9
        assert wire.transport.writes == 3


def test_each_request_has_a_turn_of_its_own() -> None:
    """However many one client sends, others are answered between them."""
    with Wire(by_path) as wire:
        wire.transport.deliver(b"".join(get(str(number)) for number in range(50)))
        many, transport = wire.connection, wire.transport
        wire.connect()
        wire.transport.deliver(get("other"))
        assert bodies(turn(wire) + turn(wire)) == [b"/other"]  # held while another application begins
        assert not many.idle
        assert len(bodies(bytes(transport.written))) == 1
        wire.settle()
        assert len(bodies(bytes(transport.written))) == 50


def test_the_last_answer_before_the_end_takes_all_before_it_along() -> None:
    with Wire(by_path) as wire:
        data = wire.send(get("a") + get("b") + get("c", b"Connection: close\r\n"))
        assert bodies(data) == [b"/a", b"/b", b"/c"]
        assert wire.transport.writes == 2
        assert wire.closed


def test_a_refusal_comes_behind_the_answers() -> None:
    with Wire(by_path) as wire:
        data = wire.send(get("a") + get("b") + b"BAD\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"200", b"400"]
        assert wire.closed


def test_a_handshake_comes_behind_the_answers() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await by_path(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    with Wire(application) as wire:
        data = wire.send(get("a") + get("b") + handshake())
        assert bodies(data[: data.index(b"HTTP/1.1 101")]) == [b"/a", b"/b"]


@pytest.mark.parametrize("hint", [True, False])
def test_an_interim_response_comes_behind_the_answers(hint: bool) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/hint":
            await send({"type": "http.response.early_hint", "links": [b"</x>; rel=preload"]})
        elif scope["path"] == "/body":
            await receive()
        await by_path(scope, receive, send)

    last = get("hint") if hint else get("body", b"Content-Length: 1\r\nExpect: 100-continue\r\n")
    with Wire(application) as wire:
        data = wire.send(get("a") + get("b") + last)
        before, interim, after = data.partition(
            b"HTTP/1.1 103 Early Hints\r\n" if hint else b"HTTP/1.1 100 Continue\r\n"
        )
        assert bodies(before) == [b"/a", b"/b"]
        assert interim
        assert bool(hint) is after.endswith(b"/hint")
        if not hint:
            assert wire.send(b"x").endswith(b"/body")


def test_what_waits_is_not_sent_to_who_has_gone() -> None:
    with Wire(by_path) as wire:
        wire.transport.deliver(get("a") + get("www"))
        turn(wire)
        wire.lose()
        assert wire.received() == b""


class Noting:
    """The parser, which notes what it has split."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self._parser = HttptoolsParser()

    @property
    def notable(self) -> bool:
        return self._parser.notable

    def split(self, block: bytes) -> Fields:
        self.blocks.append(block)
        return self._parser.split(block)

    def accept(self, block: bytes, is_followed: bool) -> None:
        self._parser.accept(block, is_followed)


def test_a_pipelined_head_that_came_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = Noting()
    monkeypatch.setitem(PARSERS, "noting", lambda: parser)
    with Wire(hello, "noting") as wire:
        assert len(bodies(wire.send(GET * 5 + get("another") * 2))) == 7
    assert parser.blocks == [GET]
