"""A peer that does not read, and applications that do not: who waits for whom in HTTP/2, and how much is kept."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import Any

import pytest

from serverd.connection import http2
from serverd.connection.http2_sender import UNSENT_LIMIT
from serverd.generation import Limits
from serverd.protocol.http2 import ErrorCode
from tests.protocol.http2_peer import frame, frames_of
from tests.support.applications import Call, echo, hello, respond
from tests.support.http2 import Answer, Http2Wire, ManualWire

KIB = 1024
GET = b"\x82\x86\x84\x01\x01a"  # a header block that leaves the table as it is
PATIENT = Limits(send_timeout=1000, keep_alive_timeout=1000)


def begin(wire: ManualWire, answer: Answer, size: int) -> tuple[Call, asyncio.Task[Any]]:
    """Let the application of `answer` begin a response with so many bytes."""
    call = wire.call_of(answer)
    wire.run(call.start())
    return call, wire.run(call.body(bytes(size), True))


class TestWindows:
    """RFC 9113 §5.2: what the peer has not allowed is not sent, and who sends it waits."""

    def test_an_application_waits_until_the_client_reads(self) -> None:
        with ManualWire(reads=False) as wire:
            answer = wire.request()
            call, sending = begin(wire, answer, 200 * KIB)
            assert len(answer.body) == 65_535
            assert not sending.done()
            wire.read(answer, 65_535)
            assert not sending.done()
            wire.read(answer, 65_535)
            assert sending.done()
            wire.run(call.body(b"end"))
            wire.read(answer, 100_000)
            assert answer.ended
            assert len(answer.body) == 200 * KIB + 3
            wire.finish()

    def test_one_whose_response_is_complete_waits_for_nothing(self) -> None:
        with ManualWire(PATIENT, reads=False) as wire:
            answer = wire.request()
            call = wire.call
            wire.run(call.start())
            assert wire.run(call.body(bytes(300 * KIB))).done()
            wire.finish()
            assert not wire.service.exchanges
            while not answer.ended:
                wire.read(answer, 50_000)
            assert len(answer.body) == 300 * KIB

    def test_a_small_window_does_not_stop_a_download(self) -> None:
        with Http2Wire(echo, settings={4: 100}) as wire:
            answer = wire.request("POST", body=bytes(50 * KIB))
            assert answer.outcome == (200, bytes(50 * KIB), True)

    def test_a_window_that_is_made_smaller_stops_it_until_it_is_open_again(self) -> None:
        with ManualWire(PATIENT, reads=False) as wire:
            answer = wire.request()
            begin(wire, answer, 200 * KIB)
            wire.client.update_settings({4: 10})
            wire.exchange()
            wire.client.increment_flow_control_window(1_000_000)
            wire.client.increment_flow_control_window(65_000, answer.id)
            wire.exchange()
            assert len(answer.body) == 65_535  # 65,525 bytes too many have been sent
            wire.client.increment_flow_control_window(1_000, answer.id)
            wire.exchange()
            assert len(answer.body) == 65_535 + 475
            wire.reset(answer)
            wire.finish(error=OSError())


class TestSocket:
    """The transport is full: everybody waits, and everybody goes on."""

    def test_every_application_waits_and_is_let_go(self) -> None:
        with ManualWire(PATIENT, settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            answers = [wire.request() for _ in range(3)]
            wire.transport.room = 0
            begun = [begin(wire, answer, 100 * KIB) for answer in answers]
            assert not any(sending.done() for _, sending in begun)
            wire.transport.room = float("inf")
            wire.take()
            assert all(sending.done() for _, sending in begun)
            wire.exchange()
            assert [len(answer.body) for answer in answers] == [100 * KIB] * 3
            for call, _ in begun:
                wire.run(call.body(b""))
                wire.finish(call)

    def test_so_are_those_whose_own_windows_would_take_more(self) -> None:
        """Together they have sent what fills the connection, and none of them what fills its stream."""
        with ManualWire(PATIENT, settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            answers = [wire.request() for _ in range(20)]
            wire.transport.room = 0
            begun = [begin(wire, answer, 10 * KIB) for answer in answers]
            assert wire.server.is_full
            assert not all(sending.done() for _, sending in begun)
            wire.transport.room = float("inf")
            wire.take()
            assert all(sending.done() for _, sending in begun)
            for call, _ in begun:
                wire.run(call.body(b""))
                wire.finish(call)
            assert [answer.outcome for answer in answers] == [(200, bytes(10 * KIB), True)] * 20

    def test_who_has_answered_while_it_was_full_is_not_forgotten(self) -> None:
        """Its stream has ended by then, and it waits for nothing."""
        with ManualWire(PATIENT, settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            big, small = wire.request(), wire.request()
            wire.transport.room = 0
            _, sending = begin(wire, big, 200 * KIB)
            assert wire.server.blocked
            responding = wire.run(wire.call_of(small).respond(b"small"))
            assert responding.done()
            wire.finish(wire.call_of(small))
            assert len(wire.service.exchanges) == 1
            wire.transport.room = float("inf")
            wire.take()
            assert small.outcome == (200, b"small", True)
            assert sending.done()
            wire.run(wire.call_of(big).body(b""))
            wire.finish(wire.call_of(big))

    def test_who_waits_behind_an_interim_response_is_let_go_with_his_request(self) -> None:
        with ManualWire(Limits(send_timeout=1000, body_timeout=3), settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            big, hinted = wire.request(), wire.request("POST", end=False)
            wire.transport.room = 0
            begin(wire, big, 200 * KIB)

            async def hint() -> None:
                for number in range(10_000):
                    await wire.call_of(hinted).send({"type": "http.response.early_hint", "links": [b"</%d>" % number]})

            hinting = wire.run(hint())
            assert not hinting.done()
            assert wire.server.core.unsent < UNSENT_LIMIT + 1000
            waiting = wire.run(wire.call_of(hinted).receive())
            wire.advance(5)
            assert waiting.done()
            assert hinting.done()
            for answer in (big, hinted):
                wire.finish(wire.call_of(answer))

    def test_a_client_that_sends_before_it_reads_is_heard(self) -> None:
        """Otherwise a client with one thread, which sends a body while a download waits for it, would wait for ever."""
        with ManualWire(PATIENT, settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            big = wire.request()
            wire.transport.room = 0
            begin(wire, big, 200 * KIB)
            assert wire.server.blocked
            upload = wire.request("POST", body=bytes(60_000))
            assert len(wire.run(wire.call_of(upload).receive()).result()["body"]) == 60_000
            for answer in (big, upload):
                wire.finish(wire.call_of(answer), OSError())

    def test_what_waits_for_a_client_that_does_not_read_is_bounded(self) -> None:
        with Http2Wire(hello, PATIENT) as wire:
            wire.transport.room = 0
            sent = 0
            while wire.transport.reading and sent < 20_000:
                sent += 1
                wire.send_raw(frame(1, 5, 2 * sent - 1, GET))
            assert not wire.transport.reading
            assert sent > 128  # most of them had their whole answer, which is short
            assert wire.server.core.unsent < UNSENT_LIMIT + 1000
            assert wire.transport.unsent < 200 * KIB
            assert len(wire.server.core.streams) <= 128

    def test_a_client_that_asks_and_does_not_read_is_ended(self) -> None:
        with ManualWire(PATIENT, settings={4: 10_000_000}) as wire:
            wire.client.increment_flow_control_window(10_000_000)
            big = wire.request()
            wire.transport.room = 0
            begin(wire, big, 200 * KIB)
            assert wire.server.blocked
            for _ in range(30):
                wire.send_raw(frame(6, payload=bytes(8)) * 100)
                wire.server.core._patience.tick(wire.server.core._output.data_frames)  # however slowly
                if wire.server.closed:
                    break
            assert wire.server.closed
            assert wire.server.core.unsent < UNSENT_LIMIT
            wire.finish(error=OSError())
            wire.lose()

    def test_reading_goes_on_when_the_client_does(self) -> None:
        with Http2Wire(hello, PATIENT) as wire:
            wire.transport.room = 0
            sent, received = 0, b""
            while wire.transport.reading:
                sent += 1
                received += wire.send_raw(frame(1, 5, 2 * sent - 1, GET))
            wire.transport.room = float("inf")
            wire.transport.take(float("inf"))
            wire.settle()
            assert wire.transport.reading
            received += wire.received() + wire.send_raw(frame(6, payload=bytes(8)))
            frames = frames_of(received)
            assert frames[-1].kind == 6
            assert sum(one.kind == 0 and one.flags == 1 for one in frames) == sent


class TestFairness:
    """What one stream may take from the others."""

    def test_a_download_does_not_starve_small_answers(self) -> None:
        with ManualWire(PATIENT, settings={4: 50_000_000}) as wire:
            wire.client.increment_flow_control_window(50_000_000)
            big = wire.request()
            wire.transport.room = 0
            begin(wire, big, 10_000 * KIB)
            small = wire.request()
            responding = wire.run(wire.call_of(small).respond(b"small"))
            taken = 0
            while not small.ended:
                wire.take(16 * KIB)
                taken += 16 * KIB
            assert responding.done()
            assert taken <= 256 * KIB  # what had left for the transport before
            wire.lose()
            for answer in (big, small):
                wire.finish(wire.call_of(answer))

    def test_downloads_share_what_there_is(self) -> None:
        with ManualWire(PATIENT, settings={4: 50_000_000}) as wire:
            wire.client.increment_flow_control_window(50_000_000)
            answers = [wire.request() for _ in range(4)]
            wire.transport.room = 0
            for answer in answers:
                begin(wire, answer, 2_000 * KIB)
            for _ in range(60):
                wire.take(16 * KIB)
            sizes = [len(answer.body) for answer in answers[1:]]
            assert min(sizes) > 0
            assert max(sizes) - min(sizes) <= 2 * 16 * KIB
            wire.lose()
            for answer in answers:
                wire.finish(wire.call_of(answer))

    @pytest.mark.parametrize(("size", "most"), [(1, 64), (1024, 52), (16 * 1024, 13)])
    def test_an_application_that_awaits_nothing_else_gives_others_their_turn(self, size: int, most: int) -> None:
        order: list[str] = []

        async def streams(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
                order.append(scope["path"])
            await send({"type": "http.response.body"})

        with Http2Wire(streams, settings={4: 50_000_000}) as wire:
            wire.client.increment_flow_control_window(50_000_000)
            wire.open(path="/one")
            wire.open(path="/two")
            wire.exchange()
        assert (order.count("/one"), order.count("/two")) == (200, 200)
        assert max(len(list(group)) for _, group in groupby(order)) <= most + 1


class TestUploads:
    """RFC 9113 §5.2.2: the windows that the server opens."""

    def test_the_window_of_a_fast_reader_grows(self) -> None:
        with Http2Wire(echo) as wire:
            answer = wire.request("POST", body=bytes(5_000_000), end=False)
            assert wire.client.remote_flow_control_window(answer.id) >= 0
            assert wire.client.local_flow_control_window(answer.id) > 500_000
            wire.upload(answer, b"")
            assert answer.ended

    def test_one_that_does_not_read_gets_what_the_window_has(self) -> None:
        with ManualWire(PATIENT) as wire:
            answer = wire.request("POST", end=False)
            rest = wire.upload(answer, bytes(200_000), end=False)
            assert 200_000 - len(rest) == 65_535
            message = wire.run(wire.call.receive()).result()
            assert len(message["body"]) == 65_535
            assert answer.granted >= 65_535
            wire.finish()

    def test_what_comes_while_a_complete_response_waits_is_thrown_away(self) -> None:
        with ManualWire(PATIENT, reads=False) as wire:
            answer = wire.request("POST", end=False)
            wire.run(wire.call.start())
            wire.run(wire.call.body(bytes(200_000)))
            wire.finish()
            for _ in range(20):
                wire.upload(answer, bytes(16_000), end=False)
            assert answer.granted >= 200_000
            while not answer.ended:
                wire.read(answer, 50_000)
            assert len(answer.body) == 200_000

    def test_more_than_the_window_ends_the_stream(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", end=False)
            wire.hear(wire.send_raw(frame(0, 0, answer.id, bytes(16_384)) * 4))
            assert answer.reset == ErrorCode.FLOW_CONTROL_ERROR
            assert wire.run(wire.call.receive()).result()["type"] in ("http.request", "http.disconnect")
            assert wire.ping()
            wire.finish()


def costly_request(stream_id: int) -> bytes:
    """Return a request of 16 KB that takes a millisecond to decode."""
    zeros = b"\x00\x01x\xff\x81\x7c" + bytes(16_000)  # 25,600 of them in Huffman's code, five bits each
    return frame(1, 5, stream_id, GET + zeros)


def turn(wire: Http2Wire) -> None:
    """Let one turn of the loop pass."""
    wire.loop.call_soon(wire.loop.stop)
    wire.loop.run_forever()


class TestTurns:
    """A client that sends without end, which uvloop reads on within a turn as long as it fills the buffer."""

    def test_others_have_their_turn_after_some_of_it(self) -> None:
        numbers = range(1, 2 * PATIENT.http2.concurrent_streams, 2)
        with Http2Wire(hello) as wire:
            hostile = wire.transport
            wire.loop.call_soon(hostile.deliver, b"".join(map(costly_request, numbers)))
            turn(wire)
            assert not hostile.reading
            answered = len(frames_of(bytes(hostile.written)))
            turn(wire)
            assert not hostile.reading
            assert len(frames_of(bytes(hostile.written))) - answered < len(numbers)
            wire.settle()
            assert hostile.reading
            assert [one.stream_id for one in frames_of(wire.received()) if one.kind == 1] == list(numbers)

    def test_of_costly_blocks_it_takes_less_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http2, "TURN", 1e-9)
        numbers = range(1, 81, 2)
        block = GET + b"\x0f\x00\x00" * 90  # a tenth of a millisecond
        with Http2Wire(hello) as wire:
            wire.loop.call_soon(wire.transport.deliver, b"".join(frame(1, 5, number, block) for number in numbers))
            turn(wire)
            assert not wire.transport.reading
            assert 0 < wire.service.requests < len(numbers) / 2
            wire.settle()
            assert [one.stream_id for one in frames_of(wire.received()) if one.kind == 1] == list(numbers)

    def test_the_end_of_the_peer_comes_after_what_waits_for_its_turn(self) -> None:
        numbers = range(1, 2 * PATIENT.http2.concurrent_streams, 2)
        with Http2Wire(hello) as wire:
            wire.loop.call_soon(wire.transport.deliver, b"".join(map(costly_request, numbers)))
            turn(wire)
            assert wire.server.eof_received()  # a transport may tell at once, although it does not read
            wire.settle()
            assert [one.stream_id for one in frames_of(wire.received()) if one.kind == 1] == list(numbers)
            assert wire.closed

    def test_what_comes_although_it_should_not_waits_behind_what_came_before(self) -> None:
        numbers = range(1, 2 * PATIENT.http2.concurrent_streams - 2, 2)
        with Http2Wire(hello) as wire:
            wire.loop.call_soon(wire.transport.deliver, b"".join(map(costly_request, numbers)))
            turn(wire)
            wire.server.data_received(frame(1, 5, numbers[-1] + 2, GET))
            wire.settle()
            answered = [one.stream_id for one in frames_of(wire.received()) if one.kind == 1]
            assert answered == [*numbers, numbers[-1] + 2]

    def test_one_that_does_not_read_waits_for_more_than_its_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http2, "TURN", 1e-9)  # its turn is over with all that comes, however fast the machine is

        async def wordy(scope: Any, receive: Any, send: Any) -> None:
            await respond(send, headers=[(b"x-long", b"x" * 5000)])

        with Http2Wire(wordy, PATIENT) as wire:
            wire.transport.room = 0
            number = 1
            while not wire.server.blocked:
                wire.send_raw(frame(1, 5, number, GET))
                number += 2
            assert not wire.server.is_full
            wire.send_raw(b"".join(costly_request(one) for one in range(number, number + 40, 2)))
            assert wire.server.is_full
            assert not wire.transport.reading
            wire.transport.room = float("inf")
            wire.transport.take(float("inf"))
            wire.settle()
            assert wire.transport.reading
