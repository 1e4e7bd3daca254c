"""The end of an HTTP/2 connection that we want: GOAWAY in two steps, and nothing that is on its way is lost."""

from __future__ import annotations

import pytest

from serverd.connection.base import DRAIN_IDLE_TIMEOUT
from serverd.connection.http2 import Http2Connection
from serverd.generation import Limits
from serverd.protocol.http2 import ErrorCode
from tests.protocol.http2_peer import ACK, PREFACE, Frame, frame, frames_of
from tests.support.applications import hello
from tests.support.http2 import Http2Wire, ManualWire
from tests.support.wire import MemoryTransport, Wire

PING, GOAWAY, SETTINGS = 6, 7, 4
GET = b"\x82\x86\x84\x01\x01a"
EVERYTHING = 2**31 - 1


def goaways(frames: list[Frame]) -> list[tuple[int, int]]:
    """Return the last stream and the code of each GOAWAY."""
    return [(one.number, one.code) for one in frames if one.kind == GOAWAY]


class TestTwoSteps:
    """RFC 9113 §6.8."""

    def test_an_idle_connection_ends_when_the_client_has_heard(self) -> None:
        with Http2Wire(hello) as wire:
            wire.request()
            wire.drain()
            assert wire.goaways == [(EVERYTHING, ErrorCode.NO_ERROR), (1, ErrorCode.NO_ERROR)]
            assert wire.closed

    def test_a_request_that_was_on_its_way_is_answered(self) -> None:
        with Wire(hello) as wire:
            wire.send(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
            sent = frames_of(wire.drain())
            assert goaways(sent) == [(EVERYTHING, ErrorCode.NO_ERROR)]
            [ping] = [one for one in sent if one.kind == PING]
            answer = frames_of(wire.send(frame(1, 5, 1, GET)))
            assert [one.kind for one in answer] == [1, 0]
            assert not wire.closed
            last = frames_of(wire.send(frame(PING, ACK, 0, ping.payload)))
            assert goaways(last) == [(1, ErrorCode.NO_ERROR)]
            assert wire.closed

    def test_one_behind_the_second_step_is_not_begun(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.drain()
            assert wire.goaways[-1] == (answer.id, ErrorCode.NO_ERROR)
            assert wire.send_raw(frame(1, 5, 3, GET)) == b""
            assert len(wire.manual.calls) == 1
            wire.run(wire.call.respond())
            assert answer.outcome == (200, b"ok", True)
            assert wire.closed
            wire.finish()

    def test_what_is_open_has_its_time(self) -> None:
        with ManualWire() as wire:
            download, upload = wire.request(), wire.request("POST", body=b"half", end=False)
            first, second = wire.manual.calls
            wire.run(first.start())
            wire.run(first.body(b"before ", True))
            wire.drain()
            wire.advance(100)
            assert not wire.closed
            wire.run(first.body(b"behind"))
            assert download.outcome == (200, b"before behind", True)
            wire.upload(upload, b" and half")
            assert wire.run(second.receive()).result()["body"] == b"half and half"
            wire.run(second.respond())
            assert upload.outcome == (200, b"ok", True)
            assert wire.closed
            for call in wire.manual.calls:
                wire.finish(call)

    def test_a_client_that_does_not_answer_the_ping_is_not_waited_for(self) -> None:
        with Wire(hello) as wire:
            wire.send(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
            wire.drain()
            wire.advance(1)
            assert not wire.closed
            assert goaways(frames_of(wire.advance(3))) == [(0, ErrorCode.NO_ERROR)]
            assert wire.closed

    def test_it_is_said_once(self) -> None:
        with ManualWire() as wire:
            wire.request()
            wire.drain()
            wire.drain()
            wire.advance(5)
            assert len(wire.goaways) == 2
            wire.run(wire.call.respond())
            wire.finish()

    def test_background_work_does_not_keep_the_connection(self) -> None:
        with ManualWire() as wire:
            wire.request()
            wire.run(wire.call.respond())
            wire.drain()
            assert wire.closed
            assert wire.service.exchanges  # the worker waits for it
            wire.finish()


class TestSlowClients:
    """What is written has left only when the client has read it."""

    def test_the_last_response_is_not_cut_off(self) -> None:
        with ManualWire(Limits(send_timeout=100), settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            big, small = wire.request(), wire.request()
            wire.transport.room = 0
            # As much as makes the transport full: the other one is complete, and waits for it.
            for answer, size in ((big, 65_536), (small, 10)):
                call = wire.call_of(answer)
                wire.run(call.start())
                wire.run(call.body(bytes(size)))
                wire.finish(call)
            assert wire.server.blocked
            assert not wire.streams
            wire.drain()
            wire.advance(5)
            while not wire.transport.closed and wire.transport.unsent:
                wire.take(20_000)
                wire.advance(1)
            assert big.outcome == (200, bytes(65_536), True)
            assert small.outcome == (200, bytes(10), True)
            assert wire.closed

    def test_one_that_reads_nothing_is_cut_after_send_timeout(self) -> None:
        with ManualWire(Limits(send_timeout=3), settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            wire.request()
            wire.transport.room = 0
            wire.run(wire.call.start())
            wire.run(wire.call.body(bytes(200_000)))
            wire.finish()
            wire.drain()
            wire.advance(5)
            assert wire.transport.closed


class TestBeginnings:
    """Connections that begin while the worker drains."""

    @pytest.mark.parametrize("greeted", [False, True])
    def test_one_that_was_accepted_in_the_last_moment_is_served_and_told(self, greeted: bool) -> None:
        with Wire(hello) as wire:
            data = PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK)
            if greeted:
                wire.send(PREFACE[:10])
            else:
                wire.service.draining = True
                wire.connect()
            wire.drain()
            sent = frames_of(wire.send((data[10:] if greeted else data) + frame(1, 5, 1, GET)))
            assert goaways(sent) == [(EVERYTHING, ErrorCode.NO_ERROR)]
            assert [one.kind for one in sent if one.stream_id] == [1, 0]
            wire.advance(5)
            assert wire.closed

    def test_one_that_says_nothing_ends_soon(self) -> None:
        with Wire(hello) as wire:
            connection = Http2Connection(wire.service)
            transport = MemoryTransport(connection, wire.loop, wire.ends)
            connection.connection_made(transport)
            wire.drain()
            wire.advance(DRAIN_IDLE_TIMEOUT + 3)
            assert transport.closed or transport.eof
            wire.advance(5)
            assert transport.closed
