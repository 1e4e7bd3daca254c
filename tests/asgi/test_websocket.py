"""An open WebSocket: queue and backpressure, pings, the closing handshake (RFC 6455 §5 to §7), in virtual time.

What the application may send, and what it is told, is shown in test_session.py; frames in tests/protocol.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from typing import Any

import pytest

from serverd.asgi.websocket import CLOSE_TIMEOUT, QUEUE_SIZE
from serverd.generation import Limits, WebSocketLimits
from serverd.protocol.websocket import FRAMES_AT_ONCE
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, close, frame
from tests.support.wire import PARSERS, SessionWire, frames_of, handshake

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
CLOSE_1000 = (0x88, b"\x03\xe8")
GET = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"


def pong(payload: bytes = b"") -> tuple[int, bytes]:
    return 0x8A, payload


def session(parser: str = "httptools", send_timeout: float = 30.0, **limits: Any) -> SessionWire:
    """Return a connection with these [limits.websocket]."""
    return SessionWire(parser, Limits(send_timeout=send_timeout, websocket=WebSocketLimits(**limits)))


def texts(count: int, start: int = 0) -> bytes:
    return b"".join(frame(TEXT, b"%d" % number) for number in range(start, start + count))


def read_all(wire: SessionWire) -> list[str]:
    """Let the application read until there is nothing more."""
    received = []
    while True:
        task = wire.run(wire.call.receive())
        if not task.done():
            task.cancel()
            wire.settle()
            return received
        message = task.result()
        if message["type"] == "websocket.disconnect":
            return received
        if message["type"] == "websocket.receive":
            received.append(message.get("text"))


def block(wire: SessionWire) -> asyncio.Task[Any]:
    """Let the peer read no more, and the application send until it has to wait; return its last `send`."""
    wire.transport.room = 0
    task = wire.run(wire.call.send({"type": "websocket.send", "bytes": bytes(100_000)}))
    assert not task.done()
    return task


def close_blocked(wire: SessionWire) -> bytes:
    """Let the application close although the peer does not read; return what the server has written."""
    assert not wire.run(wire.call.send({"type": "websocket.close"})).done()
    return wire.received()


@pytest.mark.parametrize("parser", sorted(PARSERS))
class TestQueue:
    """limits.websocket.queue: an application that does not read stops its peer."""

    @pytest.mark.parametrize("queue", [1, 2, 16])
    def test_reading_pauses_when_it_is_full_and_goes_on_when_it_is_read(self, parser: str, queue: int) -> None:
        with session(parser, queue=queue) as wire:
            wire.accept()
            for number in range(queue):
                assert wire.transport.reading
                wire.send(frame(TEXT, b"%d" % number))
            assert not wire.transport.reading
            wire.send(texts(100, queue))
            assert len(wire.transport.waiting) == len(texts(100, queue))  # where the kernel would keep it
            for number in range(queue):
                assert not wire.transport.reading
                assert wire.receive()["text"] == str(number)
            assert read_all(wire) == [str(number) for number in range(queue, queue + 100)]
            assert wire.transport.reading

    def test_what_has_been_read_from_the_wire_waits_as_bytes(self, parser: str) -> None:
        with session(parser, queue=3) as wire:
            wire.accept()
            wire.send(texts(1000))
            assert not wire.transport.reading
            [one] = wire.service.sessions.open
            assert len(one._websocket.messages) == 3
            assert read_all(wire) == [str(number) for number in range(1000)]

    def test_large_messages_fill_it_by_their_size(self, parser: str) -> None:
        with session(parser, queue=1000) as wire:
            wire.accept()
            for _ in range(3):
                assert wire.transport.reading
                wire.send(frame(BINARY, bytes(QUEUE_SIZE // 3)))
            assert wire.transport.reading
            wire.send(frame(BINARY, b"more"))
            assert not wire.transport.reading
            assert len(read_all(wire)) == 4
            assert wire.transport.reading

    def test_frames_that_came_with_the_handshake_fill_it_too(self, parser: str) -> None:
        with session(parser, queue=2) as wire:
            wire.send(handshake() + texts(5))
            wire.receive()
            wire.tell("accept")
            assert not wire.transport.reading
            assert read_all(wire) == ["0", "1", "2", "3", "4"]
            assert wire.transport.reading

    def test_a_close_behind_what_waits_is_told_when_that_has_been_read(self, parser: str) -> None:
        with session(parser, queue=2) as wire:
            wire.accept()
            wire.send(texts(5) + close(4000, b"bye"))
            assert wire.received() == b""
            assert read_all(wire) == ["0", "1", "2", "3", "4"]
            assert frames_of(wire.received()) == [(0x88, b"\x0f\xa0")]
            assert wire.receive() == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}

    def test_a_fault_behind_what_waits_is_told_when_that_has_been_read(self, parser: str) -> None:
        with session(parser, queue=2) as wire:
            wire.accept()
            wire.send(texts(3) + frame(0x3))
            assert read_all(wire) == ["0", "1", "2"]
            assert frames_of(wire.received())[0][1][:2] == b"\x03\xea"
            assert wire.receive()["code"] == 1002

    def test_a_connection_that_is_lost_meanwhile_does_not_take_what_has_come_along(self, parser: str) -> None:
        with session(parser, queue=2) as wire:
            wire.accept()
            wire.send(texts(2))
            wire.lose()
            assert read_all(wire) == ["0", "1"]
            assert wire.receive()["code"] == 1006

    def test_a_connection_that_is_lost_as_the_last_is_read_is_not_gone_on_with(self, parser: str) -> None:
        async def reads_as_it_is_lost() -> str:
            text: str = (await wire.call.receive())["text"]
            wire.transport.abort()  # what waits behind was to be looked at in the next turn
            return text

        with session(parser, queue=1) as wire:
            wire.accept()
            wire.send(texts(2))
            assert wire.run(reads_as_it_is_lost()).result() == "0"
            assert wire.receive()["code"] == 1006


def turn(wire: SessionWire) -> None:
    """Let the loop turn once."""
    wire.loop.call_soon(wire.loop.stop)
    wire.loop.run_forever()


class TestFairness:
    """What one peer sends costs the others a bounded time."""

    @pytest.mark.parametrize(
        "flood",
        [
            pytest.param(frame(PING, b"x"), id="pings"),
            pytest.param(frame(PONG), id="pongs"),
            pytest.param(frame(TEXT, b""), id="small messages that are read at once"),
        ],
    )
    def test_another_connection_is_served_in_between(self, flood: bytes) -> None:
        count = FRAMES_AT_ONCE * 40
        seen = 0

        async def reads() -> None:
            nonlocal seen
            while (await call.receive())["type"] == "websocket.receive":
                seen += 1

        with session(queue=65536) as wire:
            wire.accept()
            call, flooded = wire.call, wire.transport
            reading = wire.loop.create_task(reads())
            wire.settle()
            wire.connect()
            wire.loop.call_soon(flooded.deliver, flood * count + frame(TEXT, b"last"))
            wire.loop.call_soon(wire.transport.deliver, GET)
            for _ in range(3):
                turn(wire)
            assert wire.call is not call  # its application runs
            handled = len(flooded.written) // len(flood) + seen
            assert handled <= FRAMES_AT_ONCE * 4
            wire.settle()
            # Nothing of the flood is lost.
            expected = count if flood[0] & 0x0F == TEXT else 0
            assert seen == expected + 1
            if flood[0] & 0x0F == PING:
                assert len(frames_of(bytes(flooded.written))) == count
            reading.cancel()
            wire.settle()

    def test_an_application_that_echoes_a_flood_leaves_the_loop_to_others(self) -> None:
        async def echoes() -> None:
            while (message := await call.receive())["type"] == "websocket.receive":
                await call.send({"type": "websocket.send", "text": message["text"]})

        with session() as wire:
            wire.accept()
            call, flooded = wire.call, wire.transport
            echoing = wire.loop.create_task(echoes())
            wire.settle()
            wire.connect()
            wire.loop.call_soon(flooded.deliver, frame(TEXT, b"x") * 10_000)
            wire.loop.call_soon(wire.transport.deliver, GET)
            for _ in range(4):
                turn(wire)
            assert wire.call is not call
            assert len(flooded.written) < 3 * 200
            wire.settle()
            assert len(flooded.written) == 3 * 10_000
            echoing.cancel()
            wire.settle()


class TestBackpressure:
    """A peer that does not read makes `send` wait, and is let go of in the end."""

    def test_send_waits_until_the_peer_has_read(self) -> None:
        with session() as wire:
            wire.accept()
            waiting = block(wire)
            another = wire.run(wire.call.send({"type": "websocket.send", "text": "x"}))
            assert not another.done()
            wire.take(50_000)
            assert not waiting.done()
            wire.take()
            assert waiting.done()
            assert another.done()

    def test_it_is_cut_after_send_timeout_without_a_byte(self) -> None:
        with session(send_timeout=5.0, ping_interval=0) as wire:
            wire.accept()
            waiting = block(wire)
            wire.advance(4)
            wire.take(1)
            wire.advance(4)
            assert not wire.transport.closed
            wire.advance(2)
            assert wire.transport.reset
            assert waiting.done()
            assert read_all(wire) == []
            error = wire.run(wire.call.send({"type": "websocket.send", "text": "x"})).exception()
            assert isinstance(error, OSError)

    def test_one_that_sends_its_end_and_reads_nothing_is_cut_too(self) -> None:
        with session(send_timeout=5.0) as wire:
            wire.accept()
            wire.transport.room = 0
            wire.tell("send", text="x")  # too little for the transport to say that it is much
            wire.send_eof()
            wire.finish()
            wire.advance(10)
            assert not wire.service.connections

    def test_while_it_does_not_read_only_its_last_ping_is_answered(self) -> None:
        with session() as wire:
            wire.accept()
            block(wire)
            wire.received()
            assert wire.send(frame(PING, b"1") + frame(PING, b"2") * 1000 + frame(PING, b"3")) == b""
            wire.take()
            wire.transport.room = float("inf")
            assert frames_of(wire.advance(1)) == [pong(b"3")]
            assert wire.advance(5) == b""

    def test_pings_of_who_does_not_read_cost_no_more_than_what_makes_it_blocked(self) -> None:
        with session() as wire:
            wire.accept()
            wire.transport.room = 0
            for _ in range(50):
                wire.send(frame(PING, bytes(125)) * 1000)
            assert wire.transport.unsent < 64 * 1024 + 1000 * 127

    def test_its_own_messages_are_still_received(self) -> None:
        with session() as wire:
            wire.accept()
            block(wire)
            wire.send(texts(3))
            assert read_all(wire) == ["0", "1", "2"]

    def test_it_is_not_asked_whether_it_is_there(self) -> None:
        with session(send_timeout=1000.0, ping_interval=1.0, ping_timeout=1.0) as wire:
            wire.accept()
            block(wire)
            wire.received()
            assert wire.advance(100) == b""
            assert not wire.closed

    def test_the_time_for_which_it_does_not_read_is_not_held_against_its_pong(self) -> None:
        # A Ping, and what would answer it, wait behind what is unsent.
        with session(send_timeout=1000.0, ping_interval=2.0, ping_timeout=5.0) as wire:
            wire.accept()
            assert frames_of(wire.advance(3)) == [(0x89, b"")]
            block(wire)
            wire.advance(100)
            wire.take()
            wire.advance(3)
            assert not wire.closed

    def test_a_peer_that_begins_to_read_has_the_whole_time_for_its_close(self) -> None:
        with session(send_timeout=1000.0) as wire:
            wire.accept()
            block(wire)
            close_blocked(wire)
            wire.advance(100)
            wire.take()
            wire.advance(CLOSE_TIMEOUT - 2)
            assert not wire.transport.closed
            wire.send(close(1000))
            assert wire.transport.eof

    def test_a_close_waits_behind_what_is_unsent(self) -> None:
        with session() as wire:
            wire.accept()
            block(wire)
            wire.received()
            assert frames_of(close_blocked(wire)) == [CLOSE_1000]
            wire.take()
            wire.send(close(1000))
            assert wire.closed


class TestPings:
    """RFC 6455 §5.5.2, §5.5.3; limits.websocket.ping_interval and ping_timeout, in seconds."""

    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))])
    def test_a_ping_is_answered_with_its_payload(self, payload: bytes) -> None:
        with session() as wire:
            wire.accept()
            assert frames_of(wire.send(frame(PING, payload))) == [pong(payload)]

    def test_pings_between_the_fragments_of_a_message_are_answered_at_once(self) -> None:
        with session() as wire:
            wire.accept()
            assert frames_of(wire.send(frame(TEXT, b"a", fin=False) + frame(PING, b"1"))) == [pong(b"1")]
            assert frames_of(wire.send(frame(PING, b"2") + frame(CONTINUATION, b"b"))) == [pong(b"2")]
            assert wire.receive()["text"] == "ab"

    def test_a_pong_that_nobody_asked_for_is_ignored(self) -> None:
        with session() as wire:
            wire.accept()
            assert wire.send(frame(PONG, b"unasked")) == b""

    def test_a_silent_peer_is_asked_whether_it_is_there(self) -> None:
        with session(ping_interval=20.0, ping_timeout=20.0) as wire:
            wire.accept()
            assert wire.advance(20) == b""
            assert frames_of(wire.advance(2)) == [(0x89, b"")]
            assert wire.advance(15) == b""
            wire.send(frame(PONG))
            assert wire.advance(20) == b""
            assert frames_of(wire.advance(2)) == [(0x89, b"")]
            assert not wire.closed

    @pytest.mark.parametrize("sign", [frame(TEXT, b"x"), frame(PING), frame(PONG, b"other"), frame(TEXT, b"x")[:1]])
    def test_one_that_says_anything_is_not_asked(self, sign: bytes) -> None:
        with session(ping_interval=5.0, ping_timeout=5.0) as wire:
            wire.accept()
            for number in range(100):
                wire.send(sign if len(sign) > 1 else frame(TEXT, b"x")[number % 7 : number % 7 + 1])
                read_all(wire)
                wire.received()
                assert wire.advance(4) == b""

    @pytest.mark.parametrize("waits", [True, False])
    def test_one_that_does_not_answer_is_let_go(self, waits: bool) -> None:
        with session(ping_interval=5.0, ping_timeout=3.0) as wire:
            wire.accept()
            waiting = wire.run(wire.call.receive()) if waits else None
            assert frames_of(wire.advance(6)) == [(0x89, b"")]
            assert not wire.closed
            [(first, payload)] = frames_of(wire.advance(4))
            assert (first, payload[:2]) == (0x88, (1011).to_bytes(2, "big"))
            assert wire.closed
            message = waiting.result() if waiting else wire.receive()
            assert message == {"type": "websocket.disconnect", "code": 1006, "reason": "no answer to a ping"}
            assert not wire.advance(5)
            assert not wire.service.connections

    def test_what_comes_too_late_changes_nothing(self) -> None:
        with session(ping_interval=5.0, ping_timeout=3.0) as wire:
            wire.accept()
            wire.advance(10)
            assert wire.send(frame(TEXT, b"late") + close(4000, b"late")) == b""
            assert wire.receive()["code"] == 1006

    def test_anything_is_an_answer(self) -> None:
        with session(ping_interval=5.0, ping_timeout=3.0) as wire:
            wire.accept()
            for number in range(10):
                assert frames_of(wire.advance(7)) == [(0x89, b"")]
                wire.send(frame(TEXT, b"%d" % number))
                assert wire.receive()["text"] == str(number)
            assert not wire.closed

    def test_an_interval_of_0_asks_nobody(self) -> None:
        with session(ping_interval=0, ping_timeout=1.0) as wire:
            wire.accept()
            assert wire.advance(10_000) == b""

    def test_a_timeout_of_0_lets_nobody_go(self) -> None:
        with session(ping_interval=5.0, ping_timeout=0) as wire:
            wire.accept()
            assert frames_of(wire.advance(7)) == [(0x89, b"")]
            wire.advance(10_000)
            assert not wire.closed
            wire.send(frame(PONG))
            assert frames_of(wire.advance(7)) == [(0x89, b"")]

    def test_one_that_is_not_read_is_not_let_go_for_what_waits_unread(self) -> None:
        # Its Pong would wait behind the messages that the application does not take.
        with session(ping_interval=5.0, ping_timeout=5.0, queue=1) as wire:
            wire.accept()
            wire.send(texts(2))
            assert not wire.transport.reading
            assert set(frames_of(wire.advance(1000))) == {(0x89, b"")}  # whose way the kernel finds closed, if it is
            assert read_all(wire) == ["0", "1"]
            assert frames_of(wire.advance(7)) == [(0x89, b"")]


class TestClosingHandshake:
    """RFC 6455 §7.1: who says Close is answered with one, and the server ends the connection."""

    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (close(1000), b"\x03\xe8"),
            (close(1001, b"going"), b"\x03\xe9"),
            (close(4999), b"\x13\x87"),
            (frame(CLOSE), b""),
        ],
    )
    def test_the_peers_close_is_answered_and_the_connection_ended(self, data: bytes, answer: bytes) -> None:
        with session() as wire:
            wire.accept()
            assert frames_of(wire.send(data)) == [(0x88, answer)]
            assert wire.transport.eof  # RFC 6455 §7.1.1: by the server first
            assert not wire.transport.closed
            assert wire.send_eof() == b""
            assert wire.transport.closed

    def test_a_peer_that_keeps_its_end_open_is_cut(self) -> None:
        with session() as wire:
            wire.accept()
            wire.send(close(1000))
            assert wire.advance(5) == b""
            assert wire.transport.closed

    def test_our_close_waits_for_the_peers(self) -> None:
        with session() as wire:
            wire.accept()
            assert frames_of(wire.tell("close", code=4000)) == [(0x88, b"\x0f\xa0")]
            assert not wire.closed
            assert wire.send(close(4000)) == b""
            assert wire.transport.eof

    def test_what_crosses_our_close_is_thrown_away(self) -> None:
        with session() as wire:
            wire.accept()
            wire.tell("close")
            assert wire.send(texts(1000) + frame(BINARY, bytes(100_000)) + close(1000)) == b""
            assert wire.transport.eof
            assert read_all(wire) == []

    def test_the_peers_code_does_not_replace_that_of_the_application(self) -> None:
        with session() as wire:
            wire.accept()
            wire.tell("close", code=4000, reason="ours")
            assert wire.receive()["code"] == 4000

    @pytest.mark.parametrize("chatter", [b"", frame(TEXT, b"x"), frame(PING), frame(PONG)])
    def test_a_peer_that_never_answers_our_close_is_cut_whatever_else_it_sends(self, chatter: bytes) -> None:
        with session() as wire:
            wire.accept()
            wire.tell("close")
            for _ in range(int(CLOSE_TIMEOUT) - 2):
                wire.send(chatter)
                wire.advance(1)
                assert not wire.transport.closed
            for _ in range(4):
                wire.send(chatter)
                assert wire.advance(1) == b""
            assert wire.transport.closed

    @pytest.mark.parametrize("end", ["finish", "fail", "close"])
    def test_the_close_of_a_peer_that_has_sent_much_is_found(self, end: str) -> None:
        with session(queue=2) as wire:
            wire.accept()
            wire.send(texts(FRAMES_AT_ONCE * 5) + close(1000))
            if end == "close":
                wire.tell("close")
            else:
                wire.finish(ValueError("of the test") if end == "fail" else None)
            wire.settle()
            assert wire.transport.eof

    def test_nothing_follows_our_close(self) -> None:
        with session(ping_interval=2.0) as wire:
            wire.accept()
            wire.tell("close")
            assert wire.send(frame(PING, b"x")) == b""
            assert wire.send(frame(0x3)) == b""  # a fault, which cannot be told any more
            assert wire.closed

    def test_no_pong_that_has_waited_follows_our_close(self) -> None:
        with session() as wire:
            wire.accept()
            block(wire)
            wire.received()
            wire.send(frame(PING, b"before"))
            assert frames_of(close_blocked(wire)) == [CLOSE_1000]
            wire.send(frame(PING, b"after"))
            wire.take()
            wire.transport.room = float("inf")
            assert wire.advance(3) == b""

    def test_after_a_fault_of_the_peer_nothing_it_sends_counts(self) -> None:
        with session() as wire:
            wire.accept()
            waiting = wire.run(wire.call.receive())
            [(first, payload)] = frames_of(wire.send(frame(TEXT, b"\xff") + frame(TEXT, b"more") + close(1000)))
            assert (first, payload[:2]) == (0x88, (1007).to_bytes(2, "big"))
            assert wire.transport.eof
            assert wire.send(frame(TEXT, b"still more")) == b""
            assert waiting.result()["code"] == 1007

    def test_what_came_before_a_fault_is_answered_first(self) -> None:
        with session() as wire:
            wire.accept()
            assert wire.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(0x3)) == b""
            for text in ("one", "two"):
                assert wire.receive()["text"] == text
                assert frames_of(wire.tell("send", text=text)) == [(0x81, text.encode())]
            assert wire.receive()["code"] == 1002
            [(first, payload)] = frames_of(wire.received())
            assert (first, payload[:2]) == (0x88, (1002).to_bytes(2, "big"))
            assert wire.transport.eof

    @pytest.mark.parametrize(
        ("end", "code"), [(close(4001, b"done"), 4001), (frame(0x3), 1002)], ids=["Close", "fault"]
    )
    def test_an_end_that_waits_for_its_turn_is_told_although_the_peer_has_gone(self, end: bytes, code: int) -> None:
        with session() as wire:
            wire.accept()
            assert wire.send(frame(TEXT, b"one") + end) == b""
            wire.send_eof()
            assert wire.receive()["text"] == "one"
            assert wire.receive()["code"] == code

    def test_an_application_that_asks_for_nothing_more_does_not_put_a_fault_off_for_long(self) -> None:
        with session() as wire:
            wire.accept()
            assert wire.send(frame(0x3)) == b""
            [(first, payload)] = frames_of(wire.advance(3))
            assert (first, payload[:2]) == (0x88, (1002).to_bytes(2, "big"))

    def test_an_application_has_its_time_from_the_fault_on(self) -> None:
        with session(ping_interval=0) as wire:
            wire.accept()
            wire.advance(100)
            wire.send(frame(TEXT, b"one") + frame(0x3))
            assert wire.advance(0.5) == b""
            assert wire.receive()["text"] == "one"
            assert frames_of(wire.tell("send", text="two")) == [(0x81, b"two")]

    def test_a_peer_that_says_more_after_a_fault_does_not_put_it_off(self) -> None:
        with session() as wire:
            wire.accept()
            wire.send(frame(0x3))
            answer = b""
            for _ in range(4):
                answer += wire.send(frame(TEXT, b"more")) + wire.advance(1)
            [(first, payload)] = frames_of(answer)
            assert (first, payload[:2]) == (0x88, (1002).to_bytes(2, "big"))

    def test_an_application_that_closes_before_it_hears_of_a_fault_does_not_hide_it(self) -> None:
        with session() as wire:
            wire.accept()
            assert wire.send(frame(0x3)) == b""
            [(first, payload)] = frames_of(wire.tell("close"))
            assert (first, payload[:2]) == (0x88, (1002).to_bytes(2, "big"))

    def test_the_fault_is_told_in_the_log_for_who_looks(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        with session() as wire:
            wire.accept()
            wire.run(wire.call.receive())
            wire.send(frame(0x3))
        assert "closed a session: 1002 unknown opcode" in caplog.text

    def test_both_may_say_close_at_once(self) -> None:
        with session() as wire:
            wire.accept()
            wire.transport.deliver(close(4001, b"theirs"))
            assert frames_of(wire.received()) == [(0x88, b"\x0f\xa1")]
            assert wire.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "theirs"}

    @pytest.mark.parametrize("leave", ["lose", "send_eof"])
    def test_a_peer_that_goes_without_a_close_is_gone(self, leave: str) -> None:
        with session() as wire:
            wire.accept()
            wire.tell("close", code=4000)
            getattr(wire, leave)()
            assert wire.transport.closed
            wire.settle()
            assert not wire.service.connections


class TestCompression:
    """RFC 7692 §7.2, as far as it is the session's."""

    def test_short_messages_are_sent_as_they_are(self) -> None:
        with session() as wire:
            wire.accept(DEFLATE)
            assert frames_of(wire.tell("send", text="x" * 1023)) == [(0x81, b"x" * 1023)]

    @pytest.mark.parametrize("takeover", [True, False])
    def test_longer_ones_are_compressed(self, takeover: bool) -> None:
        with session() as wire:
            wire.accept(DEFLATE + b"; server_no_context_takeover" * (not takeover))
            sizes = []
            inflater = zlib.decompressobj(-15)
            for _ in range(2):
                [(first, payload)] = frames_of(wire.tell("send", text="".join(map(str, range(1000)))))
                assert first == 0x81 | RSV1
                if not takeover:
                    inflater = zlib.decompressobj(-15)
                assert inflater.decompress(payload + b"\x00\x00\xff\xff").decode() == "".join(map(str, range(1000)))
                sizes.append(len(payload))
            assert (sizes[1] < sizes[0] / 2) is takeover

    def test_without_an_agreement_nothing_is(self) -> None:
        with session() as wire:
            wire.accept()
            assert frames_of(wire.tell("send", bytes=bytes(5000))) == [(0x82, bytes(5000))]

    def test_what_the_peer_compresses_is_read(self) -> None:
        with session() as wire:
            wire.accept(DEFLATE)
            compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = compressor.compress(bytes(100_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
            wire.send(frame(BINARY, data[:-4], rsv=RSV1))
            assert wire.receive()["bytes"] == bytes(100_000)

    def test_a_message_over_the_bound_is_1009(self) -> None:
        with session(message_size=1000) as wire:
            wire.accept(DEFLATE)
            compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = compressor.compress(bytes(1001)) + compressor.flush(zlib.Z_SYNC_FLUSH)
            waiting = wire.run(wire.call.receive())
            [(first, payload)] = frames_of(wire.send(frame(BINARY, data[:-4], rsv=RSV1)))
            assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
            assert waiting.result()["code"] == 1009
