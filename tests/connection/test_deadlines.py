"""Every wait of a connection has its limit, kept by the sweep (configuration.md, [limits]); virtual time."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from serverd.generation import Limits
from tests.support.applications import Manual, hello
from tests.support.every import every
from tests.support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = Limits(header_timeout=10, body_timeout=30, send_timeout=20, keep_alive_timeout=75)


def post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


class TestHead:
    """From accept, or the first byte of a later request, to the end of the head."""

    def test_a_silent_connection_is_closed_without_a_word(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            assert wire.advance(9) == b""
            assert not wire.closed
            assert wire.advance(1) == b""
            assert wire.transport.closed

    def test_an_incomplete_head_is_a_408(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET[:5])
            assert wire.advance(9) == b""
            data = wire.advance(2)
            assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"connection: close\r\n" in data
            assert wire.closed

    def test_a_dribbled_head_does_not_extend_it(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            answer = b""
            for byte in GET + GET:
                answer += wire.send(bytes([byte])) + wire.advance(1)
                if wire.closed:
                    break
            assert wire.loop.now == 1010
            assert answer.startswith(b"HTTP/1.1 408 ")

    def test_empty_lines_do_not_extend_it(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            while not wire.closed:
                wire.send(b"\r\n")
                wire.advance(1)
            assert wire.loop.now == 1010

    @pytest.mark.parametrize("first", [b"G", b"\r"], ids=["a byte", "half an empty line"])
    def test_the_first_byte_of_a_second_request_does_not_switch_it_off(self, first: bytes) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET)
            wire.advance(50)
            wire.send(first)
            assert wire.advance(9) == b""
            data = wire.advance(2)
            assert data.startswith(b"HTTP/1.1 408 ")
            assert wire.closed

    def test_a_second_request_cannot_be_dribbled_either(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET)
            begin = wire.loop.now
            for byte in GET:
                wire.send(bytes([byte]))
                wire.advance(1)
                if wire.closed:
                    break
            assert wire.loop.now == begin + 10

    def test_a_pipelined_beginning_has_its_time_from_its_turn_on(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(GET + GET[:5])
            wire.advance(1000)
            assert not wire.closed
            wire.run(manual.call.respond())
            wire.received()
            assert wire.advance(9) == b""
            assert wire.advance(2).startswith(b"HTTP/1.1 408 ")

    def test_a_head_in_time_is_served(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET[:5])
            wire.advance(9)
            assert wire.send(GET[5:]).startswith(b"HTTP/1.1 200 ")


class TestKeepAlive:
    """An idle connection between two requests."""

    def test_it_is_closed_without_a_word(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET)
            assert wire.advance(74) == b""
            assert not wire.closed
            assert wire.advance(1) == b""
            assert wire.transport.closed

    def test_it_begins_with_the_end_of_the_response(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(GET)
            wire.advance(1000)
            assert not wire.closed
            wire.run(manual.call.respond())
            wire.advance(74)
            assert not wire.closed
            wire.advance(2)
            assert wire.closed

    def test_every_request_begins_it_anew(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            for _ in range(10):
                assert wire.send(GET)
                wire.advance(70)
            assert not wire.closed

    def test_empty_lines_do_not_extend_it(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET)
            begin = wire.loop.now
            while not wire.closed:
                wire.send(b"\r\n")
                wire.advance(1)
            assert wire.loop.now <= begin + 75


class TestBody:
    """Between two reads of a request body, only while somebody waits for it."""

    def test_a_body_that_somebody_waits_for_is_a_408(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            waiting = wire.run(manual.call.receive())
            assert wire.advance(29) == b""
            assert wire.advance(2).startswith(b"HTTP/1.1 408 ")
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.closed

    def test_every_part_begins_it_anew(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            for _ in range(9):
                waiting = wire.run(manual.call.receive())
                wire.advance(29)
                wire.send(b"x")
                assert waiting.result()["body"] == b"x"
            assert not wire.closed

    def test_a_body_that_nobody_waits_for_may_take_its_time(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            wire.advance(1000)
            assert not wire.closed
            waiting = wire.run(manual.call.receive())
            wire.send(b"0123")
            assert waiting.done()
            wire.advance(1000)
            assert not wire.closed

    @every("pause", range(1, 70, 4))
    def test_who_begins_to_wait_has_the_whole_time(self, pause: int) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            first = wire.run(manual.call.receive())
            wire.send(b"x")
            assert first.done()
            wire.advance(pause)
            waiting = wire.run(manual.call.receive())
            assert wire.advance(29) == b"", "it has waited for 29 s only"
            wire.send(b"y")
            assert waiting.result()["body"] == b"y"

    def test_asking_again_and_again_does_not_extend_it(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            while not wire.closed and wire.loop.now < 1100:
                task = wire.run(manual.call.receive())
                wire.advance(1)
                task.cancel()
                wire.settle()
                waiting = wire.run(manual.call.receive())
                waiting.cancel()
            assert wire.loop.now <= 1062

    def test_a_wait_that_was_given_up_counts_no_more(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            waiting = wire.run(manual.call.receive())
            waiting.cancel()
            wire.settle()
            wire.advance(1000)
            assert not wire.closed

    def test_it_is_over_with_the_body(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(4))
            wire.run(manual.call.receive())
            wire.send(b"0123")
            wire.run(manual.call.receive())
            wire.advance(1000)
            assert not wire.closed

    def test_a_response_under_way_is_cut(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"x", True))
            wire.received()
            wire.run(manual.call.receive())
            assert wire.advance(31) == b""
            assert wire.closed

    def test_a_dribbled_rest_of_an_unread_body_is_not_read_for_ever(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(1000))
            wire.run(manual.call.respond())
            for _ in range(100):
                wire.send(b"x")
                wire.advance(1)
                if wire.closed:
                    break
            assert wire.loop.now <= 1031


class TestSend:
    """A peer that takes no byte of what waits for it."""

    def unsent(self, wire: Wire, manual: Manual, size: int = 200_000) -> None:
        wire.transport.room = 0
        wire.send(GET)
        wire.run(manual.call.start())
        wire.run(manual.call.body(b"x" * size, True))

    def test_without_progress_the_connection_is_cut(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            self.unsent(wire, manual)
            wire.advance(19)
            assert not wire.closed
            wire.advance(2)
            assert wire.transport.closed
            assert not wire.service.connections
            assert wire.run(manual.call.body(b"x")).exception() is None

    def test_with_any_progress_it_goes_on(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            self.unsent(wire, manual)
            for _ in range(50):
                wire.advance(19)
                wire.take(1)
                wire.advance(1)
            assert not wire.closed

    def test_a_peer_that_has_read_all_is_not_meant(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            self.unsent(wire, manual)
            wire.take()
            wire.advance(1000)
            assert not wire.closed

    def test_each_blockage_has_its_own_time(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            self.unsent(wire, manual)
            wire.advance(15)
            wire.take()
            wire.advance(100)
            wire.run(manual.call.body(b"x" * 200_000, True))
            wire.advance(19)
            assert not wire.closed
            wire.advance(2)
            assert wire.closed

    def test_an_idle_connection_that_reads_nothing_goes_in_the_end(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.transport.room = 0
            wire.send(GET)
            wire.run(manual.call.respond(b"x" * 1000))
            wire.advance(75 + 20 + 2)
            assert not wire.service.connections


class TestLinger:
    """RFC 9112 §9.6: after our end the peer may go on sending for a moment, so that it reads our last response."""

    def refused(self, wire: Wire) -> bytes:
        data = wire.send(b"broken\r\n\r\n")
        assert wire.transport.eof
        assert not wire.transport.closed
        return data

    def test_it_reads_and_throws_away(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            self.refused(wire)
            assert wire.send(GET * 100) == b""
            assert not wire.transport.closed

    def test_it_ends_with_the_peer(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            self.refused(wire)
            wire.send_eof()
            assert wire.transport.closed

    def test_it_ends_after_two_seconds(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            self.refused(wire)
            wire.advance(1)
            wire.send(b"more")
            assert not wire.transport.closed
            wire.advance(1)
            assert wire.transport.closed

    def test_it_does_not_cut_off_a_peer_that_still_reads(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.transport.room = 0
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx")
            wire.run(manual.call.respond(b"x" * 50_000))
            assert wire.transport.eof
            for _ in range(40):
                wire.advance(1)
                assert not wire.transport.closed, "it takes 1,000 bytes a second, all the time"
                wire.take(1000)
            wire.take()
            wire.advance(3)
            assert not wire.service.connections

    def test_it_cuts_off_a_peer_that_does_not(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.transport.room = 0
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx")
            wire.run(manual.call.respond(b"x" * 50_000))
            wire.advance(22)
            assert not wire.service.connections

    @pytest.mark.parametrize("size", [1000, 500_000])
    def test_a_last_response_is_sent_to_its_end(self, size: int) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.transport.room = 0
            wire.send(b"GET / HTTP/1.0\r\n\r\n")
            wire.run(manual.call.respond(b"x" * size))
            assert wire.transport.closed
            for _ in range(60):
                wire.advance(19)
                assert wire.service.connections
                wire.take(10)
            wire.take()
            assert not wire.service.connections


class TestDrain:
    """What becomes of connections when the worker goes (protocol.md): no request on the wire is lost."""

    def test_an_idle_connection_ends_after_a_moment(self) -> None:
        for before in (b"", GET):
            with Wire(hello, limits=LIMITS) as wire:
                wire.send(before)
                wire.drain()
                assert not wire.closed, "a request may be on its way"
                assert wire.advance(1) == b""
                assert wire.transport.closed

    def test_a_request_that_was_on_its_way_is_answered_with_close(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(GET)
            wire.drain()
            data = wire.send(GET)
            assert data.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in data
            assert wire.closed

    @pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
    def test_a_head_under_way_keeps_its_time(self, before: bytes) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(before)
            wire.send(GET[:10])
            wire.drain()
            assert wire.advance(5) == b""
            assert wire.send(GET[10:]).startswith(b"HTTP/1.1 200 ")
            assert wire.closed

    @pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
    def test_a_head_that_begins_during_the_drain_has_its_time_too(self, before: bytes) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(before)
            wire.drain()
            wire.send(GET[:10])
            assert wire.advance(5) == b""
            assert wire.send(GET[10:]).startswith(b"HTTP/1.1 200 ")

    def test_a_response_under_way_is_finished(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(GET)
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"part", True))
            wire.drain()
            wire.advance(1000)
            assert not wire.closed
            wire.run(manual.call.body(b"end"))
            assert wire.received().endswith(b"end\r\n0\r\n\r\n")
            assert not wire.closed, "its head could not announce the end any more: the grace of an idle connection"
            wire.advance(1)
            assert wire.closed

    def test_a_request_in_flight_is_told_that_it_was_the_last(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(GET + GET)
            wire.drain()
            wire.run(manual.call.respond())
            data = wire.received()
            assert b"connection: close\r\n" in data
            assert data.count(b"HTTP/1.1 ") == 1
            assert wire.closed

    def test_a_request_body_under_way_is_read(self) -> None:
        manual = Manual()
        with Wire(manual, limits=LIMITS) as wire:
            wire.send(post(10))
            waiting = wire.run(manual.call.receive())
            wire.drain()
            wire.advance(20)
            wire.send(b"0123456789")
            assert waiting.result()["body"] == b"0123456789"
            wire.run(manual.call.respond())
            assert b"connection: close\r\n" in wire.received()

    def test_a_connection_that_is_accepted_in_the_last_moment_does_not_hold_it_up(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.drain()
            wire.connect()
            assert wire.advance(1) == b""
            assert wire.transport.closed
            wire.connect()
            assert wire.send(GET).startswith(b"HTTP/1.1 200 ")
            assert wire.closed

    def test_a_connection_that_is_ending_is_left_alone(self) -> None:
        with Wire(hello, limits=LIMITS) as wire:
            wire.send(b"broken\r\n\r\n")
            wire.drain()
            assert not wire.transport.closed
            wire.advance(2)
            assert wire.transport.closed

    def test_a_drain_does_not_extend_anything(self) -> None:
        with Wire(hello, limits=Limits(keep_alive_timeout=0.5)) as wire:
            wire.send(GET)
            wire.drain()
            wire.advance(0.5)
            assert wire.closed


class TestThePeerThatLeavesUnread:
    """A connection that is not read, because something waits to be served, still notices its end."""

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_the_application_is_told_within_a_sweep(self, monkeypatch: pytest.MonkeyPatch, reset: bool) -> None:
        ours, theirs = socket.socketpair()
        told: list[Any] = []

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            told.append(await receive())

        with ours, theirs, Wire(waits, limits=LIMITS) as wire:
            monkeypatch.setattr(wire.transport, "fileno", ours.fileno)
            wire.send(GET + b"G")
            wire.advance(2)
            assert not told
            if reset:
                theirs.close()
            else:
                theirs.shutdown(socket.SHUT_WR)
            wire.advance(1)
            assert told == [{"type": "http.disconnect"}]
            assert (not wire.service.connections) is reset
