"""RFC 9113 (HTTP/2), section by section: every case of h2spec's `http2` and `generic`, against a server in memory.

h2spec follows RFC 7540, whose sections have other numbers here and there: `SECTIONS` says where its cases are. Tests
without a case show what it has none for. What else a section demands of the core is in tests/protocol/test_http2_*.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverd.protocol.http2 import ErrorCode, Http2Bounds
from tests.conformance.h2spec import (
    BODY,
    PSEUDO,
    Cases,
    Conversation,
    Fields,
    Sent,
    block,
    continuation,
    headers,
    priority,
    request,
)
from tests.protocol.http2_peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    data,
    frame,
    reset,
    settings,
    window_update,
)

# The sections of h2spec, how many cases each has, and the section of RFC 9113. With those of test_hpack_rfc7541 there
# are 149: 146 of an ordinary run, two of the strict mode (http2/5.4.1/2, http2/6.3/3), and a later one (http2/5.1.1/3).
SECTIONS = {
    "generic/1": (1, "3.4"),
    "generic/2": (5, "5.1"),
    "generic/3.1": (3, "6.1"),
    "generic/3.2": (3, "6.2"),
    "generic/3.3": (5, "6.3"),
    "generic/3.4": (1, "6.4"),
    "generic/3.5": (1, "6.5"),
    "generic/3.7": (1, "6.7"),
    "generic/3.8": (1, "6.8"),
    "generic/3.9": (2, "6.9"),
    "generic/3.10": (2, "6.10"),
    "generic/4": (4, "8.1"),
    "http2/3.5": (2, "3.4"),
    "http2/4.1": (3, "4.1"),
    "http2/4.2": (3, "4.2"),
    "http2/4.3": (3, "4.3"),
    "http2/5.1": (13, "5.1"),
    "http2/5.1.1": (3, "5.1.1"),
    "http2/5.1.2": (1, "5.1.2"),
    "http2/5.3.1": (2, "5.3"),
    "http2/5.4.1": (2, "5.4.1"),
    "http2/5.5": (2, "5.5"),
    "http2/6.1": (3, "6.1"),
    "http2/6.2": (4, "6.2"),
    "http2/6.3": (3, "6.3"),
    "http2/6.4": (3, "6.4"),
    "http2/6.5": (3, "6.5"),
    "http2/6.5.2": (5, "6.5.2"),
    "http2/6.5.3": (2, "6.5.3"),
    "http2/6.7": (4, "6.7"),
    "http2/6.8": (1, "6.8"),
    "http2/6.9": (3, "6.9"),
    "http2/6.9.1": (3, "6.9.1"),
    "http2/6.9.2": (3, "6.9.2"),
    "http2/6.10": (6, "6.10"),
    "http2/7": (2, "7"),
    "http2/8.1": (1, "8.1"),
    "http2/8.1.2": (1, "8.2.1"),
    "http2/8.1.2.1": (4, "8.3"),
    "http2/8.1.2.2": (2, "8.2.2"),
    "http2/8.1.2.3": (7, "8.3.1"),
    "http2/8.1.2.6": (2, "8.1.1"),
    "http2/8.2": (1, "8.4"),
}
case = Cases(SECTIONS)

BLOCK = block(PSEUDO)
MORE = block([(b"x-more", b"1")])
LARGE = 2**14 + 1  # more than a frame may have, as we have announced nothing else
UNKNOWN = frame(0x16, payload=bytes(8))
PONG = Frame(PING, ACK, 0, bytes(8))
SETTINGS_ACK = Frame(SETTINGS, ACK, 0, b"")
NO_WINDOW = settings((4, 0))
INVALID_FIELDS: Fields = [
    (b"x-a", b"a\rb"),
    (b"x-a", b"\n"),
    (b"x-a", b"\0"),
    (b"x-a", b" a"),
    (b"x-a", b"a\t"),
    (b"", b"a"),
]


@pytest.fixture
def server() -> Iterator[Conversation]:
    with Conversation() as conversation:
        yield conversation


@pytest.fixture
def stranger() -> Iterator[Conversation]:
    """Return a connection on which the client has sent nothing yet."""
    with Conversation(greet=False) as conversation:
        yield conversation


def bodies(frames: list[Frame]) -> list[bytes]:
    """Return what is in the DATA frames."""
    return [one.payload for one in frames if one.kind == DATA]


def test_every_case_of_h2spec_is_here_once() -> None:
    case.check(globals())


class TestSection3_4ConnectionPreface:
    """RFC 9113 §3.4."""

    @case({"http2/3.5/1": PREFACE + settings((4, 65_535)), "generic/1/1": PREFACE + settings((4, 65_535))})
    def test_the_first_frame_of_the_server_is_settings(self, stranger: Conversation, sent: Sent) -> None:
        first, *_ = stranger.hear(sent)
        assert (first.kind, first.flags, first.stream_id) == (SETTINGS, 0, 0)

    @case({"http2/3.5/2": b"INVALID CONNECTION PREFACE\r\n\r\n"})
    def test_another_beginning_ends_the_connection(self, stranger: Conversation, sent: Sent) -> None:
        assert isinstance(sent, bytes)
        assert stranger.send(sent).startswith(b"HTTP/1.1 400 ")  # so far it may be HTTP/1.1
        assert stranger.closed

    @pytest.mark.parametrize("first", [frame(PING, payload=bytes(8)), frame(SETTINGS, ACK), request(), UNKNOWN])
    def test_the_first_frame_of_the_client_has_to_be_settings(self, stranger: Conversation, first: bytes) -> None:
        stranger.ends_with(PREFACE + first)


class TestSection4_1FrameFormat:
    """RFC 9113 §4.1."""

    @case({"http2/4.1/1": UNKNOWN})
    def test_a_frame_of_unknown_type_is_ignored(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case(
        {
            "http2/4.1/2": frame(PING, 0x16, payload=bytes(8)),
            "http2/4.1/3": frame(PING, 0x16, 2**31, bytes(8)),
        }
    )
    def test_undefined_flags_and_the_reserved_bit_are_ignored(self, server: Conversation, sent: Sent) -> None:
        assert server.hear(sent) == [PONG]


class TestSection4_2FrameSize:
    """RFC 9113 §4.2."""

    @case({"http2/4.2/1": request(1, b"POST") + data(1, bytes(2**14), end=True)})
    def test_a_frame_of_two_to_the_fourteen_is_taken(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case(
        {
            "http2/4.2/2": request(1, b"POST") + data(1, bytes(LARGE), end=True),
            "http2/4.2/3": request(1, more=[(b"x-large", bytes(LARGE))]),
        }
    )
    def test_a_larger_one_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FRAME_SIZE_ERROR)


class TestSection4_3FieldSectionCompression:
    """RFC 9113 §4.3."""

    @case({"http2/4.3/1": headers(1, b"\x40")})
    def test_a_block_that_cannot_be_decoded_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)

    @case(
        {
            "http2/4.3/2": headers(1, BLOCK, 0) + priority(1) + continuation(1, MORE),
            "http2/4.3/3": headers(1, BLOCK, 0) + request(3) + continuation(1, MORE),
        }
    )
    def test_a_block_must_not_be_interrupted(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection5_1StreamStates:
    """RFC 9113 §5.1."""

    @case(
        {
            "http2/5.1/1": data(1, b"test", end=True),
            "http2/5.1/2": reset(1),
            "http2/5.1/3": window_update(1, 100),
            "http2/5.1/4": continuation(1, BLOCK),
        }
    )
    def test_a_frame_on_an_idle_stream_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/5.1/5": request() + data(1, b"test", end=True), "http2/5.1/6": request() + request()})
    def test_what_goes_on_behind_the_end_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        """Half-closed (remote): the response has not begun."""
        server.resets_with(sent, ErrorCode.STREAM_CLOSED)

    @case(
        {
            "http2/5.1/8": request(1, b"POST") + reset(1) + data(1, b"test", end=True),
            "http2/5.1/9": request(1, b"POST") + reset(1) + request(1),
        }
    )
    def test_what_goes_on_behind_a_reset_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent, ErrorCode.STREAM_CLOSED)

    @case({"http2/5.1/11": (request(), data(1, b"test", end=True)), "http2/5.1/12": (request(), request())})
    def test_what_goes_on_behind_the_response_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.STREAM_CLOSED)

    @case(
        {
            "http2/5.1/7": request() + continuation(1, BLOCK),
            "http2/5.1/10": request(1, b"POST") + reset(1) + continuation(1, MORE),
            "http2/5.1/13": (request(), continuation(1, MORE)),
        }
    )
    def test_continuation_without_a_block_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)  # h2spec takes STREAM_CLOSED, too; RFC 9113 §6.10 does not

    @case({"generic/2/1": priority(1)})
    def test_priority_is_taken_on_an_idle_stream(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case(
        {
            "generic/2/2": (NO_WINDOW + request(), window_update(1, 1)),
            "generic/2/3": (NO_WINDOW + request(), priority(1) + window_update(1, 1)),
        }
    )
    def test_priority_and_window_update_are_taken_behind_the_end(self, server: Conversation, sent: Sent) -> None:
        assert bodies(server.hear(sent)) == [BODY[:1]]

    @case({"generic/2/4": request() + reset(1)})
    def test_a_reset_is_taken_behind_the_end(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"generic/2/5": (request(), priority(1))})
    def test_priority_is_taken_behind_the_response(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)


class TestSection5_1_1StreamIdentifiers:
    """RFC 9113 §5.1.1."""

    @case({"http2/5.1.1/1": request(2)})
    def test_an_even_identifier_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/5.1.1/2": request(5) + request(3)})
    def test_a_smaller_identifier_than_before_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/5.1.1/3": request(5) + request(5)})
    def test_an_identifier_that_comes_again_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent, ErrorCode.STREAM_CLOSED, stream_id=5)


class TestSection5_1_2StreamConcurrency:
    """RFC 9113 §5.1.2."""

    MOST = Http2Bounds().concurrent_streams

    @case({"http2/5.1.2/1": NO_WINDOW + b"".join(request(2 * number + 1) for number in range(MOST + 1))})
    def test_a_stream_too_many_is_refused(self, server: Conversation, sent: Sent) -> None:
        assert b"\0\3" + self.MOST.to_bytes(4, "big") in server.first[0].payload
        resets = [one for one in server.hear(sent) if one.kind == RST_STREAM]
        assert [(one.stream_id, one.code) for one in resets] == [(2 * self.MOST + 1, ErrorCode.REFUSED_STREAM)]
        server.goes_on()


class TestSection5_3Priority:
    """RFC 9113 §5.3 has given up priorities; of RFC 7540 §5.3.1 one error is left, which no client has reason to make.

    RFC 9113 neither demands nor forbids it. h2spec demands it.
    """

    @case({"http2/5.3.1/1": headers(1, b"\0\0\0\1\xff" + BLOCK, END_HEADERS | END_STREAM | PRIORITIZED)})
    def test_headers_that_depend_on_their_stream_are_an_error_of_it(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)

    @case({"http2/5.3.1/2": priority(1, depends_on=1)})
    def test_priority_that_does_so_on_an_idle_stream_ends_the_connection(
        self, server: Conversation, sent: Sent
    ) -> None:
        server.ends_with(sent)  # an idle stream cannot be reset


class TestSection5_4_1ConnectionErrorHandling:
    """RFC 9113 §5.4.1."""

    @case({"http2/5.4.1/1": frame(PING, 0, 3, bytes(8)), "http2/5.4.1/2": frame(PING, 0, 3, bytes(8))})
    def test_goaway_comes_before_the_end_of_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    def test_goaway_names_the_last_stream(self, server: Conversation) -> None:
        server.answers(request(5), 5)
        last = server.hear(frame(PING, 0, 3, bytes(8)))[-1]
        assert (last.kind, last.number) == (GOAWAY, 5)


class TestSection5_5ExtendingHttp2:
    """RFC 9113 §5.5."""

    @case({"http2/5.5/1": UNKNOWN})
    def test_a_frame_of_an_extension_is_ignored(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"http2/5.5/2": headers(1, BLOCK, END_STREAM) + UNKNOWN})
    def test_one_in_the_middle_of_a_header_block_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection6_1Data:
    """RFC 9113 §6.1."""

    @case(
        {
            "generic/3.1/1": request(1, b"POST") + data(1, b"test", end=True),
            "generic/3.1/2": request(1, b"POST") + data(1, b"test") + data(1, b"test", end=True),
            "generic/3.1/3": request(1, b"POST") + frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6)),
        }
    )
    def test_data_make_a_body(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case({"http2/6.1/1": data(0, b"test", end=True)})
    def test_stream_0_has_none(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.1/2": request(1, b"POST", end=True) + data(1, b"test", end=True)})
    def test_a_stream_that_has_ended_has_none(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent, ErrorCode.STREAM_CLOSED)

    @case(
        {
            "http2/6.1/3": request(1, b"POST", [(b"content-length", b"4")])
            + frame(DATA, END_STREAM | PADDED, 1, b"\x06Test")
        }
    )
    def test_padding_longer_than_the_frame_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection6_2Headers:
    """RFC 9113 §6.2."""

    @case(
        {
            "generic/3.2/1": request(),
            "generic/3.2/2": headers(1, b"\x08" + BLOCK + bytes(8), END_HEADERS | END_STREAM | PADDED),
            "generic/3.2/3": headers(1, b"\0\0\0\0\xff" + BLOCK, END_HEADERS | END_STREAM | PRIORITIZED),
        }
    )
    def test_headers_begin_a_request(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case(
        {
            "http2/6.2/1": headers(1, BLOCK, 0) + priority(1) + continuation(1, MORE),
            "http2/6.2/2": headers(1, BLOCK, 0) + request(3) + continuation(1, MORE),
        }
    )
    def test_without_end_headers_continuation_has_to_follow(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.2/3": request(0)})
    def test_stream_0_has_none(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case(
        {"http2/6.2/4": headers(1, bytes([len(BLOCK) + 2]) + BLOCK, END_HEADERS | END_STREAM | PADDED)},
    )
    def test_padding_longer_than_the_frame_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)  # h2spec takes an error of the stream, too; the block could not be decoded then


class TestSection6_3Priority:
    """RFC 9113 §6.3: what it says is ignored, and where it comes; its form is not."""

    @case(
        {
            "generic/3.3/1": priority(1, weight=0) + request(),
            "generic/3.3/2": priority(1, weight=255) + request(),
            "generic/3.3/3": priority(3, depends_on=1, weight=0) + request(),
            "generic/3.3/4": priority(1, weight=0, exclusive=True) + request(),
            "generic/3.3/5": priority(3) + request(),
            "http2/6.3/3": priority(3) + request(),
        }
    )
    def test_a_request_behind_it_is_answered(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case({"http2/6.3/1": priority(0)})
    def test_stream_0_has_none(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.3/2": request() + frame(PRIORITY, 0, 1, b"\x80\0\0\1")})
    def test_another_size_than_5_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent, ErrorCode.FRAME_SIZE_ERROR)


class TestSection6_4RstStream:
    """RFC 9113 §6.4."""

    @case({"generic/3.4/1": request(1, b"POST") + reset(1)})
    def test_it_ends_a_stream(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"http2/6.4/1": reset(0), "http2/6.4/2": reset(1)})
    def test_neither_stream_0_nor_an_idle_one_has_any(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.4/3": request() + frame(RST_STREAM, 0, 1, bytes(3))})
    def test_another_size_than_4_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FRAME_SIZE_ERROR)


class TestSection6_5Settings:
    """RFC 9113 §6.5."""

    @case({"generic/3.5/1": settings((1, 4096), (2, 1), (3, 100), (4, 65_535), (5, 16_384), (6, 100))})
    def test_they_are_acknowledged(self, server: Conversation, sent: Sent) -> None:
        assert server.hear(sent) == [SETTINGS_ACK]

    @case({"http2/6.5/1": frame(SETTINGS, ACK, payload=b"\0"), "http2/6.5/3": frame(SETTINGS, payload=bytes(8))})
    def test_a_wrong_size_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FRAME_SIZE_ERROR)

    @case({"http2/6.5/2": frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64")})
    def test_no_stream_has_any(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection6_5_2DefinedSettings:
    """RFC 9113 §6.5.2."""

    @case(
        {
            "http2/6.5.2/1": settings((2, 2)),
            "http2/6.5.2/3": settings((5, 2**14 - 1)),
            "http2/6.5.2/4": settings((5, 2**24)),
        }
    )
    def test_a_value_out_of_range_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.5.2/2": settings((4, 2**31))})
    def test_a_window_too_large_is_an_error_of_flow_control(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FLOW_CONTROL_ERROR)

    @case({"http2/6.5.2/5": settings((0xFF, 1))})
    def test_an_unknown_one_is_ignored(self, server: Conversation, sent: Sent) -> None:
        assert server.hear(sent) == [SETTINGS_ACK]
        server.goes_on()


class TestSection6_5_3SettingsSynchronization:
    """RFC 9113 §6.5.3."""

    @case({"http2/6.5.3/1": settings((4, 100), (4, 1)) + request()})
    def test_of_several_values_the_last_holds(self, server: Conversation, sent: Sent) -> None:
        assert bodies(server.hear(sent)) == [BODY[:1]]

    @case({"http2/6.5.3/2": settings((2, 0))})
    def test_they_are_acknowledged_at_once(self, server: Conversation, sent: Sent) -> None:
        assert server.hear(sent) == [SETTINGS_ACK]


class TestSection6_6PushPromise:
    """RFC 9113 §6.6: only a server may send it. h2spec has its case in what is §8.4 now."""

    @pytest.mark.parametrize("stream_id", [0, 1, 2])
    def test_it_ends_the_connection_wherever_it_comes(self, server: Conversation, stream_id: int) -> None:
        server.ends_with(request(1, b"POST") + frame(PUSH_PROMISE, END_HEADERS, stream_id, b"\0\0\0\2" + BLOCK))


class TestSection6_7Ping:
    """RFC 9113 §6.7."""

    @case({"http2/6.7/1": frame(PING, payload=b"h2spec\0\0"), "generic/3.7/1": frame(PING, payload=b"h2spec\0\0")})
    def test_it_comes_back(self, server: Conversation, sent: Sent) -> None:
        assert server.hear(sent) == [Frame(PING, ACK, 0, b"h2spec\0\0")]

    @case({"http2/6.7/2": frame(PING, ACK, payload=b"invalid\0")})
    def test_an_answer_is_not_answered(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"http2/6.7/3": frame(PING, 0, 1, bytes(8))})
    def test_no_stream_has_any(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.7/4": frame(PING, payload=bytes(6))})
    def test_another_size_than_8_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FRAME_SIZE_ERROR)


class TestSection6_8Goaway:
    """RFC 9113 §6.8."""

    @case({"generic/3.8/1": frame(GOAWAY, payload=bytes(8) + b"h2spec")})
    def test_it_is_taken(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"http2/6.8/1": frame(GOAWAY, 0, 1, bytes(8))})
    def test_no_stream_has_any(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection6_9WindowUpdate:
    """RFC 9113 §6.9."""

    @case({"generic/3.9/1": window_update(0, 1)})
    def test_it_is_taken_for_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)

    @case({"generic/3.9/2": request() + window_update(1, 1)})
    def test_it_is_taken_for_a_stream(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case({"http2/6.9/1": window_update(0, 0)})
    def test_an_increment_of_0_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case({"http2/6.9/2": request(1, b"POST") + window_update(1, 0)})
    def test_on_a_stream_it_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)

    @case({"http2/6.9/3": frame(WINDOW_UPDATE, payload=bytes(2) + b"\1")})
    def test_another_size_than_4_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FRAME_SIZE_ERROR)


class TestSection6_9_1TheFlowControlWindow:
    """RFC 9113 §6.9.1."""

    @case({"http2/6.9.1/1": settings((4, 1)) + request()})
    def test_no_more_is_sent_than_the_window_allows(self, server: Conversation, sent: Sent) -> None:
        assert bodies(server.hear(sent)) == [BODY[:1]]

    @case({"http2/6.9.1/2": window_update(0, 2**31 - 1) * 2})
    def test_a_window_beyond_two_to_the_thirty_one_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FLOW_CONTROL_ERROR)

    @case({"http2/6.9.1/3": request(1, b"POST") + window_update(1, 2**31 - 1) * 2})
    def test_that_of_a_stream_is_an_error_of_the_stream(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent, ErrorCode.FLOW_CONTROL_ERROR)


class TestSection6_9_2InitialFlowControlWindowSize:
    """RFC 9113 §6.9.2."""

    @case({"http2/6.9.2/1": (NO_WINDOW, request(), settings((4, 1)))})
    def test_a_larger_one_opens_the_windows_of_open_streams(self, server: Conversation, sent: Sent) -> None:
        assert bodies(server.hear(sent)) == [BODY[:1]]

    @case({"http2/6.9.2/2": (settings((4, 3)), request(), settings((4, 2)), window_update(1, 2))})
    def test_a_smaller_one_may_make_them_negative(self, server: Conversation, sent: Sent) -> None:
        assert bodies(server.hear(sent)) == [BODY[:3], BODY[3:4]]  # 3 - 3 - 1 + 2

    @case({"http2/6.9.2/3": settings((4, 2**31))})
    def test_one_too_large_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.FLOW_CONTROL_ERROR)


class TestSection6_10Continuation:
    """RFC 9113 §6.10."""

    @case(
        {
            "generic/3.10/1": headers(1, BLOCK[:5], END_STREAM) + continuation(1, BLOCK[5:]),
            "generic/3.10/2": headers(1, BLOCK[:5], END_STREAM)
            + continuation(1, BLOCK[5:10], 0)
            + continuation(1, BLOCK[10:]),
            "http2/6.10/1": headers(1, BLOCK, END_STREAM) + continuation(1, MORE, 0) + continuation(1, MORE),
        }
    )
    def test_it_goes_on_with_a_header_block(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case(
        {
            "http2/6.10/2": headers(1, BLOCK, 0) + continuation(1, MORE, 0) + data(1, b"test", end=True),
            "http2/6.10/3": headers(1, BLOCK, END_STREAM) + continuation(0, MORE),
        }
    )
    def test_nothing_else_may_come_before_the_end_of_the_block(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)

    @case(
        {
            "http2/6.10/4": request() + continuation(1, MORE),
            "http2/6.10/5": headers(1, BLOCK, END_STREAM) + continuation(1, MORE) + continuation(1, MORE),
            "http2/6.10/6": request(1, b"POST") + data(1, b"test", end=True) + continuation(1, MORE),
        }
    )
    def test_it_needs_a_block_that_has_not_ended(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)


class TestSection7ErrorCodes:
    """RFC 9113 §7."""

    @case(
        {"http2/7/1": frame(GOAWAY, payload=bytes(4) + b"\0\0\0\xff"), "http2/7/2": request(1, b"POST") + reset(1, 255)}
    )
    def test_an_unknown_one_is_like_any_other(self, server: Conversation, sent: Sent) -> None:
        server.says_nothing_to(sent)


class TestSection8_1HttpMessageFraming:
    """RFC 9113 §8.1."""

    @case(
        {
            "generic/4/1": request(),
            "generic/4/3": request(1, b"POST") + data(1, b"test", end=True),
            "generic/4/4": request(1, b"POST", [(b"trailer", b"x-test")])
            + data(1, b"test")
            + headers(1, block([(b"x-test", b"ok")])),
        }
    )
    def test_a_request_is_answered(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)

    @case({"generic/4/2": request(1, b"HEAD")})
    def test_a_head_request_is_answered_without_a_body(self, server: Conversation, sent: Sent) -> None:
        [head] = server.hear(sent)
        assert (head.kind, head.flags) == (HEADERS, END_HEADERS | END_STREAM)
        assert ("content-length", str(len(BODY))) in server.decoder.decode(head.payload)

    @case({"http2/8.1/1": request(1, b"POST") + data(1, b"test") + headers(1, MORE, END_HEADERS)})
    def test_trailers_without_an_end_are_malformed(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)


class TestSection8_1_1MalformedMessages:
    """RFC 9113 §8.1.1."""

    @case(
        {
            "http2/8.1.2.6/1": request(1, b"POST", [(b"content-length", b"1")]) + data(1, b"test", end=True),
            "http2/8.1.2.6/2": request(1, b"POST", [(b"content-length", b"1")])
            + data(1, b"test")
            + data(1, b"test", end=True),
        }
    )
    def test_a_body_has_to_be_as_long_as_its_content_length(self, server: Conversation, sent: Sent) -> None:
        answers = [one for one in server.hear(sent) if one.stream_id]
        assert answers == [Frame(RST_STREAM, 0, 1, b"\0\0\0\1")]
        server.goes_on()


class TestSection8_2_1FieldValidity:
    """RFC 9113 §8.2.1."""

    @case({"http2/8.1.2/1": request(more=[(b"X-TEST", b"ok")])})
    def test_a_name_with_a_capital_letter_is_malformed(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)

    @pytest.mark.parametrize("field", INVALID_FIELDS, ids=repr)
    def test_so_is_what_would_end_a_line_of_http_1_or_is_none(
        self, server: Conversation, field: tuple[bytes, bytes]
    ) -> None:
        server.resets_with(request(more=[field]))


class TestSection8_2_2ConnectionSpecificFields:
    """RFC 9113 §8.2.2."""

    @case(
        {
            "http2/8.1.2.2/1": request(more=[(b"connection", b"keep-alive")]),
            "http2/8.1.2.2/2": request(more=[(b"trailers", b"test"), (b"te", b"trailers, deflate")]),
        }
    )
    def test_they_are_malformed(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)


class TestSection8_3ControlData:
    """RFC 9113 §8.3."""

    @case(
        {
            "http2/8.1.2.1/1": request(more=[(b":test", b"ok")]),
            "http2/8.1.2.1/2": request(more=[(b":status", b"200")]),
            "http2/8.1.2.1/3": request(1, b"POST") + data(1, b"test") + headers(1, block([(b":method", b"POST")])),
            "http2/8.1.2.1/4": headers(1, block([(b"x-test", b"ok"), *PSEUDO])),
        }
    )
    def test_a_pseudo_field_out_of_place_is_malformed(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)


class TestSection8_3_1RequestPseudoHeaderFields:
    """RFC 9113 §8.3.1."""

    @case(
        {
            "http2/8.1.2.3/1": request(without=b":path", more=[(b":path", b"")]),
            "http2/8.1.2.3/2": request(without=b":method"),
            "http2/8.1.2.3/3": request(without=b":scheme"),
            "http2/8.1.2.3/4": request(without=b":path"),
            "http2/8.1.2.3/5": request(more=[(b":method", b"GET")]),
            "http2/8.1.2.3/6": request(more=[(b":scheme", b"http")]),
            "http2/8.1.2.3/7": request(more=[(b":path", b"/")]),
        }
    )
    def test_each_is_there_once_and_not_empty(self, server: Conversation, sent: Sent) -> None:
        server.resets_with(sent)


class TestSection8_4ServerPush:
    """RFC 9113 §8.4."""

    @case({"http2/8.2/1": request(1, b"POST") + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\3" + BLOCK)})
    def test_a_client_must_not_push(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent)
