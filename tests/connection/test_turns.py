"""How responses leave whose applications begin in one turn of the loop: together, and never later than they must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serverd.asgi import turn
from serverd.asgi.turn import HOLD
from serverd.connection.http1_stream import JOIN_LIMIT
from tests.support.applications import respond
from tests.support.clock import Clock
from tests.support.wire import MemoryTransport, Wire


class Crowd:
    """Several connections to one service, on each of which a request is sent; and who has been written to, when."""

    def __init__(self) -> None:
        self.transports: list[MemoryTransport] = []
        self.seen: dict[str, list[str]] = {}  # by path: who had something when its application had sent its response

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"][1:]
        await self.before(path)
        await respond(send, path.encode())
        self.seen[path] = self.answered

    async def before(self, path: str) -> None:
        """Do what the application does before it answers."""

    @property
    def answered(self) -> list[str]:
        """The bodies that have been written, one letter each."""
        return [chr(transport.written[-1]) for transport in self.transports if transport.written]

    def ask(self, paths: str, more: str = "") -> list[str]:
        """Send requests like `send`, and let the loop take a turn; return who is answered by then."""
        with Wire(self) as wire:
            self.send(wire, paths, more)
            wire.loop.call_soon(wire.loop.stop)
            wire.loop.run_forever()
            return self.answered

    def send(self, wire: Wire, paths: str, more: str = "") -> None:
        """Send a request on a connection of its own for each letter."""
        for path in paths:
            wire.connect()
            self.transports.append(wire.transport)
            wire.transport.deliver(f"GET /{path} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which what is held is told, for the test to move."""
    clock = Clock()
    monkeypatch.setattr(turn, "perf_counter", clock)
    return clock


def test_responses_leave_together_behind_the_last_application_that_begins(clock: Clock) -> None:
    crowd = Crowd()
    assert crowd.ask("abc") == ["a", "b", "c"]
    assert crowd.seen == {"a": [], "b": [], "c": ["a", "b", "c"]}
    assert [transport.writes for transport in crowd.transports] == [1, 1, 1]


def test_the_only_one_leaves_at_once() -> None:
    """An application that computes after its response does not keep it from its client."""
    crowd = Crowd()
    crowd.ask("a")
    assert crowd.seen == {"a": ["a"]}


def test_a_later_turn_owes_nothing_to_those_before(clock: Clock) -> None:
    crowd = Crowd()
    with Wire(crowd) as wire:
        for paths in ("ab", "c"):
            crowd.send(wire, paths)
            wire.settle()
    assert crowd.seen["c"] == ["a", "b", "c"]


def test_nobody_waits_for_an_application_that_waits(clock: Clock) -> None:
    gate = asyncio.Event()

    class Waiting(Crowd):
        async def before(self, path: str) -> None:
            if path == "b":
                await gate.wait()

    crowd = Waiting()
    with Wire(crowd) as wire:
        crowd.send(wire, "ab")
        wire.settle()
        assert crowd.answered == ["a"]
        gate.set()
        wire.settle()
        assert crowd.answered == ["a", "b"]


def test_no_more_than_one_application_that_computes_keeps_a_response(clock: Clock) -> None:
    class Computing(Crowd):
        async def before(self, path: str) -> None:
            clock.now += 2 * HOLD

    crowd = Computing()
    assert crowd.ask("abcd") == ["a", "b", "c", "d"]
    assert crowd.seen == {"a": [], "b": ["a", "b"], "c": ["a", "b"], "d": ["a", "b", "c", "d"]}


def test_what_ends_its_connection_leaves_at_once(clock: Clock) -> None:
    crowd = Crowd()
    crowd.ask("ab", "Connection: close\r\n")
    assert crowd.seen == {"a": ["a"], "b": ["a", "b"]}


def test_what_is_large_leaves_at_once(clock: Clock) -> None:
    class Large(Crowd):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await respond(send, scope["path"][1:].encode() * (JOIN_LIMIT + 1))
            self.seen[scope["path"][1:]] = self.answered

    crowd = Large()
    crowd.ask("ab")
    assert crowd.seen == {"a": ["a"], "b": ["a", "b"]}


def test_nothing_is_written_to_who_is_cut_meanwhile(clock: Clock) -> None:
    class Cutting(Crowd):
        async def before(self, path: str) -> None:
            if path == "b":
                self.transports[0].abort()

    crowd = Cutting()
    assert crowd.ask("ab") == ["b"]


def test_what_follows_a_held_response_leaves_behind_it(clock: Clock) -> None:
    """A client that breaks the protocol behind its request has the response first."""

    class Answering(Crowd):
        async def before(self, path: str) -> None:
            if path == "b":
                self.transports[0].deliver(b"BAD\r\n\r\n")

    crowd = Answering()
    crowd.ask("ab")
    written = bytes(crowd.transports[0].written)
    assert written.index(b"HTTP/1.1 200") < written.index(b"HTTP/1.1 400")
    assert written.count(b"HTTP/1.1") == 2


def test_one_that_cannot_be_sent_keeps_no_other(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    class Breaking(Crowd):
        async def before(self, path: str) -> None:
            if path == "c":
                self.transports[0].write = fail  # type: ignore[method-assign]

    def fail(data: bytes) -> None:
        raise MemoryError("no room")

    crowd = Breaking()
    assert crowd.ask("abc") == ["b", "c"]
    assert crowd.seen["c"] == ["b", "c"]  # and that application has heard nothing of it
    assert "no room" in caplog.text


def test_nobody_is_kept_by_a_request_that_is_cut_before_its_application_begins(clock: Clock) -> None:
    crowd = Crowd()
    with Wire(crowd) as wire:
        crowd.send(wire, "a")
        for exchange in list(wire.service.exchanges):
            exchange.cancel()
        wire.settle()
        assert not wire.service.exchanges
        assert not wire.service.turn.goes_on


def test_a_task_that_others_cancel_before_it_begins_keeps_nobody_for_ever(clock: Clock) -> None:
    """Who embeds the server may cancel any task of the loop; of those applications nothing ever runs."""
    crowd = Crowd()
    with Wire(crowd) as wire:
        crowd.send(wire, "xy")
        lost = list(wire.service.exchanges)
        for exchange in lost:
            assert exchange.task is not None
            exchange.task.cancel()
        crowd.send(wire, "a")
        wire.settle()
        assert crowd.answered == ["a"]
        crowd.send(wire, "b")
        wire.settle()
        crowd.send(wire, "cd")
        wire.settle()
        for exchange in lost:
            exchange.conclude()
    assert crowd.seen["b"] == ["a", "b"]  # at once, as if there had never been others
    assert crowd.seen["c"] == ["a", "b"]
    assert crowd.seen["d"] == ["a", "b", "c", "d"]


def test_the_client_of_one_that_others_cancel_before_it_begins_has_an_answer_and_nothing_stays(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Wire(Crowd()) as wire:
        wire.transport.deliver(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        (lost,) = wire.service.exchanges
        lost.conclude()
        assert lost in wire.service.exchanges  # it is about to begin
        assert lost.task is not None
        lost.task.cancel()
        wire.settle()
        lost.conclude()
        assert wire.received().startswith(b"HTTP/1.1 500 ")
        assert not wire.service.exchanges
        assert "app test failed on GET /a" in caplog.text


def test_who_begins_between_a_held_response_and_its_departure_is_still_waited_for(clock: Clock) -> None:
    class More(Crowd):
        async def before(self, path: str) -> None:
            if path == "b":
                self.send(wire, "cd")

    crowd = More()
    with Wire(crowd) as wire:
        crowd.send(wire, "ab")
        wire.settle()
        assert not wire.service.turn.goes_on
    assert crowd.seen == {"a": [], "b": [], "c": ["a", "b"], "d": ["a", "b", "c", "d"]}


def test_who_says_meanwhile_that_it_sends_nothing_more_has_its_response(clock: Clock) -> None:
    """An event loop may read between the turn in which a response is held and the one in which it leaves."""

    class Ending(Crowd):
        async def before(self, path: str) -> None:
            if path == "b":
                self.transports[0].deliver_eof()

    crowd = Ending()
    assert crowd.ask("ab") == ["a", "b"]
    assert crowd.transports[0].closed
