"""What a client offers by ALPN, as bytes."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from serverd.net.client_hello import LARGEST, is_one_record, offered_protocols


def hello_of(*protocols: str) -> bytes:
    """Return the record that Python's client begins with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.example").do_handshake()
    return outgoing.read()


HELLO = hello_of("h2", "http/1.1")


def in_records(message: bytes, size: int) -> bytes:
    """Return a message of the handshake in records of `size` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_the_protocols_in_their_order() -> None:
    assert offered_protocols(HELLO) == [b"h2", b"http/1.1"]
    assert offered_protocols(hello_of()) == []
    assert offered_protocols(hello_of("x" * 255)) == [b"x" * 255]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100, 10_000])
def test_a_message_may_be_spread_over_records_and_others_may_follow(size: int) -> None:
    assert offered_protocols(in_records(HELLO[5:], size) + b"\x17\x03\x03\x00\x01x") == [b"h2", b"http/1.1"]


def test_a_hello_without_extensions_offers_nothing() -> None:
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    assert offered_protocols(in_records(b"\x01" + len(body).to_bytes(3, "big") + body, 1000)) == []


def test_what_is_not_whole_is_an_error_and_nothing_worse() -> None:
    for size in range(len(HELLO)):
        with pytest.raises(ValueError, match="it is too short"):
            offered_protocols(HELLO[:size])


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", bytes(9)])
def test_what_is_something_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is another"):
        offered_protocols(data)


def test_damage_is_an_error_and_nothing_worse() -> None:
    for at in range(len(HELLO)):
        for value in (0, 1, 255):
            with contextlib.suppress(ValueError):
                offered_protocols(HELLO[:at] + bytes([value]) + HELLO[at + 1 :])


def with_extension(record: bytes, size: int) -> bytes:
    """Return the message of a record with one more extension in front, of so many bytes and of a kind nobody knows."""
    message = record[5:]
    begin, extensions = message[4 : 4 + 34 + 33], message[4 + 34 + 33 :]
    suites = 2 + int.from_bytes(extensions[:2], "big")
    begin, extensions = begin + extensions[: suites + 2], extensions[suites + 4 :]
    extensions = b"\xfa\xfb" + size.to_bytes(2, "big") + bytes(size) + extensions
    body = begin + len(extensions).to_bytes(2, "big") + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def test_of_one_that_is_too_large_nothing_is_known() -> None:
    """OpenSSL takes it: each byte in a record of its own, to be looked at one by one, would keep the loop."""
    assert offered_protocols(in_records(with_extension(HELLO, 8000), 8000)) == [b"h2", b"http/1.1"]
    for size in (1, 10_000):
        hello = in_records(with_extension(HELLO, 60_000), size)
        assert len(hello) > LARGEST
        with pytest.raises(ValueError, match="it is too short"):
            offered_protocols(hello)


def test_what_is_one_record_and_what_is_not() -> None:
    assert is_one_record(HELLO)
    assert not is_one_record(HELLO[:-1])
    assert not is_one_record(HELLO + b"\x14")
    assert not is_one_record(in_records(HELLO[5:], 100))
    assert not is_one_record(b"")
