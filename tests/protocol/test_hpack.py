"""HPACK (RFC 7541): the examples of the RFC, the bounds, what is indexed; fuzz/test_hpack_differential.py has more."""

from __future__ import annotations

import hpack
import pytest

from serverd.protocol.head import Fields
from serverd.protocol.hpack import (
    DEFAULT_TABLE_SIZE,
    STATIC_TABLE,
    HeaderListTooLarge,
    HpackBomb,
    HpackError,
    encode_integer,
)
from serverd.protocol.hpack_decoder import HpackDecoder
from serverd.protocol.hpack_encoder import HpackEncoder
from serverd.protocol.hpack_huffman import decode as decode_huffman
from serverd.protocol.hpack_huffman import encode as encode_huffman

LIST_SIZE = 64 * 1024


def decode(block: bytes, decoder: HpackDecoder | None = None) -> Fields:
    return (decoder or HpackDecoder(LIST_SIZE)).decode(block)


def oracle_fields(decoder: hpack.Decoder, block: bytes) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


def literal(name: bytes, value: bytes, first: int = 0x40) -> bytes:
    """Return a literal field with a new name, not Huffman-encoded."""
    return b"".join([bytes([first]), encode_integer(len(name), 7, 0), name, encode_integer(len(value), 7, 0), value])


EXAMPLE = (b":authority", b"www.example.com")
REQUESTS: list[Fields] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), EXAMPLE],
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), EXAMPLE, (b"cache-control", b"no-cache")],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        EXAMPLE,
        (b"custom-key", b"custom-value"),
    ],
]
RESPONSES: list[Fields] = [
    [
        (b":status", b"302"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"307"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", b"https://www.example.com"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]


class TestExamples:
    """RFC 7541 Appendix C."""

    @pytest.mark.parametrize(
        ("value", "prefix", "expected"),
        [
            pytest.param(10, 5, "0a", id="C.1.1"),
            pytest.param(1337, 5, "1f9a0a", id="C.1.2"),
            pytest.param(42, 8, "2a", id="C.1.3"),
        ],
    )
    def test_integers(self, value: int, prefix: int, expected: str) -> None:
        assert encode_integer(value, prefix, 0).hex() == expected

    @pytest.mark.parametrize(
        ("block", "field", "is_added"),
        [
            pytest.param(
                "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
                (b"custom-key", b"custom-header"),
                True,
                id="C.2.1 with indexing",
            ),
            pytest.param("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), False, id="C.2.2 without"),
            pytest.param("100870617373776f726406736563726574", (b"password", b"secret"), False, id="C.2.3 never"),
            pytest.param("82", (b":method", b"GET"), False, id="C.2.4 indexed"),
        ],
    )
    def test_each_kind_of_field(self, block: str, field: tuple[bytes, bytes], is_added: bool) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        assert decode(bytes.fromhex(block), decoder) == [field]
        assert (decoder.table_size > 0) is is_added

    @pytest.mark.parametrize(
        ("blocks", "lists", "sizes", "limit"),
        [
            pytest.param(
                [
                    "828684410f7777772e6578616d706c652e636f6d",
                    "828684be58086e6f2d6361636865",
                    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                ],
                REQUESTS,
                [57, 110, 164],
                DEFAULT_TABLE_SIZE,
                id="C.3 requests",
            ),
            pytest.param(
                [
                    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                    "828684be5886a8eb10649cbf",
                    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                ],
                REQUESTS,
                [57, 110, 164],
                DEFAULT_TABLE_SIZE,
                id="C.4 requests with Huffman code",
            ),
            pytest.param(
                [
                    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
                    "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                    "4803333037c1c0bf",
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41"
                    "53444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b207665727369"
                    "6f6e3d31",
                ],
                RESPONSES,
                [222, 222, 215],
                256,
                id="C.5 responses with eviction",
            ),
            pytest.param(
                [
                    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8"
                    "e9ae82ae43d3",
                    "4883640effc1c0bf",
                    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
                    "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                ],
                RESPONSES,
                [222, 222, 215],
                256,
                id="C.6 responses with Huffman code and eviction",
            ),
        ],
    )
    def test_sequences(self, blocks: list[str], lists: list[Fields], sizes: list[int], limit: int) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        if limit != DEFAULT_TABLE_SIZE:
            decoder.decode(encode_integer(limit, 5, 0x20))
        for block, fields, size in zip(blocks, lists, sizes, strict=True):
            assert decode(bytes.fromhex(block), decoder) == fields
            assert decoder.table_size == size


class TestIndices:
    """RFC 7541 §2.3, §6.1."""

    def test_the_static_table_is_that_of_the_oracle(self) -> None:
        from hpack.table import HeaderTable

        assert STATIC_TABLE[1:] == HeaderTable.STATIC_TABLE
        for index, field in enumerate(STATIC_TABLE[1:], 1):
            assert decode(encode_integer(index, 7, 0x80)) == [field]

    @pytest.mark.parametrize(
        "block",
        [
            pytest.param(b"\x80", id="index 0"),
            pytest.param(encode_integer(62, 7, 0x80), id="behind the static table"),
            pytest.param(encode_integer(62, 6, 0x40) + b"\x01a", id="name behind the static table, with indexing"),
            pytest.param(encode_integer(62, 4, 0x00) + b"\x01a", id="name behind the static table, without"),
            pytest.param(encode_integer(62, 4, 0x10) + b"\x01a", id="name behind the static table, never"),
        ],
    )
    def test_an_index_that_is_none_ends_the_connection(self, block: bytes) -> None:
        with pytest.raises(HpackError, match="does not exist"):
            decode(block)

    def test_the_newest_entry_has_the_first_index(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(literal(b"a", b"1") + literal(b"b", b"2"), decoder)
        assert decode(b"\xbe\xbf", decoder) == [(b"b", b"2"), (b"a", b"1")]
        assert decode(encode_integer(63, 6, 0x40) + b"\x013", decoder) == [(b"a", b"3")]


class TestDynamicTable:
    """RFC 7541 §4."""

    def test_the_oldest_entries_go_first(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(encode_integer(2 * 34, 5, 0x20) + literal(b"a", b"1") + literal(b"b", b"2"), decoder)
        decode(literal(b"c", b"3"), decoder)
        assert decode(b"\xbe\xbf", decoder) == [(b"c", b"3"), (b"b", b"2")]
        with pytest.raises(HpackError):
            decode(encode_integer(64, 7, 0x80), decoder)

    def test_a_field_larger_than_the_table_empties_it(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(literal(b"a", b"1"), decoder)
        assert decode(literal(b"b", bytes(4096)), decoder) == [(b"b", bytes(4096))]
        assert decoder.table_size == 0

    def test_a_field_as_large_as_the_table_is_its_only_entry(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(encode_integer(100, 5, 0x20) + literal(b"a", b"1") + literal(b"b", b"2" * 67), decoder)
        assert decoder.table_size == 100
        assert decode(b"\xbe", decoder) == [(b"b", b"2" * 67)]

    def test_a_name_may_be_that_of_an_entry_which_its_field_drives_out(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(encode_integer(100, 5, 0x20) + literal(b"name", b"1" * 50), decoder)
        assert decode(encode_integer(62, 6, 0x40) + b"\x14" + b"2" * 20, decoder) == [(b"name", b"2" * 20)]
        assert decoder.table_size == 4 + 20 + 32

    def test_a_size_update_evicts(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decode(literal(b"a", b"1") + literal(b"b", b"2"), decoder)
        decode(encode_integer(34, 5, 0x20), decoder)
        assert decoder.table_size == 34
        decode(b"\x20", decoder)
        assert decoder.table_size == 0

    def test_several_size_updates_may_begin_a_block(self) -> None:
        assert decode(b"\x20" + encode_integer(4096, 5, 0x20) + b"\x82") == [(b":method", b"GET")]

    def test_more_size_updates_than_two_are_an_error(self) -> None:
        """RFC 7541 §4.2: the least size since the block before, and the last."""
        with pytest.raises(HpackError, match="more than two size updates"):
            decode(b"\x20\x3f\x01\x20\x82")

    def test_a_size_update_behind_a_field_is_an_error(self) -> None:
        with pytest.raises(HpackError, match="size update"):
            decode(b"\x82\x20")

    def test_a_size_update_above_what_was_announced_is_an_error(self) -> None:
        with pytest.raises(HpackError, match="SETTINGS_HEADER_TABLE_SIZE"):
            decode(encode_integer(4097, 5, 0x20) + b"\x82")

    def test_a_lower_limit_has_to_be_followed_by_the_next_block(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decoder.limit_table(100)
        with pytest.raises(HpackError, match="no size update"):
            decode(b"\x82", decoder)
        decoder = HpackDecoder(LIST_SIZE)
        decoder.limit_table(100)
        assert decode(encode_integer(100, 5, 0x20) + b"\x82", decoder) == [(b":method", b"GET")]
        with pytest.raises(HpackError, match="SETTINGS_HEADER_TABLE_SIZE"):
            decode(encode_integer(101, 5, 0x20), decoder)

    def test_changes_are_counted_so_that_blocks_can_be_remembered(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        before = decoder.changes
        decode(b"\x82", decoder)
        decode(literal(b"a", b"1", first=0), decoder)
        assert decoder.changes == before
        decode(literal(b"a", b"1"), decoder)
        assert decoder.changes > before


class TestPrimitives:
    """RFC 7541 §5."""

    @pytest.mark.parametrize(
        "block",
        [
            pytest.param(b"\xff\x80\x80\x80\x80\x01", id="more than 28 bits"),
            pytest.param(b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", id="zeros without an end"),
            pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="more than 64 bits"),
            pytest.param(b"\x40\x7f\xff\xff\xff\xff\xff\x7f", id="as the size of a string"),
        ],
    )
    def test_integers_are_bounded(self, block: bytes) -> None:
        with pytest.raises(HpackError, match="28 bits"):
            decode(block)

    @pytest.mark.parametrize("block", [literal(b"name", b"value"), literal(b"n" * 300, b"v" * 300), b"\xff\xff\x01"])
    def test_a_block_that_ends_early_is_an_error(self, block: bytes) -> None:
        for size in range(1, len(block)):
            with pytest.raises(HpackError):
                decode(block[:size])

    def test_the_huffman_code_is_that_of_the_oracle(self) -> None:
        from hpack.huffman import HuffmanEncoder
        from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

        oracle = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
        for text in [b"", *(bytes([octet]) * count for octet in range(256) for count in (1, 2, 3))]:
            code = encode_huffman(text)
            assert code == oracle.encode(text)
            assert decode_huffman(code) == text

    def test_every_pair_of_octets_survives(self) -> None:
        for octet in range(256):
            text = b"".join(bytes([octet, other]) for other in range(256))
            assert decode_huffman(encode_huffman(text)) == text

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            pytest.param(b"\x1f\xff", "padded", id="an octet of padding"),
            pytest.param(b"\xff", "padded", id="nothing but padding, of eight bits"),
            pytest.param(b"\x18", "padded", id="zeros as padding"),
            pytest.param(b"\x1e", "padded", id="not all ones"),
            pytest.param(b"\xff\xff\xff\xff", "end of string", id="the end of string"),
            pytest.param(b"\x1f\xff\xff\xff\xff", "end of string", id="the end of string behind text"),
        ],
    )
    def test_bad_padding_and_the_end_of_string_are_errors(self, code: bytes, reason: str) -> None:
        with pytest.raises(HpackError, match=reason):
            decode_huffman(code)
        with pytest.raises(HpackError, match=reason):
            decode(b"\x00\x01a" + encode_integer(len(code), 7, 0x80) + code)

    def test_up_to_seven_ones_are_padding(self) -> None:
        for size in range(1, 9):
            text = b"0" * size  # five bits each
            assert decode_huffman(encode_huffman(text)) == text


class TestListSize:
    """RFC 9113 §6.5.2, §10.5.1."""

    def test_a_list_of_the_size_that_is_allowed_is_decoded(self) -> None:
        block = literal(b"a", b"1", first=0) * 10
        assert len(HpackDecoder(340).decode(block)) == 10
        with pytest.raises(HeaderListTooLarge) as raised:
            HpackDecoder(339).decode(block)
        assert raised.value.status == 431

    def test_the_table_stays_right_behind_a_list_that_was_too_large(self) -> None:
        decoder = HpackDecoder(100)
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(literal(b"a", b"1") + literal(b"b", b"2" * 100))
        assert decoder.decode(b"\xbf") == [(b"a", b"1")]

    def test_a_bomb_is_given_up_early(self) -> None:
        decoder = HpackDecoder(LIST_SIZE)
        decoder.decode(literal(b"a", bytes(4000)))
        bomb = b"\xbe" * 1_000_000
        with pytest.raises(HpackBomb):
            decoder.decode(bomb)  # 4 GB of fields

    def test_a_bomb_keeps_nothing(self) -> None:
        import tracemalloc

        decoder = HpackDecoder(LIST_SIZE)
        bomb = literal(b"a", b"1", first=0) * 100_000
        tracemalloc.start()
        try:
            with pytest.raises(HpackBomb):
                decoder.decode(bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1024 * 1024


USUAL: Fields = [(b":status", b"200"), (b"content-type", b"text/html"), (b"x-app", b"shop")]


class TestEncoder:
    """RFC 7541 §6, §7.1."""

    def test_a_field_that_comes_back_costs_one_octet(self) -> None:
        encoder = HpackEncoder()
        oracle = hpack.Decoder()
        for _ in range(3):
            block = encoder.encode(USUAL)
            assert oracle_fields(oracle, block) == USUAL
        assert len(block) == len(USUAL)

    def test_a_value_that_comes_once_leaves_the_table_alone(self) -> None:
        encoder = HpackEncoder()
        for number in range(1000):
            encoder.encode([(b"x-request-id", b"%d" % number)])
        assert encoder.table_size == 0

    @pytest.mark.parametrize("name", [b"set-cookie", b"authorization", b"www-authenticate", b"cookie"])
    def test_a_secret_is_never_indexed_and_marked_so(self, name: bytes) -> None:
        encoder = HpackEncoder()
        for _ in range(3):
            block = encoder.encode([(name, b"secret")])
            [field] = hpack.Decoder().decode(block, raw=True)
            assert isinstance(field, hpack.NeverIndexedHeaderTuple)
        assert encoder.table_size == 0

    def test_what_changes_with_each_response_is_not_indexed(self) -> None:
        encoder = HpackEncoder()
        for _ in range(3):
            block = encoder.encode([(b"content-length", b"5"), (b"etag", b'"a"'), (b"location", b"/")])
        assert encoder.table_size == 0
        assert oracle_fields(hpack.Decoder(), block) == [
            (b"content-length", b"5"),
            (b"etag", b'"a"'),
            (b"location", b"/"),
        ]

    def test_a_field_that_would_drive_out_the_others_is_not_indexed(self) -> None:
        encoder = HpackEncoder()
        for _ in range(3):
            encoder.encode([(b"x-large", bytes(3100))])
        assert encoder.table_size == 0

    def test_old_entries_give_way(self) -> None:
        encoder = HpackEncoder()
        oracle = hpack.Decoder()
        for number in range(300):
            field = (b"x-number", b"%d" % number)
            for _ in range(3):
                assert oracle_fields(oracle, encoder.encode([field])) == [field]
        assert 0 < encoder.table_size <= DEFAULT_TABLE_SIZE
        assert oracle_fields(oracle, encoder.encode([(b"x-number", b"0")])) == [(b"x-number", b"0")]

    def test_a_smaller_table_of_the_peer_is_respected_and_announced(self) -> None:
        encoder = HpackEncoder()
        oracle = hpack.Decoder()
        for _ in range(2):
            oracle.decode(encoder.encode(USUAL))
        encoder.limit_table(0)
        oracle.max_allowed_table_size = 0
        assert encoder.table_size == 0
        block = encoder.encode(USUAL)
        assert block[0] == 0x20
        assert oracle_fields(oracle, block) == USUAL
        assert encoder.encode(USUAL)[0] != 0x20
        assert encoder.table_size == 0

    def test_the_least_size_between_two_blocks_is_announced_before_the_last(self) -> None:
        encoder = HpackEncoder()
        for size in (4096, 100, 2000, 50, 1000):
            encoder.limit_table(size)
        block = encoder.encode([])
        assert block == encode_integer(50, 5, 0x20) + encode_integer(1000, 5, 0x20)

    def test_more_than_the_default_is_not_made_use_of(self) -> None:
        encoder = HpackEncoder()
        encoder.limit_table(2**32 - 1)
        assert encoder.encode([(b":status", b"200")]) == b"\x88"

    def test_lengths_around_the_prefix_are_right(self) -> None:
        encoder = HpackEncoder()
        for size in (0, 1, 126, 127, 128, 254, 255, 256, 257, 20_000):
            field = (b"x-n" + b"a" * size, b"\xff" * size)
            assert oracle_fields(hpack.Decoder(max_header_list_size=1 << 20), encoder.encode([field])) == [field]
