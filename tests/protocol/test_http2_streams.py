"""The streams of HTTP/2 (RFC 9113 §5): states, identifiers, concurrency, errors of streams and of the connection."""

from __future__ import annotations

import pytest

from serverd.protocol.http2 import ErrorCode, Http2Bounds
from serverd.protocol.http2_states import (
    ENDED,
    FAULTS,
    IDLE,
    PEER_RESET,
    RESET,
    SEND_END,
    SEND_RESET,
    Event,
    StreamState,
)
from tests.protocol.http2_peer import (
    CONNECT,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    POST,
    RST_STREAM,
    Frame,
    Peer,
    data,
    frame,
    reset,
    window_update,
)
from tests.support.every import every


class TestTable:
    """RFC 9113 §5.1, Figure 2."""

    def test_every_event_is_followed_by_a_state_or_by_a_fault_or_cannot_come(self) -> None:
        ours = {SEND_END, SEND_RESET}
        for state in StreamState:
            assert len(state.after) == len(Event)
            for event in Event:
                follows = state.after[event] is not None
                assert not (follows and (state, event) in FAULTS)
                if not follows and event not in ours and (state, event) not in FAULTS:
                    # END_STREAM is judged with the frame that carries it.
                    assert event is Event.RECEIVE_END

    def test_no_state_follows_that_is_less_closed(self) -> None:
        order = {IDLE: 0, StreamState.OPEN: 1, StreamState.REMOTE_ENDED: 2, StreamState.LOCAL_ENDED: 2}
        order |= {ENDED: 3, PEER_RESET: 3, RESET: 3}
        for state in StreamState:
            for after in state.after:
                assert after is None or order[after] >= order[state]


class TestIdle:
    """RFC 9113 §5.1, "idle"."""

    @every("stream_id", [1, 2, 7])
    @every("kind", ["DATA", "RST_STREAM", "WINDOW_UPDATE", "CONTINUATION"])
    def test_a_frame_on_an_idle_stream_ends_the_connection(self, kind: str, stream_id: int) -> None:
        frames = {
            "DATA": data(stream_id, b"test", end=True),
            "RST_STREAM": reset(stream_id),
            "WINDOW_UPDATE": window_update(stream_id, 100),
            "CONTINUATION": frame(CONTINUATION, END_HEADERS, stream_id, b"\x82"),
        }
        Peer().breaks_connection(frames[kind])


class TestHalfClosedRemote:
    """RFC 9113 §5.1, "half-closed (remote)"."""

    def test_data_resets_the_stream(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.breaks_stream(1, data(1, b"test", end=True), code=ErrorCode.STREAM_CLOSED)
        assert peer.request(1).is_reset

    def test_headers_reset_the_stream(self) -> None:
        peer = Peer()
        peer.open(5)
        peer.breaks_stream(5, peer.headers(5), code=ErrorCode.STREAM_CLOSED)
        peer.open(7)  # the table is as the peer has it

    def test_window_update_and_reset_are_taken(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.is_ignored(window_update(1, 100))
        peer.is_ignored(reset(1))


class TestHalfClosedLocal:
    """RFC 9113 §5.1, "half-closed (local)"; §8.1."""

    def test_a_response_may_end_before_its_request(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.respond(1, b"enough")
        answers = peer.take()
        assert [answer.kind for answer in answers] == [HEADERS, DATA]
        peer.is_ignored(data(1, b"still on the way"), data(1, b"", end=True))
        assert 1 not in peer.core.streams
        assert peer.request(1).parts == 0  # nobody is told of it
        assert not peer.request(1).is_reset

    def test_trailers_may_end_it_too(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.respond(1)
        peer.take()
        peer.is_ignored(peer.headers(1, [(b"x-checksum", b"1")]))
        assert 1 not in peer.core.streams

    def test_a_peer_that_goes_on_is_asked_to_stop(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.respond(1)
        peer.take()
        for _ in range(2):
            peer.send(data(1, b"more"))
            peer.core.tick()
            assert peer.take() == []
        peer.core.tick()
        [answer] = peer.take()
        assert (answer.kind, answer.stream_id, answer.code) == (RST_STREAM, 1, 0)
        peer.is_ignored(data(1, b"was on the way"), data(1, b"", end=True))

    @pytest.mark.parametrize("is_refused", [False, True])
    def test_a_request_that_is_far_too_long_is_not_stopped_at_once(self, is_refused: bool) -> None:
        """curl 7.88 takes a reset beside the response for a failure."""
        peer = Peer()
        stream = peer.open(1, [*POST, (b"content-length", b"1000000")], end=False)
        stream.is_refused = is_refused
        peer.respond(1)
        assert [(answer.kind, answer.flags) for answer in peer.take()][1:] == [(DATA, END_STREAM)]
        for _ in range(3):
            peer.core.tick()
        [answer] = peer.take()
        assert (answer.kind, answer.stream_id, answer.code) == (RST_STREAM, 1, 0)
        assert not peer.request(1).is_reset

    def test_the_window_is_opened_for_what_nobody_reads(self) -> None:
        """httpx does not look at the response before it has sent the whole body."""
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.respond(1)
        peer.take()
        for _ in range(40):
            assert not [answer for answer in peer.send(data(1, bytes(16_000))) if answer.kind == RST_STREAM]
        assert peer.request(1).parts == 0
        peer.send(data(1, b"", end=True))
        assert 1 not in peer.core.streams

    def test_the_two_halves_of_a_tunnel_end_on_their_own(self) -> None:
        peer = Peer()
        stream = peer.open(1, CONNECT, end=False)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, b"bye", True)
        peer.take()
        for _ in range(10):
            peer.core.tick()
        assert peer.take() == []
        peer.send(data(1, b"bye, too", end=True))
        assert peer.request(1).body == b"bye, too"
        assert peer.request(1).complete
        assert not peer.core.streams

    def test_a_reset_of_what_was_answered_needs_no_release(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=1))
        peer.open(1, POST, end=False)
        peer.respond(1)
        peer.take()
        peer.is_ignored(reset(1))
        assert not peer.request(1).is_reset
        peer.open(3)


class TestClosed:
    """RFC 9113 §5.1, "closed"."""

    def ended(self) -> Peer:
        """Return a peer of which stream 1 has ended in both directions."""
        peer = Peer()
        peer.open(1)
        peer.respond(1, b"hello")
        assert [(answer.kind, answer.flags) for answer in peer.take()] == [(HEADERS, END_HEADERS), (DATA, END_STREAM)]
        return peer

    def test_data_behind_the_end_breaks_the_connection(self) -> None:
        self.ended().breaks_connection(data(1, b"test", end=True), code=ErrorCode.STREAM_CLOSED)

    def test_headers_behind_the_end_break_the_connection(self) -> None:
        peer = self.ended()
        peer.breaks_connection(peer.headers(1), code=ErrorCode.STREAM_CLOSED)

    def test_window_update_and_reset_behind_the_end_are_ignored(self) -> None:
        self.ended().is_ignored(window_update(1, 100), reset(1))

    def test_frames_behind_the_reset_of_the_peer_are_an_error_of_the_stream(self) -> None:
        for broken in (data(1, b"test", end=True), Peer().headers(1)):
            peer = Peer()
            peer.open(1, POST, end=False)
            peer.encoder = Peer().encoder
            peer.send(reset(1))
            peer.breaks_stream(1, broken, code=ErrorCode.STREAM_CLOSED)
            peer.is_ignored(broken)  # it has been told

    def test_frames_behind_our_reset_are_ignored(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        peer.core.reset(stream, ErrorCode.INTERNAL_ERROR)
        [answer] = peer.take()
        assert (answer.kind, answer.code) == (RST_STREAM, ErrorCode.INTERNAL_ERROR)
        assert not peer.request(1).is_reset
        late = [data(1, b"a"), window_update(1, 1), peer.headers(1, [(b"x-late", b"1")]), reset(1)]
        peer.is_ignored(*late)
        peer.open(3, [*GET, (b"x-late", b"1")])  # the late block was decoded
        peer.core.reset(stream, ErrorCode.CANCEL)
        assert peer.take() == []

    def test_our_reset_is_remembered_as_long_as_the_peer_may_not_know(self) -> None:
        most = 10
        peer = Peer(Http2Bounds(concurrent_streams=most))
        for number in range(1, 2 * most, 2):
            peer.core.reset(peer.open(number, POST, end=False), ErrorCode.CANCEL)
        peer.take()
        peer.is_ignored(*(data(number, b"a") for number in range(1, 2 * most, 2)))


class TestIdentifiers:
    """RFC 9113 §5.1.1."""

    def test_an_even_identifier_ends_the_connection(self) -> None:
        peer = Peer()
        peer.breaks_connection(peer.headers(2))

    def test_a_smaller_identifier_ends_the_connection(self) -> None:
        for last in (5, 101):
            peer = Peer()
            for number in range(5, last + 2, 4):
                peer.open(number)
            peer.breaks_connection(peer.headers(last - 2))

    def test_identifiers_may_be_passed_over(self) -> None:
        peer = Peer()
        for number in (1, 7, 2**31 - 1):
            peer.open(number)
        assert list(peer.core.streams) == [1, 7, 2**31 - 1]


class TestConcurrency:
    """RFC 9113 §5.1.2."""

    def test_a_stream_too_many_is_refused_and_may_be_tried_again(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=2))
        peer.open(1)
        peer.open(3, POST, end=False)
        peer.breaks_stream(5, peer.headers(5, [*GET, (b"x-new", b"1")]), code=ErrorCode.REFUSED_STREAM)
        peer.respond(1)
        peer.take()
        peer.open(7, [*GET, (b"x-new", b"1")])

    def test_a_refused_upload_is_thrown_away(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=1))
        peer.open(1)
        peer.send(peer.headers(3, POST, end=False))
        peer.is_ignored(data(3, bytes(16_000)), data(3, b"", end=True))

    def test_a_reset_stream_takes_its_place_until_its_application_is_done(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=2))
        stream = peer.open(1)
        peer.open(3)
        peer.send(reset(1))
        peer.breaks_stream(5, peer.headers(5), code=ErrorCode.REFUSED_STREAM)
        peer.core.release(stream)
        peer.open(7)
        peer.core.release(stream)  # a second time frees nothing
        peer.breaks_stream(9, peer.headers(9), code=ErrorCode.REFUSED_STREAM)

    def test_a_stream_that_ends_needs_no_release(self) -> None:
        peer = Peer(Http2Bounds(concurrent_streams=1))
        for number in range(1, 100, 2):
            peer.open(number)
            peer.respond(number, b"hello")
            peer.take()


class TestErrors:
    """RFC 9113 §5.4."""

    def test_an_error_of_the_connection_resets_every_stream_and_names_the_last(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.open(7, POST, end=False)
        peer.breaks_connection(data(0))
        assert all(request.is_reset for request in peer.sink.requests.values())
        peer.respond(1, b"nobody reads it")
        peer.core.consume(peer.request(7).stream, 0)
        assert peer.take() == []

    def test_goaway_names_the_last_stream_and_says_why(self) -> None:
        peer = Peer()
        peer.open(7)
        try:
            peer.send(data(0))
        except Exception:
            [last] = peer.take()
        assert last.number == 7
        assert last.payload[8:] == b"DATA on stream 0"

    def test_what_was_sent_before_the_error_leaves_before_goaway(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.respond(1, b"hello")
        try:
            peer.feed(data(0))
        except Exception:
            assert [answer.kind for answer in peer.take()] == [HEADERS, DATA, 7]

    def test_a_connection_that_is_lost_resets_every_stream_without_a_frame(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.core.lose()
        assert peer.request(1).is_reset
        assert peer.take() == []
        peer.core.lose()

    def test_a_reset_drops_what_waits(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, bytes(200_000), True)
        assert stream.overflows
        peer.core.reset(stream, ErrorCode.INTERNAL_ERROR)
        assert not stream.overflows
        assert peer.take()[-1] == Frame(RST_STREAM, 0, 1, b"\x00\x00\x00\x02")
        assert not peer.core.is_waiting
