"""The end of a connection in two steps (RFC 9113 §6.8), so that no request that is on its way is lost.

The first GOAWAY allows every stream and asks for no further ones. A PING behind it comes back when the peer has read
both: then the second GOAWAY says which stream was the last.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.http2_frames import LARGEST_ID, ErrorCode, FrameType, encode_frame, encode_goaway
from serverd.protocol.http2_output import Output
from serverd.protocol.http2_registry import StreamRegistry

__all__ = ["Drain"]

# Seconds that the peer has to answer the PING, beside the one that has begun. Go waits one, without a PING.
_PATIENCE: Final = 2
_PING: Final = b"draining"


class Drain:
    """What was said to the peer about the end of the connection."""

    __slots__ = ("_left", "_output", "_streams", "has_begun", "is_final")

    def __init__(self, output: Output, streams: StreamRegistry) -> None:
        self._output = output
        self._streams = streams
        self._left = 0  # seconds until the second GOAWAY is sent without an answer
        self.has_begun = False
        self.is_final = False  # a GOAWAY has said which stream is the last

    def begin(self) -> None:
        """Send the first GOAWAY."""
        if not self.has_begun:
            self.has_begun = True
            self._left = _PATIENCE
            self._output.add(encode_goaway(LARGEST_ID, ErrorCode.NO_ERROR))
            self._output.add(encode_frame(FrameType.PING, 0, 0, _PING))

    def on_pong(self, data: bytes) -> None:
        """Take the answer to a PING."""
        if data == _PING and self.has_begun and not self.is_final:
            self.finish(ErrorCode.NO_ERROR, "")

    def tick(self) -> None:
        """Take note that a second has passed."""
        if self._left:
            self._left -= 1
            if not self._left and not self.is_final:
                self.finish(ErrorCode.NO_ERROR, "")

    def finish(self, code: ErrorCode, reason: str) -> None:
        """Send the last GOAWAY."""
        self.has_begun = True
        self.is_final = True
        self._output.add(encode_goaway(self._streams.last_id, code, reason))
