"""Flow control both ways (RFC 9113 §5.2, §6.9), and who is sent what when."""

from __future__ import annotations

import pytest

from serverd.protocol.http2 import ConnectionFault, ErrorCode, Http2Bounds
from serverd.protocol.http2_windows import ConnectionWindow
from tests.protocol.http2_peer import (
    ACK,
    CONNECT,
    DATA,
    END_STREAM,
    HEADERS,
    POST,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    Peer,
    data,
    frame,
    reset,
    settings,
    window_update,
)

WINDOW = 65_535
LARGEST = 2**31 - 1


def data_of(answers: list[Frame], stream_id: int | None = None) -> list[Frame]:
    return [answer for answer in answers if answer.kind == DATA and stream_id in (None, answer.stream_id)]


def body_of(answers: list[Frame], stream_id: int | None = None) -> bytes:
    return b"".join(answer.payload for answer in data_of(answers, stream_id))


def updates_of(answers: list[Frame], stream_id: int) -> int:
    return sum(answer.number for answer in answers if answer.kind == WINDOW_UPDATE and answer.stream_id == stream_id)


class TestSending:
    """RFC 9113 §6.9.1: no more than either window allows."""

    def test_a_window_of_one_byte_lets_one_byte_go(self) -> None:
        peer = Peer()
        peer.send(settings((4, 1)))
        peer.open(1)
        peer.respond(1, b"hello")
        assert body_of(peer.take()) == b"h"
        assert body_of(peer.send(window_update(1, 2))) == b"el"
        [last] = peer.send(window_update(1, 100))
        assert last == Frame(DATA, END_STREAM, 1, b"lo")
        assert not peer.core.streams

    def test_the_window_of_the_connection_holds_all_streams(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST)))
        peer.send(peer.headers(1), peer.headers(3))
        for number in (1, 3):
            peer.respond(number, bytes(50_000))
        assert len(body_of(peer.take())) == WINDOW
        assert len(body_of(peer.send(window_update(0, 10)))) == 10
        assert len(body_of(peer.send(window_update(0, 1 << 20)))) == 100_000 - WINDOW - 10

    def test_an_empty_end_needs_no_window(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1)
        assert peer.take()[-1] == Frame(DATA, END_STREAM, 1, b"")

    def test_frames_are_no_larger_than_every_peer_takes(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST), (5, 2**20)), window_update(0, 1 << 20))
        peer.open(1)
        peer.respond(1, bytes(100_000))
        assert {len(answer.payload) for answer in data_of(peer.take())[:-1]} == {2**14}

    def test_small_pieces_leave_together(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        for number in range(100):
            peer.core.send_body(stream, b"%03d" % number, number == 99)
        peer.take()
        [only] = peer.send(window_update(1, 1000))
        assert only.payload == b"".join(b"%03d" % number for number in range(100))
        assert only.flags == END_STREAM

    def test_a_larger_initial_window_applies_to_open_streams(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1, b"hello")
        assert body_of(peer.take()) == b""
        assert body_of(peer.send(settings((4, 3)))) == b"hel"

    def test_a_smaller_one_may_make_a_window_negative(self) -> None:
        peer = Peer()
        peer.send(settings((4, 3)))
        stream = peer.open(1)
        peer.respond(1, b"hello")
        assert body_of(peer.take()) == b"hel"
        peer.send(settings((4, 2)))
        assert stream.send_window == -1
        assert peer.send(window_update(1, 1)) == []
        assert body_of(peer.send(window_update(1, 1))) == b"l"

    def test_a_stream_that_waits_for_its_turn_may_lose_its_window(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, bytes(20_000), True)
        answers = peer.send(settings((4, 0)))
        assert body_of(answers) == b""
        assert body_of(peer.send(window_update(1, 65_535))) == bytes(20_000)

    def test_a_window_must_not_be_opened_by_nothing(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.breaks_stream(1, window_update(1, 0))
        peer.breaks_connection(window_update(0, 0))

    def test_a_window_must_not_become_too_large(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        broken = [window_update(1, LARGEST), window_update(1, LARGEST)]
        peer.breaks_stream(1, *broken, code=ErrorCode.FLOW_CONTROL_ERROR)
        broken = [window_update(0, LARGEST), window_update(0, LARGEST)]
        peer.breaks_connection(*broken, code=ErrorCode.FLOW_CONTROL_ERROR)

    def test_a_window_is_given_back_behind_a_whole_response(self) -> None:
        """RFC 9113 §6.9.1: the largest there is, from which the response was taken while the request goes on."""
        peer = Peer()
        peer.send(settings((4, 2**31 - 1)))
        stream = peer.open(1, POST, end=False)
        peer.core.send_response(stream, 200, [(b"content-length", b"5")], b"hello")
        assert [answer.kind for answer in peer.take()] == [HEADERS, DATA]
        peer.is_ignored(window_update(1, 5))
        peer.breaks_stream(1, window_update(1, 1), code=ErrorCode.FLOW_CONTROL_ERROR)

    def test_settings_must_not_make_the_window_of_a_stream_too_large(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.send(window_update(1, LARGEST - WINDOW))
        peer.breaks_connection(settings((4, WINDOW + 1)), code=ErrorCode.FLOW_CONTROL_ERROR)


class TestBackpressure:
    """A stream that has much waiting is blocked, and told when it is not any more."""

    def test_a_blocked_stream_becomes_writable_when_half_has_left(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)), window_update(0, 1 << 20))
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, bytes(65_536), False)
        assert not stream.overflows
        peer.core.send_body(stream, b"a", False)
        assert stream.overflows
        peer.send(window_update(1, 30_000))
        assert peer.request(1).writable == 0
        peer.send(window_update(1, 10_000))
        assert peer.request(1).writable == 1
        assert not stream.overflows

    def test_what_is_handed_out_at_a_time_is_bounded(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST)), window_update(0, 1 << 24))
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, bytes(1 << 20), True)
        sizes = []
        while peer.core.is_waiting:
            sizes.append(len(b"".join(peer.core.take())))
        assert max(sizes) < 64 * 1024 + 2**14 + 100
        assert sum(sizes) > 1 << 20

    def test_small_answers_do_not_wait_for_a_large_download(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST)), window_update(0, 1 << 24))
        peer.open(1)
        peer.respond(1, bytes(10_000_000))
        peer.core.take()
        for number in (3, 5, 7):
            peer.feed(peer.headers(number))
            peer.respond(number, b"small")
        sent = b"".join(peer.core.take())
        for number in (3, 5, 7):
            assert b"\x00\x00\x05\x00\x01" + number.to_bytes(4, "big") + b"small" in sent

    def test_downloads_take_turns(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST)), window_update(0, 1 << 24))
        peer.send(*(peer.headers(number) for number in (1, 3, 5)))
        for number in (1, 3, 5):
            peer.respond(number, bytes(100_000))
        turns = [answer.stream_id for answer in data_of(peer.take())]
        assert turns[:6] == [1, 3, 5, 1, 3, 5]

    def test_a_response_in_order_stays_in_order(self) -> None:
        peer = Peer()
        peer.send(settings((4, LARGEST)), window_update(0, 1 << 24))
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        parts = [bytes([number]) * (number * 700) for number in range(1, 100)]
        sent: list[Frame] = []
        for number, part in enumerate(parts):
            peer.core.send_body(stream, part, number == len(parts) - 1)
            if number % 7 == 0:
                sent += peer.take()
        assert body_of(sent + peer.take()) == b"".join(parts)


class TestStalls:
    """A peer that does not open the window that is waited for (CVE-2019-9517) does not hold a response forever."""

    def test_a_stream_is_given_up_when_its_window_stays_shut(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1, b"hello")
        peer.take()
        for _ in range(3):
            peer.core.tick()
            assert peer.take() == []
        peer.core.tick()
        [answer] = peer.take()
        assert (answer.kind, answer.code) == (RST_STREAM, ErrorCode.CANCEL)
        assert peer.request(1).is_reset

    def test_every_byte_gives_it_more_time(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1, b"hello")
        peer.take()
        for _ in range(4):
            for _ in range(3):
                peer.core.tick()
            assert body_of(peer.send(window_update(1, 1))) != b""
        assert not peer.request(1).is_reset

    def test_what_was_sent_before_it_had_to_wait_gives_it_no_more_time(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.send(settings((4, 5)))
        peer.open(1)
        peer.respond(1, b"hello", end=False)
        assert body_of(peer.take()) == b"hello"
        peer.core.send_body(peer.request(1).stream, b"world", True)
        for _ in range(3):
            peer.core.tick()
        assert not peer.request(1).is_reset
        peer.core.tick()
        assert peer.request(1).is_reset

    def test_who_waits_anew_has_all_of_the_time(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.send(settings((4, 0)))
        peer.open(1)
        peer.respond(1, b"hello", end=False)
        for number in range(1, 4):
            for _ in range(3):
                peer.core.tick()
            assert body_of(peer.send(window_update(1, 5))) == b"hello"
            assert peer.request(1).stream.backlog is None
            peer.core.send_body(peer.request(1).stream, b"hello", number == 3)
        for _ in range(3):
            peer.core.tick()
        assert not peer.request(1).is_reset

    def test_all_are_given_up_when_that_of_the_connection_stays_shut(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.send(settings((4, LARGEST)))
        for number in (1, 3):
            peer.open(number)
            peer.respond(number, bytes(100_000))
        peer.take()
        for _ in range(5):
            peer.core.tick()
        assert {answer.stream_id for answer in peer.take()} == {1, 3}

    def test_a_socket_that_is_slow_is_not_the_fault_of_a_stream(self) -> None:
        peer = Peer(Http2Bounds(send_timeout=3))
        peer.open(1)
        peer.respond(1, bytes(60_000))
        for _ in range(10):
            peer.core.tick()  # nobody takes
        assert not peer.request(1).is_reset


class TestReceiving:
    """RFC 9113 §6.9: what has been read may be sent again, and nothing else."""

    def test_nothing_is_given_back_before_it_is_read(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        answers = []
        for _ in range(4):
            answers += peer.send(data(1, bytes(16_000)))
        assert answers == []
        peer.core.consume(stream, 64_000)
        assert updates_of(peer.take(), 1) == 64_000

    def test_more_than_the_window_resets_the_stream(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.send(*[data(1, bytes(2**14)) for _ in range(3)], data(1, bytes(2**14 - 1)))
        peer.breaks_stream(1, data(1, b"a"), code=ErrorCode.FLOW_CONTROL_ERROR)

    def test_an_application_that_does_not_read_holds_only_its_own_stream(self) -> None:
        bounds = Http2Bounds(concurrent_streams=20, window_growth=0)
        peer = Peer(bounds)
        full = [data(0, bytes(2**14))[9:]] * 3 + [bytes(2**14 - 1)]
        for number in range(1, 39, 2):
            peer.open(number, POST, end=False)
            peer.send(*(data(number, part) for part in full))
        reader = peer.open(39, POST, end=False)
        left = WINDOW
        sent = 0
        while sent < 2_000_000:
            size = min(left, 2**14)
            answers = peer.send(data(39, bytes(size)))
            peer.core.consume(reader, size)
            sent += size
            left += updates_of(answers + peer.take(), 39) - size
            assert left > 0, "the stream is held"
        assert not peer.core.closed

    def test_what_is_kept_for_applications_is_bounded(self) -> None:
        bounds = Http2Bounds(concurrent_streams=4)
        peer = Peer(bounds)
        for number in range(1, 99, 2):
            peer.send(peer.headers(number, POST, end=False))
            # As much as a stream may have, on streams that are refused and reset, too.
            peer.send(data(number, bytes(2**14)) * 3, data(number, bytes(2**14 - 1)))
            if number < 6:
                peer.send(reset(number))  # and its application does not return
        kept = sum(len(request.body) for request in peer.sink.requests.values())
        assert kept == 4 * WINDOW

    def test_the_window_of_the_connection_must_not_be_exceeded(self) -> None:
        window = ConnectionWindow(1000)
        window.receive(window.size)
        with pytest.raises(ConnectionFault) as raised:
            window.receive(1)
        assert raised.value.code is ErrorCode.FLOW_CONTROL_ERROR

    def test_a_reset_stream_gives_back_what_nobody_read(self) -> None:
        peer = Peer()
        given_back = 0
        sent = 0
        for number in range(1, 61, 2):
            stream = peer.open(number, POST, end=False)
            for _ in range(3):
                sent += 16_000
                given_back += updates_of(peer.send(data(number, bytes(16_000))), 0)
            given_back += updates_of(peer.send(reset(number)), 0)
            peer.core.release(stream)
            peer.core.consume(stream, 16_000)  # the application reads what it was given: of no matter any more
            given_back += updates_of(peer.take(), 0)
        assert sent - 300_000 < given_back <= sent

    def test_what_comes_of_a_request_whose_whole_response_waits_is_thrown_away(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        stream = peer.open(1, POST, end=False)
        peer.respond(1, b"hello")
        assert stream.is_unread
        assert updates_of(peer.send(*[data(1, bytes(2**14)) for _ in range(3)]), 1) > 0
        assert peer.request(1).body == b""
        assert body_of(peer.send(window_update(1, 5))) == b"hello"
        assert stream.is_unread

    def test_data_of_a_closed_stream_is_given_back(self) -> None:
        peer = Peer()
        peer.core.reset(peer.open(1, POST, end=False), ErrorCode.CANCEL)
        peer.take()
        given_back = sum(updates_of(peer.send(data(1, bytes(16_000))), 0) for _ in range(100))
        assert given_back > 1_300_000

    def test_the_window_grows_with_use(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        window = WINDOW
        largest = 0
        for _ in range(400):
            size = min(window, 2**14)
            peer.feed(data(1, bytes(size)))
            peer.core.consume(stream, size)
            peer.request(1).body = b""
            window += updates_of(peer.take(), 1) - size
            largest = max(largest, window)
        assert Http2Bounds().largest_window // 2 < largest <= Http2Bounds().largest_window

    def test_it_does_not_grow_for_who_reads_slowly(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        window = WINDOW
        for _ in range(100):
            peer.feed(data(1, bytes(2**14)))
            peer.core.consume(stream, 2**14)
            peer.core.tick()
            window += updates_of(peer.take(), 1) - 2**14
            assert window <= WINDOW

    def test_all_windows_together_grow_by_what_is_allowed(self) -> None:
        bounds = Http2Bounds(concurrent_streams=50)
        peer = Peer(bounds)
        windows = {}
        for number in range(1, 100, 2):
            stream = peer.open(number, POST, end=False)
            windows[number] = WINDOW
            for _ in range(200):
                peer.feed(data(number, bytes(2**14)))
                peer.core.consume(stream, 2**14)
                windows[number] += updates_of(peer.take(), number) - 2**14
            size = stream.window._size if stream.window is not None else 0
            assert size >= WINDOW
        sizes = [stream.window._size for stream in peer.core.streams.values() if stream.window is not None]
        assert sum(sizes) <= 50 * WINDOW + bounds.window_growth
        assert sum(sizes) > 50 * WINDOW + bounds.window_growth // 2
        for stream in list(peer.core.streams.values()):
            peer.core.reset(stream, ErrorCode.CANCEL)
        assert peer.core._intake._growth.left == bounds.window_growth

    def test_a_smaller_window_of_ours_holds_from_the_acknowledgement_on(self) -> None:
        peer = Peer(Http2Bounds(initial_window=1000, window_growth=0), greet=False)
        peer.send(PREFACE + settings())
        stream = peer.open(1, POST, end=False)
        peer.send(data(1, bytes(5000)))  # by the default
        peer.send(frame(SETTINGS, ACK))
        assert stream.window is not None
        assert stream.window.left == 1000 - 5000
        peer.open(3, POST, end=False)
        peer.breaks_stream(3, data(3, bytes(1001)), code=ErrorCode.FLOW_CONTROL_ERROR)
        peer.core.consume(stream, 5000)
        assert updates_of(peer.take(), 1) == 5000

    def test_a_larger_window_of_ours_holds_too(self) -> None:
        peer = Peer(Http2Bounds(initial_window=100_000))
        peer.open(1, POST, end=False)
        peer.send(*[data(1, bytes(10_000)) for _ in range(10)])
        peer.breaks_stream(1, data(1, b"a"), code=ErrorCode.FLOW_CONTROL_ERROR)

    def test_the_end_needs_no_more_window(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        peer.send(data(1, bytes(2**14)) * 3, data(1, b"", end=True))
        peer.core.consume(stream, 3 * 2**14)
        assert updates_of(peer.take(), 1) == 0

    def test_tunnels_are_controlled_like_bodies(self) -> None:
        peer = Peer()
        stream = peer.open(1, CONNECT, end=False)
        peer.core.send_headers(stream, 200, [], False)
        peer.send(data(1, bytes(2**14)) * 3)
        peer.core.consume(stream, 3 * 2**14)
        assert updates_of(peer.take(), 1) == 3 * 2**14


class TestSmallParts:
    """Many parts of a byte each cost a multiple of their bytes, so those that nobody reads are joined."""

    def test_parts_that_are_not_read_are_joined_and_arrive_later(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        request = peer.request(1)
        sent = bytes(range(256)) * 40
        for octet in sent:
            peer.feed(data(1, bytes([octet])))
        assert request.parts == 64
        peer.core.consume(stream, len(request.body))
        assert request.parts == 64  # not while the application reads, but with the next bytes that leave
        assert peer.core.is_waiting
        peer.take()
        assert request.parts == 65
        assert request.body == sent
        peer.send(data(1, b"more"))
        peer.core.consume(stream, len(request.body) - 64)
        peer.send(data(1, b"end", end=True))
        assert request.body == sent + b"moreend"
        assert request.complete

    def test_the_end_brings_what_was_held(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.send(*[data(1, b"a") for _ in range(100)], data(1, b"", end=True))
        assert peer.request(1).body == b"a" * 100
        assert peer.request(1).complete
        peer.open(3, POST, end=False)
        peer.send(*[data(3, b"a") for _ in range(100)], peer.headers(3, [(b"x-trailer", b"1")]))
        assert peer.request(3).body == b"a" * 100
        assert peer.request(3).complete

    def test_a_reset_drops_what_was_held(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        peer.feed(b"".join(data(1, b"a") for _ in range(100)))
        peer.core.consume(stream, 64)
        peer.feed(reset(1))
        peer.core.release(stream)
        peer.take()
        assert peer.request(1).body == b"a" * 64

    def test_headers_are_sent_whatever_the_windows_are(self) -> None:
        peer = Peer()
        peer.send(settings((4, 0)))
        stream = peer.open(1)
        peer.core.send_informational(stream, 103, [(b"link", b"</a>")])
        peer.core.send_headers(stream, 204, [], True)
        assert [answer.kind for answer in peer.take()] == [HEADERS, HEADERS]
