"""One stream of an HTTP/2 connection as the core keeps it: state, windows, and what waits in either direction.

`http2_receiver` and `http2_registry` change it, `http2_intake` what is of the request, `http2_output` what is of the
response. The connection above hangs its own half onto `owner`.
"""

from __future__ import annotations

from collections import deque

from serverd.protocol.head import Fields
from serverd.protocol.http2_states import LOCAL_ENDED, StreamState
from serverd.protocol.http2_windows import ReceiveWindow

__all__ = ["Http2Stream"]


class Http2Stream:
    """One stream."""

    __slots__ = (
        "blocked",
        "expected",
        "held",
        "id",
        "is_queued",
        "is_refused",
        "is_tunnel",
        "linger",
        "made_progress",
        "offset",
        "owner",
        "pieces",
        "queue",
        "queue_end",
        "queue_size",
        "received",
        "send_window",
        "stalled",
        "state",
        "trailers",
        "window",
    )

    def __init__(self, stream_id: int, state: StreamState, send_window: int) -> None:
        self.id = stream_id
        self.state = state
        self.owner: object = None  # whatever the connection above wants to find again; not looked at here
        self.is_tunnel = False  # an extended CONNECT: its two halves end on their own (RFC 8441 §5)
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
        self.queue: deque[bytes] | None = None  # DATA that waits
        self.offset = 0  # of the first piece in the queue, what was sent
        self.queue_size = 0
        self.queue_end = False  # the queue has all of the body
        self.trailers: Fields | None = None  # to be sent behind it
        self.is_queued = False  # it is in the round of `http2_output`
        self.blocked = False  # more waits than should
        self.made_progress = False  # something was sent since the last tick
        self.stalled = 0  # seconds that its queue has waited for the peer's window

    @property
    def is_unread(self) -> bool:
        """Whether what comes of the request is thrown away: its response is complete, though it may not have left."""
        return self.is_refused or ((self.queue_end or self.state is LOCAL_ENDED) and not self.is_tunnel)
