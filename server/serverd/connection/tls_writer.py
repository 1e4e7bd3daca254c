"""What a TLS connection sends: encrypts, record by record, and hands the records to the socket together.

The half of `tls.TlsTransport` that writes; it never waits, and never reads.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["RECORD", "TlsWriter"]

log = logging.getLogger("serverd.connection")

# The largest plaintext of a record (RFC 8446 §5.1): one call of OpenSSL reads one record, and writes one.
RECORD: Final = 16 * 1024
# Records that leave at once: with 64 of them a response of 1 MB takes 5 % more, because what was encrypted has left the
# cache. They stay below the 128 KiB of which glibc gives pages back to the system (mallopt(3), M_TRIM_THRESHOLD), where
# nobody has made it keep them (`worker/memory`). One more would leave a segment of a few bytes behind two full ones.
BATCH: Final = 7


class TlsWriter(asyncio.Transport):
    """The sending side of one TLS connection."""

    __slots__ = ("_closing", "_object", "_outgoing", "_transport")

    def __init__(self, transport: asyncio.Transport, connection: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> None:
        self._transport = transport
        self._object = connection
        self._outgoing = outgoing  # where `connection` leaves what is to be sent
        self._closing = False  # nothing more is sent, and nothing handed on

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; never waits, as with any transport."""
        if self._closing:
            return
        if len(data) > RECORD:
            self._send((data,))
            return
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._transport.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Encrypt and send several pieces: small ones within one record, large ones without copying them first."""
        pieces = list(list_of_data)
        if sum(map(len, pieces)) <= RECORD:
            self.write(b"".join(pieces))
        elif not self._closing:
            self._send(_joined(pieces))

    def _send(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt what takes several records, and send them together."""
        records: list[bytes] = []
        write, read = self._object.write, self._outgoing.read
        try:
            for piece in pieces:
                view = memoryview(piece)
                position, size = 0, len(view)
                while position < size:
                    # After each record OpenSSL returns (SSL_MODE_ENABLE_PARTIAL_WRITE).
                    position += write(view[position : position + RECORD])
                    # Hot path: the buffer never holds more than a record, so it does not grow, which copies, and stays
                    # in the cache (benchmarks/ "TLS, 1 MB": 640 us; letting it grow to 64 KiB 810).
                    records.append(read())
                    if len(records) == BATCH:
                        self._transport.writelines(records)
                        records = []
        except ssl.SSLError as error:
            self._transport.writelines(records)  # what the peer is told about the error comes after them
            self._fail(error)
            return
        if records:
            self._transport.writelines(records)

    def _fail(self, error: ssl.SSLError) -> None:
        """Tell the peer what is wrong with what it sent (RFC 8446 §6.2), and end."""
        log.debug("cut a connection: what came over TLS is broken: %s", error.reason)
        self._closing = True
        self._transport.write(self._outgoing.read())
        self._transport.close()


def _joined(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the pieces, those together that fit into one record: each by itself would be a record of its own."""
    small: list[bytes | bytearray | memoryview] = []
    size = 0
    for piece in pieces:
        if small and size + len(piece) > RECORD:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) >= RECORD:
            yield piece
        else:
            small.append(piece)
            size += len(piece)
    if small:
        yield b"".join(small)
