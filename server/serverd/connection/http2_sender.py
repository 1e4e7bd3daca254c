"""What an HTTP/2 connection sends: when the frames that the core hands out leave (RFC 9113 §4, §5.2).

What the applications send in one turn of the event loop leaves in one write, in the next; what the only stream that is
open sends, and not in a burst, at once. `http2` builds on this and says what is done when all of it has left.
"""

from __future__ import annotations

from typing import Final

from serverd.asgi.scope import Peer
from serverd.connection.base import Connection
from serverd.connection.burst import Burst
from serverd.connection.service import Service
from serverd.protocol.http2 import Http2Core, StreamSource

__all__ = ["Http2Sender"]

# Bytes of frames that wait for a peer that does not read, above which it is not read either, and applications wait: as
# many as the transport takes before it says so (WRITE_HIGH_WATER in `base`). DATA that each stream keeps for itself is
# not among them, so that a download that fills the transport again and again does not keep others from their turn.
UNSENT_LIMIT: Final = 64 * 1024


class Http2Sender(Connection):
    """The side of an HTTP/2 connection that writes what its core has to say."""

    __slots__ = ("_burst", "_flushes", "_receives", "core", "gathers")

    def __init__(self, service: Service, peer: Peer | None, trusted: bool | None, source: StreamSource) -> None:
        """Prepare; `peer` and `trusted` as for every `Connection`, `source` makes the streams of the core."""
        super().__init__(service, peer, trusted)
        self.core = Http2Core(source, service.http2_bounds, service.defaults)
        self._flushes = False  # what there is to send is sent in the next turn
        self.gathers = False  # of it, what streams have sent: what others add leaves with it
        self._burst = Burst()  # of what the only stream sends
        self._receives = False  # the core is amid what the peer has sent

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the peer that nobody should add to it."""
        return self.blocked and self.core.unsent > UNSENT_LIMIT

    def flush(self, own: int) -> None:
        """Send what a stream has added, which is `own` of those that are open: 1, or 0 when it has ended.

        At once if no other is open; but what comes in a burst, or beside others, with what else there will be.
        """
        # An application that computes after its response, and awaits nothing, must not keep it from its client.
        if self.gathers:
            return
        if self._receives or len(self.core.streams) > own or self._burst.goes_on():
            self.gathers = True
            self.flush_soon()
        else:
            self._flush()

    def flush_soon(self) -> None:
        """Send what there is in the next turn of the event loop, together with what else will be there by then."""
        if not self._flushes:
            self._flushes = True
            self.service.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = self.gathers = False
        if self.closed:
            return
        self._write()
        if not self.core.is_waiting:  # for the peer to read
            self._on_sent()

    def _on_sent(self) -> None:
        """Go on when all that there was to send has left."""
        raise NotImplementedError

    def _write(self) -> None:
        core = self.core
        while core.is_waiting and not self.blocked:
            pieces = core.take()
            if len(pieces) == 1:
                self._transport.write(pieces[0])
            elif pieces:
                self._transport.writelines(pieces)
