"""What a peer may not make the server do (RFC 9113 §10.5): each flood ends its connection with ENHANCE_YOUR_CALM."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from serverd.protocol.http2 import ConnectionFault, ErrorCode, Http2Bounds
from tests.protocol.http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    SETTINGS,
    Peer,
    data,
    frame,
    reset,
    settings,
    window_update,
)
from tests.support.every import every

CALM = ErrorCode.ENHANCE_YOUR_CALM


def endure(peer: Peer, make: Callable[[int], bytes], most: int, reads: bool = True) -> int:
    """Send frame after frame until the server ends the connection for that; return how many it took."""
    for number in range(most):
        frames = make(number)
        try:
            peer.feed(frames)
            if reads:
                peer.take()
        except ConnectionFault:
            last = peer.take()[-1]
            assert (last.kind, last.code) == (GOAWAY, CALM)
            return number
    return most


FLOODS: dict[str, Callable[[int], bytes]] = {
    "PING (CVE-2019-9512)": lambda number: frame(PING, payload=bytes(8)),
    "PING answers": lambda number: frame(PING, 1, payload=bytes(8)),
    "SETTINGS (CVE-2019-9515)": lambda number: settings((4, number)),
    "SETTINGS answers": lambda number: frame(SETTINGS, 1),
    "empty DATA (CVE-2019-9518)": lambda number: data(1),
    "DATA of padding": lambda number: frame(DATA, PADDED, 1, b"\x09" + bytes(9)),
    "PRIORITY": lambda number: frame(PRIORITY, 0, 7, bytes(5)),
    "unknown frames": lambda number: frame(0xEE, 0, 0, b"a"),
    "GOAWAY": lambda number: frame(GOAWAY, payload=bytes(8)),
    "WINDOW_UPDATE of the connection": lambda number: window_update(0, 1),
    "WINDOW_UPDATE of a stream": lambda number: window_update(1, 1),
    "resets of a closed stream": lambda number: reset(3),
    "empty DATA of a stream that was reset": lambda number: data(5),
}


class TestFloods:
    """Frames that cost the peer nothing."""

    @every("make", FLOODS.values(), ids=FLOODS.keys())
    def test_frames_that_carry_nothing_are_taken_for_a_while(self, make: Callable[[int], bytes]) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.open(3)
        peer.respond(3)
        peer.core.reset(peer.open(5, POST, end=False), ErrorCode.CANCEL)
        peer.take()
        bounds = Http2Bounds()
        peer.core.tick()
        for _ in range(3):  # every second again
            for number in range(bounds.idle_frames):
                peer.send(make(number))
            peer.core.tick()
        assert endure(peer, make, 2 * bounds.idle_frames) == bounds.idle_frames

    def test_an_ordinary_download_is_no_flood(self) -> None:
        peer = Peer()
        peer.open(1)
        stream = peer.request(1).stream
        peer.core.send_headers(stream, 200, [], False)
        for _ in range(3000):
            peer.core.send_body(stream, bytes(1024), False)
            peer.send(window_update(0, 1024), window_update(1, 1024))
        assert not peer.core.closed

    def test_windows_of_a_byte_are_one(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1, bytes(100_000))
        assert endure(peer, lambda number: window_update(1, 1), 3000) <= Http2Bounds().idle_frames + 1

    def test_the_remainder_of_a_small_window_is_none(self) -> None:
        """h2load -w10 -W12 -m10: of 4095 bytes for streams of 1023, three are left."""
        peer = Peer()
        peer.send(settings((4, 1023)))
        for stream_id in range(1, 20, 2):
            peer.open(stream_id)
        for stream_id in range(1, 20, 2):
            peer.respond(stream_id, bytes(600_000))
        window = 65_535  # of the connection: 4095 from the first update on
        sizes = []
        while peer.core.streams:
            sent = [item for item in peer.take() if item.kind == DATA]
            assert sent, "nothing is sent although the windows are open"
            sizes += [len(item.payload) for item in sent]
            updates = [window_update(item.stream_id, len(item.payload)) for item in sent]
            window -= sum(len(item.payload) for item in sent)
            if window < 2048:
                updates.append(window_update(0, 4095 - window))
                window = 4095
            peer.feed(b"".join(updates))
        assert sum(size < 64 for size in sizes) > 1000

    @pytest.mark.parametrize("question", ["PING", "SETTINGS", "malformed request"])
    def test_answers_are_not_piled_up_for_who_does_not_read(self, question: str) -> None:
        peer = Peer()

        def make(number: int) -> bytes:
            if number % 30 == 29:
                peer.core.tick()  # each second has few of them
            known = {"PING": frame(PING, payload=bytes(8)), "SETTINGS": settings()}
            return known.get(question) or peer.headers(2 * number + 1, [*GET, (b"X", b"")])

        assert endure(peer, make, 2000, reads=False) == Http2Bounds().idle_frames

    def test_streams_behind_the_last_goaway_are_not_looked_at_forever(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.core.drain()
        peer.take()
        peer.core.tick()
        peer.core.tick()
        peer.take()
        assert endure(peer, lambda number: peer.headers(2 * number + 3), 2000) == Http2Bounds().idle_frames
        assert peer.sink.requests.keys() == {1}

    def test_settings_of_too_many_entries_are_refused(self) -> None:
        Peer().send(settings(*[(4, 1)] * 32))
        Peer().breaks_connection(settings(*[(4, 1)] * 33), code=CALM)


class TestResets:
    """CVE-2023-44487, CVE-2025-8671."""

    def rapid(self, peer: Peer) -> Callable[[int], bytes]:
        def make(number: int) -> bytes:
            for request in peer.sink.requests.values():
                if request.is_reset:
                    peer.core.release(request.stream)
            return peer.headers(2 * number + 1) + reset(2 * number + 1)

        return make

    def test_streams_that_are_reset_at_once(self) -> None:
        peer = Peer()
        assert endure(peer, self.rapid(peer), 2000) == Http2Bounds().resets

    def test_as_many_a_second_as_any_client_needs_may_be(self) -> None:
        peer = Peer()
        make = self.rapid(peer)
        for second in range(40):
            for number in range(33):
                peer.send(make(33 * second + number))
            peer.core.tick()
        assert not peer.core.closed

    def test_a_quiet_time_saves_nothing_up(self) -> None:
        peer = Peer()
        for _ in range(100):
            peer.core.tick()
        assert endure(peer, self.rapid(peer), 2000) == Http2Bounds().resets

    def test_their_applications_are_never_more_than_the_streams_allowed(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=5))
        endure(peer, lambda number: peer.headers(2 * number + 1) + reset(2 * number + 1), 2000)
        assert len(peer.sink.requests) == 5

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(lambda number: window_update(number, 0), id="WINDOW_UPDATE by 0"),
            pytest.param(lambda number: window_update(number, 2**31 - 1), id="WINDOW_UPDATE by too much"),
            pytest.param(lambda number: data(number, b"a"), id="DATA behind the end"),
            pytest.param(lambda number: frame(PRIORITY, 0, number, bytes(4)), id="PRIORITY of a wrong size"),
        ],
    )
    def test_streams_that_the_server_is_made_to_reset(self, broken: Callable[[int], bytes]) -> None:
        peer = Peer()

        def make(number: int) -> bytes:
            for request in peer.sink.requests.values():
                peer.core.release(request.stream)
            return peer.headers(2 * number + 1) + broken(2 * number + 1)

        assert endure(peer, make, 2000) == Http2Bounds().resets

    def test_malformed_requests(self) -> None:
        peer = Peer()
        flood = endure(peer, lambda number: peer.headers(2 * number + 1, [*GET, (b"X", b"")]), 2000)
        assert flood == Http2Bounds().resets

    def test_refused_streams(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=1))
        peer.open(1)
        assert endure(peer, lambda number: peer.headers(2 * number + 3), 2000) == Http2Bounds().resets

    def test_finished_streams_count_for_nothing(self) -> None:
        peer = Peer()
        for number in range(1, 3000, 2):
            peer.open(number)
            peer.respond(number)
            peer.take()
        assert not peer.core.closed


class TestHeaderBlocks:
    """CVE-2024-27316, CVE-2024-28182, CVE-2016-6581."""

    def test_a_block_without_an_end(self) -> None:
        peer = Peer()
        peer.send(frame(HEADERS, END_STREAM, 1, peer.block(GET)))
        assert endure(peer, lambda number: frame(CONTINUATION, 0, 1), 100) == Http2Bounds().continuations

    def test_a_block_that_grows(self) -> None:
        peer = Peer(Http2Bounds(header_list_size=10_000, continuations=1000))
        peer.send(frame(HEADERS, END_STREAM, 1, peer.block(GET)))
        assert endure(peer, lambda number: frame(CONTINUATION, 0, 1, b"\x00\x02ab\x01c" * 100), 100) < 35

    def test_a_bomb(self) -> None:
        peer = Peer()
        block = peer.block([*GET, (b"x-bomb", b"a" * 4000)]) + b"\xbe" * 12_000  # 48 MB
        tracemalloc.start()
        try:
            peer.breaks_connection(frame(HEADERS, END_HEADERS | END_STREAM, 1, block), code=CALM)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1024 * 1024

    def test_a_bomb_in_trailers(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        block = peer.block([(b"x-bomb", b"a" * 4000)]) + b"\xbe" * 12_000
        peer.breaks_connection(frame(HEADERS, END_HEADERS | END_STREAM, 1, block), code=CALM)
        assert peer.request(1).is_reset


class TestMemory:
    """Whatever is sent, a connection keeps a bounded amount."""

    def test_a_frame_that_comes_byte_by_byte_costs_its_size(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        for octet in data(1, bytes(2**14)):
            peer.feed(bytes([octet]))
        assert peer.request(1).body == bytes(2**14)
        assert not peer.core.is_amid

    def test_a_connection_that_has_done_much_keeps_little(self) -> None:
        peer = Peer()
        tracemalloc.start()
        try:
            for number in range(1, 6000, 2):
                peer.send(peer.headers(number, [*GET, (b"x-number", b"%d" % number)]))
                stream = peer.sink.requests.pop(number).stream
                peer.core.send_headers(stream, 200, [(b"x-answer", b"%d" % number)], False)
                peer.core.send_body(stream, b"hello", True)
                peer.take()
                if number == 2001:
                    before, _ = tracemalloc.get_traced_memory()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 64 * 1024

    def test_few_blocks_are_remembered(self) -> None:
        peer = Peer()
        block = b"\x82\x86\x01\x01a"  # GET, http, and an :authority that is not indexed
        for number in range(1, 401, 2):
            path = b"\x04\x05/%04d" % number
            peer.send(frame(HEADERS, END_HEADERS | END_STREAM, number, block + path))
            stream = peer.sink.requests.pop(number).stream
            peer.core.send_headers(stream, 200, [], True)
            peer.take()
        assert len(peer.core._receiver._heads._known) <= 16

    def test_what_is_unfinished_is_known(self) -> None:
        peer = Peer(greet=False)
        peer.feed(PREFACE[:10])
        assert not peer.core.is_greeted
        peer.feed(PREFACE[10:] + settings())
        assert peer.core.is_greeted
        assert not peer.core.is_amid
        peer.feed(frame(HEADERS, END_STREAM, 1, peer.block(GET)))
        assert peer.core.is_amid
        peer.feed(frame(CONTINUATION, END_HEADERS, 1))
        assert not peer.core.is_amid
        peer.feed(frame(PING, payload=bytes(8))[:12])
        assert peer.core.is_amid
