"""What an HTTP/2 connection remembers of heads is little, whatever a client sends (`http2_head`)."""

from __future__ import annotations

import tracemalloc

import hpack
import pytest

from serverd.protocol.hpack_decoder import HpackDecoder
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_head import Http2HeadReader

BOUNDS = Http2Bounds()
BEFORE = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a")]
INDEXED = b"\xbe"  # the entry that was added last (RFC 7541 §2.3.3)
# Beside its table and what the heads of a browser take.
MOST = 128 * 1024


def literal(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    """Return a field that is written out."""
    return bytes([kind]) + b"".join(hpack.hpack.encode_integer(len(text), 7) + bytes(text) for text in (name, value))


def begin(reader: Http2HeadReader, field: bytes) -> bytes:
    """Put a field into the table; return the beginning of blocks that leave the table as it is."""
    common = b"".join(literal(name, value) for name, value in BEFORE)
    reader.skip(common + literal(b":path", b"/") + field)
    return common


@pytest.mark.parametrize("what", ["cookies", "a path", "a name", "a literal"])
def test_of_large_heads_nothing_is_kept(what: str) -> None:
    reader = Http2HeadReader(HpackDecoder(BOUNDS.header_list_size), BOUNDS)
    added = {
        "cookies": literal(b"cookie", b"c" * 3900, 0x40),
        "a path": literal(b":path", b"/" + b"p" * 3900, 0x40),
        "a name": literal(b"n" * 3900, b"", 0x40),
        "a literal": literal(b"x", b"", 0x40),
    }[what]
    common = begin(reader, added)
    tracemalloc.start()
    try:
        for number in range(64):
            path = literal(b":path", b"/%d" % number)
            more = {
                "cookies": path + INDEXED * 15,
                "a path": INDEXED + literal(b"x", b"%d" % number),
                "a name": path + INDEXED * 15,
                "a literal": path + literal(b"y" * 50_000, b"%d" % number),
            }[what]
            head = reader.read(common + more, True)
            assert head.method == "GET"
        del head
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < MOST
