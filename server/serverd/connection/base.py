"""What every connection has, whatever it speaks: a transport, backpressure, deadlines, an end.

Deadlines are attributes that one sweep per worker looks at (`sweep`), not timers: a timer made and
cancelled for each request costs more than the request's parsing. `http1_stream`, `http2` and `websocket` build on this.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from enum import Enum
from typing import Any, Final

from serverd.asgi.scope import Peer
from serverd.connection.departure import unacknowledged
from serverd.connection.peers import is_believed, peer_of
from serverd.connection.service import Service
from serverd.errors import ClientDisconnected, ResponseError
from serverd.observe.counters import NOTHING_YET
from serverd.protocol.forwarded import OriginReader

__all__ = [
    "DRAIN_IDLE_TIMEOUT",
    "NEVER",
    "WAIT_BODY",
    "WAIT_HEAD",
    "WAIT_LINGER",
    "WAIT_NOTHING",
    "WAIT_REQUEST",
    "Connection",
    "Wait",
]

NEVER: Final = float("inf")

# Unsent bytes above which `send` waits: asyncio's own default, one socket buffer's worth.
WRITE_HIGH_WATER: Final = 64 * 1024
# One sendfile call; larger ones only hold the event loop longer.
FILE_PIECE: Final = 1024 * 1024
# How long the peer of a connection that we have ended, and that has read all we sent, may go on sending before
# it is cut: closed earlier, it would see a reset instead of our last response (RFC 9112 §9.6). nginx's
# lingering_timeout is 5 s, Apache's 2 s.
LINGER_TIMEOUT: Final = 2.0
# While draining, a connection is ended when nothing has come for so long: a request that was sent before
# the peer could know has arrived by then on any usable network.
DRAIN_IDLE_TIMEOUT: Final = 1.0

# Connections beyond limits.connections that are told so, and linger, at a time. Those beyond are cut without a word:
# they would take the descriptors that the others need. Four batches of what asyncio accepts in one turn of the loop.
TOLD_AT_ONCE: Final = 256

_UNKNOWN: Final = Peer(None, None)


class Wait(Enum):
    """What the deadline of a connection is for."""

    NOTHING = "the application works; it may take its time"
    HEAD = "the head of a request, from accept or its first byte on"
    BODY = "more of a request body"
    REQUEST = "the next request on an idle connection"
    LINGER = "the peer's end of the connection after ours"


# Hot path: members looked up once; Python 3.11 takes 0.3 us for each `Wait.NAME` (benchmarks/ "plain GET").
WAIT_NOTHING: Final[Wait] = Wait.NOTHING
WAIT_HEAD: Final[Wait] = Wait.HEAD
WAIT_BODY: Final[Wait] = Wait.BODY
WAIT_REQUEST: Final[Wait] = Wait.REQUEST
WAIT_LINGER: Final[Wait] = Wait.LINGER


class Connection(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_file_left",
        "_is_turned_away",
        "_last_unsent",
        "_reading",
        "_stalled_at",
        "_transport",
        "_trusted",
        "_wait",
        "_writers",
        "blocked",
        "closed",
        "deadline",
        "origins",
        "peer",
        "service",
        "speaks",
    )

    def __init__(self, service: Service, peer: Peer | None = None, trusted: bool | None = None) -> None:
        """Prepare; `peer` and `trusted` are known before, or None: what the socket and `Service.trust` say."""
        self.service = service
        self.peer = peer or _UNKNOWN
        self._trusted = trusted
        self.closed = False  # nothing that is sent arrives any more
        self.blocked = False  # the peer reads too slowly
        self.speaks = NOTHING_YET
        self.deadline = NEVER
        self._wait = WAIT_NOTHING
        self._writers: list[asyncio.Future[None]] = []  # none unless it is blocked
        self._stalled_at = 0.0
        self._last_unsent = 0
        self._is_turned_away = False  # there was no room for it
        self._file_left = 0  # bytes of a file that sendfile still has to send
        self._reading = True  # the transport is not paused

    # Called by the event loop.

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        if self.peer is _UNKNOWN:
            self.peer = peer_of(transport)
        trusted = is_believed(self.peer, self.service.trust) if self._trusted is None else self._trusted
        self.origins = OriginReader(self.service.trust, self.peer.client, self.peer.scheme, trusted)
        self._await(WAIT_HEAD, self.service.limits.header_timeout)
        if not self.service.enter(self):
            self._is_turned_away = True
            self.service.turned_away += 1
            if self.service.turned_away > TOLD_AT_ONCE:
                self.cut()
            else:
                self._turn_away()
        if self.service.draining:
            self.drain()  # it was accepted in the last moment

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.deadline = NEVER
        if self._is_turned_away:
            self.service.turned_away -= 1
        self.service.leave(self)
        if self.blocked:
            self._release_writers()

    def pause_writing(self) -> None:
        self.blocked = True
        self._stalled_at = self.service.loop.time()
        self._last_unsent = self._unsent()

    def resume_writing(self) -> None:
        self._release_writers()

    def _release_writers(self) -> None:
        self.blocked = False
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)
        self._writers.clear()

    # Called by the worker.

    def sweep(self, now: float) -> None:
        """End the connection if what it waits for is overdue; `now` is the loop's time in seconds."""
        if self.blocked or self._wait is WAIT_LINGER:
            self._check_progress(now)
        if now >= self.deadline:
            self._on_deadline(self._wait)

    def drain(self) -> None:
        """Invite no further request; an idle connection ends as soon as none can be on the wire."""
        if self.idle and not self.closed:
            self._wait = WAIT_REQUEST  # what begins to arrive now has the time of any other request
            self.deadline = min(self.deadline, self.service.loop.time() + DRAIN_IDLE_TIMEOUT)

    @property
    def idle(self) -> bool:
        """True while nothing of a request has arrived since the last one was answered."""
        raise NotImplementedError

    def _turn_away(self) -> None:
        """Say that there is no room, and end."""
        raise NotImplementedError

    def cut(self) -> None:
        """End the connection at once, without waiting for what is unsent."""
        self.closed = True
        self._transport.abort()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    # For the protocols.

    def _take_over(self, predecessor: Connection) -> None:
        """Go on in the place of a connection that has spoken another protocol until now."""
        self._transport = predecessor._transport
        self._reading = predecessor._reading
        self.blocked = predecessor.blocked
        self._stalled_at, self._last_unsent = predecessor._stalled_at, predecessor._last_unsent
        self.service.replace(predecessor, self)
        self._transport.set_protocol(self)
        predecessor._release_writers()  # nobody would tell them that they may go on

    def _pause_reading(self) -> None:
        if self._reading and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            self._transport.resume_reading()

    def _await(self, wait: Wait, timeout: float) -> None:
        self._wait = wait
        self.deadline = self.service.loop.time() + timeout

    def await_nothing(self) -> None:
        self._wait = WAIT_NOTHING
        self.deadline = NEVER

    def _on_deadline(self, wait: Wait) -> None:
        """End the connection: what `wait` names did not come in time."""
        if self._unsent():
            self._await(wait, LINGER_TIMEOUT)  # the peer still reads; `_check_progress` sees when it stops
        else:
            self.cut()

    def _unsent(self) -> int:
        """Return how many bytes wait for the peer to read; after our end those that the kernel has count, too."""
        unsent = self._transport.get_write_buffer_size() + self._file_left
        # Closed with something in its queue, a socket stays with the kernel, and the queue, for minutes.
        return unsent + unacknowledged(self.fileno()) if self._wait is WAIT_LINGER else unsent

    def _check_progress(self, now: float) -> None:
        """Cut a peer that has not taken a byte for send_timeout."""
        unsent = self._unsent()
        if unsent != self._last_unsent or not unsent:
            self._last_unsent = unsent
            self._stalled_at = now
        elif now - self._stalled_at >= self.service.limits.send_timeout:
            self._reset()  # else the kernel goes on offering what is unsent, which may be megabytes, for minutes

    def _end(self, linger: bool) -> None:
        """Close after what is unsent has left; `linger` reads on meanwhile and throws away (RFC 9112 §9.6)."""
        self.closed = True
        if self.blocked:
            self._release_writers()
        self._last_unsent = self._unsent()
        self._stalled_at = self.service.loop.time()
        self._wait = WAIT_LINGER
        # While something is unsent only the lack of progress ends it.
        self.deadline = self._stalled_at + LINGER_TIMEOUT if linger else NEVER
        if not linger or not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:
            self.cut()  # the peer's reset has arrived, and not yet been told to us
        else:
            self._transport.resume_reading()

    def _reset(self) -> None:
        """Cut the connection so that the peer sees an error and not an ordinary end."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    async def _send_from(self, fd: int, count: int) -> None:
        """Send `count` bytes of an open file, with sendfile(2) where nothing has to be encrypted."""
        transport = self._transport
        if transport.get_extra_info("ssl_object") is not None:
            await self._send_read(fd, count)
            return
        # Nothing of the response may be in the transport when the kernel writes behind its back. uvloop
        # refuses to watch its own descriptor, so a duplicate is watched.
        socket_fd = os.dup(transport.get_extra_info("socket").fileno())
        self._file_left = count
        try:
            transport.set_write_buffer_limits(high=0)
            await self.writable()
            while self._file_left and not self.closed:
                await self._send_piece(socket_fd, fd)
            if self.closed:
                raise ClientDisconnected
        finally:
            self._file_left = 0
            os.close(socket_fd)
            if not self.closed:
                transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    async def _send_read(self, fd: int, count: int) -> None:
        """Send `count` bytes of an open file through Python, because TLS has to see them."""
        while count and not self.closed:
            data = os.read(fd, min(count, WRITE_HIGH_WATER))
            if not data:
                raise ResponseError("file became shorter while it was sent")
            self._transport.write(data)
            count -= len(data)
            await self.writable()
            await asyncio.sleep(0)  # a fast peer must not hold the loop
        if self.closed:
            raise ClientDisconnected

    async def _send_piece(self, socket_fd: int, fd: int) -> None:
        try:
            sent = os.sendfile(socket_fd, fd, None, min(self._file_left, FILE_PIECE))
        except BlockingIOError:
            self.pause_writing()
            self.service.loop.add_writer(socket_fd, self.resume_writing)
            try:
                await self.writable()
            finally:
                self.service.loop.remove_writer(socket_fd)
            return
        except ConnectionError:
            self.cut()
            return
        if not sent:
            raise ResponseError("file became shorter while it was sent")
        self._file_left -= sent
        await asyncio.sleep(0)  # a fast peer must not hold the loop

    async def writable(self) -> None:
        """Wait until the peer has read enough for more to be sent, or has gone."""
        while self.blocked and not self.closed:
            writer = self.service.loop.create_future()
            self._writers.append(writer)
            await writer
