"""A PROXY header comes to the same result however its bytes arrive, and nothing but a good one is taken."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from serverd.errors import PeerError
from serverd.protocol.crc32c import crc32c
from serverd.protocol.proxy import HEADER_SIZE, Proxied, ProxyHeader, Speaker
from tests.support.fuzzing import examples

fuzzing = examples(400)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
port = st.integers(0, 65535)
ends = st.one_of(
    *(
        st.tuples(st.tuples(st.ip_addresses(v=version), port), st.tuples(st.ip_addresses(v=version), port))
        for version in (4, 6)
    )
)
Ends = tuple[tuple[IPv4Address | IPv6Address, int], tuple[IPv4Address | IPv6Address, int]]


def line(pair: Ends) -> bytes:
    (source, one), (destination, two) = pair
    return f"PROXY TCP{source.version} {source} {destination} {one} {two}\r\n".encode()


field = st.tuples(st.sampled_from([0x04, 0x30, 0xE0, 0xE1]) | st.integers(0x40, 0xFF), st.binary(max_size=20)).map(
    lambda pair: struct.pack("!BH", pair[0], len(pair[1])) + pair[1]
)


def binary(pair: Ends, fields: list[bytes], checksum: bool, datagram: bool) -> bytes:
    (source, one), (destination, two) = pair
    block = source.packed + destination.packed + struct.pack("!HH", one, two) + b"".join(fields)
    family = (1 if source.version == 4 else 2) << 4 | (2 if datagram else 1)
    head = SIGNATURE + struct.pack("!BBH", 0x21, family, len(block) + (7 if checksum else 0))
    if not checksum:
        return head + block
    header = head + block + b"\x03\x00\x04" + bytes(4)
    return header[:-4] + struct.pack("!I", crc32c(header))


binary_header = st.tuples(ends, st.lists(field, max_size=4), st.booleans(), st.booleans())


def outcome(pieces: list[bytes]) -> Proxied | str | None:
    """Return what comes of the pieces, with all that follows the header in `rest`; a str is the error."""
    reader = ProxyHeader()
    for number, piece in enumerate(pieces):
        try:
            proxied = reader.feed(piece)
        except PeerError as error:
            return f"{error.status} {error.reason}"
        if proxied is not None:
            return proxied._replace(rest=proxied.rest + b"".join(pieces[number + 1 :]))
    return None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *(p % (len(data) + 1) for p in places)}))]


def expected(pair: Ends) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return both ends as they are told, IPv4-mapped addresses as IPv4."""
    (source, one), (destination, two) = pair
    plain = [getattr(end, "ipv4_mapped", None) or end for end in (source, destination)]
    return (str(plain[0]), one), (str(plain[1]), two)


@fuzzing
@given(ends, st.binary(max_size=40))
@example(((ip_address("::ffff:1.2.3.4"), 0), (ip_address("::"), 65535)), b"")
def test_every_line_is_read_as_it_was_written(pair: Ends, rest: bytes) -> None:
    proxied = outcome([line(pair) + rest])
    assert isinstance(proxied, Proxied), proxied
    assert (proxied.speaker, (proxied.source, proxied.destination), proxied.rest) == (
        Speaker.CLIENT,
        expected(pair),
        rest,
    )


@fuzzing
@given(binary_header, st.binary(max_size=40))
def test_every_binary_header_is_read_as_it_was_written(
    parts: tuple[Ends, list[bytes], bool, bool], rest: bytes
) -> None:
    proxied = outcome([binary(*parts) + rest])
    assert isinstance(proxied, Proxied), proxied
    assert (proxied.speaker, (proxied.source, proxied.destination), proxied.rest) == (
        Speaker.CLIENT,
        expected(parts[0]),
        rest,
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a header and what follows it, with a few bytes changed, dropped or put in."""
    header = draw(ends.map(line) | binary_header.map(lambda parts: binary(*parts)) | st.just(b"PROXY UNKNOWN x\r\n"))
    data = bytearray(header + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, min(len(data), len(header)) - 1)) if data else 0
        change = draw(st.integers(0, 2))
        byte = draw(st.sampled_from(b"\r\n\0 0159.:PTCX\x01\x11\x20\x21\xff") | st.integers(0, 255))
        if change == 0 and data:
            data[position] = byte
        elif change == 1 and data:
            del data[position]
        else:
            data.insert(position, byte)
    return bytes(data)


@fuzzing
@given(damaged(), st.lists(st.integers(0, 1000), max_size=4))
def test_the_result_does_not_depend_on_how_the_bytes_arrive(data: bytes, places: list[int]) -> None:
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole


@fuzzing
@given(damaged() | st.binary(max_size=200))
def test_what_is_taken_is_a_header_of_bounded_size_before_the_rest(data: bytes) -> None:
    proxied = outcome([data])
    if not isinstance(proxied, Proxied):
        return
    header = data[: len(data) - len(proxied.rest)]
    assert data.endswith(proxied.rest)
    if header.startswith(b"PROXY "):
        assert len(header) <= 107
        assert header.endswith(b"\r\n")
    else:
        assert 16 <= len(header) <= HEADER_SIZE
        assert len(header) == 16 + int.from_bytes(header[14:16], "big")
    assert (proxied.source is None) == (proxied.destination is None) == (proxied.speaker is not Speaker.CLIENT)
    for end in (proxied.source, proxied.destination):
        if end is not None:
            assert str(ip_address(end[0])) == end[0]
            assert 0 <= end[1] <= 65535
