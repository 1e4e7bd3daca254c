"""HTTP/2 over one socket: the shell around the core, which owns many streams (RFC 9113).

A peer that does not take what is sent (`http2_sender`) is read on, because it may be about to do so and have a body to
send first; but not when much waits for it, so that answers to what it sends cannot pile up.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Final, cast

from serverd.asgi.scope import Peer
from serverd.connection.base import (
    DRAIN_IDLE_TIMEOUT,
    NEVER,
    WAIT_HEAD,
    WAIT_LINGER,
    WAIT_NOTHING,
    WAIT_REQUEST,
    Connection,
    Wait,
)
from serverd.connection.http2_sender import Http2Sender
from serverd.connection.http2_stream import RequestStream
from serverd.connection.http2_tunnel import Tunnel
from serverd.connection.refusing import refuse
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.observe.counters import HTTP2
from serverd.protocol.http2 import ConnectionFault, Http2Stream
from serverd.protocol.http2_states import LOCAL_ENDED, StreamState
from serverd.protocol.partial_head import NOTHING_READ_HTTP2

__all__ = ["Http2Connection"]

log = logging.getLogger("serverd.connection")

# Seconds of work on what a peer sends after which others have their turn, and the most bytes of it between two looks at
# the clock; the core asks for one sooner where bytes are costly. uvloop reads 256 KiB at a time, and goes on in the
# same turn as long as there is as much: of header blocks that is more than a second. Each end of a piece may copy the
# part of a frame.
TURN = 0.01
PIECE: Final = 64 * 1024
_TICK: Final = 1.0  # s; what the core counts in


class Http2Connection(Http2Sender):
    """One HTTP/2 connection; also the StreamSource of its core."""

    __slots__ = ("_amid_since", "_begun", "_ends", "_eof", "_rest", "_spent", "_ticked", "host")

    def __init__(self, service: Service, peer: Peer | None = None, trusted: bool | None = None) -> None:
        """Prepare; `peer` and `trusted` are known before, or None, as for every `Connection`."""
        super().__init__(service, peer, trusted, self)
        self.host: str | None = None  # of the first request
        self._eof = False  # the peer has said that it sends nothing more
        self._ends = False  # it has said so, and what came before has not been looked at
        self._spent = 0.0  # seconds of work on what it sends, since others had their turn
        self._rest = b""  # of what it has sent, what waits for our turn
        self._ticked = 0.0  # loop's time of the core's last tick
        self._begun = 0  # which frame has come in part, as the core counts them
        self._amid_since = NEVER  # loop's time of its beginning

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.service.begin_to_speak(self, HTTP2)  # both sides have agreed
        self.flush_soon()

    def take_over(self, predecessor: Connection, data: bytes) -> None:
        """Take the place of a connection whose first bytes, `data`, are an HTTP/2 client's."""
        self._take_over(predecessor)
        self.service.begin_to_speak(self, HTTP2)
        self.origins = predecessor.origins
        self.deadline, self._wait = predecessor.deadline, WAIT_HEAD
        self.flush_soon()
        if self.service.draining:
            self.drain()  # the predecessor knew of no way to say so
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._rest:
            self._rest += data  # a transport may go on, although it was told to pause
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Look at what the peer has sent, as long as it is our turn and answers can leave."""
        core = self.core
        size = len(data)
        position = 0
        self._receives = True
        try:
            while position < size and self._spent < TURN and not self.is_full:
                began = perf_counter()
                if not position and size <= PIECE:
                    position = size - core.feed(data)
                else:
                    piece = data[position : position + PIECE]
                    position += len(piece) - core.feed(piece)
                self._spent += perf_counter() - began
        except ConnectionFault as error:
            log.debug("ended a connection of %s: %s", self.peer, error.reason)
            self._leave()
            return
        finally:
            self._receives = False
        self._rest = data[position:]
        if core.is_waiting or not core.streams:  # the last of which the peer may have ended
            self.flush_soon()
        if not core.is_amid:
            self._amid_since = NEVER
        elif core.begun != self._begun or self._amid_since == NEVER:
            self._begun = core.begun
            self._amid_since = self.service.loop.time()
        if self.is_full:
            self._pause_reading()
        elif self._spent >= TURN:
            self._pause_reading()
            self.service.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Take more of the peer: others have had their turn, or answers can leave again."""
        self._spent = 0.0
        rest, self._rest = self._rest, b""
        if rest and not self.closed:
            self._receive(rest)
        if self._rest or self._spent >= TURN or self.is_full:
            return
        self._resume_reading()
        if self._ends:
            self._ends = False
            self.eof_received()

    def eof_received(self) -> bool:
        """Take the peer's half-close; return True to go on writing."""
        if self._rest and not self.closed:
            self._ends = True
            return True
        self._eof = True
        if self.closed:
            return False
        for stream in self._streams():
            stream.receive_eof()
        self.flush_soon()  # the connection ends with the last response
        return True

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.core.lose()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._reading:
            self._read_on()
            if self._amid_since != NEVER:
                self._amid_since = self.service.loop.time()  # it could not go on
        self.flush_soon()
        for stream in self._streams():
            stream.resume_writing()

    # Called by the worker.

    @property
    def idle(self) -> bool:
        """True while no stream is open."""
        return not self.core.streams

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self.closed:
            return
        if self._amid_since != NEVER and self._reading and now - self._amid_since >= self._frame_timeout():
            self._give_up()
            return
        if now - self._ticked < _TICK:
            return
        self._ticked = now
        self.core.tick()
        for stream in self._streams():
            stream.sweep(now)
        if self.core.is_waiting or self.core.is_finished:
            self._flush()

    def drain(self) -> None:
        """Invite no further request: GOAWAY in two steps, of which the core takes care (RFC 9113 §6.8)."""
        if not self.closed:
            self.core.drain()
            self.flush_soon()

    # For the core.

    def make_stream(self, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> Http2Stream:
        """Return a stream that begins like this."""
        kind = Tunnel if is_tunnel else RequestStream
        return kind(self, stream_id, state, send_window, is_tunnel)

    # For the streams.

    def check_host(self, host: str | None) -> None:
        """Refuse a request for another host than the connection began with, if the certificate is not for that host.

        Clients use one for every host that the certificate is for (RFC 9113 §9.1.1), and some for more. A trusted proxy
        uses one for whatever it passes on, and its certificate is between the two of us. Raises PeerError 421.
        """
        if self.host is None:
            self.host = host
        elif host is None or self.peer.tls is None or self.origins.is_trusted:
            return
        elif not self.peer.is_called(host):
            raise PeerError(421, "the certificate of this connection is not for this host")

    def body_deadline(self) -> float:
        """Return the loop's time until which more of a body has to come that is waited for."""
        return self.service.loop.time() + self.service.limits.body_timeout

    @property
    def reads(self) -> bool:
        """Whether what the peer sends can arrive."""
        return self._reading

    def _streams(self) -> list[RequestStream]:
        return cast("list[RequestStream]", list(self.core.streams.values()))  # as `make_stream` has made them

    # The end.

    def _on_sent(self) -> None:
        if self.core.is_finished or (self._eof and self._is_answered):
            self._end(linger=not self._eof)
        else:
            self._watch()

    @property
    def _is_answered(self) -> bool:
        """Whether every request has its whole response; the rest of a body may be on its way."""
        return all(stream.state is LOCAL_ENDED for stream in self.core.streams.values())

    def _watch(self) -> None:
        """Set the deadline for the next request where none is open."""
        core = self.core
        if not core.is_greeted:
            return  # one deadline from accept to the end of the first SETTINGS
        if core.streams:
            if self._wait is not WAIT_NOTHING:
                self.await_nothing()
        elif self._wait is not WAIT_REQUEST:
            timeout = DRAIN_IDLE_TIMEOUT if core.is_draining else self.service.limits.keep_alive_timeout
            self._await(WAIT_REQUEST, timeout)

    def _frame_timeout(self) -> float:
        """Return how many seconds the frame may take that has come in part: as long as what it is a part of."""
        limits = self.service.limits
        return limits.body_timeout if self.core.is_amid_body else limits.header_timeout

    def _on_deadline(self, wait: Wait) -> None:
        if wait is WAIT_LINGER:
            super()._on_deadline(wait)
        elif wait is WAIT_HEAD or not self.core.is_amid:  # the request that has begun to arrive has its own time
            self._give_up()

    def _give_up(self) -> None:
        self.core.close()  # RFC 9113 §6.8: the peer is told which streams were looked at
        self._leave()

    def _leave(self) -> None:
        """End the connection behind the GOAWAY that the core has ready."""
        if not self.closed:
            self._write()
            self._end(linger=not self._eof)

    def _turn_away(self) -> None:
        self.core.close(reason="too many connections")
        self._leave()
        # Observers know it as what it would be in HTTP/1.
        error = PeerError(503, "too many connections", NOTHING_READ_HTTP2)
        refuse(error, self.peer, self.origins, self.service)
