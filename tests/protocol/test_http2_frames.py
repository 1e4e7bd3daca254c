"""The frames of HTTP/2 (RFC 9113 §3.4, §4, §6): what each must look like.

Every case of h2spec is in tests/conformance/test_http2_rfc9113.py, by section, against a whole server.
"""

from __future__ import annotations

import pytest

from serverd.protocol.http2 import ErrorCode, Http2Bounds
from tests.protocol.http2_peer import (
    ACK,
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
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    Peer,
    data,
    frame,
    frames_of,
    reset,
    settings,
    window_update,
)
from tests.support.every import every

BLOCK = b"\x82\x86\x84\x01\x01a"  # GET / of the host "a"
PRIORITY_0 = b"\x00\x00\x00\x00\x10"  # depends on stream 0


class TestPreface:
    """RFC 9113 §3.4."""

    def test_the_server_begins_with_settings(self) -> None:
        peer = Peer(greet=False)
        first, second = peer.take()
        assert (first.kind, first.flags, first.stream_id) == (SETTINGS, 0, 0)
        entries = {first.payload[i : i + 2]: first.payload[i + 2 : i + 6] for i in range(0, len(first.payload), 6)}
        numbers = {int.from_bytes(key, "big"): int.from_bytes(value, "big") for key, value in entries.items()}
        bounds = Http2Bounds()
        assert numbers == {
            3: bounds.concurrent_streams,
            4: bounds.initial_window,
            5: bounds.max_frame_size,
            6: bounds.header_list_size,
            8: 1,  # RFC 8441
            9: 1,  # RFC 9218
        }
        assert (second.kind, second.stream_id) == (WINDOW_UPDATE, 0)
        assert 65_535 + second.number >= bounds.concurrent_streams * bounds.initial_window + bounds.window_growth

    def test_preface_and_settings_are_answered_however_they_are_cut(self) -> None:
        for size in (1, 5, 23, 24, 25, 33):
            peer = Peer(greet=False)
            stream = PREFACE + settings((4, 100)) + peer.headers(1)
            for start in range(0, len(stream), size):
                assert not peer.core.is_greeted or start >= len(PREFACE)
                peer.feed(stream[start : start + size])
            assert peer.core.is_greeted
            assert Frame(SETTINGS, ACK, 0, b"") in peer.take()
            assert peer.request(1).complete

    @pytest.mark.parametrize(
        "first",
        [
            pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="HTTP/1.1"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", id="the end is another"),
            pytest.param(b"Q", id="the first byte is another"),
        ],
    )
    def test_another_beginning_ends_the_connection(self, first: bytes) -> None:
        Peer(greet=False).breaks_connection(first)

    @pytest.mark.parametrize(
        "first",
        [
            pytest.param(frame(PING, payload=bytes(8)), id="PING"),
            pytest.param(frame(SETTINGS, ACK), id="an acknowledgement"),
            pytest.param(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"), id="HEADERS"),
            pytest.param(frame(0xBB), id="an unknown frame"),
        ],
    )
    def test_the_first_frame_has_to_be_settings(self, first: bytes) -> None:
        Peer(greet=False).breaks_connection(PREFACE + first)


class TestFrameFormat:
    """RFC 9113 §4.1."""

    def test_frames_of_an_unknown_type_are_ignored(self) -> None:
        peer = Peer()
        peer.is_ignored(frame(0x16, 0xFF, 0, bytes(8)), frame(0x10, 0, 1, bytes(20)), frame(0xFF, 0, 2**31 - 1))

    def test_undefined_flags_are_ignored(self) -> None:
        peer = Peer()
        assert peer.send(frame(PING, 0x16, 0, bytes(8))) == [Frame(PING, ACK, 0, bytes(8))]
        peer.send(frame(HEADERS, 0xD2 | END_HEADERS | END_STREAM, 1, peer.block(GET)))
        assert peer.request(1).complete

    def test_the_reserved_bit_is_ignored(self) -> None:
        peer = Peer()
        assert peer.send(frame(PING, 0, 2**31, bytes(8))) == [Frame(PING, ACK, 0, bytes(8))]
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 2**31 + 1, peer.block(GET)))
        assert peer.request(1).complete


class TestFrameSize:
    """RFC 9113 §4.2."""

    def test_frames_of_two_to_the_fourteen_are_taken(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.send(data(1, bytes(2**14), end=True))
        assert peer.request(1).body == bytes(2**14)

    @pytest.mark.parametrize("kind", range(11))
    def test_a_larger_frame_ends_the_connection_before_it_has_arrived(self, kind: int) -> None:
        peer = Peer()
        peer.breaks_connection(frame(kind, 0, 1, size=2**14 + 1), code=ErrorCode.FRAME_SIZE_ERROR)

    def test_a_larger_size_that_we_announced_is_taken(self) -> None:
        peer = Peer(Http2Bounds(max_frame_size=2**15))
        peer.open(1, POST, end=False)
        peer.send(data(1, bytes(2**15), end=True))
        assert peer.request(1).body == bytes(2**15)
        peer.breaks_connection(frame(DATA, 0, 1, size=2**15 + 1), code=ErrorCode.FRAME_SIZE_ERROR)

    @every(
        "broken",
        [
            pytest.param(frame(PING, payload=bytes(7)), id="PING of 7"),
            pytest.param(frame(PING, ACK, payload=bytes(9)), id="PING of 9"),
            pytest.param(frame(RST_STREAM, 0, 1, bytes(3)), id="RST_STREAM of 3"),
            pytest.param(frame(RST_STREAM, 0, 1, bytes(5)), id="RST_STREAM of 5"),
            pytest.param(frame(SETTINGS, payload=bytes(5)), id="SETTINGS of 5"),
            pytest.param(frame(SETTINGS, payload=bytes(7)), id="SETTINGS of 7"),
            pytest.param(frame(SETTINGS, ACK, payload=bytes(6)), id="SETTINGS with ACK and entries"),
            pytest.param(frame(WINDOW_UPDATE, payload=bytes(3)), id="WINDOW_UPDATE of 3"),
            pytest.param(frame(WINDOW_UPDATE, 0, 1, bytes(5)), id="WINDOW_UPDATE of 5"),
            pytest.param(frame(GOAWAY, payload=bytes(7)), id="GOAWAY of 7"),
            pytest.param(frame(HEADERS, PRIORITIZED | END_HEADERS, 3, bytes(4)), id="HEADERS without its priority"),
            pytest.param(frame(HEADERS, PADDED | END_HEADERS, 3), id="HEADERS without the length of its padding"),
            pytest.param(frame(DATA, PADDED, 1), id="DATA without the length of its padding"),
            pytest.param(frame(PRIORITY, 0, 5, bytes(4)), id="PRIORITY of 4 on an idle stream"),
        ],
    )
    def test_a_wrong_size_ends_the_connection(self, broken: bytes) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.breaks_connection(broken, code=ErrorCode.FRAME_SIZE_ERROR)


class TestHeaderBlocks:
    """RFC 9113 §4.3."""

    def test_a_block_may_be_cut_anywhere(self) -> None:
        for count in range(3):
            peer = Peer()
            block = peer.block(GET)
            step = len(block) // (count + 1) + 1
            pieces = [block[start : start + step] for start in range(0, len(block), step)]
            frames = [frame(HEADERS, END_STREAM, 1, pieces[0])]
            frames += [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:]]
            frames.append(frame(CONTINUATION, END_HEADERS, 1))
            assert peer.send(*frames) == []
            assert peer.request(1).complete

    def test_a_block_that_cannot_be_decoded_ends_the_connection(self) -> None:
        # index out of range, size update behind a field, bad Huffman padding, index 0
        for block in (b"\x82\xff\xff\x00", b"\x82\x20", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff", b"\x80"):
            peer = Peer()
            peer.breaks_connection(frame(HEADERS, END_HEADERS | END_STREAM, 1, block), code=ErrorCode.COMPRESSION_ERROR)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(frame(PRIORITY, 0, 1, PRIORITY_0), id="PRIORITY"),
            pytest.param(frame(PING, payload=bytes(8)), id="PING"),
            pytest.param(data(1, b"a"), id="DATA"),
            pytest.param(frame(HEADERS, END_HEADERS, 1), id="HEADERS of the same stream"),
            pytest.param(frame(CONTINUATION, END_HEADERS, 3), id="CONTINUATION of another stream"),
            pytest.param(frame(CONTINUATION, END_HEADERS, 0), id="CONTINUATION of stream 0"),
            pytest.param(frame(0x16, 0, 0, bytes(8)), id="an unknown frame"),
        ],
    )
    def test_a_block_must_not_be_interrupted(self, other: bytes) -> None:
        peer = Peer()
        peer.send(frame(HEADERS, END_STREAM, 1, peer.block(GET)))
        peer.breaks_connection(other)


class TestData:
    """RFC 9113 §6.1."""

    def test_padding_is_taken_off_and_counted(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        peer.send(frame(DATA, PADDED, 1, b"\x05hello" + bytes(5)), frame(DATA, PADDED | END_STREAM, 1, b"\x00!"))
        assert peer.request(1).body == b"hello!"
        assert stream.window is not None
        assert stream.window.unread == 6  # the padding is given back at once

    @pytest.mark.parametrize("payload", [b"\x01", b"\x06hello", b"\xffhello"])
    def test_padding_as_long_as_the_frame_ends_the_connection(self, payload: bytes) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.breaks_connection(frame(DATA, PADDED, 1, payload))

    def test_stream_0_has_no_data(self) -> None:
        Peer().breaks_connection(data(0, b"a"))


class TestHeaders:
    """RFC 9113 §6.2."""

    def test_padding_and_priority_are_taken_off(self) -> None:
        peer = Peer()
        block = peer.block(GET)
        flags = END_HEADERS | END_STREAM
        peer.send(
            frame(HEADERS, flags | PADDED, 1, b"\x03" + block + bytes(3)),
            frame(HEADERS, flags | PRIORITIZED, 3, PRIORITY_0 + peer.block(GET)),
            frame(HEADERS, flags | PRIORITIZED | PADDED, 5, b"\x02" + PRIORITY_0 + peer.block(GET) + bytes(2)),
        )
        assert [peer.request(number).head.path for number in (1, 3, 5)] == ["/"] * 3  # type: ignore[union-attr]

    def test_padding_as_long_as_the_frame_ends_the_connection(self) -> None:
        peer = Peer()
        block = peer.block(GET)
        peer.breaks_connection(frame(HEADERS, END_HEADERS | PADDED, 1, bytes([len(block) + 1]) + block))

    def test_padding_that_reaches_into_the_priority_ends_the_connection(self) -> None:
        peer = Peer()
        broken = frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\x02" + PRIORITY_0)
        peer.breaks_connection(broken, code=ErrorCode.FRAME_SIZE_ERROR)

    def test_stream_0_has_no_headers(self) -> None:
        peer = Peer()
        peer.breaks_connection(peer.headers(0))


class TestPriority:
    """RFC 9113 §6.3; §5.3 has given their meaning up."""

    def test_priorities_mean_nothing_in_any_state(self) -> None:
        peer = Peer()
        priority = [frame(PRIORITY, 0, number, PRIORITY_0) for number in (1, 3, 5, 7)]
        peer.is_ignored(*priority)
        peer.open(3)
        peer.open(5, POST, end=False)
        peer.is_ignored(*priority)
        peer.respond(3)
        peer.take()
        peer.is_ignored(*priority)

    def test_a_wrong_size_resets_the_stream(self) -> None:
        for size in (4, 6):
            peer = Peer()
            peer.open(1)
            peer.breaks_stream(1, frame(PRIORITY, 0, 1, bytes(size)), code=ErrorCode.FRAME_SIZE_ERROR)
            assert peer.request(1).is_reset

    def test_stream_0_has_no_priority(self) -> None:
        Peer().breaks_connection(frame(PRIORITY, 0, 0, PRIORITY_0))

    def test_a_stream_that_depends_on_itself_is_reset(self) -> None:
        peer = Peer()
        payload = b"\x00\x00\x00\x01\x10" + peer.block(GET)
        peer.breaks_stream(1, frame(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, payload))
        assert not peer.sink.requests
        peer.open(3)
        peer.breaks_stream(3, frame(PRIORITY, 0, 3, b"\x80\x00\x00\x03\x10"))

    def test_an_idle_stream_that_depends_on_itself_cannot_be_reset(self) -> None:
        Peer().breaks_connection(frame(PRIORITY, 0, 1, b"\x00\x00\x00\x01\x10"))


class TestReset:
    """RFC 9113 §6.4."""

    def test_stream_0_cannot_be_reset(self) -> None:
        Peer().breaks_connection(reset(0))

    def test_a_reset_ends_the_stream_only(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.open(3)
        peer.is_ignored(reset(1))
        assert peer.request(1).is_reset
        assert not peer.request(3).is_reset
        peer.respond(1, b"nobody reads it")
        assert peer.take() == []

    def test_any_error_code_will_do(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.is_ignored(reset(1, 0xFFFFFFFF))


class TestSettings:
    """RFC 9113 §6.5."""

    def test_settings_are_acknowledged_each(self) -> None:
        peer = Peer()
        ack = Frame(SETTINGS, ACK, 0, b"")
        assert peer.send(settings((3, 100)), settings(), settings((4, 1), (4, 2))) == [ack] * 3

    def test_settings_belong_to_the_connection(self) -> None:
        Peer().breaks_connection(frame(SETTINGS, 0, 1))

    @pytest.mark.parametrize(
        ("key", "value", "code"),
        [
            pytest.param(2, 2, ErrorCode.PROTOCOL_ERROR, id="ENABLE_PUSH 2"),
            pytest.param(4, 2**31, ErrorCode.FLOW_CONTROL_ERROR, id="INITIAL_WINDOW_SIZE 2**31"),
            pytest.param(5, 2**14 - 1, ErrorCode.PROTOCOL_ERROR, id="MAX_FRAME_SIZE 2**14-1"),
            pytest.param(5, 2**24, ErrorCode.PROTOCOL_ERROR, id="MAX_FRAME_SIZE 2**24"),
            pytest.param(8, 2, ErrorCode.PROTOCOL_ERROR, id="ENABLE_CONNECT_PROTOCOL 2"),
            pytest.param(9, 2, ErrorCode.PROTOCOL_ERROR, id="NO_RFC7540_PRIORITIES 2"),
        ],
    )
    def test_a_value_out_of_range_ends_the_connection(self, key: int, value: int, code: ErrorCode) -> None:
        Peer().breaks_connection(settings((key, value)), code=code)

    @pytest.mark.parametrize(
        "entry", [(1, 2**32 - 1), (2, 0), (2, 1), (3, 0), (4, 2**31 - 1), (5, 2**24 - 1), (6, 0), (8, 1), (0xFF, 9)]
    )
    def test_every_other_value_is_taken(self, entry: tuple[int, int]) -> None:
        peer = Peer()
        assert peer.send(settings(entry)) == [Frame(SETTINGS, ACK, 0, b"")]
        peer.is_alive()

    def test_the_table_size_of_the_peer_is_obeyed(self) -> None:
        peer = Peer()
        peer.decoder.max_allowed_table_size = 0
        peer.send(settings((1, 0)))
        for number in (1, 3, 5):
            peer.open(number)
            peer.respond(number)
            answer = peer.take()[0]
            assert (b":status", b"200") in peer.fields(answer)
            assert answer.payload.startswith(b"\x20") is (number == 1)
            assert peer.decoder.header_table._current_size == 0

    def test_the_frame_size_of_the_peer_bounds_our_header_blocks(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        fields = [(b"x-long", b"a" * 40_000)]
        peer.core.send_headers(stream, 200, fields, True)
        first, *others = peer.take()
        assert (first.kind, first.flags) == (HEADERS, END_STREAM)
        assert [(item.kind, item.flags) for item in others] == [(CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
        assert [len(item.payload) for item in (first, *others)][:2] == [2**14, 2**14]
        block = b"".join(item.payload for item in (first, *others))
        assert (b"x-long", b"a" * 40_000) in [(n, v) for n, v in peer.decoder.decode(block, raw=True)]
        peer.send(settings((5, 2**16)))
        stream = peer.open(3)
        peer.core.send_headers(stream, 200, fields, True)
        [only] = peer.take()
        assert only.flags == END_STREAM | END_HEADERS

    def test_of_several_table_sizes_in_one_frame_the_least_is_announced(self) -> None:
        """RFC 7541 §4.2; nghttp -c 50 -c 4096 sends them."""
        peer = Peer()
        peer.send(settings((1, 100), (1, 50), (1, 4096)))
        peer.open(1)
        peer.respond(1)
        assert peer.take()[0].payload.startswith(b"\x3f\x13\x3f\xe1\x1f")  # 50, 4096

    def test_a_table_size_of_ours_holds_from_the_acknowledgement_on(self) -> None:
        peer = Peer(Http2Bounds(table_size=0), greet=False)
        first = peer.send(PREFACE + settings())
        assert b"\x00\x01\x00\x00\x00\x00" in first[0].payload
        peer.open(1)  # by the default size
        peer.send(frame(SETTINGS, ACK))
        peer.encoder.header_table_size = 0
        peer.open(3)  # begins with a size update
        assert peer.block([]) == b""
        peer.breaks_connection(
            frame(HEADERS, END_HEADERS | END_STREAM, 5, b"\x3f\xe1\x1f\x82"), code=ErrorCode.COMPRESSION_ERROR
        )


class TestPushPromise:
    """RFC 9113 §6.6, §8.4."""

    @pytest.mark.parametrize("stream_id", [0, 1, 2])
    def test_a_client_must_not_push(self, stream_id: int) -> None:
        peer = Peer()
        peer.open(1)
        peer.breaks_connection(frame(PUSH_PROMISE, END_HEADERS, stream_id, b"\x00\x00\x00\x02" + peer.block(GET)))


class TestPing:
    """RFC 9113 §6.7."""

    def test_a_ping_comes_back(self) -> None:
        assert Peer().send(frame(PING, payload=b"abcdefgh")) == [Frame(PING, ACK, 0, b"abcdefgh")]

    def test_an_answer_is_not_answered(self) -> None:
        Peer().is_ignored(frame(PING, ACK, payload=b"abcdefgh"))

    def test_a_ping_belongs_to_the_connection(self) -> None:
        Peer().breaks_connection(frame(PING, 0, 1, bytes(8)))


class TestGoaway:
    """RFC 9113 §6.8."""

    def test_streams_go_on_behind_the_goaway_of_the_peer(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.is_ignored(frame(GOAWAY, payload=bytes(8) + b"bye"))
        peer.respond(1, b"hello")
        assert [answer.kind for answer in peer.take()] == [HEADERS, DATA]

    def test_goaway_belongs_to_the_connection(self) -> None:
        Peer().breaks_connection(frame(GOAWAY, 0, 1, bytes(8)))

    def test_the_connection_drains_in_two_steps(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.core.drain()
        first, ping = peer.take()
        assert (first.kind, first.number, first.code) == (GOAWAY, 2**31 - 1, 0)
        assert ping.kind == PING
        peer.open(3)  # was on the way
        [last] = peer.send(frame(PING, ACK, payload=ping.payload))
        assert (last.kind, last.number, last.code) == (GOAWAY, 3, 0)
        assert not peer.core.is_finished
        peer.is_ignored(peer.headers(5, POST, end=False), data(5, b"a"), window_update(5, 1), reset(5))
        assert 5 not in peer.sink.requests
        for number in (1, 3):
            peer.respond(number, b"hello")
        assert [answer.kind for answer in peer.take()] == [HEADERS, DATA] * 2
        assert peer.core.is_finished

    def test_the_table_is_kept_with_streams_that_are_not_looked_at(self) -> None:
        peer = Peer()
        peer.open(1, POST, end=False)
        peer.core.drain()
        peer.core.tick()
        peer.core.tick()
        peer.take()
        peer.is_ignored(peer.headers(3, [*GET, (b"x-new", b"1")]))
        trailers = peer.headers(1, [(b"x-new", b"1")])
        assert len(trailers) == 9 + 1  # they refer to what the block of stream 3 has added
        peer.is_ignored(trailers)
        assert peer.request(1).complete

    def test_a_peer_that_does_not_answer_is_told_of_the_last_stream_all_the_same(self) -> None:
        peer = Peer()
        peer.core.drain()
        peer.core.drain()
        assert len(peer.take()) == 2
        peer.core.tick()
        assert peer.take() == []
        peer.core.tick()
        [last] = peer.take()
        assert (last.kind, last.number) == (GOAWAY, 0)
        assert peer.core.is_finished
        peer.core.tick()
        assert peer.take() == []

    def test_the_answer_to_another_ping_ends_nothing(self) -> None:
        peer = Peer()
        peer.core.drain()
        peer.take()
        assert peer.send(frame(PING, ACK, payload=bytes(8))) == []

    def test_the_shell_may_end_the_connection_at_once(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.core.close()
        [last] = peer.take()
        assert (last.kind, last.number, last.code) == (GOAWAY, 1, 0)
        assert peer.request(1).is_reset
        peer.core.close()
        peer.core.drain()
        assert peer.take() == []


class TestContinuation:
    """RFC 9113 §6.10; see §4.3 for what may stand between."""

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param([], id="on an idle stream"),
            pytest.param(["headers"], id="behind HEADERS with END_HEADERS"),
            pytest.param(["headers", "reset"], id="behind RST_STREAM"),
            pytest.param(["headers", "data"], id="behind DATA"),
        ],
    )
    def test_continuation_needs_a_block_to_continue(self, before: list[str]) -> None:
        peer = Peer()
        known = {"headers": peer.headers(1, POST, end=False), "reset": reset(1), "data": data(1, b"a")}
        peer.send(*(known[name] for name in before))
        peer.breaks_connection(frame(CONTINUATION, END_HEADERS, 1, peer.block(GET)))

    def test_continuation_needs_one_also_behind_another_continuation(self) -> None:
        peer = Peer()
        peer.send(frame(HEADERS, END_STREAM, 1, peer.block(GET)), frame(CONTINUATION, END_HEADERS, 1))
        peer.breaks_connection(frame(CONTINUATION, END_HEADERS, 1, peer.block(GET)))


class TestPieces:
    """What takes long is taken in parts, so that the connection can look at the clock in between."""

    def fed(self, *frames: bytes) -> list[int]:
        """Return how many frames were left after each call, until all were taken."""
        peer = Peer()
        peer.open(1, POST, end=False)
        rest = b"".join(frames)
        left = []
        while rest:
            rest = rest[len(rest) - peer.core.feed(rest) :]
            left.append(len(frames_of(rest)))
            peer.take()
        return left

    def test_of_header_blocks_some_kilobytes(self) -> None:
        fields = b"\x0f\x00\x00" * 90  # half a microsecond for each octet
        requests = [frame(HEADERS, END_HEADERS | END_STREAM, number, BLOCK + fields) for number in range(3, 127, 2)]
        left = self.fed(*requests)
        assert 4 <= len(left) <= len(requests) // 4
        assert left == sorted(left, reverse=True)

    def test_of_small_frames_some(self) -> None:
        left = self.fed(*[data(1, b"a")] * 1500)
        assert left[0] >= 1000
        assert left[-1] == 0

    def test_of_ordinary_requests_and_bodies_all(self) -> None:
        requests = [frame(HEADERS, END_HEADERS | END_STREAM, number, BLOCK) for number in range(3, 67, 2)]
        assert self.fed(*requests) == [0]
        assert self.fed(*[data(1, bytes(16_000))] * 4) == [0]
