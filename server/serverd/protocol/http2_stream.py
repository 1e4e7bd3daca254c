"""One stream of an HTTP/2 connection as the core keeps it: state, windows, and what waits in either direction.

`http2_receiver` and `http2_registry` change it, `http2_intake` what is of the request, `http2_output` what is of the
response. What they have to tell of it they tell itself: the connection above makes the streams, of a class of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from serverd.errors import PeerError
from serverd.protocol.head import Fields, RequestHead
from serverd.protocol.http2_states import LOCAL_ENDED, StreamState
from serverd.protocol.http2_windows import ReceiveWindow

__all__ = ["Backlog", "Http2Stream", "StreamSource"]


class Backlog:
    """What waits of a response: for a window of the peer's, or for the turn of its stream (`http2_output`)."""

    __slots__ = ("_offset", "_queue", "blocks", "has_end", "in_round", "made_progress", "size", "stalled", "trailers")

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()  # DATA
        self._offset = 0  # of the first piece, what was sent
        self.size = 0  # bytes of DATA
        self.has_end = False  # it has all of the body
        self.trailers: Fields | None = None  # to be sent behind it
        self.in_round = False  # its stream is in the round of `http2_output`
        self.blocks = False  # it is more than should wait
        self.made_progress = False  # some of it was sent since the last tick
        self.stalled = 0  # seconds that it has waited for the peer's window

    def add(self, data: bytes) -> None:
        """Put a part of the body behind what waits."""
        self._queue.append(data)
        self.size += len(data)

    def cut(self, size: int) -> bytes:
        """Take off the first `size` bytes; there are as many."""
        queue = self._queue
        parts: list[bytes] = []
        left = size
        while left:
            piece = queue[0]
            offset = self._offset
            rest = len(piece) - offset
            if rest > left:
                parts.append(piece[offset : offset + left])
                self._offset = offset + left
                break
            parts.append(piece[offset:] if offset else piece)
            self._offset = 0
            queue.popleft()
            left -= rest
        self.size -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Http2Stream:
    """One stream: the half of it that the core needs. What the other is told it may answer at once."""

    __slots__ = (
        "backlog",
        "expected",
        "held",
        "id",
        "is_refused",
        "is_tunnel",
        "linger",
        "pieces",
        "received",
        "send_window",
        "state",
        "window",
    )

    def __init__(self, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> None:
        self.id = stream_id
        self.state = state
        self.is_tunnel = is_tunnel  # an extended CONNECT: its two halves end on their own (RFC 8441 §5)
        self.is_refused = False  # answered without its application: what comes of the request is thrown away

        # The request body; without one there is no window.
        self.window: ReceiveWindow | None = None
        self.expected = -1  # bytes until the announced Content-Length; -1: not announced
        self.received = 0  # bytes of body
        self.pieces = 0  # parts of the body that were given to the application since it last read
        self.held: bytearray | None = None  # what follows them
        self.linger = 0  # seconds that the rest of the request may take after the response

        # The response.
        self.send_window = send_window  # bytes that the peer allows; less than 0 after SETTINGS that made it smaller
        self.backlog: Backlog | None = None  # what waits of it

    @property
    def overflows(self) -> bool:
        """Whether more waits than should."""
        return self.backlog is not None and self.backlog.blocks

    @property
    def is_unread(self) -> bool:
        """Whether what comes of the request is thrown away: its response is complete, though it may not have left."""
        has_end = self.state is LOCAL_ENDED or (self.backlog is not None and self.backlog.has_end)
        return self.is_refused or (has_end and not self.is_tunnel)

    # Called by the core.

    def on_request(self, head: RequestHead, end: bool) -> None:
        """The request has begun; `end` says that it has no body. A `TunnelHead` is an extended CONNECT."""
        raise NotImplementedError

    def on_refused(self, error: PeerError) -> None:
        """The request, or its body, is to be answered with the status of `error` and not by its application."""
        raise NotImplementedError

    def on_body(self, data: bytes, end: bool) -> None:
        """A part of the body; it is empty only at the `end`."""
        raise NotImplementedError

    def on_reset(self) -> None:
        """The stream has ended early and takes nothing more; only of one that was told of its request."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """The stream `overflows` no more."""
        raise NotImplementedError


class StreamSource(Protocol):
    """Who makes the streams of a connection."""

    def make_stream(self, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> Http2Stream:
        """Return a stream that begins like this."""
