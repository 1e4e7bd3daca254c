"""An HTTP/1 connection in memory: persistence, pipelining, backpressure, half-close, refusals (RFC 9112)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from serverd.connection.http1 import DISCARD_LIMIT
from serverd.generation import Limits
from tests.support.applications import Manual, Recorder, echo, hello, read_body
from tests.support.every import every
from tests.support.wire import PARSERS, Wire

both_parsers = pytest.mark.parametrize("parser", PARSERS)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(size: int) -> bytes:
    """Return the head of a request with a body of `size` bytes."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def bodies(data: bytes) -> list[bytes]:
    """Return the bodies of responses of known length."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        data = rest[length:]
    return found


@both_parsers
class TestPersistence:
    """RFC 9112 §9.3."""

    def test_a_connection_serves_many_requests(self, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            for _ in range(20):
                assert statuses(wire.send(GET)) == [200]
                assert statuses(wire.send(POST)) == [200]
            assert not wire.closed
        assert recorder.bodies == [b"", b"hello"] * 20

    @pytest.mark.parametrize(
        ("request_", "announced"),
        [
            (CLOSE, b"connection: close\r\n"),
            (GET_1_0, b"connection: close\r\n"),
            (GET_1_0.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"connection: close\r\n"),
        ],
        ids=["1.1 close", "1.0", "1.0 close"],
    )
    def test_it_ends_when_the_client_wants_it(self, request_: bytes, announced: bytes, parser: str) -> None:
        with Wire(hello, parser) as wire:
            data = wire.send(request_ + GET)
            assert statuses(data) == [200], "what follows a last request is never answered"
            assert announced in data
            assert wire.closed

    def test_http_1_0_may_keep_it(self, parser: str) -> None:
        request = GET_1_0.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        with Wire(hello, parser) as wire:
            for _ in range(3):
                data = wire.send(request)
                assert b"connection: keep-alive\r\n" in data
                assert not wire.closed

    def test_it_ends_when_the_application_wants_it(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET)
            wire.run(manual.call.respond(headers=[(b"Connection", b"Close")]))
            assert b"connection: close\r\n" in wire.received()
            assert wire.closed

    def test_http_1_0_without_a_length_ends_by_closing(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET_1_0.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"part", True))
            wire.run(manual.call.body(b"end"))
            data = wire.received()
            assert b"connection: close\r\n" in data
            assert data.endswith(b"\r\n\r\npartend")
            assert wire.transport.closed
            assert not wire.transport.reset

    def test_upgrade_and_connect_never_yield_a_tunnel(self, parser: str) -> None:
        with Wire(hello, parser) as wire:
            upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            assert statuses(wire.send(upgrade + GET)) == [200, 200]
            assert statuses(wire.send(b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n" + GET)) == [501]
            assert wire.closed


@both_parsers
class TestPipelining:
    """RFC 9112 §9.3.2: answered in order, one application call at a time, bounded."""

    @pytest.mark.parametrize("size", [1, 7, 10_000])
    def test_requests_are_answered_in_order(self, size: int, parser: str) -> None:
        requests = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (number, number % 3, b"x" * (number % 3))
            for number in range(30)
        )
        with Wire(echo, parser) as wire:
            data = wire.send_slowly(requests, size)
            assert bodies(data) == [b"x" * (number % 3) or b"/%d" % number for number in range(30)]

    def test_one_application_runs_at_a_time(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET * 5)
            for number in range(5):
                assert len(manual.calls) == number + 1
                wire.run(manual.call.respond(b"%d" % number))
            assert bodies(wire.received()) == [b"0", b"1", b"2", b"3", b"4"]

    def test_nothing_is_read_while_one_is_queued(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET + GET)
            assert not wire.transport.reading
            wire.send(GET * 1000)
            assert len(wire.transport.waiting) == len(GET) * 1000, "it stays in the kernel"
            for number in range(1002):
                wire.run(manual.calls[number].respond())
                manual.calls[number].finish()
            assert statuses(wire.received()) == [200] * 1002
            assert wire.transport.reading

    def test_a_receive_does_not_open_the_flood_gate(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET + GET)
            wire.run(manual.call.receive())
            wire.run(manual.call.receive())
            assert not wire.transport.reading

    def test_a_broken_request_is_refused_after_the_answers_before_it(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            assert wire.send(GET + b"broken\r\n\r\n" + GET) == b""
            wire.run(manual.call.respond())
            data = wire.received()
            assert statuses(data) == [200, 400]
            assert wire.closed
            assert len(manual.calls) == 1

    def test_the_last_response_closes_also_with_requests_behind_it(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CLOSE + GET)
            wire.run(manual.call.respond())
            assert statuses(wire.received()) == [200]
            assert wire.transport.eof, "it lingers: a reset would take the response away"
            assert not wire.transport.closed
            wire.send_eof()
            assert wire.transport.closed


@both_parsers
class TestReadingBackpressure:
    """A slow application pauses the socket; memory stays bounded."""

    def test_reading_stops_at_64_kib_and_goes_on(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(1_000_000))
            sent = 0
            while wire.transport.reading:
                wire.send(b"x" * 10_000)
                sent += 10_000
            assert 64 * 1024 <= sent <= 64 * 1024 + 10_000
            assert len(wire.run(manual.call.receive()).result()["body"]) == sent
            assert wire.transport.reading

    def test_a_chunked_body_is_bounded_too(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED)
            for _ in range(100):
                wire.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            assert not wire.transport.reading
            assert len(wire.transport.waiting) > 900_000
            body = wire.run(read_body(manual.call.receive))
            wire.send(b"0\r\n\r\n")
            assert len(body.result()) == 1_000_000

    def test_many_tiny_parts_take_no_more_memory_than_a_few_large_ones(self, parser: str) -> None:
        """Over TLS each record is one, however many of them a read of the socket has."""
        manual = Manual()
        size = 40_000
        with Wire(manual, parser) as wire:
            wire.send(post(size))
            for start in range(0, size, 2):
                wire.transport.deliver(b"%02d" % (start % 100))
            exchange = wire.connection._exchange
            assert exchange is not None
            assert sum(map(sys.getsizeof, exchange._body)) < 2 * size
            expected = b"".join([b"%02d" % (start % 100) for start in range(0, size, 2)])
            assert wire.run(manual.call.receive()).result()["body"] == expected

    def test_the_end_of_a_body_stops_nothing_but_a_pipelined_request(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(200_000) + b"x" * 200_000)
            assert wire.transport.reading
            wire.send(GET)
            assert not wire.transport.reading
            wire.send(b"y" * 200_000)
            assert len(wire.transport.waiting) == 200_000
            assert len(wire.run(manual.call.receive()).result()["body"]) == 200_000

    def test_a_large_body_arrives_whole(self, parser: str) -> None:
        recorder = Recorder()
        data = bytes(range(256)) * 4000
        with Wire(recorder, parser) as wire:
            assert statuses(wire.send(post(len(data)) + data + GET)) == [200, 200]
        assert recorder.bodies == [data, b""]


class TestWritingBackpressure:
    """A slow reader pauses `send`; memory stays bounded."""

    def test_send_waits_until_the_peer_reads(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.transport.room = 0
            wire.send(GET)
            wire.run(manual.call.start())
            assert wire.run(manual.call.body(b"x" * 50_000, True)).done()
            waiting = wire.run(manual.call.body(b"x" * 50_000, True))
            assert not waiting.done()
            wire.take(10_000)
            assert not waiting.done()
            wire.take(90_000)
            assert waiting.done()

    def test_several_may_wait(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.transport.room = 0
            wire.send(GET)
            wire.run(manual.call.start())
            waiting = [wire.run(manual.call.body(b"x" * 100_000, True)) for _ in range(3)]
            assert not any(task.done() for task in waiting)
            wire.take()
            assert all(task.done() for task in waiting)

    def test_a_body_of_many_parts_arrives_whole(self) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5000000")]})
            for number in range(50):
                await send({"type": "http.response.body", "body": b"%c" % number * 100_000, "more_body": number < 49})

        with Wire(application) as wire:
            wire.transport.room = 0
            data = wire.send(GET)
            assert len(data) < 250_000
            while len(data) < 5_000_000:
                assert wire.transport.unsent < 250_000
                data += wire.take(70_000)
            assert data.partition(b"\r\n\r\n")[2] == b"".join(b"%c" % number * 100_000 for number in range(50))


class TestFairness:
    """An application that awaits nothing but `send`, to a peer that takes everything."""

    def test_it_gives_others_their_turn_and_hears_that_its_client_has_gone(self) -> None:
        gone: list[BaseException] = []

        async def streams_for_ever(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
            except OSError as error:
                gone.append(error)
                raise

        with Wire(streams_for_ever) as wire:
            wire.transport.deliver(GET)
            for _ in range(5):
                wire.loop.call_soon(wire.loop.stop)
                wire.loop.run_forever()
            wire.lose()  # it settles: the application has come to its end
            assert len(gone) == 1


@both_parsers
class TestUnreadBodies:
    """An application that answers without reading the body: the rest is never parsed as a request."""

    SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    def test_a_body_that_has_arrived_is_skipped(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(len(self.SMUGGLED)) + self.SMUGGLED + GET)
            wire.run(manual.calls[0].respond())
            wire.run(manual.calls[1].respond())
            assert statuses(wire.received()) == [200, 200]
            assert [call.scope["path"] for call in manual.calls] == ["/", "/"]

    def test_a_body_that_is_still_coming_is_skipped(self, parser: str) -> None:
        manual = Manual()
        body = self.SMUGGLED
        with Wire(manual, parser) as wire:
            wire.send(post(len(body)) + body[:5])
            wire.run(manual.calls[0].respond())
            assert statuses(wire.received()) == [200]
            assert not wire.closed
            wire.send_slowly(body[5:] + GET)
            wire.run(manual.calls[1].respond())
            assert statuses(wire.received()) == [200]
            assert [call.scope["path"] for call in manual.calls] == ["/", "/"]

    def test_the_response_says_whether_the_connection_is_kept_behind_what_is_to_come(self, parser: str) -> None:
        """A proxy that has sent all of a body takes the connection for the next request, of whichever client."""
        for head, is_kept in [
            (post(DISCARD_LIMIT + 10) + b"x" * 10, True),
            (post(DISCARD_LIMIT + 10) + b"x" * 9, False),
            (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True),
            (CHUNKED + b"5\r\nhello\r\n", False),  # nobody knows how much follows
        ]:
            for streams in (False, True):
                manual = Manual()
                with Wire(manual, parser) as wire:
                    wire.send(head)
                    if streams:
                        wire.run(manual.call.start(200))
                        wire.run(manual.call.body(b"1", more_body=True))
                        wire.run(manual.call.body(b"2"))
                    else:
                        wire.run(manual.call.respond())
                    received = wire.received()
                    assert statuses(received) == [200]
                    assert (b"connection: close\r\n" not in received) is is_kept
                    assert not wire.closed, "a client that sends first and reads then would see a reset"

    def test_a_connection_that_is_not_kept_ends_when_the_body_has_come(self, parser: str) -> None:
        too_much = DISCARD_LIMIT + 1
        for head, rest in [(CHUNKED + b"5\r\nhello\r\n", b"0\r\n\r\n"), (post(too_much), b"x" * too_much)]:
            for behind in (b"", GET):
                manual = Manual()
                with Wire(manual, parser) as wire:
                    wire.send(head)
                    wire.run(manual.call.respond())
                    assert b"connection: close\r\n" in wire.received()
                    assert wire.send(rest + behind) == b""
                    assert wire.closed
                    assert wire.transport.closed is not bool(behind), "it lingers for as long as more may come"
                    assert len(manual.calls) == 1

    def test_an_http_1_0_response_without_a_length_ends_at_once(self, parser: str) -> None:
        manual = Manual()
        head = b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 10000000\r\n\r\n"
        with Wire(manual, parser) as wire:
            wire.send(head)
            wire.run(manual.call.start(200))
            wire.run(manual.call.body(b"ok"))
            assert wire.transport.eof

    def test_an_application_may_read_a_body_that_costs_the_connection(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED + b"5\r\nhello\r\n")
            wire.run(manual.call.start(200))
            wire.run(manual.call.body(b"1", more_body=True))
            assert b"connection: close\r\n" in wire.received()
            wire.send(b"5\r\nagain\r\n0\r\n\r\n")
            assert wire.run(read_body(manual.call.receive)).result() == b"helloagain"
            wire.run(manual.call.body(b"2"))
            assert wire.received().endswith(b"1\r\n2\r\n0\r\n\r\n")
            assert wire.closed

    def test_reading_goes_on_for_a_body_that_had_been_paused(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(200_000) + b"x" * 100_000)
            wire.send(b"x" * 100_000 + GET)
            assert not wire.transport.reading
            wire.run(manual.calls[0].respond())
            wire.run(manual.calls[1].respond())
            assert statuses(wire.received()) == [200, 200]

    def test_too_much_of_it_ends_the_connection(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(10_000_000))
            wire.run(manual.call.respond())
            assert statuses(wire.received()) == [200]
            for _ in range(25):
                wire.send(b"x" * 10_000)
                assert not wire.closed
            wire.send(b"x" * 20_000)
            assert wire.transport.eof
            assert not wire.transport.closed, "it lingers"
            for _ in range(1000):
                wire.send(GET)
            assert len(manual.calls) == 1
            assert not wire.connection._decoder.buffered, "what is thrown away is not kept"

    def test_too_much_of_it_just_before_its_end_keeps_nothing_either(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(300_000))
            wire.run(manual.call.respond())
            wire.send(b"x" * 300_000 + GET)
            wire.send(GET * 100)
            assert wire.closed
            assert len(manual.calls) == 1
            assert not wire.connection._decoder.buffered

    @pytest.mark.parametrize("bad", [b"broken\r\n", b"5\r\nhelloXX"], ids=["size", "terminator"])
    def test_a_broken_rest_gets_no_second_answer(self, bad: bytes, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED + b"5\r\nhello\r\n")
            wire.run(manual.call.respond())
            assert statuses(wire.received()) == [200]
            assert wire.send(bad) == b"", "the client would take it for the answer to its next request"
            assert wire.closed

    def test_a_rest_that_never_comes_gets_no_second_answer(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser, Limits(body_timeout=5)) as wire:
            wire.send(post(100))
            wire.run(manual.call.respond())
            wire.received()
            assert wire.advance(4) == b""
            assert not wire.closed
            assert wire.advance(2) == b""
            assert wire.closed

    def test_a_broken_request_behind_a_skipped_body_is_refused(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(5) + b"he")
            wire.run(manual.call.respond())
            wire.received()
            assert statuses(wire.send(b"llobroken\r\n\r\n")) == [400]
            assert wire.closed


@both_parsers
class TestHalfClose:
    """RFC 9112 §9.6, §8: the peer's end of the connection."""

    def test_an_idle_connection_is_closed(self, parser: str) -> None:
        for before in (b"", GET, GET + POST):
            with Wire(hello, parser) as wire:
                wire.send(before)
                assert wire.send_eof() == b""
                assert wire.transport.closed

    def test_an_application_that_returns_when_it_is_told_is_not_at_fault(
        self, parser: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET)
            wire.send_eof()
            manual.call.finish()
            wire.settle()
            assert wire.received() == b""
            assert wire.closed
        assert not [record for record in caplog.records if record.name.startswith("serverd")]

    def test_a_request_before_the_end_is_answered(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET)
            wire.send_eof()
            assert not wire.closed
            wire.run(manual.call.respond())
            data = wire.received()
            assert statuses(data) == [200]
            assert b"connection: close\r\n" in data
            assert wire.transport.closed

    def test_requests_in_the_pipeline_are_answered_and_told_of_the_end(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET)
            wire.transport.eof_waiting = True
            wire.send(GET)  # reading is paused behind it: the end is seen later
            wire.run(manual.calls[0].respond())
            wire.run(manual.calls[1].receive())
            gone = wire.run(manual.calls[1].receive())
            assert gone.done()
            assert gone.result() == {"type": "http.disconnect"}
            wire.run(manual.calls[1].respond())
            assert statuses(wire.received()) == [200, 200]
            assert wire.transport.closed

    def test_a_request_behind_one_that_was_told_is_told_too(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET + GET)
            wire.connection.eof_received()  # as an event loop may call it although reading is paused
            wire.settle()
            for call in (0, 1):
                wire.run(manual.calls[call].receive())
                assert wire.run(manual.calls[call].receive()).result() == {"type": "http.disconnect"}
                wire.run(manual.calls[call].respond())
            data = wire.received()
            assert statuses(data) == [200, 200]
            assert data.count(b"connection: close\r\n") == 1
            assert wire.transport.closed

    def test_a_part_of_a_request_behind_the_last_one_is_none(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(GET)
            wire.connection.data_received(GET[:10])
            wire.connection.eof_received()
            wire.run(manual.call.respond())
            assert statuses(wire.received()) == [200]
            assert wire.transport.closed
            assert len(manual.calls) == 1

    @pytest.mark.parametrize(
        "part", [GET[:10], GET[:-1], POST[:-1], CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n"]
    )
    def test_an_end_inside_a_request_is_refused(self, part: bytes, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            wire.send(part)
            assert statuses(wire.send_eof()) == [400]
            assert wire.transport.closed
        assert recorder.bodies == []

    def test_an_end_inside_a_body_is_told_to_the_application(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(10) + b"01234")
            assert wire.run(manual.call.receive()).result()["body"] == b"01234"
            waiting = wire.run(manual.call.receive())
            wire.send_eof()
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.run(manual.call.start()).exception() is None

    def test_an_end_inside_a_body_during_the_response_aborts_it(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(post(10) + b"01234")
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"part", True))
            data = wire.send_eof()
            assert statuses(data) == [200]
            assert data.endswith(b"4\r\npart\r\n")
            assert wire.transport.closed


@both_parsers
class TestRefusals:
    """RFC 9112 §3, §6.3, RFC 9110 §15.5: answer, close, never parse on."""

    @every(
        ("data", "status"),
        [
            (b"broken\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
            (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", 417),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ],
        ids=str,
    )
    def test_it_is_answered_and_nothing_more_is_parsed(self, data: bytes, status: int, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            answer = wire.send(GET + data + GET)
            assert statuses(answer) == [200, status]
            refusal = answer[answer.rindex(b"HTTP/1.1 ") :]
            assert b"connection: close\r\n" in refusal
            assert b"\r\ndate: " in refusal
            head, _, body = refusal.partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}".encode() in head
            assert wire.transport.eof
            assert wire.send(GET * 3) == b""
        assert len(recorder.scopes) == 1

    def test_a_large_body_is_refused_before_the_application_sees_it(self, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser, Limits(body_size=4)) as wire:
            assert statuses(wire.send(POST)) == [413]
        assert not recorder.scopes

    def test_a_body_that_turns_out_too_large_is_refused_before_the_response(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser, Limits(body_size=4)) as wire:
            wire.send(CHUNKED)
            waiting = wire.run(manual.call.receive())
            assert statuses(wire.send(b"5\r\nhello\r\n")) == [413]
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.run(manual.call.start()).exception() is None

    def test_a_held_head_is_forgotten(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED)
            wire.run(manual.call.start(201))
            assert statuses(wire.send(b"broken\r\n")) == [400]
            assert wire.run(manual.call.body(b"x")).exception() is None
            assert wire.received() == b""

    def test_a_response_under_way_is_cut(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(CHUNKED)
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"part", True))
            wire.received()
            assert wire.send(b"broken\r\n") == b""
            assert wire.closed
            assert wire.run(manual.call.receive()).result() == {"type": "http.disconnect"}

    def test_a_response_under_way_of_unknown_length_is_reset_on_1_0(self, parser: str) -> None:
        manual = Manual()
        with Wire(manual, parser) as wire:
            wire.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhe")
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"part", True))
            wire.send_eof()
            assert wire.transport.reset


class TestEndOfEverything:
    """Nothing is left behind, whenever the connection breaks."""

    @every("parser", PARSERS)
    @every("cut", range(0, len(GET + POST), 3))
    def test_a_connection_may_break_at_any_byte(self, cut: int, parser: str) -> None:
        recorder = Recorder()
        with Wire(recorder, parser) as wire:
            wire.send((GET + POST)[:cut])
            wire.lose()
            assert not wire.service.connections
            assert not wire.service.exchanges

    @pytest.mark.parametrize("steps", range(6))
    def test_a_connection_may_break_at_any_step_of_a_response(self, steps: int) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST + GET)
            call = manual.call
            work = [call.receive, call.start, lambda: call.body(b"a", True), lambda: call.body(b"b", True), call.body]
            for step in work[:steps]:
                wire.run(step())
            wire.lose()
            for step in work[steps:]:
                error = wire.run(step()).exception()
                assert error is None or isinstance(error, OSError)
            for one in manual.calls:
                one.finish()
            wire.settle()
            assert not wire.service.connections
            assert not wire.service.exchanges
