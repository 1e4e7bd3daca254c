"""A connection that carries a session: what it keeps, when it ends, and who hears of it; bytes in, bytes out."""

from __future__ import annotations

import gc
import logging
import socket
import tracemalloc
from typing import Any

import pytest

from serverd.asgi.session import Session
from serverd.asgi.websocket import CLOSE_TIMEOUT
from serverd.connection.base import LINGER_TIMEOUT
from serverd.connection.http1 import Http1Connection
from serverd.connection.websocket import WebSocketConnection
from serverd.generation import Limits, WebSocketLimits
from serverd.protocol.http1 import Http1Decoder
from serverd.protocol.http1_response import ResponseEncoder
from tests.support.frames import BINARY, PING, TEXT, close, frame
from tests.support.wire import PARSERS, SessionWire, frames_of, handshake

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
KIB = 1024


def alive(*kinds: type) -> int:
    """Return how many objects of these types there are."""
    gc.collect()
    return sum(type(found) in kinds for found in gc.get_objects())


def quiet(**limits: Any) -> Limits:
    """Return limits without pings."""
    return Limits(websocket=WebSocketLimits(ping_interval=0), **limits)


class TestMemory:
    """An idle session keeps what it is, and nothing of what has passed through it."""

    @EVERY_PARSER
    def test_it_keeps_nothing_of_http(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            before = alive(Http1Connection, Http1Decoder, ResponseEncoder)
            wire.accept()
            wire.settle()
            # The wire of the test holds the connection that it has opened.
            wire.connection = None  # type: ignore[assignment]
            assert alive(Http1Connection, Http1Decoder, ResponseEncoder) == before - 3

    @EVERY_PARSER
    @pytest.mark.parametrize("fields", [(), (DEFLATE,)], ids=["plain", "compressed"])
    def test_what_has_passed_through_it_is_gone(self, parser: str, fields: tuple[bytes, ...]) -> None:
        def use() -> None:
            wire.connect()
            wire.accept(*fields)
            # A message in one frame, another in pieces, a Ping, and all that arrives together.
            data = frame(BINARY, bytes(300 * KIB)) + frame(PING, bytes(100)) + frame(TEXT, bytes(100 * KIB))
            for piece in (data[: 200 * KIB], data[200 * KIB :]):
                wire.send(piece)
            assert len(wire.receive()["bytes"]) == 300 * KIB
            assert len(wire.receive()["text"]) == 100 * KIB
            wire.tell("send", bytes=bytes(500))
            wire.transport.written = bytearray()

        with SessionWire(parser) as wire:
            for _ in range(5):
                use()  # whatever is made only once
            tracemalloc.start()
            try:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(50):
                    use()
                gc.collect()
                used = (tracemalloc.get_traced_memory()[0] - before) / 50
            finally:
                tracemalloc.stop()
        assert used < 10 * KIB  # 6.5 in Python 3.11, of which 1 is this test's

    def test_when_it_has_ended_nothing_of_it_is_left(self) -> None:
        with SessionWire() as wire:
            before = alive(Session, WebSocketConnection)
            wire.accept()
            assert alive(Session, WebSocketConnection) == before + 2
            wire.send(close(1000))
            wire.finish()
            wire.send_eof()
            wire.connect()
            wire.manual.calls.clear()
            assert alive(Session, WebSocketConnection) == before


@EVERY_PARSER
class TestEnd:
    """When the connection ends, and what is left of it."""

    def test_the_peers_end_is_the_sessions(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            wire.send_eof()
            assert wire.transport.closed
            assert wire.receive()["code"] == 1006
            assert not wire.service.connections

    def test_what_the_peer_sent_before_its_end_is_received(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            wire.send(frame(TEXT, b"last"))
            wire.send_eof()
            assert wire.receive()["text"] == "last"
            assert wire.receive()["code"] == 1006

    def test_an_end_that_waits_behind_what_is_not_read_comes_after_it(self, parser: str) -> None:
        with SessionWire(parser, Limits(websocket=WebSocketLimits(queue=1))) as wire:
            wire.accept()
            wire.send(frame(TEXT, b"1"))
            wire.send(frame(TEXT, b"2"))
            wire.send_eof()
            assert not wire.closed
            assert [wire.receive().get("text") for _ in range(3)] == ["1", "2", None]
            assert wire.closed

    def test_the_linger_is_bounded_whatever_the_peer_sends(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            wire.send(close(1000))
            for _ in range(int(LINGER_TIMEOUT)):
                assert not wire.transport.closed
                wire.send(frame(TEXT, bytes(100)) * 100)
                wire.advance(1)
            assert wire.transport.closed

    def test_a_close_that_the_peer_does_not_read_is_given_up(self, parser: str) -> None:
        with SessionWire(parser, quiet(send_timeout=5.0)) as wire:
            wire.accept()
            wire.transport.room = 0
            wire.send(close(1000))
            wire.advance(20)
            assert not wire.service.connections

    def test_neither_a_lost_connection_nor_its_end_is_swept(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            connections = list(wire.service.connections)
            wire.lose()
            for connection in connections:
                connection.sweep(wire.loop.now + 1000)
            assert wire.received() == b""

    def test_a_session_whose_connection_is_lost_before_it_begins_has_ended(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake() + frame(TEXT, b"with the head"))
            accepting = wire.loop.create_task(wire.call.send({"type": "websocket.accept"}))
            wire.loop.call_soon(wire.transport.abort)  # before what came with the head is looked at
            wire.settle()
            assert accepting.done()
            assert wire.receive() == {"type": "websocket.connect"}
            assert wire.receive()["code"] == 1006

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_peer_that_has_gone_while_nobody_reads_is_noticed(
        self, parser: str, whole: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, SessionWire(parser, Limits(websocket=WebSocketLimits(queue=1))) as wire:
            monkeypatch.setattr(wire.transport, "fileno", ours.fileno)
            wire.accept()
            wire.send(frame(TEXT, b"1"))
            assert not wire.transport.reading
            wire.advance(5)
            assert not wire.transport.closed
            if whole:
                theirs.close()
            else:
                theirs.shutdown(socket.SHUT_WR)  # what it sent before can still be read
            wire.advance(5)
            assert wire.transport.closed is whole
            assert wire.receive()["text"] == "1"


@EVERY_PARSER
class TestDrain:
    """A drain leaves sessions alone, until the worker closes them; see tests/worker/test_websocket_drain.py."""

    def test_a_session_goes_on(self, parser: str) -> None:
        with SessionWire(parser, quiet()) as wire:
            wire.accept()
            assert wire.drain() == b""
            assert wire.advance(1000) == b""
            wire.send(frame(TEXT, b"hi"))
            assert wire.receive()["text"] == "hi"
            assert frames_of(wire.tell("send", text="ho")) == [(0x81, b"ho")]

    def test_a_handshake_that_is_under_way_can_be_accepted(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake())
            wire.drain()
            answer = wire.tell("accept")
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"close" not in answer
            assert not wire.closed

    @pytest.mark.parametrize("code", [1001, 1012])
    def test_a_session_that_is_closed_has_its_peer_and_its_application_told(
        self, parser: str, code: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with SessionWire(parser) as wire:
            wire.accept()
            wire.send(frame(TEXT, b"unread"))
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, code)
            wire.settle()
            assert frames_of(wire.received()) == [(0x88, code.to_bytes(2, "big"))]
            error = wire.run(wire.call.send({"type": "websocket.send", "text": "late"})).exception()
            assert isinstance(error, OSError)
            assert wire.receive()["text"] == "unread"  # what has been received is not lost
            assert wire.receive() == {"type": "websocket.disconnect", "code": code, "reason": ""}
            wire.send(frame(TEXT, b"crossing") + close(code))
            assert wire.closed
            assert wire.finish() == b""
        assert caplog.text == ""

    def test_who_waits_in_receive_is_told_at_once(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            waiting = wire.run(wire.call.receive())
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, 1012)
            wire.settle()
            assert waiting.result()["code"] == 1012

    def test_who_waits_for_the_peer_to_read_is_let_go_when_it_has(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            wire.transport.room = 0
            sending = wire.run(wire.call.send({"type": "websocket.send", "bytes": bytes(100_000)}))
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, 1012)
            wire.settle()
            assert not sending.done()
            wire.take()
            assert sending.done()

    @pytest.mark.parametrize("before", ["closed by the application", "closed by the peer", "lost"])
    def test_one_that_has_ended_already_is_not_closed_again(self, parser: str, before: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            [session] = wire.service.sessions.open
            if before == "closed by the application":
                wire.tell("close", code=4000)
            elif before == "closed by the peer":
                wire.send(close(4000))
            else:
                wire.lose()
            wire.loop.call_soon(session.leave, 1012)
            wire.settle()
            assert wire.received() == b""
            assert wire.receive()["code"] == (1006 if before == "lost" else 4000)

    def test_a_peer_that_does_not_answer_is_cut(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.accept()
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, 1012)
            wire.settle()
            wire.advance(CLOSE_TIMEOUT + 1)
            assert wire.transport.closed


def test_a_peer_that_has_left_is_not_kept_for_an_application_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(send_timeout=10, websocket=WebSocketLimits(queue=1))
    ours, theirs = socket.socketpair()
    with ours, theirs, SessionWire(limits=limits) as wire:
        monkeypatch.setattr(wire.transport, "fileno", ours.fileno)
        wire.accept()
        wire.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert not wire.transport.reading
        theirs.shutdown(socket.SHUT_WR)
        wire.advance(9)
        assert not wire.transport.closed  # it may take what was sent before
        wire.advance(3)
        assert wire.transport.closed
        assert wire.receive()["text"] == "one"
        assert wire.receive()["code"] == 1006
