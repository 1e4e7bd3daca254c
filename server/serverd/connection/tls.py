"""TLS between a socket and whatever is spoken over it: encrypts below a transport of the event loop's kind.

Not the loop's own TLS, because that has no room for what comes before it (a PROXY header), counts no handshake as a
connection, logs what strangers send as errors, cuts instead of lingering, and asks OpenSSL once more for each read.
One object is the protocol of the socket's transport and the transport of the connection above; `handshake` makes it.
`tls_writer` is its other half, which encrypts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from time import perf_counter
from typing import Any, Final, cast

from serverd.connection.tls_writer import RECORD, TlsWriter

__all__ = ["TlsTransport"]

log = logging.getLogger("serverd.connection")

# OpenSSL's buffers keep the size that they once had as long as the connection lives: what is larger passes through in
# pieces, what is sent record by record.
READ_PIECE: Final = 2 * RECORD
# What becomes of that where a piece takes longer than a turn: of KeyUpdates, which OpenSSL reads one after the other
# without coming back, 32 KiB take 35 ms.
SMALLEST_PIECE: Final = READ_PIECE // 16
# Seconds of work on what a peer sends after which others have their turn, as in HTTP/2, and records after which it is
# looked at the clock: a read of 256 KiB may hold ten thousand of a byte each, which take a third of a second.
TURN: Final = 0.01
RECORDS_AT_ONCE: Final = 64
# Bytes that OpenSSL may answer a peer that does not read with: a KeyUpdate (RFC 8446 §4.6.3) is answered by another
# of 22 bytes, and nothing else asks for an answer.
REPLY_LIMIT: Final = 16 * 1024

# Whoever is above before a connection has begun, and after it has ended.
_NOBODY: Final = asyncio.Protocol()


class TlsTransport(TlsWriter, asyncio.Protocol):
    """One TLS connection after its handshake."""

    __slots__ = (
        "_blocked",
        "_ended",
        "_eof",
        "_incoming",
        "_is_held",
        "_loop",
        "_paused",
        "_piece",
        "_protocol",
        "_reads",
        "_replied",
        "_rest",
        "_spent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        connection: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        """Take over `transport`; the two buffers are those of `connection`."""
        super().__init__(transport, connection, outgoing)
        self._loop = loop
        self._incoming = incoming
        self._protocol = _NOBODY
        self._paused = False  # whoever is above wants nothing more to be read
        self._reads = True  # the socket is read
        self._eof = False  # the peer has said that it sends nothing more
        self._ended = False  # the socket has said so, and not everything before it is decrypted
        self._blocked = False  # the peer reads too slowly
        self._rest: memoryview | None = None  # of what has come, and does not fit into the buffer
        self._piece = READ_PIECE  # so much of that passes through at once
        self._spent = 0.0  # seconds of work on what was more than one piece, since others had their turn
        self._is_held = False  # nothing is decrypted until they have had it
        self._replied = 0  # bytes of OpenSSL's own since the peer reads too slowly

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` with the peer."""
        self._protocol = protocol
        self._transport.set_protocol(self)
        protocol.connection_made(self)

    def catch_up(self) -> None:
        """Hand on what has come already: with the end of the handshake, or before reading was paused."""
        goes_on = self._incoming.pending > 0
        if not goes_on and self._outgoing.pending:
            self._reply_soon()
        began = perf_counter()
        while (goes_on or self._rest is not None) and not (self._paused or self._closing or self._is_held):
            if not goes_on:
                self._feed_piece()
            goes_on = self._receive()
            now = perf_counter()
            self._spent += now - began
            if now - began > TURN:
                self._piece = max(self._piece // 4, SMALLEST_PIECE)
            began = now
            if self._spent >= TURN and self._waits():
                self._hold()
        self._watch()
        if self._ended and not (self._waits() or self._closing):
            self._ended = False
            if not self._eof:
                self._deliver_eof()

    def _feed_piece(self) -> None:
        assert self._rest is not None  # it waits
        piece, rest = self._rest[: self._piece], self._rest[self._piece :]
        self._rest = rest if len(rest) else None
        self._incoming.write(piece)

    def _hold(self) -> None:
        """Let others have their turn before more is decrypted."""
        self._is_held = True
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_held = False
        self._spent = 0.0
        self.catch_up()

    def _watch(self) -> None:
        """Read the socket while nothing waits: what is read meanwhile would pile up behind it."""
        wants = self._closing or not (self._is_held or self._waits())
        wants = wants and not self._paused
        if wants is not self._reads and not self._transport.is_closing():
            self._reads = wants
            if wants:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _waits(self) -> bool:
        """Return whether something has come and is not decrypted, because reading is paused."""
        return self._incoming.pending > 0 or self._rest is not None

    # Called by the event loop, as the protocol of the socket.

    def data_received(self, data: bytes) -> None:
        if self._closing or self._eof:  # RFC 8446 §6.1: what comes behind a close_notify is ignored
            return
        if self._paused or self._is_held or self._rest is not None or len(data) > self._piece:
            # The loop may deliver what it had read before it was told to pause, and does it once.
            self._rest = memoryview(data if self._rest is None else bytes(self._rest) + data)
            self.catch_up()
            return
        self._incoming.write(data)
        if self._receive():
            self.catch_up()

    def eof_received(self) -> bool:
        """Take the end of the peer, with or without a close_notify: HTTP knows by itself where a message ends.

        RFC 9112 §9.8.
        """
        if self._closing:
            return False
        if self._waits():
            self._ended = True
            return True
        if self._eof:
            return True
        self._deliver_eof()
        return not self._closing

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        # Each knows the other: in a circle, all that OpenSSL holds would wait for the garbage collector.
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._blocked = True
        self._replied = 0
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        self._protocol.resume_writing()

    def _receive(self) -> bool:
        """Hand on what can be decrypted, as long as it is wanted; return whether that was not all."""
        connection, incoming = self._object, self._incoming
        left = RECORDS_AT_ONCE
        while left and not (self._paused or self._closing):
            try:
                data = connection.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._fail(error)
                return False
            if not data:
                if not self._eof:
                    self._deliver_eof()
                break
            self._protocol.data_received(data)
            # Hot path: with nothing left, the next call would only raise SSLWantReadError, which takes 3 us
            # (benchmarks/ "TLS, kept connections").
            if not incoming.pending:
                break
            left -= 1
        if self._outgoing.pending and not self._closing:
            self._reply_soon()
        return not left

    def _reply_soon(self) -> None:
        """Send what OpenSSL has to say by itself, but let what is answered in this turn of the loop take it along.

        That is the end of the handshake, with its ticket, and the first response.
        """
        if self._outgoing.pending > REPLY_LIMIT:
            self._reply()
        else:
            self._loop.call_soon(self._reply)

    def _reply(self) -> None:
        """Send what is left to say, and cut a peer that makes OpenSSL talk and does not listen."""
        if self._closing or not self._outgoing.pending:
            return
        data = self._outgoing.read()
        if self._blocked:
            self._replied += len(data)
            if self._replied > REPLY_LIMIT:
                log.debug("cut a connection: it wants more replies than it reads")
                self.abort()
                return
        self._transport.write(data)

    def _deliver_eof(self) -> None:
        self._eof = True
        # OpenSSL reads nothing behind a close_notify: it would be kept as long as the last response takes.
        self._rest = None
        self._incoming.read()
        if not self._protocol.eof_received():
            self.close()

    # Called by the connection, as its transport.

    def pause_reading(self) -> None:
        self._paused = True
        self._watch()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if self._waits():
                self._loop.call_soon(self.catch_up)  # not from within: whoever calls is not prepared for more
        self._watch()

    def is_reading(self) -> bool:
        return not (self._paused or self._closing)

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        """Say that nothing more comes, in TLS and in TCP; what the peer still sends is thrown away undecrypted."""
        if not self._closing:
            self._closing = True
            self._send_close_notify()
            self._transport.write_eof()
            self._watch()

    def close(self) -> None:
        """End after everything has left."""
        if not self._closing:
            self._closing = True
            self._send_close_notify()
        self._transport.close()

    def _send_close_notify(self) -> None:
        """RFC 8446 §6.1; the peer's own is not waited for."""
        with contextlib.suppress(ssl.SSLError):  # what OpenSSL says about the peer's not being there
            self._object.unwrap()
        self._transport.write(self._outgoing.read())

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what TLS knows (`ssl_object`, `sslcontext`), and all else from the transport of the socket."""
        if name == "ssl_object":
            return self._object
        if name == "sslcontext":
            return self._object.context
        return self._transport.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
