"""What messages and Close frames say (RFC 6455 §5.5.1, §5.6, §7, §8.1): text that is none, codes that nobody may send.

In our own words what Autobahn's fuzzing client tries in its groups 6 and 7.
"""

from __future__ import annotations

import tracemalloc

import pytest

from serverd.protocol.websocket_frames import is_sendable
from tests.support.every import every
from tests.support.frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Event,
    Received,
    close,
    decode,
    decode_every_way,
    decoder_of,
    fragments,
    frame,
)

# Close codes that the RFC decides (RFC 6455 §7.4.1).
PROTOCOL_ERROR, INVALID_DATA, NO_STATUS = 1002, 1007, 1005

KIB = 1024


def message(data: str | bytes) -> list[Event]:
    return [("message", data)]


class TestClose:
    """RFC 6455 §5.5.1, §7.1.5, §7.1.6, §7.4."""

    GOOD = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
    BAD = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)

    @every("code", GOOD)
    def test_codes_that_may_be_sent_are_read(self, code: int) -> None:
        assert decode_every_way(close(code, b"bye")) == ([("close", code, "bye")], None)
        assert is_sendable(code)

    @every("code", BAD)
    def test_other_codes_are_refused(self, code: int) -> None:
        assert decode_every_way(close(code, b"bye")) == ([], PROTOCOL_ERROR)
        assert not is_sendable(code)

    def test_a_close_without_code_says_no_status(self) -> None:
        assert decode_every_way(frame(CLOSE)) == ([("close", NO_STATUS, "")], None)

    def test_half_a_code_is_refused(self) -> None:
        assert decode_every_way(frame(CLOSE, b"\x03")) == ([], PROTOCOL_ERROR)

    def test_a_reason_has_up_to_123_bytes(self) -> None:
        assert decode([close(1000, "é".encode() * 61)]) == ([("close", 1000, "é" * 61)], None)
        assert decode([close(1000, b"x" * 123)]) == ([("close", 1000, "x" * 123)], None)
        assert decode([close(1000, b"x" * 124)]) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80"], ids=repr)
    def test_a_reason_that_is_not_utf_8_is_refused(self, reason: bytes) -> None:
        assert decode_every_way(close(1000, reason)) == ([], INVALID_DATA)

    @pytest.mark.parametrize("rest", [frame(TEXT, b"x"), close(1001), b"\xff" * 40, frame(PING)], ids=repr)
    def test_nothing_after_a_close_counts(self, rest: bytes) -> None:
        assert decode_every_way(close(1000) + rest) == ([("close", 1000, "")], None)

    def test_what_comes_after_a_close_is_not_kept(self) -> None:
        decoder = decoder_of(Received())
        decoder.feed(close(1000))
        tracemalloc.start()
        try:
            for _ in range(64):
                decoder.feed(bytes(64 * KIB))
            assert tracemalloc.get_traced_memory()[0] < 256 * KIB
        finally:
            tracemalloc.stop()


VALID_TEXT = [
    "κόσμε",
    "\x00\x7f",
    "\u0080\u07ff",
    "\u0800\ud7ff\ue000\uffff",
    "\U00010000\U0010ffff",
    "\ufffe\ufeff",
    "Hello-µ@ßöäüàá-UTF-8!!",
]
# Unicode 16 §3.9 D92, table 3-7: everything outside of it.
INVALID_TEXT = [
    pytest.param(b"\x80", id="a continuation byte alone"),
    pytest.param(b"\xbf\xbf", id="two continuation bytes"),
    pytest.param(b"\xc3", id="the end is missing"),
    pytest.param(b"\xe2\x82", id="the end of three bytes is missing"),
    pytest.param(b"\xf0\x9f\x98", id="the end of four bytes is missing"),
    pytest.param(b"\xc3(", id="another byte instead of the end"),
    pytest.param(b"\xc0\xaf", id="a slash in two bytes"),
    pytest.param(b"\xe0\x80\xaf", id="a slash in three bytes"),
    pytest.param(b"\xf0\x80\x80\xaf", id="a slash in four bytes"),
    pytest.param(b"\xc1\xbf", id="the longest of one byte in two"),
    pytest.param(b"\xed\xa0\x80", id="a high surrogate"),
    pytest.param(b"\xed\xbf\xbf", id="a low surrogate"),
    pytest.param(b"\xed\xa0\x80\xed\xb0\x80", id="a pair of surrogates"),
    pytest.param(b"\xf4\x90\x80\x80", id="beyond U+10FFFF"),
    pytest.param(b"\xf8\x88\x80\x80\x80", id="five bytes"),
    pytest.param(b"\xfc\x84\x80\x80\x80\x80", id="six bytes"),
    pytest.param(b"\xfe", id="0xfe"),
    pytest.param(b"\xff", id="0xff"),
]


class TestText:
    """RFC 6455 §5.6, §8.1."""

    @pytest.mark.parametrize("text", VALID_TEXT, ids=ascii)
    def test_text_is_read_however_it_is_cut_or_fragmented(self, text: str) -> None:
        payload = text.encode()
        assert decode_every_way(frame(TEXT, payload)) == (message(text), None)
        for place in range(len(payload) + 1):
            pieces = fragments(TEXT, [payload[:place], b"", payload[place:]])
            assert decode(pieces) == decode([b"".join(pieces)]) == (message(text), None)

    @every("bad", INVALID_TEXT)
    def test_what_is_not_utf_8_is_refused_however_it_is_cut_or_fragmented(self, bad: bytes) -> None:
        assert decode_every_way(frame(TEXT, b"\xce\xba" + bad)) == ([], INVALID_DATA)
        for place in range(len(bad) + 1):
            pieces = fragments(TEXT, [b"\xce\xba" + bad[:place], bad[place:]])
            assert decode(pieces) == decode([b"".join(pieces)]) == ([], INVALID_DATA)

    @every("bad", INVALID_TEXT)
    def test_bytes_may_be_anything(self, bad: bytes) -> None:
        assert decode_every_way(frame(BINARY, bad)) == (message(bad), None)

    def test_a_wrong_byte_is_refused_when_it_arrives(self) -> None:
        assert decode([frame(TEXT, b"abc\xf4\x90", fin=False)]) == ([], INVALID_DATA)
        assert decode([frame(TEXT, b"abc\xf4\x90" + bytes(100))[:-100]]) == ([], INVALID_DATA)
