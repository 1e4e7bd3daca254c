"""When what a stream of HTTP/2 sends leaves: at once where it is the only one, together in a burst or beside others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serverd.connection import burst
from tests.support.applications import hello
from tests.support.clock import Clock
from tests.support.http2 import Answer, Http2Wire

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}


def part(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


Written = Callable[[], bytes]
Script = Callable[[Any, Written], Awaitable[None]]


def answer(script: Script, requests: int = 1) -> list[Answer]:
    """Answer requests that come together, each by `script(send, written)`; return what came, raise what it raises."""
    failures: list[BaseException] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await script(send, lambda: bytes(wire.transport.written))
        except BaseException as error:
            failures.append(error)
            raise

    with Http2Wire(application) as wire:
        wire.transport.written.clear()
        opened = [wire.open() for _ in range(requests)]
        wire.exchange()
    if failures:
        raise failures[0]
    assert [one.ended for one in opened] == [True] * requests
    return opened


async def respond(send: Any, body: bytes) -> None:
    fields = [(b"content-length", b"%d" % len(body))]
    await send({**START, "headers": fields})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.usefixtures("clock")
def test_the_response_to_the_only_request_leaves_at_once() -> None:
    """Also when the application then computes for a while: a task in the background that awaits nothing."""

    async def script(send: Any, written: Written) -> None:
        await respond(send, b"only")
        assert written().endswith(b"only")

    assert [one.body for one in answer(script)] == [b"only"]


@pytest.mark.usefixtures("clock")
def test_responses_to_several_requests_leave_together() -> None:
    async def script(send: Any, written: Written) -> None:
        await respond(send, b"several")
        seen.append(written().count(b"several"))

    seen: list[int] = []
    assert [one.body for one in answer(script, 3)] == [b"several"] * 3
    assert seen == [0, 0, 0]


def test_each_part_that_comes_alone_leaves_at_once(clock: Clock) -> None:
    async def script(send: Any, written: Written) -> None:
        await send(START)
        for number in range(20):
            clock.now += 2 * burst.GAP
            await send(part(b"part %d" % number))
            assert written().endswith(b"part %d" % number)
        await send(END)

    assert answer(script)[0].parts == 21


@pytest.mark.usefixtures("clock")
def test_parts_of_a_burst_leave_at_the_end_of_the_turn() -> None:
    async def script(send: Any, written: Written) -> None:
        await send(START)
        for number in range(20):
            await send(part(b"part %d" % number))
            assert written().endswith(b"part %d" % min(number, burst.FEW - 1))
        await asyncio.sleep(0)
        assert written().endswith(b"part 19")
        await send(END)

    answer(script)


@pytest.mark.usefixtures("clock")
def test_nothing_leaves_while_the_core_reads() -> None:
    with Http2Wire(hello) as wire:
        before = wire.transport.writes
        refused = wire.open("BREW")
        wire.client.ping(b"12345678")
        wire.exchange()
        assert (refused.status, refused.ended, wire.pongs) == (501, True, [b"12345678"])
        assert wire.transport.writes == before + 1
