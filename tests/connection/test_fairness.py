"""What one peer or application may take from the others: turns of the loop, memory of the kernel, descriptors."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from serverd.connection.base import TOLD_AT_ONCE
from serverd.generation import Limits
from tests.support.applications import hello
from tests.support.wire import Wire


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


@pytest.mark.parametrize(("size", "most"), [(1, 16), (1024, 13), (64 * 1024, 1), (1024 * 1024, 1)])
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
