"""permessage-deflate (RFC 7692): the examples of the RFC, what is refused, bombs, and what is agreed on."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest

from serverd.errors import SessionError
from serverd.protocol.websocket import MessageBounds
from serverd.protocol.websocket_deflate import Deflater, DeflateTerms, Inflater, agree
from tests.support.every import every
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Received,
    close,
    cut,
    decode,
    decode_every_way,
    decoder_of,
    fragments,
    frame,
)

PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009  # RFC 6455 §7.4.1

KIB, MIB = 1024, 1024 * 1024
TERMS = DeflateTerms(server_bits=15, client_bits=15, server_takeover=True, client_takeover=True)
FORGETFUL = TERMS._replace(server_takeover=False, client_takeover=False)

HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 §7.2.3.1


def compressed(payload: bytes, opcode: int = TEXT) -> bytes:
    return frame(opcode, payload, rsv=RSV1)


def deflated(data: bytes, bits: int = 15, level: int = 9) -> bytes:
    """Return the payload of a message as a client makes it (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class TestExamples:
    """RFC 7692 §7.2.3: each says Hello."""

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param("f248cdc9c90700", id="one block (§7.2.3.1)"),
            pytest.param("000500faff48656c6c6f00", id="a block without compression (§7.2.3.3)"),
            pytest.param("f348cdc9c9070000", id="a final block (§7.2.3.4)"),
            pytest.param("f24805000000ffffcac9c90700", id="two blocks (§7.2.3.5)"),
        ],
    )
    def test_it_is_read_however_it_is_cut_or_fragmented(self, payload: str) -> None:
        data = bytes.fromhex(payload)
        expected = ([("message", "Hello")], None)
        assert decode_every_way(compressed(data), terms=TERMS) == expected
        for place in range(len(data) + 1):
            pieces = fragments(TEXT, [data[:place], data[place:]], rsv=RSV1)
            assert decode([b"".join(pieces)], terms=TERMS) == decode(pieces, terms=TERMS) == expected

    def test_the_window_is_shared_by_messages(self) -> None:
        both = compressed(HELLO) + compressed(bytes.fromhex("f200110000"))  # §7.2.3.2
        assert decode_every_way(both, terms=TERMS) == ([("message", "Hello"), ("message", "Hello")], None)

    def test_without_takeover_nothing_is_left_in_the_window(self) -> None:
        both = compressed(HELLO) + compressed(bytes.fromhex("f200110000"))
        assert decode_every_way(both, terms=FORGETFUL) == ([("message", "Hello")], PROTOCOL_ERROR)

    def test_an_empty_message_is_one_byte(self) -> None:
        assert decode_every_way(compressed(b"\x00"), terms=TERMS) == ([("message", "")], None)  # §7.2.3.6


class TestFrames:
    """RFC 7692 §6: the first frame of a message has the bit, and no other."""

    def test_messages_may_be_compressed_or_not(self) -> None:
        data = compressed(HELLO) + frame(TEXT, b"plain") + frame(PING, b"p") + compressed(HELLO, BINARY)
        events = [("message", "Hello"), ("message", "plain"), ("ping", b"p"), ("message", b"Hello")]
        assert decode_every_way(data, terms=TERMS) == (events, None)

    def test_control_frames_come_between_compressed_fragments(self) -> None:
        first, last = fragments(TEXT, [HELLO[:3], HELLO[3:]], rsv=RSV1)
        expected = ([("ping", b"p"), ("message", "Hello")], None)
        assert decode_every_way(first + frame(PING, b"p") + last, terms=TERMS) == expected

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_a_compressed_control_frame_is_refused(self, opcode: int) -> None:
        assert decode_every_way(frame(opcode, b"", rsv=RSV1), terms=TERMS) == ([], PROTOCOL_ERROR)

    def test_the_bit_on_a_continuation_is_refused(self) -> None:
        first = frame(TEXT, HELLO[:3], fin=False, rsv=RSV1)
        second = frame(CONTINUATION, HELLO[3:], rsv=RSV1)
        assert decode_every_way(first + second, terms=TERMS) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("payload", [b"\x06", b"\x07\xff\xff", b"\xff" * 20], ids=repr)
    def test_what_is_no_deflate_stream_is_refused(self, payload: bytes) -> None:
        assert decode_every_way(compressed(payload), terms=TERMS) == ([], PROTOCOL_ERROR)

    def test_text_must_be_utf_8_after_decompression(self) -> None:
        assert decode_every_way(compressed(deflated(b"\xce\xba\xed\xa0\x80")), terms=TERMS) == ([], INVALID_DATA)
        assert decode_every_way(compressed(deflated(b"\xce\xba\xe2\x82")), terms=TERMS) == ([], INVALID_DATA)

    @every("bits", range(9, 16))
    @every("level", [0, 1, 9])
    def test_every_window_and_level_is_read(self, bits: int, level: int) -> None:
        chance = random.Random(bits)
        text = "".join(chance.choice(("spam ", "eggs ", "ham ", str(chance.random()))) for _ in range(5000)).encode()
        terms = TERMS._replace(client_bits=bits)
        data = compressed(deflated(text, bits, level), BINARY)
        for step in (len(data), 1000, 7):
            assert decode(cut(data, range(0, len(data), step)), terms=terms) == ([("message", text)], None)


class TestBombs:
    """The bound of a message counts after decompression, and before it is kept."""

    BOUNDS = MessageBounds(message_size=64 * KIB, frame_size=MIB)

    def test_the_bound_is_exact(self) -> None:
        fits, one_more = deflated(bytes(64 * KIB)), deflated(bytes(64 * KIB + 1))
        assert decode([compressed(fits, BINARY)], self.BOUNDS, TERMS) == ([("message", bytes(64 * KIB))], None)
        assert decode([compressed(one_more, BINARY)], self.BOUNDS, TERMS) == ([], TOO_BIG)

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_a_bomb_is_refused_in_bounded_memory(self, count: int) -> None:
        payload = deflated(bytes(256 * MIB), level=1)[: MIB - 1]  # inflates to more than 200 MiB
        step = len(payload) // count + 1
        pieces = [payload[place : place + step] for place in range(0, len(payload), step)]
        frames = fragments(BINARY, pieces, rsv=RSV1)
        tracemalloc.start()
        try:
            assert decode(frames, self.BOUNDS, TERMS) == ([], TOO_BIG)
            assert (
                tracemalloc.get_traced_memory()[1] < 5 * MIB
            )  # copies of the frame: unmasked, with its tail, not yet taken
        finally:
            tracemalloc.stop()

    def test_a_bomb_in_many_messages_is_bounded_message_by_message(self) -> None:
        data = compressed(deflated(bytes(64 * KIB)), BINARY) * 50
        sink = Received(enough=True)
        decoder = decoder_of(sink, self.BOUNDS, FORGETFUL)
        assert decoder.feed(data)
        assert len(sink.events) == 1  # nothing is inflated before somebody wants it

    def test_a_flood_of_final_blocks_is_refused(self) -> None:
        # RFC 7692 §7.2.3.4: two bytes end a stream and begin another one, for which all that follows is copied.
        _, code = decode([compressed(b"\x03\x00" * (MIB // 2), BINARY)], MessageBounds(MIB, MIB), TERMS)
        assert code == 1002
        events, code = decode([compressed(b"\x03\x00" * 16 + b"\x00", BINARY)] * 2, MessageBounds(MIB, MIB), TERMS)
        assert (len(events), code) == (2, None)


class TestTurns:
    """What is inflated costs the others no more than a moment at a time."""

    def test_a_large_message_is_inflated_in_several_turns(self) -> None:
        sink = Received()
        decoder = decoder_of(sink, MessageBounds(16 * MIB, 16 * MIB), TERMS)
        turns = 1
        waits = decoder.feed(compressed(deflated(bytes(12 * MIB)), BINARY))
        while waits and not sink.events:
            turns += 1
            waits = decoder.go_on()
        assert turns >= 3
        assert len(sink.events) == 1

    def test_after_our_close_nothing_is_inflated(self) -> None:
        sink = Received()
        decoder = decoder_of(sink, MessageBounds(MIB, MIB), TERMS)
        decoder.skip()
        # Neither of them could be: the first is too large, the second is none.
        for payload in (deflated(bytes(2 * MIB)), b"\xff" * 100):
            assert not decoder.feed(compressed(payload, BINARY))
        assert sink.events == []
        decoder.feed(close(1000))
        assert len(sink.events) == 1


class TestDeflater:
    """RFC 7692 §7.2.1: what we send, as a client reads it."""

    @every("bits", range(9, 16))
    @every("takeover", [True, False])
    def test_a_client_reads_every_message(self, bits: int, takeover: bool) -> None:
        deflater = Deflater(TERMS._replace(server_bits=bits, server_takeover=takeover))
        client = zlib.decompressobj(wbits=-bits)
        chance = random.Random(bits)
        for size in (0, 1, 64, 1000, 100_000, 64, 0):
            text = bytes(chance.choices(b"spam and eggs", k=size))
            payload = deflater.deflate(text)
            assert not payload.endswith(b"\x00\x00\xff\xff")
            if not takeover:
                client = zlib.decompressobj(wbits=-bits)
            assert client.decompress(payload + b"\x00\x00\xff\xff") == text

    def test_with_takeover_what_was_said_before_costs_little(self) -> None:
        text = random.Random(0).randbytes(2000)
        deflater = Deflater(TERMS)
        assert len(deflater.deflate(text)) > 2000
        assert len(deflater.deflate(text)) < 100

    def test_a_broken_stream_is_no_other_error(self) -> None:
        with pytest.raises(SessionError):
            Inflater(TERMS).inflate(b"\xff\xff\xff", 100, True)


Offer = list[tuple[str, str | None]]

AGREED = [
    pytest.param([], (15, True, True), id="nothing asked"),
    pytest.param([("client_max_window_bits", None)], (15, True, True), id="as browsers offer it"),
    pytest.param([("client_max_window_bits", "10")], (10, True, True), id="a small window of the client"),
    pytest.param([("client_max_window_bits", "8")], (8, True, True), id="the least window of the client"),
    pytest.param([("server_max_window_bits", "9")], (15, True, True), id="a small window of ours"),
    pytest.param([("server_no_context_takeover", None)], (15, False, True), id="no takeover of ours"),
    pytest.param([("client_no_context_takeover", None)], (15, True, False), id="no takeover of the client"),
]

DECLINED = [
    pytest.param([("unknown", None)], id="an unknown parameter"),
    pytest.param([("server_no_context_takeover", "1")], id="a value where none belongs"),
    pytest.param([("client_no_context_takeover", "true")], id="a value where none belongs, of the client"),
    pytest.param([("server_max_window_bits", None)], id="no value where one belongs"),
    pytest.param([("server_max_window_bits", "8")], id="a window that zlib cannot make"),
    pytest.param([("server_max_window_bits", "16")], id="a window too large"),
    pytest.param([("server_max_window_bits", "7")], id="a window too small"),
    pytest.param([("server_max_window_bits", "010")], id="a leading zero"),
    pytest.param([("client_max_window_bits", "16")], id="the client's window too large"),
    pytest.param([("client_max_window_bits", "+9")], id="a sign"),
    pytest.param([("client_max_window_bits", "٩")], id="a digit that is not ASCII"),
    pytest.param([("client_max_window_bits", None), ("client_max_window_bits", "9")], id="a parameter twice"),
]


class TestAgreement:
    """RFC 7692 §7.1."""

    @pytest.mark.parametrize(("offer", "most"), AGREED)
    def test_a_good_offer_is_agreed_on_within_its_bounds(self, offer: Offer, most: tuple[int, bool, bool]) -> None:
        agreed = agree(offer)
        assert agreed is not None
        terms, answer = agreed
        bits, server_takeover, client_takeover = most
        assert terms.client_bits <= bits
        assert (terms.server_takeover, terms.client_takeover) == (server_takeover, client_takeover)
        assert terms.server_bits <= int(dict(offer).get("server_max_window_bits") or 15)
        assert answer.startswith(b"permessage-deflate")
        # §7.1.2.2: a client that has not named the parameter must not be asked for a smaller window.
        asked = "client_max_window_bits" in dict(offer)
        assert (b"client_max_window_bits" in answer) <= asked
        assert asked or terms.client_bits == 15
        assert (b"server_no_context_takeover" in answer) is not server_takeover

    @every("offer", DECLINED)
    def test_a_wrong_offer_is_declined(self, offer: Offer) -> None:
        assert agree(offer) is None
