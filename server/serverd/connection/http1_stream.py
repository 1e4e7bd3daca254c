"""What an HTTP/1 connection sends: the writing side of the `Stream` of its exchange (RFC 9112 §6, §7).

The head of a response waits for the first bytes of its body and leaves with them. Parts of a body that follow each
other at once leave together, at the end of the turn of the loop, and so do the answers to pipelined requests for as
long as each turn adds one soon after the other. `http1` builds on this and says what follows a response.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Final

from serverd.asgi.scope import Peer
from serverd.connection.base import Connection
from serverd.connection.burst import Burst
from serverd.connection.service import Service
from serverd.protocol.head import Fields
from serverd.protocol.http1_response import ResponseEncoder, encode_informational

__all__ = ["Http1Stream"]

# Above this a body leaves beside its head instead of being copied behind it.
JOIN_LIMIT: Final = 16 * 1024

# Seconds in which one answer to pipelined requests leaves without waiting for those that follow, and takes along those
# that came since the one before. Sixty connections with as much to do have a turn each in a part of it.
ANSWER_GAP = 0.01


class Http1Stream(Connection):
    """The side of an HTTP/1 connection that writes responses, one after the other."""

    __slots__ = (
        "_answered",
        "_burst",
        "_burst_ends",
        "_burst_size",
        "_encoder",
        "_held",
        "_last_answer",
        "_parts",
        "_started",
    )

    def __init__(self, service: Service, peer: Peer | None = None, trusted: bool | None = None) -> None:
        """Prepare; `peer` and `trusted` are what a PROXY header says, None: what the socket says."""
        super().__init__(service, peer, trusted)
        self._encoder = ResponseEncoder(service.defaults)
        self._held: bytes | None = None  # the response head that waits for the first body bytes
        self._started = False  # something of the final response is on the wire, or soon will be
        self._burst: list[bytes] = []  # what leaves together at the end of this turn of the loop
        self._burst_size = 0  # bytes in it, beside what frames the parts of a body
        self._burst_ends = False  # its end has been asked of the loop
        self._answered = False  # a response was added to it in this turn, and another may be in the next
        self._last_answer = 0.0  # when one left by itself before others, on the clock of `perf_counter`
        self._parts = Burst()  # of the body

    def _is_last(self) -> bool:
        """Return whether the connection has to end after the response that begins."""
        raise NotImplementedError

    def _finish_response(self) -> None:
        """Go on after a complete response."""
        raise NotImplementedError

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        raise NotImplementedError

    @property
    def takes_trailers(self) -> bool:
        """Whether the response can carry trailers."""
        return self._encoder.takes_trailers

    def send_informational(self, status: int, headers: Fields) -> None:
        if not self.closed:
            self._write((encode_informational(status, headers),), 0)

    def send_headers(self, status: int, headers: Fields, end: bool) -> None:
        if self.closed:
            return
        if self._is_last():
            self._encoder.keep_alive = False
        head = self._encoder.encode_head(status, headers, end)
        if not end:
            self._held = head
            self._parts.end()
            return
        self._started = True
        self._write_last((head,))

    def send_response(self, status: int, headers: Fields, body: bytes) -> None:
        if self.closed:
            return
        if self._is_last():
            self._encoder.keep_alive = False
        head = self._encoder.encode_head(status, headers, False)
        self._started = True
        # Hot path: head and body leave in one write, with those of others; benchmarks/ "plain GET".
        if not self._reading or self._burst:
            self._write_last((head, body))
            return
        turn = self.service.turn
        if len(body) > JOIN_LIMIT:
            self._transport.writelines((head, body))
        elif self._encoder.keep_alive and turn.goes_on:
            self._burst.append(head + body)
            self._burst_size = len(body)
            turn.hold(self)
        else:
            self._transport.write(head + body)
        self._finish_response()

    def send_body(self, data: bytes, end: bool) -> None:
        if self.closed:
            return
        pieces = self._encoder.encode_body(data, end)
        if self._held is not None:
            pieces = (*self._take_held(), *pieces)
        if end:
            self._write_last(pieces)
        elif self._is_of_burst(len(data)):
            self._burst += pieces
            self._end_burst_soon()
        else:
            self._write(pieces, len(data))

    def send_trailers(self, headers: Fields) -> None:
        if self.closed:
            return
        self._write_last((*self._take_held(), self._encoder.encode_trailers(headers)))

    async def send_file(self, fd: int, count: int) -> None:
        if not self.closed:
            self._write(self._take_held(), 0)
        await self._send_from(fd, count)

    def _take_held(self) -> tuple[bytes, ...]:
        head = self._held
        if head is None:
            return ()
        self._held = None
        self._started = True
        return (head,)

    # What leaves together.

    def _is_of_burst(self, size: int) -> bool:
        """Return whether a part of so many bytes waits for the end of the turn."""
        # Hot path: a system call for each part takes more time than all else; benchmarks/ "50 parts".
        self._burst_size += size
        return self._parts.goes_on() and self._burst_size <= JOIN_LIMIT

    def _leaves_at_once(self, size: int) -> bool:
        """Return whether an answer that ends with so many bytes leaves before the next, with all that waits."""
        # One in each gap does, because what follows may take its time.
        now = perf_counter()
        self._burst_size += size
        if self._burst_size <= JOIN_LIMIT and now - self._last_answer < ANSWER_GAP:
            return False
        self._last_answer = now
        return True

    def _write_last(self, pieces: tuple[bytes, ...]) -> None:
        """Send the last pieces of a response, and go on behind it."""
        size = sum(map(len, pieces))
        if self._reading or self._leaves_at_once(size):
            self._write(pieces, size)
            self._finish_response()
            return
        # Hot path: a system call takes a quarter of the time of a response; benchmarks/ "16 pipelined GETs".
        self._burst += pieces
        self._finish_response()
        if self._is_busy:
            self._answered = True
            self._end_burst_soon()
        else:
            self.send_held()

    def _end_burst_soon(self) -> None:
        if not self._burst_ends:
            self._burst_ends = True
            self.service.loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._burst_ends = False
        if self._answered and self._burst:
            self._answered = False
            self._end_burst_soon()  # behind the turn of the request that has followed
        else:
            self.send_held()

    def send_held(self) -> None:
        """Send what waits for the end of the turn."""
        burst = self._burst
        if burst and not self.closed:
            data = b"".join(burst)
            burst.clear()
            self._burst_size = 0
            self._transport.write(data)

    def _write(self, pieces: Iterable[bytes], size: int) -> None:
        """Send pieces, of about `size` bytes, behind all that waits."""
        if self._burst:
            pieces = (*self._burst, *pieces)
            self._burst = []
        self._burst_size = 0
        if size > JOIN_LIMIT:
            self._transport.writelines(pieces)
        else:
            self._transport.write(b"".join(pieces))

    def _end(self, linger: bool) -> None:
        self.send_held()
        super()._end(linger)

    def _reset(self) -> None:
        self.send_held()
        super()._reset()
