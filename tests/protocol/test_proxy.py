"""The PROXY protocol: what is read of a header of either version, and what is refused, however it is cut."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from serverd.errors import PeerError
from serverd.protocol.crc32c import crc32c
from serverd.protocol.proxy import HEADER_SIZE, Proxied, ProxiedTls, ProxyFields, ProxyHeader, Speaker
from tests.support.every import every

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
TCP4 = ipaddress.ip_address("192.168.0.1").packed + ipaddress.ip_address("192.168.0.11").packed + b"\xdc\x04\x01\xbb"
TCP6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed + b"\xdc\x04\x01\xbb"
CLIENT = (("192.168.0.1", 56324), ("192.168.0.11", 443))
CLIENT6 = (("2001:db8::1", 56324), ("2001:db8::2", 443))


def binary(block: bytes = TCP4, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def field(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(block: bytes, position: int) -> bytes:
    """Return a header with the checksum that belongs at this position of its block."""
    header = binary(block)
    start = 16 + position
    return header[:start] + struct.pack("!I", crc32c(header)) + header[start + 4 :]


def outcome(pieces: list[bytes]) -> Proxied | str | None:
    """Return what comes of the pieces, with all that follows the header in `rest`; a str is the error."""
    reader = ProxyHeader()
    for number, piece in enumerate(pieces):
        try:
            proxied = reader.feed(piece)
        except PeerError as error:
            if error.status != 400:
                raise
            return error.reason
        if proxied is not None:
            return proxied._replace(rest=proxied.rest + b"".join(pieces[number + 1 :]))
    return None


def read(data: bytes) -> Proxied | str | None:
    """Return what comes of the data, which is the same whole, byte by byte and cut in two anywhere."""
    whole = outcome([data])
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole
    step = max(1, len(data) // 100)
    for cut in range(0, len(data), step):
        assert outcome([data[:cut], data[cut:]]) == whole
    return whole


# §2.1: version 1.


def test_the_line_of_the_specification_names_the_client() -> None:
    line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    assert read(line + REQUEST) == Proxied(Speaker.CLIENT, *CLIENT, ProxyFields(), REQUEST)


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        (
            b"PROXY TCP6 " + b":".join([b"ffff"] * 8) + b" " + b":".join([b"FFFF"] * 8) + b" 65535 65535",
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        ),
        (b"PROXY TCP6 ::1 2001:DB8::0:2 1 0", ("::1", 1), ("2001:db8::2", 0)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2", ("192.0.2.1", 1), ("192.0.2.2", 2)),
    ],
    ids=["longest IPv4", "longest IPv6", "compressed IPv6", "IPv4-mapped IPv6 as IPv4"],
)
def test_a_line_names_both_ends(line: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
    assert read(line + b"\r\n") == Proxied(Speaker.CLIENT, source, destination, ProxyFields(), b"")


@pytest.mark.parametrize(
    "rest", [b"", b" ", b" anything  \x00\xff", b" " + b"f" * 90], ids=["short", "space", "any bytes", "longest"]
)
def test_an_unknown_client_has_no_address(rest: bytes) -> None:
    line = b"PROXY UNKNOWN" + rest + b"\r\n"
    assert len(line) <= 107
    assert read(line + REQUEST) == Proxied(Speaker.UNNAMED, None, None, ProxyFields(), REQUEST)


@every(
    "data",
    [
        pytest.param(b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", id="two spaces before the family"),
        pytest.param(b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", id="two spaces before the source"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1  2\r\n", id="two spaces before a port"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", id="space at the end"),
        pytest.param(b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n", id="tab"),
        pytest.param(b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", id="space at the beginning"),
        pytest.param(b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n", id="lower case"),
        pytest.param(b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", id="family in lower case"),
        pytest.param(b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", id="unknown family"),
        pytest.param(b"PROXY UNKNOWNX\r\n", id="more than UNKNOWN"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", id="bare LF"),
        pytest.param(b"PROXY UNKNOWN x\ny\r\n", id="LF after UNKNOWN"),
        pytest.param(b"PROXY UNKNOWN x\ry\r\n", id="CR after UNKNOWN"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n", id="two CR"),
        pytest.param(b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", id="leading zero in an address"),
        pytest.param(b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", id="short IPv4"),
        pytest.param(b"PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n", id="octet above 255"),
        pytest.param(b"PROXY TCP4 ::1 ::2 1 2\r\n", id="IPv6 as TCP4"),
        pytest.param(b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", id="IPv4 as TCP6"),
        pytest.param(b"PROXY TCP6 ::1 5.6.7.8 1 2\r\n", id="mixed families"),
        pytest.param(b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::2 1 2\r\n", id="long IPv6"),
        pytest.param(b"PROXY TCP6 1::2::3 ::2 1 2\r\n", id="two double colons"),
        pytest.param(b"PROXY TCP6 12345::1 ::2 1 2\r\n", id="five hexadecimal digits"),
        pytest.param(b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", id="zone"),
        pytest.param(b"PROXY TCP6 [::1] ::2 1 2\r\n", id="brackets"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", id="leading zero in a port"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n", id="two zeros"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", id="source port above 65535"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", id="destination port above 65535"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", id="sign"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", id="no destination port"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", id="a part too many"),
        pytest.param(b"PROXY \r\n", id="nothing"),
        pytest.param(b"PROXY UNKNOWN" + b"f" * 92 + b"\r\n", id="UNKNOWN without space"),
        pytest.param(b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", id="108 bytes"),
        pytest.param(b"PROXY UNKNOWN " + b"f" * 93, id="107 bytes without an end"),
        pytest.param(REQUEST, id="HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\r\n\r\nPROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", id="empty lines"),
    ],
)
def test_what_is_no_line_is_refused(data: bytes) -> None:
    assert isinstance(read(data), str)


def test_a_connection_without_a_header_is_refused_at_its_first_wrong_byte() -> None:
    for data in (b"G", b"PX", b"PROXY\r", b"\r\n\r\n\r", b"\x16"):
        with pytest.raises(PeerError):
            ProxyHeader().feed(data)


@pytest.mark.parametrize("data", [b"", b"P", b"PROXY", b"PROXY TCP4 1.2.3.4", b"\r\n\r\n\0", SIGNATURE, binary()[:-1]])
def test_a_header_whose_end_has_not_come_is_waited_for(data: bytes) -> None:
    assert read(data) is None


# §2.2: version 2.


@pytest.mark.parametrize("family", [0x11, 0x12], ids=["stream", "datagram"])
def test_a_binary_header_names_both_ends_in_ipv4(family: int) -> None:
    assert read(binary(family=family) + REQUEST) == Proxied(Speaker.CLIENT, *CLIENT, ProxyFields(), REQUEST)


@pytest.mark.parametrize("family", [0x21, 0x22], ids=["stream", "datagram"])
def test_a_binary_header_names_both_ends_in_ipv6(family: int) -> None:
    assert read(binary(TCP6, family=family) + REQUEST) == Proxied(Speaker.CLIENT, *CLIENT6, ProxyFields(), REQUEST)


def test_an_ipv4_mapped_address_is_an_ipv4_one() -> None:
    mapped = b"".join(ipaddress.ip_address(f"::ffff:192.0.2.{n}").packed for n in (1, 2))
    proxied = read(binary(mapped + b"\0\1\0\2", family=0x21))
    assert isinstance(proxied, Proxied)
    assert (proxied.source, proxied.destination) == (("192.0.2.1", 1), ("192.0.2.2", 2))


@every("block", [b"", TCP4, b"\xff" * 50], ids=["empty", "addresses", "garbage"])
@every("family", [0x00, 0x11, 0x31, 0xFF])
def test_a_proxy_speaks_for_itself_whatever_its_block_says(block: bytes, family: int) -> None:
    header = binary(block, command=0x20, family=family)
    assert read(header + REQUEST) == Proxied(Speaker.PROXY, None, None, ProxyFields(), REQUEST)


@every("block", [b"", TCP4, b"\xff" * 50], ids=["empty", "addresses", "garbage"])
@every("family", [0x00, 0x01, 0x02, 0x10, 0x20, 0x30])
def test_an_unspecified_client_has_no_address(block: bytes, family: int) -> None:
    header = binary(block, family=family)
    assert read(header + REQUEST) == Proxied(Speaker.UNNAMED, None, None, ProxyFields(), REQUEST)


@pytest.mark.parametrize("family", [0x31, 0x32], ids=["stream", "datagram"])
def test_a_client_on_a_unix_socket_has_no_address_but_fields(family: int) -> None:
    header = binary(b"/run/x".ljust(216, b"\0") + field(0x05, b"id"), family=family)
    assert read(header + REQUEST) == Proxied(Speaker.UNNAMED, None, None, ProxyFields(unique_id=b"id"), REQUEST)


@every(
    "data",
    [
        pytest.param(binary(command=0x11), id="version 1"),
        pytest.param(binary(command=0x31), id="version 3"),
        pytest.param(binary(command=0x01), id="version 0"),
        *(pytest.param(binary(command=0x20 | n), id=f"command {n}") for n in range(2, 16)),
        *(pytest.param(binary(bytes(216), family=n << 4 | 1), id=f"family {n}") for n in range(4, 16)),
        *(pytest.param(binary(family=0x10 | n), id=f"transport {n}") for n in range(3, 16)),
        pytest.param(binary(TCP4[:-1]), id="short IPv4 block"),
        pytest.param(binary(TCP6[:-1], family=0x21), id="short IPv6 block"),
        pytest.param(binary(bytes(215), family=0x31), id="short unix block"),
        pytest.param(binary(length=HEADER_SIZE - 15), id="one byte too long"),
        pytest.param(binary(length=65535), id="longest length"),
        pytest.param(binary(command=0x20, length=65535), id="longest length of the proxy itself"),
        pytest.param(SIGNATURE[:-1] + b"\r" + binary()[12:], id="wrong signature"),
    ],
)
def test_what_is_no_binary_header_is_refused(data: bytes) -> None:
    assert isinstance(read(data), str)


def test_a_header_that_is_too_long_is_refused_before_it_comes() -> None:
    with pytest.raises(PeerError, match="longer than 4096 bytes"):
        ProxyHeader().feed(binary(length=HEADER_SIZE)[:16])


def test_a_header_of_the_largest_size_is_taken() -> None:
    block = TCP4 + field(0x04, bytes(HEADER_SIZE - 16 - len(TCP4) - 3))
    proxied = outcome([binary(block) + REQUEST])
    assert proxied == Proxied(Speaker.CLIENT, *CLIENT, ProxyFields(), REQUEST)


# §2.2.1 to §2.2.6: fields.


def fields_of(*fields: bytes) -> ProxyFields:
    proxied = read(binary(TCP4 + b"".join(fields)))
    assert isinstance(proxied, Proxied), proxied
    assert (proxied.source, proxied.destination) == CLIENT
    return proxied.fields


def test_alpn_authority_and_unique_id_are_read() -> None:
    got = fields_of(field(0x01, b"h2"), field(0x02, "bücher.example".encode()), field(0x05, bytes(range(128))))
    assert got == ProxyFields(alpn=b"h2", authority="bücher.example", unique_id=bytes(range(128)))


def test_padding_and_unknown_fields_are_skipped() -> None:
    others = [field(kind, b"x") for kind in (0x04, 0x04, 0x30, 0xE0, 0xE0, 0xEA, 0xF7, 0xFF)]
    assert fields_of(*others, field(0x01, b"h2"), field(0x04, b"")) == ProxyFields(alpn=b"h2")


def ssl(client: int, verify: int, *fields: bytes) -> bytes:
    return field(0x20, struct.pack("!BI", client, verify) + b"".join(fields))


VERSION = field(0x21, b"TLSv1.3")
CIPHER = field(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")
COMMON_NAME = field(0x22, b"example.com")


@pytest.mark.parametrize(
    ("value", "tls"),
    [
        (
            ssl(0x01, 0, VERSION, CIPHER, field(0x24, b"RSA-SHA256"), field(0x25, b"RSA2048")),
            ProxiedTls("TLSv1.3", "ECDHE-RSA-AES128-GCM-SHA256", False, False, ""),
        ),
        (ssl(0x03, 0, VERSION, COMMON_NAME), ProxiedTls("TLSv1.3", "", True, True, "example.com")),
        (ssl(0x05, 0, COMMON_NAME), ProxiedTls("", "", True, True, "example.com")),
        (ssl(0x07, 0x00000100, COMMON_NAME), ProxiedTls("", "", True, False, "example.com")),
        (ssl(0x00, 0, VERSION), None),
    ],
    ids=["no certificate", "certificate", "certificate of the session", "not verified", "no TLS"],
)
def test_the_clients_tls_connection_is_read(value: bytes, tls: ProxiedTls | None) -> None:
    assert fields_of(value) == ProxyFields(tls=tls)


@every(
    "block",
    [
        pytest.param(b"\x01", id="type alone"),
        pytest.param(b"\x01\x00", id="half a length"),
        pytest.param(b"\x01\x00\x03h2", id="length beyond the header"),
        pytest.param(b"\xee\x00\x03h2", id="length of an unknown field beyond the header"),
        pytest.param(field(0x01, b"h2") + b"\0\0", id="left over bytes"),
        pytest.param(field(0x01, b"h2") * 2, id="alpn twice"),
        pytest.param(field(0x02, b"a") + field(0x02, b"b"), id="authority twice"),
        pytest.param(field(0x02, b"\xff"), id="authority not UTF-8"),
        pytest.param(field(0x05, bytes(129)), id="long unique id"),
        pytest.param(field(0x20, bytes(4)), id="short SSL"),
        pytest.param(ssl(1, 0, b"\x21\x00\x09TLSv1.3"), id="SSL field beyond SSL"),
        pytest.param(ssl(1, 0, VERSION, VERSION), id="version twice"),
        pytest.param(ssl(1, 0, field(0x22, b"\xc3")), id="common name not UTF-8"),
        pytest.param(ssl(1, 0) * 2, id="SSL twice"),
        pytest.param(field(0x03, bytes(3)), id="short checksum"),
        pytest.param(field(0x03, bytes(5)), id="long checksum"),
    ],
)
def test_fields_that_do_not_add_up_are_refused(block: bytes) -> None:
    assert isinstance(read(binary(TCP4 + block)), str)


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
    ids=["nothing", "the check value", "zeros of RFC 3720 §B.4", "ones of RFC 3720 §B.4"],
)
def test_the_checksum_is_castagnolis(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def test_a_right_checksum_is_taken_wherever_it_stands() -> None:
    crc = field(0x03, bytes(4))
    alpn = field(0x01, b"h2")
    for block in (TCP4 + crc, TCP4 + crc + alpn, TCP4 + alpn + crc):
        proxied = read(checked(block, block.index(crc) + 3) + REQUEST)
        assert isinstance(proxied, Proxied), proxied
        assert (proxied.source, proxied.rest) == (CLIENT[0], REQUEST)


def test_any_other_bit_in_a_header_with_checksum_is_refused() -> None:
    block = TCP4 + field(0x03, bytes(4)) + field(0xE0, b"\xff")
    good = checked(block, len(TCP4) + 3)
    for position in range(16, len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            # But for its type: the field is none with a checksum then.
            if position != 16 + len(TCP4):
                assert isinstance(outcome([bytes(bad)]), str), (position, bit)


def test_two_checksums_are_refused() -> None:
    assert isinstance(read(binary(TCP4 + field(0x03, bytes(4)) * 2)), str)
