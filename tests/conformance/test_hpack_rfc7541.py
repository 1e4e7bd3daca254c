"""RFC 7541 (HPACK), section by section: every case of h2spec's `hpack` and `generic/5`, against a server in memory.

More about the codec alone is in tests/protocol/test_hpack.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverd.protocol.http2 import ErrorCode
from tests.conformance.h2spec import PSEUDO, Cases, Conversation, Sent, block, headers

# The sections of h2spec, how many cases each has, and the section of RFC 7541.
SECTIONS = {
    "hpack/2.3.3": (2, "2.3.3"),
    "hpack/4.2": (1, "4.2"),
    "hpack/5.2": (3, "5.2"),
    "hpack/6.1": (1, "6.1"),
    "hpack/6.3": (1, "6.3"),
    "generic/5": (15, "6"),
}
case = Cases(SECTIONS)

REQUEST = block(PSEUDO)
# Strings by RFC 7541 §5.2, in plain octets and by the Huffman code of Appendix B.
TEST, TEST_CODED = b"\x06x-test", b"\x85\xf2\xb2\x4a\x84\xff"
AGENT, AGENT_CODED = b"\x0auser-agent", b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93"
VALUE, VALUE_CODED = b"\x06h2spec", b"\x84\x9c\x48\xac\xa4"


@pytest.fixture
def server() -> Iterator[Conversation]:
    with Conversation() as conversation:
        yield conversation


def behind(representation: bytes) -> bytes:
    """Return a request whose header block ends with this."""
    return headers(1, REQUEST + representation)


def test_every_case_of_h2spec_is_here_once() -> None:
    case.check(globals())


class TestSection2_3_3IndexAddressSpace:
    """RFC 7541 §2.3.3."""

    @case({"hpack/2.3.3/1": behind(b"\xc6"), "hpack/2.3.3/2": behind(b"\x7f\x07\x00")})
    def test_an_index_beyond_both_tables_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)


class TestSection4_2MaximumTableSize:
    """RFC 7541 §4.2."""

    @case({"hpack/4.2/1": behind(b"\x21")})
    def test_a_size_update_behind_a_field_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)


class TestSection5_2StringLiteralRepresentation:
    """RFC 7541 §5.2."""

    @case(
        {
            # A whole octet of padding; zeros for padding; the end of string (30 ones) before "test".
            "hpack/5.2/1": behind(b"\x00" + TEST_CODED + b"\x84\x49\x50\x9f\xff"),
            "hpack/5.2/2": behind(b"\x00" + TEST_CODED + b"\x83\x49\x50\x90"),
            "hpack/5.2/3": behind(b"\x00" + TEST_CODED + b"\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        }
    )
    def test_a_string_that_is_badly_coded_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)


class TestSection6_1IndexedHeaderFieldRepresentation:
    """RFC 7541 §6.1."""

    @case({"hpack/6.1/1": behind(b"\x80")})
    def test_the_index_0_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)

    @case({"generic/5/1": behind(b"\xba")})
    def test_an_index_stands_for_a_field(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)


class TestSection6_2LiteralHeaderFieldRepresentation:
    """RFC 7541 §6.2: with incremental indexing (§6.2.1), without (§6.2.2), and never indexed (§6.2.3)."""

    # h2spec calls the names of its first two of each kind indexed; they are literals, and so they are here.
    # In each pair the first is coded as the name of the case says, but for 5/2 and 5/3, which are the other way round.

    @case(
        {
            "generic/5/2": behind(b"\x40" + AGENT_CODED + VALUE_CODED),
            "generic/5/3": behind(b"\x40" + AGENT + VALUE),
            "generic/5/4": behind(b"\x40" + TEST + VALUE),
            "generic/5/5": behind(b"\x40" + TEST_CODED + VALUE_CODED),
        }
    )
    def test_a_field_that_is_indexed_can_be_used_again(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)
        server.answers(headers(3, REQUEST + b"\xbe"), 3)

    @case(
        {
            "generic/5/6": behind(b"\x00" + AGENT + VALUE),
            "generic/5/7": behind(b"\x00" + AGENT_CODED + VALUE_CODED),
            "generic/5/8": behind(b"\x00" + TEST + VALUE),
            "generic/5/9": behind(b"\x00" + TEST_CODED + VALUE_CODED),
            "generic/5/10": behind(b"\x10" + AGENT + VALUE),
            "generic/5/11": behind(b"\x10" + AGENT_CODED + VALUE_CODED),
            "generic/5/12": behind(b"\x10" + TEST + VALUE),
            "generic/5/13": behind(b"\x10" + TEST_CODED + VALUE_CODED),
        }
    )
    def test_a_field_that_is_not_indexed_cannot(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)
        server.ends_with(headers(3, REQUEST + b"\xbe"), ErrorCode.COMPRESSION_ERROR)

    @pytest.mark.parametrize("first", [b"\x7a", b"\x0f\x2b", b"\x1f\x2b"], ids=["with", "without", "never"])
    def test_its_name_may_be_an_index(self, server: Conversation, first: bytes) -> None:
        server.answers(behind(first + VALUE))  # 58 is user-agent


class TestSection6_3DynamicTableSizeUpdate:
    """RFC 7541 §6.3."""

    @case({"hpack/6.3/1": headers(1, b"\x3f\xe2\x1f" + REQUEST)})
    def test_a_size_beyond_what_the_server_has_said_ends_the_connection(self, server: Conversation, sent: Sent) -> None:
        [said, *_] = server.first
        assert b"\x00\x01" not in [said.payload[at : at + 2] for at in range(0, len(said.payload), 6)]  # so it is 4096
        server.ends_with(sent, ErrorCode.COMPRESSION_ERROR)

    @case({"generic/5/14": headers(1, b"\x20" + REQUEST), "generic/5/15": headers(1, b"\x20\x3f\xe1\x1f" + REQUEST)})
    def test_a_smaller_size_is_taken_and_another_behind_it(self, server: Conversation, sent: Sent) -> None:
        server.answers(sent)
