"""What a client offers by ALPN, read from its ClientHello: OpenSSL knows, and Python's `ssl` does not tell.

Asked by `tls` while OpenSSL, which has read the same bytes, waits: what is no ClientHello never comes here.
"""

from __future__ import annotations

__all__ = ["LARGEST", "is_one_record", "offered_protocols"]

# Bytes of a ClientHello, with the heads of its records, that are looked at: as many as nginx reads (ssl_preread).
# Clients send 200 to 2,000, and a ticket may add some; OpenSSL takes 128 KiB, in records of one byte if need be.
LARGEST = 16 * 1024

_HANDSHAKE = 22  # RFC 8446 §5.1: the type of a record
_CLIENT_HELLO = 1  # RFC 8446 §4
_VERSION_AND_RANDOM = 34  # bytes, RFC 8446 §4.1.2
_ALPN = 16  # RFC 7301 §3.1


class _Reader:
    """The rest of a structure as RFC 8446 §3 describes them."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; raises ValueError when there are fewer."""
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("it is too short")
        self._at += size
        return found

    def number(self, size: int) -> int:
        """Return the next number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """Return what stands in the next vector, whose length is a number of `size` bytes."""
        return _Reader(self.take(self.number(size)))


def is_one_record(data: bytes) -> bool:
    """Return whether the first bytes of a connection are one record, and nothing behind it."""
    return len(data) >= 5 and len(data) - 5 == int.from_bytes(data[3:5], "big")


def offered_protocols(data: bytes) -> list[bytes]:
    """Return the protocols that a client offers, none if it does not use ALPN, from the first bytes of a connection.

    Raises ValueError when they are no whole ClientHello, or it is larger than `LARGEST`.
    """
    hello = _hello(data[:LARGEST])
    hello.take(_VERSION_AND_RANDOM)
    hello.vector(1)  # the session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    extensions = hello.vector(2) if hello else hello
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _ALPN:
            return _names(content.vector(2))
    return []


def _names(names: _Reader) -> list[bytes]:
    found = []
    while names:
        found.append(names.take(names.number(1)))
    return found


def _hello(data: bytes) -> _Reader:
    """Return the body of the ClientHello, which may be spread over several records."""
    records, message = _Reader(data), bytearray()
    size = 4
    while len(message) < size:
        if records.number(1) != _HANDSHAKE:
            raise ValueError("it is another record")
        records.take(2)  # a version that says nothing
        message += records.take(records.number(2))
        if len(message) >= 4:
            size = 4 + int.from_bytes(message[1:4], "big")
    if message[0] != _CLIENT_HELLO:
        raise ValueError("it is another message")
    return _Reader(bytes(message[1:])).vector(3)
