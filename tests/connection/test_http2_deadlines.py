"""The deadlines of an HTTP/2 connection, in virtual time: the same limits as for HTTP/1.1, and the same answers."""

from __future__ import annotations

import asyncio

import pytest

from serverd.connection.base import LINGER_TIMEOUT
from serverd.generation import Limits
from serverd.protocol.http2 import ErrorCode
from tests.protocol.http2_peer import PREFACE, frame
from tests.support.applications import hello
from tests.support.http2 import Http2Wire, ManualWire
from tests.support.wire import Wire

LIMITS = Limits(header_timeout=5, body_timeout=8, send_timeout=6, keep_alive_timeout=20)
HEADERS, SETTINGS, PING, CONTINUATION = 1, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
GET = b"\x82\x86\x84\x01\x01a"


class TestGreeting:
    """One deadline from accept to the end of the first SETTINGS (RFC 9113 §3.4): limits.header_timeout."""

    @pytest.mark.parametrize("sent", [PREFACE[:5], PREFACE[:20], PREFACE, PREFACE + frame(SETTINGS)[:5]])
    def test_a_client_that_does_not_greet_is_ended(self, sent: bytes) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(sent)
            wire.advance(4)
            assert not wire.closed
            wire.advance(1)
            assert wire.closed

    def test_nothing_that_it_sends_prolongs_it(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            for octet in PREFACE + frame(SETTINGS):
                if wire.closed:
                    break
                wire.send(bytes([octet]))
                wire.advance(0.5)
            assert wire.closed
            assert wire.loop.now <= 1000 + 5 + 1

    def test_one_that_has_greeted_may_idle(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            wire.advance(19)
            assert not wire.closed
            wire.advance(2)
            assert wire.closed


class TestIdle:
    """limits.keep_alive_timeout: from the end of the last stream on."""

    def test_it_begins_again_with_each_request(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            for _ in range(5):
                wire.advance(18)
                assert wire.request().ended
            wire.advance(19)
            assert not wire.closed
            wire.advance(2)
            assert wire.closed
            assert wire.goaways == [(9, ErrorCode.NO_ERROR)]

    def test_it_does_not_count_while_a_stream_is_open(self) -> None:
        with ManualWire(LIMITS) as wire:
            answer = wire.request()
            wire.advance(300)
            wire.run(wire.call.respond())
            assert answer.outcome == (200, b"ok", True)
            wire.finish()
            wire.advance(19)
            assert not wire.closed
            wire.advance(2)
            assert wire.closed

    def test_no_ping_prolongs_it(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            for _ in range(30):
                if wire.closed:
                    break
                for octet in frame(PING, payload=bytes(8)):
                    wire.send_raw(bytes([octet]))
                wire.advance(1)
            assert wire.closed
            assert wire.loop.now <= 1000 + 20 + 1

    def test_a_request_that_arrives_in_that_moment_has_the_time_of_its_head(self) -> None:
        with ManualWire(LIMITS) as wire:
            wire.advance(19)
            wire.open()
            data = wire.client.data_to_send()
            wire.hear(wire.send_raw(data[:-1]))
            wire.advance(3)
            assert not wire.closed
            wire.hear(wire.send_raw(data[-1:]))
            wire.run(wire.call.respond())
            assert wire.answers[1].ended
            wire.finish()

    def test_the_client_that_is_told_has_time_to_read_that(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            wire.advance(21)
            assert wire.transport.eof
            assert not wire.transport.closed
            wire.advance(LINGER_TIMEOUT + 1)
            assert wire.transport.closed


class TestHalfFrames:
    """A frame that has begun: limits.header_timeout, and limits.body_timeout for one of a body."""

    @pytest.mark.parametrize(
        ("sent", "seconds"),
        [
            pytest.param(
                frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84" + bytes(50))[:20], 5, id="HEADERS"
            ),
            pytest.param(frame(HEADERS, END_STREAM, 1, b"\x82\x86\x84"), 5, id="no CONTINUATION"),
            pytest.param(frame(PING, payload=bytes(8))[:12], 5, id="PING"),
            pytest.param(b"\0\0", 5, id="two bytes"),
            pytest.param(frame(0, 0, 1, bytes(100))[:50], 8, id="DATA"),
        ],
    )
    def test_its_rest_has_to_come_in_time(self, sent: bytes, seconds: int) -> None:
        with ManualWire(LIMITS) as wire:
            wire.request("POST", end=False)
            wire.send_raw(sent if sent[3:4] == b"\0" else sent.replace(b"\0\0\0\1", b"\0\0\0\3"))
            for _ in range(seconds - 1):
                wire.send_raw(b"")
                wire.advance(1)
            assert not wire.closed
            wire.advance(1)
            assert wire.closed
            assert wire.goaways == [(1, ErrorCode.NO_ERROR)]
            wire.finish()

    def test_dribbling_does_not_prolong_it(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            data = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84" + bytes(50))
            for octet in data:
                if wire.closed:
                    break
                wire.send_raw(bytes([octet]))
                wire.advance(1)
            assert wire.closed
            assert wire.loop.now <= 1000 + 5 + 1

    def test_neither_does_a_header_block_in_many_frames(self) -> None:
        with Http2Wire(hello, LIMITS) as wire:
            wire.send_raw(frame(HEADERS, END_STREAM, 1, b"\x82"))
            for _ in range(10):
                if wire.closed:
                    break
                data = frame(CONTINUATION, 0, 1, b"\x86")
                wire.send_raw(data[:5])
                wire.advance(1)
                wire.send_raw(data[5:])
                wire.advance(1)
            assert wire.closed
            assert wire.loop.now <= 1000 + 5 + 2

    @pytest.mark.parametrize("reads", [True, False], ids=["the application reads", "it does not, but others do"])
    def test_who_sends_without_a_pause_is_never_late(self, reads: bool) -> None:
        """Reads end within a frame as good as always."""
        with ManualWire(LIMITS) as wire:
            busy = wire.request("POST", end=False)
            wire.request("POST", end=False)
            data = frame(0, 0, busy.id, bytes(100))
            rest = b""
            for _ in range(100):
                pending = rest + data
                wire.send_raw(pending[:60])
                rest = pending[60:]
                if len(rest) > 200:
                    wire.send_raw(rest[:100])
                    rest = rest[100:]
                if reads:
                    wire.run(wire.manual.calls[0].receive())
                wire.advance(1)
                assert not wire.closed
            for call in wire.manual.calls:
                wire.finish(call)

    def test_it_does_not_count_while_we_do_not_read(self) -> None:
        with Http2Wire(hello, Limits(header_timeout=5, send_timeout=1000, keep_alive_timeout=1000)) as wire:
            wire.transport.room = 0
            stream_id, rest = 1, b""
            while wire.transport.reading:
                requests = [frame(HEADERS, END_HEADERS | END_STREAM, stream_id + 2 * n, GET) for n in range(20)]
                stream_id += 40
                wire.send_raw(rest + b"".join(requests) + frame(PING, payload=bytes(8))[:5])
                rest = frame(PING, payload=bytes(8))[5:]
            wire.advance(20)
            assert not wire.closed
            wire.transport.room = float("inf")
            wire.transport.take(float("inf"))
            wire.settle()
            assert wire.transport.reading
            Wire.advance(wire, 4)
            assert not wire.closed
            wire.send_raw(rest)
            Wire.advance(wire, 20)
            assert not wire.closed


class TestBody:
    """limits.body_timeout: for each stream whose application waits for a part."""

    def test_one_that_does_not_come_is_answered_408_and_nothing_else_ends(self) -> None:
        with ManualWire(LIMITS) as wire:
            late = wire.request("POST", body=b"half", end=False)
            other = wire.request()
            call = wire.manual.calls[0]
            assert wire.run(call.receive()).result()["body"] == b"half"
            waiting = wire.run(call.receive())
            wire.advance(7)
            assert not late.status
            wire.advance(2)
            assert (late.status, late.ended) == (408, True)
            assert b"did not arrive in time" in late.body
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.run(call.send({"type": "http.response.start", "status": 200})).exception() is None
            wire.run(wire.manual.calls[1].respond())
            assert other.outcome == (200, b"ok", True)
            for one in wire.manual.calls:
                wire.finish(one)
            wire.advance(5)
            assert not wire.streams

    def test_each_part_gives_it_time_again(self) -> None:
        with ManualWire(LIMITS) as wire:
            answer = wire.request("POST", end=False)
            for _ in range(5):
                waiting = wire.run(wire.call.receive())
                wire.advance(7)
                wire.upload(answer, b"x", end=False)
                assert waiting.result()["body"] == b"x"
            assert not answer.status
            wire.finish()

    def test_an_application_that_does_not_ask_misses_nothing(self) -> None:
        with ManualWire(LIMITS) as wire:
            answer = wire.request("POST", end=False)
            wire.advance(100)
            assert not answer.status
            wire.upload(answer, b"late")
            assert wire.run(wire.call.receive()).result()["body"] == b"late"
            wire.run(wire.call.respond())
            assert answer.ended
            wire.finish()

    def test_one_whose_response_has_begun_is_reset(self) -> None:
        with ManualWire(LIMITS) as wire:
            answer = wire.request("POST", end=False)
            wire.run(wire.call.start())
            wire.run(wire.call.body(b"half", True))
            waiting = wire.run(wire.call.receive())
            wire.advance(10)
            assert answer.status == 200
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            assert waiting.result() == {"type": "http.disconnect"}
            wire.finish()

    def test_a_client_that_has_all_sent_and_is_waited_for_all_the_same_is_left_alone(self) -> None:
        with ManualWire(LIMITS) as wire:
            wire.request("POST", body=b"all")
            wire.run(wire.call.receive())
            waiting = wire.run(wire.call.receive())
            wire.advance(100)
            assert not waiting.done()
            wire.run(wire.call.respond())
            assert waiting.result() == {"type": "http.disconnect"}
            wire.finish()

    def test_one_that_cannot_come_is_not_late(self) -> None:
        """The client does not read, so that nothing of it is read either."""
        limits = Limits(body_timeout=8, header_timeout=8, send_timeout=1000, keep_alive_timeout=1000)
        with ManualWire(limits) as wire:
            upload = wire.request("POST", end=False)
            call = wire.call
            waiting = wire.run(call.receive())
            wire.transport.room = 0
            hint = {"type": "http.response.early_hint", "links": [b"</%d>" % number for number in range(100)]}

            async def fill() -> None:
                while wire.transport.room == 0:
                    await call.send(hint)
                    await asyncio.sleep(0)

            filling = wire.run(fill())
            stream_id = 3
            while wire.transport.reading:
                wire.send_raw(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, GET))
                stream_id += 2
            Wire.advance(wire, 30)
            assert not waiting.done()
            wire.transport.room = float("inf")
            wire.transport.take(float("inf"))
            wire.settle()
            assert wire.transport.reading
            Wire.advance(wire, 6)
            assert not waiting.done()
            Wire.advance(wire, 10)
            assert waiting.result() == {"type": "http.disconnect"}
            assert filling.done()
            assert not upload.status
            for one in wire.manual.calls:
                one.finish()
            wire.lose()


class TestSend:
    """limits.send_timeout: a client that takes nothing, by its windows or its socket."""

    def test_a_stream_whose_window_stays_shut_is_reset(self) -> None:
        with ManualWire(LIMITS, reads=False) as wire:
            stalled = wire.request()
            sending = wire.run(wire.call.start()) and wire.run(wire.call.body(bytes(300_000), True))
            assert not sending.done()
            wire.client.increment_flow_control_window(1_000_000)
            wire.exchange()
            wire.advance(5)
            assert stalled.reset is None
            wire.advance(3)
            assert stalled.reset == ErrorCode.CANCEL
            assert sending.done()
            assert wire.run(wire.call.body(b"more", True)).exception() is None
            wire.finish(error=OSError())
            assert wire.request() is not None
            wire.run(wire.call.respond())
            assert wire.answers[3].outcome == (200, b"ok", True)
            wire.finish()

    def test_each_byte_of_window_is_progress(self) -> None:
        with ManualWire(LIMITS, reads=False) as wire:
            answer = wire.request()
            wire.run(wire.call.start())
            wire.run(wire.call.body(bytes(300_000), True))
            for _ in range(20):
                wire.advance(4)
                wire.read(answer, 1)
            assert answer.reset is None
            wire.reset(answer)
            wire.finish()

    def test_a_socket_that_nobody_reads_is_reset(self) -> None:
        with ManualWire(LIMITS) as wire:
            wire.transport.room = 100
            wire.client.increment_flow_control_window(1_000_000)
            wire.client.increment_flow_control_window(1_000_000, wire.request().id)
            wire.exchange()
            wire.run(wire.call.start())
            sending = wire.run(wire.call.body(bytes(400_000), True))
            assert not sending.done()
            wire.advance(5)
            assert not wire.transport.closed
            wire.advance(3)
            assert wire.transport.reset
            assert sending.done()
            wire.finish()

    def test_a_slow_reader_is_no_idle_client(self) -> None:
        """The last response is complete for us, and waits for the socket: no new request can be expected."""
        limits = Limits(keep_alive_timeout=3, send_timeout=60)
        with ManualWire(limits) as wire:
            wire.client.increment_flow_control_window(1_000_000)
            answer = wire.open()
            wire.client.increment_flow_control_window(1_000_000, answer.id)
            wire.exchange()
            wire.transport.room = 0
            wire.run(wire.call.start())
            wire.run(wire.call.body(bytes(200_000)))
            wire.finish()
            wire.advance(20)
            assert not wire.closed
            while not answer.ended:
                wire.take(30_000)
                wire.advance(1)
            assert len(answer.body) == 200_000
