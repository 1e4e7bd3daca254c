"""Frames of a client (RFC 6455 §5.2 to §5.5): what is right is read in every cut, what is wrong is refused.

In our own words what Autobahn's fuzzing client tries in its groups 1 to 5; `test_websocket_messages` has 6 and 7.
"""

from __future__ import annotations

import tracemalloc

import pytest

from serverd.protocol.websocket import FRAMES_AT_ONCE, MessageBounds
from serverd.protocol.websocket_frames import encode_close, encode_control, frame_header
from tests.support.every import every
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Received,
    close,
    cut,
    decode,
    decode_every_way,
    decoder_of,
    fragments,
    frame,
    header,
)

# Close codes that the RFC decides (RFC 6455 §7.4.1).
PROTOCOL_ERROR, TOO_BIG = 1002, 1009
NO_STATUS = 1005

KIB = 1024
SMALL = MessageBounds(message_size=200, frame_size=150)


def message(data: str | bytes) -> list[tuple[str, str | bytes]]:
    return [("message", data)]


class TestBaseFraming:
    """RFC 6455 §5.2, §5.3, and the examples of §5.7."""

    def test_the_masked_hello_of_the_rfc_is_read(self) -> None:
        data = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        assert decode_every_way(data) == (message("Hello"), None)

    @every("size", [0, 1, 3, 4, 124, 125, 126, 127, 128, 255, 256, 1000])
    @every("opcode", [TEXT, BINARY], ids=["text", "binary"])
    def test_a_message_in_one_frame_is_read_however_it_is_cut(self, opcode: int, size: int) -> None:
        payload = bytes(range(32, 127)) * 11
        payload = payload[:size]
        expected: str | bytes = payload.decode() if opcode == TEXT else payload
        assert decode_every_way(frame(opcode, payload)) == (message(expected), None)

    @pytest.mark.parametrize("size", [65535, 65536, 65537, 1 << 20])
    def test_a_long_message_is_read_however_it_is_cut(self, size: int) -> None:
        payload = (bytes(range(251)) * (size // 251 + 1))[:size]
        data = frame(BINARY, payload)
        for step in (len(data), 65536, 4096, 997):
            assert decode(cut(data, range(0, len(data), step))) == (message(payload), None)

    @pytest.mark.parametrize("mask", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"], ids=repr)
    def test_every_mask_is_taken_off(self, mask: bytes) -> None:
        assert decode_every_way(frame(BINARY, bytes(range(200)), mask=mask)) == (message(bytes(range(200))), None)

    def test_messages_that_arrive_together_are_told_in_order(self) -> None:
        data = frame(TEXT, b"a") + frame(PING, b"b") + frame(BINARY, b"c") + frame(PONG, b"d") + frame(TEXT)
        events = [("message", "a"), ("ping", b"b"), ("message", b"c"), ("pong", b"d"), ("message", "")]
        assert decode_every_way(data) == (events, None)

    @every("rsv", [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3])
    @every("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
    def test_reserved_bits_are_refused_without_an_extension(self, opcode: int, rsv: int) -> None:
        data = frame(TEXT, b"before") + frame(opcode, b"", rsv=rsv) + frame(TEXT, b"after")
        assert decode_every_way(data) == (message("before"), PROTOCOL_ERROR)

    @every("opcode", [*range(3, 8), *range(0xB, 0x10)])
    @every("payload", [b"", b"x"], ids=["empty", "one byte"])
    def test_unknown_opcodes_are_refused(self, opcode: int, payload: bytes) -> None:
        data = frame(TEXT, b"before") + frame(opcode, payload) + frame(PING)
        assert decode_every_way(data) == (message("before"), PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
    def test_a_frame_without_mask_is_refused(self, opcode: int) -> None:
        assert decode_every_way(bytes((0x80 | opcode, 5)) + b"Hello") == ([], PROTOCOL_ERROR)

    def test_a_frame_without_mask_is_refused_before_its_payload(self) -> None:
        assert decode([b"\x82\x7e"]) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize(("size", "digits"), [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)])
    def test_a_length_in_more_digits_than_it_needs_is_refused(self, size: int, digits: int) -> None:
        data = header(0x80 | BINARY, size, digits) + MASK + bytes(size)
        assert decode(cut(data, range(20))) == ([], PROTOCOL_ERROR)
        assert decode([data]) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
    def test_a_length_with_its_highest_bit_set_is_refused(self, size: int) -> None:
        assert decode_every_way(header(0x80 | BINARY, size)) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 40, (1 << 20) + 1])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_frame_over_the_bound_is_refused_by_its_header(self, opcode: int, size: int) -> None:
        assert decode_every_way(header(0x80 | opcode, size)) == ([], TOO_BIG)
        assert decode_every_way(header(opcode, size)) == ([], TOO_BIG)

    def test_a_message_of_just_the_bound_is_read(self) -> None:
        assert decode_every_way(frame(BINARY, bytes(150)), SMALL) == (message(bytes(150)), None)
        assert decode_every_way(frame(BINARY, bytes(151)), SMALL) == ([], TOO_BIG)


class TestFragmentation:
    """RFC 6455 §5.4."""

    @pytest.mark.parametrize(
        "pieces",
        [[b"Hel", b"lo"], [b"", b"Hello"], [b"Hello", b""], [b"", b"", b"Hello", b"", b""], [b"H", b"e", b"llo"]],
        ids=repr,
    )
    def test_fragments_become_one_message(self, pieces: list[bytes]) -> None:
        data = b"".join(fragments(TEXT, pieces))
        assert decode_every_way(data) == (message("Hello"), None)

    def test_fragments_of_nothing_are_an_empty_message(self) -> None:
        assert decode_every_way(b"".join(fragments(BINARY, [b"", b"", b""]))) == (message(b""), None)

    def test_control_frames_come_between_fragments(self) -> None:
        first, middle, last = fragments(TEXT, [b"Hel", b"l", b"o"])
        data = first + frame(PING, b"1") + middle + frame(PONG, b"2") + frame(PING, b"3") + last
        events = [("ping", b"1"), ("pong", b"2"), ("ping", b"3"), ("message", "Hello")]
        assert decode_every_way(data) == (events, None)

    def test_a_close_between_fragments_ends_the_session(self) -> None:
        first, last = fragments(TEXT, [b"Hel", b"lo"])
        assert decode_every_way(first + close(1000) + last) == ([("close", 1000, "")], None)

    @pytest.mark.parametrize("fin", [True, False])
    def test_a_continuation_of_nothing_is_refused(self, fin: bool) -> None:
        data = frame(TEXT, b"before") + frame(CONTINUATION, b"x", fin=fin)
        assert decode_every_way(data) == (message("before"), PROTOCOL_ERROR)

    def test_a_continuation_after_the_last_fragment_is_refused(self) -> None:
        data = b"".join(fragments(TEXT, [b"a", b"b"])) + frame(CONTINUATION, b"c")
        assert decode_every_way(data) == (message("ab"), PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("fin", [True, False])
    def test_a_new_message_among_fragments_is_refused(self, opcode: int, fin: bool) -> None:
        data = frame(TEXT, b"a", fin=False) + frame(opcode, b"b", fin=fin)
        assert decode_every_way(data) == ([], PROTOCOL_ERROR)

    def test_a_message_over_the_bound_is_refused_by_the_header_of_the_fragment(self) -> None:
        first = frame(BINARY, bytes(150), fin=False)
        assert decode([first + frame(CONTINUATION, bytes(50))], SMALL) == (message(bytes(200)), None)
        assert decode([first, header(0x80 | CONTINUATION, 51)], SMALL) == ([], TOO_BIG)

    @pytest.mark.parametrize("fragment", [frame(CONTINUATION, b"", fin=False), frame(CONTINUATION, b"x", fin=False)])
    def test_a_flood_of_fragments_takes_turns_with_others(self, fragment: bytes) -> None:
        sink = Received()
        decoder = decoder_of(sink)
        assert decoder.feed(frame(BINARY, b"", fin=False) + fragment * (3 * FRAMES_AT_ONCE))
        turns = 1
        while decoder.go_on():
            turns += 1
        assert turns == 3
        assert sink.events == []

    def test_a_flood_of_empty_fragments_costs_no_memory(self) -> None:
        decoder = decoder_of(Received())
        flood = frame(CONTINUATION, b"", fin=False) * 1000
        decoder.feed(frame(BINARY, b"", fin=False))
        tracemalloc.start()
        try:
            for _ in range(20):
                waits = decoder.feed(flood)
                while waits:
                    waits = decoder.go_on()
            assert tracemalloc.get_traced_memory()[0] < 4 * KIB
        finally:
            tracemalloc.stop()


class TestControlFrames:
    """RFC 6455 §5.5."""

    @pytest.mark.parametrize("opcode", [PING, PONG], ids=["ping", "pong"])
    @pytest.mark.parametrize("payload", [b"", b"Hello", bytes(125), b"\xff\x00\xfe" * 41], ids=len)
    def test_pings_and_pongs_carry_any_bytes(self, opcode: int, payload: bytes) -> None:
        name = "ping" if opcode == PING else "pong"
        assert decode_every_way(frame(opcode, payload)) == ([(name, payload)], None)

    @every("opcode", [CLOSE, PING, PONG])
    @every("size", [126, 127, 65536, (1 << 63) - 1])
    def test_more_than_125_bytes_are_refused_by_the_first_two(self, opcode: int, size: int) -> None:
        data = header(0x80 | opcode, size)
        assert decode([data[:2]]) == ([], PROTOCOL_ERROR)
        assert decode([data]) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_a_fragmented_control_frame_is_refused(self, opcode: int) -> None:
        assert decode_every_way(frame(opcode, b"", fin=False)) == ([], PROTOCOL_ERROR)

    def test_a_flood_of_pings_takes_turns_with_others(self) -> None:
        sink = Received()
        assert decoder_of(sink).feed(frame(PING) * (FRAMES_AT_ONCE + 1))
        assert len(sink.events) == FRAMES_AT_ONCE


class TestEncoding:
    """RFC 6455 §5.2, §5.5.1, and the unmasked examples of §5.7."""

    @pytest.mark.parametrize(
        ("first", "size", "wire"),
        [
            (0x81, 5, "8105"),
            (0x82, 125, "827d"),
            (0x82, 126, "827e007e"),
            (0x82, 256, "827e0100"),
            (0x82, 65535, "827effff"),
            (0x82, 65536, "827f0000000000010000"),
            (0xC1, (1 << 63) - 1, "c17f7fffffffffffffff"),
        ],
    )
    def test_a_length_has_the_fewest_digits(self, first: int, size: int, wire: str) -> None:
        assert frame_header(first, size).hex() == wire

    def test_control_frames_are_not_masked(self) -> None:
        assert encode_control(PONG, b"Hello") == b"\x8a\x05Hello"
        assert encode_control(PING, b"") == b"\x89\x00"

    def test_a_close_says_code_and_reason(self) -> None:
        assert encode_close(1001, "bye") == b"\x88\x05\x03\xe9bye"
        assert encode_close(4999, "é") == b"\x88\x04\x13\x87\xc3\xa9"
        assert encode_close(NO_STATUS, "") == b"\x88\x00"
