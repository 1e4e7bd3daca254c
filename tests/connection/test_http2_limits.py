"""Limits on what HTTP/2 clients may do, as a connection keeps them: crowds, sizes, floods."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from serverd.asgi.exchange import Exchange
from serverd.connection.base import TOLD_AT_ONCE
from serverd.connection.http2 import Http2Connection
from serverd.connection.http2_stream import RequestStream
from serverd.generation import Limits
from serverd.protocol.http2 import ErrorCode
from tests.protocol.http2_peer import PREFACE, frame, frames_of, reset, window_update
from tests.support.applications import Recorder, hello
from tests.support.http2 import Http2Wire, ManualWire, with_http2
from tests.support.wire import MemoryTransport, Wire

GOAWAY = 7
GET = b"\x82\x86\x84\x01\x01a"
POST = b"\x83\x86\x84\x01\x01a"
KIB = 1024


class TestCrowds:
    """limits.connections and limits.concurrency."""

    def test_a_connection_beyond_the_limit_hears_so_before_its_protocol_is_known(self) -> None:
        with Http2Wire(hello, Limits(connections=1)) as wire:
            assert wire.request().ended
            Wire.connect(wire)
            assert wire.received().startswith(b"HTTP/1.1 503 ")
            assert wire.send_raw(PREFACE + frame(4)) == b""
            assert wire.closed

    def test_where_it_is_known_it_is_goaway(self) -> None:
        with Wire(hello, limits=Limits(connections=1)) as wire:
            for number in range(TOLD_AT_ONCE + 10):
                connection = Http2Connection(wire.service)
                transport = MemoryTransport(connection, wire.loop, wire.ends)
                connection.connection_made(transport)
                assert transport.closed or transport.eof
                told = bytes(transport.written)
                if number < TOLD_AT_ONCE:
                    last = frames_of(told)[-1]
                    assert (last.kind, last.code) == (GOAWAY, ErrorCode.NO_ERROR)
                else:
                    assert told == b""
            wire.advance(5)
            assert len(wire.service.connections) == 1
            assert not wire.service.turned_away

    def test_a_request_beyond_concurrency_is_answered_503(self) -> None:
        with ManualWire(Limits(concurrency=2)) as wire:
            answers = [wire.request() for _ in range(3)]
            assert [answer.status for answer in answers] == [0, 0, 503]
            assert answers[2].header[b"retry-after"] == b"1"
            for call in wire.manual.calls:
                wire.run(call.respond())
                wire.finish(call)
            assert [answer.status for answer in answers] == [200, 200, 503]
            assert wire.request().status == 0
            wire.finish()

    def test_a_stream_beyond_the_limit_of_the_connection_is_refused(self) -> None:
        with ManualWire(with_http2(concurrent_streams=2)) as wire:
            answers = [wire.request() for _ in range(2)]
            wire.hear(wire.send_raw(frame(1, 5, 5, GET)))
            assert b"\0\0\4\3\0\0\0\0\5" + int(ErrorCode.REFUSED_STREAM).to_bytes(4, "big") in wire.raw
            for answer in answers:
                wire.run(wire.call_of(answer).respond())
                wire.finish(wire.call_of(answer))
                assert answer.ended

    def test_a_request_that_was_reset_keeps_its_place_until_its_application_is_done(self) -> None:
        """CVE-2023-44487: else a client could have any number of them at work."""
        with ManualWire(with_http2(concurrent_streams=2)) as wire:
            for stream_id in (1, 3):
                wire.send_raw(frame(1, 5, stream_id, GET) + reset(stream_id))
            for stream_id in (5, 7, 9):
                assert frames_of(wire.send_raw(frame(1, 5, stream_id, GET)))[-1].code == ErrorCode.REFUSED_STREAM
            assert len(wire.manual.calls) == 2
            wire.manual.calls[0].finish()
            wire.settle()
            wire.send_raw(frame(1, 5, 11, GET))
            assert len(wire.manual.calls) == 3
            for call in wire.manual.calls[1:]:
                call.finish()


class TestSizes:
    """limits.body_size, header_size, header_count, request_line."""

    def test_a_body_that_is_announced_too_large_never_begins(self) -> None:
        recorder = Recorder()
        with Http2Wire(recorder, Limits(body_size=10)) as wire:
            answer = wire.request("POST", fields=[(b"content-length", b"11")], end=False)
            assert (answer.status, answer.ended) == (413, True)
            assert answer.body.endswith(b": body larger than limits.body_size\n")
            assert wire.request("POST", body=b"x" * 10).status == 200
        assert recorder.bodies == [b"x" * 10]

    def test_one_that_grows_too_large_is_answered_413_and_its_application_told(self) -> None:
        with ManualWire(Limits(body_size=10)) as wire:
            answer = wire.request("POST", body=b"x" * 6, end=False)
            wire.run(wire.call.receive())
            waiting = wire.run(wire.call.receive())
            wire.upload(answer, b"x" * 6, end=False)
            assert (answer.status, answer.ended) == (413, True)
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.ping()
            wire.finish()

    def test_one_whose_response_has_begun_is_reset(self) -> None:
        with ManualWire(Limits(body_size=10)) as wire:
            answer = wire.request("POST", end=False)
            wire.run(wire.call.start())
            wire.run(wire.call.body(b"half", True))
            wire.upload(answer, b"x" * 11, end=False)
            assert answer.outcome == (200, b"half", False)
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            assert wire.run(wire.call.receive()).result() == {"type": "http.disconnect"}
            wire.finish()

    def test_too_many_of_them_are_an_attack(self) -> None:
        """Each leaves an application behind that has yet to notice; see CVE-2025-8671."""
        with ManualWire(with_http2(Limits(body_size=10), resets=20)) as wire:
            for number in range(30):
                stream_id = 2 * number + 1
                sent = wire.send_raw(frame(1, 4, stream_id, POST) + frame(0, 0, stream_id, b"x" * 11))
                if wire.closed:
                    break
            last = frames_of(sent)[-1]
            assert (last.kind, last.code) == (GOAWAY, ErrorCode.ENHANCE_YOUR_CALM)
            assert number == 20
            for call in wire.manual.calls:
                call.finish()
            wire.advance(5)

    @pytest.mark.parametrize(
        ("path", "fields", "status"),
        [
            ("/" + "a" * 200, [], 414),
            ("/", [(b"x", b"y" * 1200)], 431),
            ("/", [(b"x-%d" % number, b"y") for number in range(20)], 431),
        ],
    )
    def test_a_head_that_is_too_large_is_answered(self, path: str, fields: Any, status: int) -> None:
        limits = Limits(request_line=128, header_size=1024, header_count=10)
        with Http2Wire(hello, limits) as wire:
            assert wire.request(path=path, fields=fields).status == status
            assert wire.request().status == 200


def floods() -> list[Any]:
    """Return what a client may send again and again, each as a function of the number of the round."""
    return [
        pytest.param(lambda n: frame(1, 5, 2 * n + 1, GET) + reset(2 * n + 1), 1000, id="rapid reset (CVE-2023-44487)"),
        pytest.param(
            lambda n: frame(1, 5, 2 * n + 1, GET) + window_update(2 * n + 1, 0),
            1000,
            id="made you reset by WINDOW_UPDATE 0 (CVE-2025-8671)",
        ),
        pytest.param(
            lambda n: frame(1, 5, 2 * n + 1, GET) + frame(0, 0, 2 * n + 1, b"x"),
            1000,
            id="made you reset by DATA behind the end (CVE-2025-8671)",
        ),
        pytest.param(
            lambda n: frame(1, 5, 2 * n + 1, GET) + window_update(2 * n + 1, 2**31 - 1),
            1000,
            id="made you reset by a window too large (CVE-2025-8671)",
        ),
        pytest.param(lambda n: frame(1, 5, 2 * n + 1, GET + b"\x00\x01X\x00"), 1000, id="malformed requests"),
        pytest.param(lambda n: frame(4), 2000, id="SETTINGS (CVE-2019-9515)"),
        pytest.param(lambda n: frame(6, payload=bytes(8)), 2000, id="PING (CVE-2019-9512)"),
        pytest.param(lambda n: (b"" if n else frame(1, 4, 1, POST)) + frame(0, 0, 1), 2000, id="empty DATA"),
        pytest.param(lambda n: frame(2, 0, 1, bytes(5)), 2000, id="PRIORITY (CVE-2019-9513)"),
        pytest.param(lambda n: window_update(0, 1), 2000, id="WINDOW_UPDATE"),
        pytest.param(lambda n: frame(1 if not n else 9, 0, 1, b""), 100, id="CONTINUATION (CVE-2024-27316)"),
        pytest.param(lambda n: frame(77, 0, 0, b""), 2000, id="unknown frames"),
    ]


class TestFloods:
    """RFC 9113 §10.5: the connection ends with ENHANCE_YOUR_CALM, and others do not notice."""

    @pytest.mark.parametrize(("make", "most"), floods())
    def test_it_ends(self, make: Any, most: int, caplog: pytest.LogCaptureFixture) -> None:
        with ManualWire() as wire:
            sent = b""
            for number in range(most):
                sent += wire.send_raw(make(number))
                if wire.closed:
                    break
            last = frames_of(sent)[-1]
            assert (last.kind, last.code) == (GOAWAY, ErrorCode.ENHANCE_YOUR_CALM)
            assert len(wire.manual.calls) <= 128 + 500
            wire.transport.waiting.clear()
            wire.connect()
            answer = wire.request()
            wire.run(wire.call.respond())
            assert answer.ended
            for call in wire.manual.calls:
                if not call.end.done():
                    call.finish()
            wire.advance(5)
            assert wire.service.connections == {wire.server}
        assert caplog.text == ""

    def test_a_bomb_of_headers_is_never_unpacked(self) -> None:
        """CVE-2016-6581: a byte stands for as many as the table has."""
        big = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000  # into the table
        with Http2Wire(hello) as wire:
            assert wire.request().ended
            wire.send_raw(frame(1, 5, 3, GET + big))
            tracemalloc.start()
            try:
                sent = frames_of(wire.send_raw(frame(1, 5, 5, GET + b"\xbe" * 16_000)))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 1_000_000
            assert (sent[-1].kind, sent[-1].code) == (GOAWAY, ErrorCode.ENHANCE_YOUR_CALM)


class TestMemory:
    """What is kept for a client, and what is left of it."""

    def test_nothing_is_left_of_a_request(self) -> None:
        with Http2Wire(hello) as wire:
            for _ in range(100):
                wire.request()
                wire.answers.clear()
            wire.events.clear()
            gc.collect()
            kinds = [type(found) for found in gc.get_objects()]
            assert not kinds.count(RequestStream)
            assert not kinds.count(Exchange)

    def test_an_idle_connection_keeps_little(self) -> None:
        with Wire(hello) as wire:
            kept = []
            for repeat in range(2):  # the first for what is made once
                before = 0
                if repeat:
                    gc.collect()
                    tracemalloc.start()
                for _ in range(20):
                    connection = Http2Connection(wire.service)
                    transport = MemoryTransport(connection, wire.loop, wire.ends)
                    connection.connection_made(transport)
                    kept.append((connection, transport))
                    connection.data_received(PREFACE + frame(4) + frame(4, 1) + frame(1, 5, 1, GET))
                    wire.settle()
                    transport.written.clear()
                if repeat:
                    gc.collect()
                    used = tracemalloc.get_traced_memory()[0] - before
                    tracemalloc.stop()
            assert used / 20 < 12 * KIB
