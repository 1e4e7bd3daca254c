"""TLS in random pieces, for whoever is above it and pauses at random: all of it arrives, in order, and its end once.

The socket is not read while something waits to be decrypted, so that whatever forgets to go on stalls for ever.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.connection import tls
from tests.net.test_tls_connection import TlsWire
from tests.support.applications import respond
from tests.support.fuzzing import examples


class Above(asyncio.Protocol):
    """Takes what is decrypted, and does one thing of `moods` with each part of it."""

    def __init__(self, wire: TlsWire, moods: list[str]) -> None:
        assert isinstance(wire.transport._connection, tls.TlsTransport)
        self.transport = wire.transport._connection
        self.before = self.transport.get_protocol()
        self.loop = wire.loop
        self.moods = moods
        self.received = b""
        self.parts = 0
        self.ends = 0
        self.is_paused = False
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        assert not self.is_paused
        assert not self.ends
        self.received += data
        mood = self.moods[self.parts % len(self.moods)]
        self.parts += 1
        if mood != "read on":
            self.pause()
        if mood == "stop for a moment":
            self.resume()
        elif mood == "go on soon":
            self.loop.call_soon(self.resume)

    def eof_received(self) -> bool:
        self.ends += 1
        return True

    def connection_lost(self, error: Exception | None) -> None:
        assert isinstance(self.before, asyncio.Protocol)
        self.before.connection_lost(error)

    def pause(self) -> None:
        self.is_paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self.is_paused = False
        self.transport.resume_reading()


def ticks(steps: list[float]) -> Iterator[float]:
    """Return a clock on which the work between two looks takes one step after the other."""
    now = 0.0
    while True:
        for step in steps:
            now += step
            yield now


moods = st.lists(st.sampled_from(["read on", "stop for a moment", "go on soon", "stop"]), min_size=1, max_size=6)
# Bytes of what is said at a time, in so many of them a record each.
said = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([1, 5, 100, 5000, 16_384]), st.integers(1, 6)),
        st.tuples(st.just(1), st.integers(60, 140)),
    ),
    min_size=1,
    max_size=6,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.sampled_from([1, 30, 1000, 20_000, 40_000, 200_000])),
        st.tuples(st.sampled_from(["turn", "resume", "pause", "settle"]), st.just(0)),
    ),
    max_size=20,
)
works = st.lists(st.sampled_from([0.0, 0.0, tls.TURN / 2, 1.0]), min_size=1, max_size=5)
ends = st.sampled_from(["nothing", "goodbye", "goodbye and junk", "goodbye and end", "end"])


@given(moods, said, steps, works, ends)
@examples(150)
def test_whatever_pauses_all_of_it_arrives(
    moods: list[str], said: list[tuple[int, int]], steps: list[tuple[str, int]], works: list[float], end: str
) -> None:
    with pytest.MonkeyPatch.context() as patch, TlsWire(respond) as wire:
        wire.shake()
        patch.setattr(tls, "perf_counter", ticks(works).__next__)
        above = Above(wire, moods)
        sent = b""
        for number, (size, count) in enumerate(said):
            for _ in range(count):
                sent += (data := bytes([number]) * size)
                wire.client.write(data)
        if end.startswith("goodbye"):
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.unwrap()
        left = wire.there.read() + (b"junk" * 30_000 if end == "goodbye and junk" else b"")
        for what, size in steps:
            if what == "deliver":
                piece, left = left[:size], left[size:]
                wire.transport.deliver(piece)
            elif what == "settle":
                wire.settle()
            elif what == "turn":
                wire.turn()
            elif what == "resume":
                above.resume()
            else:
                above.pause()
        wire.transport.deliver(left)
        if end in ("end", "goodbye and end"):
            wire.transport.deliver_eof()
        for _ in range(sum(count for _, count in said) + 20):
            wire.settle()
            above.resume()
        wire.settle()
        assert above.received == sent
        assert above.ends == (end != "nothing")
        assert above.is_paused or (wire.transport.reading and not wire.transport.waiting)
        assert not above.transport._waits()


class Slow:
    """An application that takes its request, and answers with as much, in steps that the test allows it."""

    def __init__(self, pauses: list[int]) -> None:
        self.pauses = pauses
        self.gate = asyncio.Event()
        self.bodies: list[bytes] = []
        self.steps = 0

    async def step(self) -> None:
        pause = self.pauses[self.steps % len(self.pauses)]
        self.steps += 1
        for _ in range(pause):
            await asyncio.sleep(0)
        if pause == 0:
            self.gate.clear()
            await self.gate.wait()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await self.step()
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        self.bodies.append(body)
        await send({"type": "http.response.body", "body": message["body"]})


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.lists(st.sampled_from([1, 1000, 70_000, 250_000]), max_size=2),
    st.sampled_from([1, 1000, 70_000, 300_000]),  # the last: beyond 256 KiB its response, which begins before, says so
    st.lists(st.tuples(st.sampled_from([1, 1000, 50_000, 250_000]), st.sampled_from([0, 1000, 100_000])), max_size=12),
    works,
)
@examples(60)
def test_uploads_that_are_answered_meanwhile_come_to_their_end(
    pauses: list[int], sizes: list[int], last: int, steps: list[tuple[int, int]], works: list[float]
) -> None:
    """A slow application, a slow reader, and pipelined requests behind each other."""
    slow = Slow(pauses)
    with pytest.MonkeyPatch.context() as patch, TlsWire(slow) as wire:
        wire.shake()
        patch.setattr(tls, "perf_counter", ticks(works).__next__)
        bodies = [bytes([65 + number]) * size for number, size in enumerate([*sizes, last])]
        for body in bodies:
            rest = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            while rest:
                rest = rest[wire.client.write(rest[:16_384]) :]
        left = wire.there.read()
        wire.transport.room = 0
        answer = bytearray()
        for size, taken in steps:
            piece, left = left[:size], left[size:]
            wire.transport.deliver(piece)
            wire.settle()
            slow.gate.set()
            answer += wire.take(taken)
        wire.transport.deliver(left)
        wire.transport.room = float("inf")
        for _ in range(1000):
            if len(slow.bodies) == len(bodies):
                break
            slow.gate.set()
            answer += wire.take()
        wire.settle()
        answer += wire.received()
        assert slow.bodies == bodies
        wire.back.write(bytes(answer))
        plain = wire.answer()
        assert plain.count(b"HTTP/1.1 200") == len(bodies)
        assert [plain.count(body[:1]) >= len(body) for body in bodies] == [True] * len(bodies)
