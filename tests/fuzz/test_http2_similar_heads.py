"""Heads that differ in their path only, read by one that remembers the last and by one that remembers nothing.

Whatever `http2_head` remembers, it may save time and nothing else: head, error and table are the same.
"""

from __future__ import annotations

import contextlib

import hpack
from hypothesis import given
from hypothesis import strategies as st

from serverd.errors import PeerError
from serverd.protocol import http2_head
from serverd.protocol.hpack import HeaderListTooLarge, HpackError, encode_integer
from serverd.protocol.hpack_decoder import HpackDecoder
from serverd.protocol.hpack_huffman import encode as encode_huffman
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_frames import StreamFault
from serverd.protocol.http2_head import Http2HeadReader
from tests.support.fuzzing import examples

BOUNDS = Http2Bounds(header_list_size=400, request_line=200)
BEFORE = [(b":scheme", b"http"), (b":authority", b"example.com")]
AFTER = [(b"accept", b"*/*"), (b"cookie", b"a=1"), (b"x_name", b"value")]

paths = st.one_of(
    st.sampled_from([b"", b"*", b"x", b"/", b"/?", b"/a?b", b"/%41", b"/%zz", b"/a b", b"/\x80", b"http://a/"]),
    st.integers(100, 260).map(lambda size: b"/" + b"a" * size),
    st.binary(max_size=12).map(b"/".__add__),
)
hows = st.sampled_from(["plain", "plain", "huffman", "huffman", "broken", "long", "short"])
# Method, no body, the static entry that names :path, not or never indexed, and whether a field changes the table.
shapes = st.tuples(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT"]),
    st.booleans(),
    st.sampled_from([4, 5]),
    st.sampled_from([0x00, 0x10]),
    st.booleans(),
)
# Most requests of a connection have the shape of the first; that is when something is remembered.
conversations = shapes.map(lambda shape: (*shape[:4], False)).flatmap(
    lambda usual: st.lists(
        st.tuples(st.one_of(st.just(usual), st.just(usual), st.just(usual), shapes), paths, hows),
        min_size=3,
        max_size=9,
    )
)


def string(path: bytes, how: str) -> bytes:
    """Return a string literal; some say another length than they have, or break off."""
    if how == "huffman":
        code = encode_huffman(path)
        return encode_integer(len(code), 7, 0x80) + code
    if how == "broken":
        return encode_integer(len(path), 7, 0x80) + path  # hardly ever a code of Huffman's
    size = len(path) + {"long": 1, "short": -1}.get(how, 0)
    return encode_integer(max(size, 0), 7, 0) + path


def outcome(reader: Http2HeadReader, block: bytes, end: bool) -> object:
    """Return all that a head says, or how it is refused, and what the refusal knows."""
    try:
        head = reader.read(block, end)
    except StreamFault as error:
        return "malformed", error.code, error.reason
    except HpackError as error:
        return "broken", str(error)
    except PeerError as error:
        known = error.head
        return error.status, error.reason, known and (known.method, known.raw_path, known.query, known.version)
    names = [name for name in dir(head) if not name.startswith("_")]
    return [(type(head), name, said) for name in names if not callable(said := getattr(head, name))]


@given(conversations)
@examples(250)
def test_what_is_remembered_changes_nothing(drawn: list[tuple[tuple[bytes, bool, int, int, bool], bytes, str]]) -> None:
    encoder = hpack.Encoder()
    seen: list[bytes] = []
    reader = Http2HeadReader(HpackDecoder(BOUNDS.header_list_size), BOUNDS)
    for number, ((method, end, index, kind, changes), path, how) in enumerate(drawn):
        block = encoder.encode([(b":method", method), *BEFORE]) + bytes([kind | index]) + string(path, how)
        block += encoder.encode([*AFTER, *([(b"x-number", b"%d" % number)] if changes else [])])
        fresh_decoder = HpackDecoder(BOUNDS.header_list_size)
        fresh = Http2HeadReader(fresh_decoder, BOUNDS)
        for past in seen:
            with contextlib.suppress(HeaderListTooLarge):
                fresh.skip(past)
        before = fresh_decoder.changes
        expected = outcome(fresh, block, end)
        for _ in range(2):
            got = outcome(reader, block, end)
            assert got == expected
            if isinstance(got, tuple) and got[0] == "broken":
                return  # the connection has ended
            if fresh_decoder.changes != before:
                break  # the same bytes would say something else
        seen.append(block)


def test_of_paths_only_so_many_are_kept_for_all_connections() -> None:
    encoder = hpack.Encoder()
    reader = Http2HeadReader(HpackDecoder(BOUNDS.header_list_size), BOUNDS)
    for number in range(2 * http2_head._TARGETS_KEPT + 10):
        path = b"/%d" % number
        block = (
            encoder.encode([(b":method", b"GET"), *BEFORE]) + bytes([4]) + string(path, "plain") + encoder.encode(AFTER)
        )
        assert reader.read(block, True).raw_path == path
        assert len(http2_head._targets) <= http2_head._TARGETS_KEPT
    assert http2_head._targets
