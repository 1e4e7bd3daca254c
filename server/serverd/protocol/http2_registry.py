"""Which streams of a connection are open, how each ends, and what is remembered of those that did (RFC 9113 §5.1).

A stream that was reset while its application works still takes its place until the application is done: otherwise a
client that opens and resets would have any number of them at work (CVE-2023-44487).
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.http2_frames import ConnectionFault, ErrorCode, encode_reset
from serverd.protocol.http2_intake import Intake
from serverd.protocol.http2_output import Output
from serverd.protocol.http2_states import ENDED, IDLE, RECEIVE_END, RESET, SEND_END, StreamState
from serverd.protocol.http2_stream import Http2Stream

__all__ = ["StreamRegistry"]

# What is on the way to us when the response ends may still come, for as long as after the end of a connection of HTTP/1
# (`connection.base`, LINGER_TIMEOUT): two seconds, beside the one that has begun.
LINGER: Final = 3

# Hot path: an index that is a plain number; benchmarks/ "HTTP/2".
_SEND_END: Final = int(SEND_END)

# Gaps between identifiers that are remembered. nghttp leaves one, for streams that only hold priorities; others none.
_GAPS_KEPT: Final = 16


class StreamRegistry:
    """The streams of one connection."""

    __slots__ = ("_gone", "_intake", "_most", "_output", "_passed", "held", "last_id", "open")

    def __init__(self, intake: Intake, output: Output, most: int) -> None:
        """Begin without streams; at most so many are open at a time."""
        self._intake = intake
        self._output = output
        self._most = most
        self.open: dict[int, Http2Stream] = {}
        self.held: dict[int, Http2Stream] = {}  # were reset, and their applications are not done
        self.last_id = 0  # the largest that the peer has used
        # How the last ones were closed that did not end. As many as may be open: of those that the peer has not yet
        # heard to be reset, and so believes open, there are no more, and it hears of them in order.
        self._gone: dict[int, StreamState] = {}
        self._passed: list[tuple[int, int]] = []  # identifiers between which the peer has passed over others

    def advance(self, stream_id: int) -> bool:
        """Take note of the identifier of a new stream, which closes those passed over (RFC 9113 §5.1.1).

        Return whether there is room for the stream (RFC 9113 §5.1.2).
        """
        if stream_id > self.last_id + 2:
            self._passed = [*self._passed[1 - _GAPS_KEPT :], (self.last_id, stream_id)]
        self.last_id = stream_id
        return len(self.open) + len(self.held) < self._most

    def check_known(self, stream_id: int) -> None:
        """Check that HEADERS which open no stream are for one that was open; raises ConnectionFault."""
        if not stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream identifier of a client is even")
        for before, behind in self._passed:
            if before < stream_id < behind:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream identifier is less than one before")

    def late_state(self, stream_id: int) -> StreamState:
        """Return the state of a stream that is not open; one reset long ago, or passed over, counts as ended."""
        if stream_id > self.last_id or not stream_id % 2:
            return IDLE
        return self._gone.get(stream_id, ENDED)

    def bury(self, stream_id: int, state: StreamState) -> None:
        """Remember how a stream was closed that did not end."""
        gone = self._gone
        gone[stream_id] = state
        if len(gone) > self._most:
            del gone[next(iter(gone))]

    def end_request(self, stream: Http2Stream) -> None:
        """Take note of the peer's END_STREAM."""
        state = stream.state.after[RECEIVE_END]
        assert state is not None  # the frame that carried it was allowed
        stream.state = state
        if state is ENDED:
            self._end(stream)

    def end_response(self, stream: Http2Stream) -> None:
        """Take note of our END_STREAM.

        A peer that has not sent all of its request is asked to stop (RFC 9113 §8.1), but not at once: some clients take
        even a reset without an error for one, or send the whole body before they look at the response.
        """
        state = stream.state.after[_SEND_END]
        if state is None:
            return  # it was reset by what was told of it
        stream.state = state
        if state is ENDED:
            # Hot path: `_end` without a call for it; benchmarks/ "HTTP/2".
            del self.open[stream.id]
            if stream.window is not None:
                self._intake.close(stream)
        elif not stream.is_tunnel:
            stream.linger = LINGER

    def _end(self, stream: Http2Stream) -> None:
        """Forget a stream of which both ends have sent all."""
        del self.open[stream.id]
        if stream.window is not None:
            self._intake.close(stream)

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Give a stream up of which the application is done or was never told."""
        if stream.id in self.open:
            self._output.add(encode_reset(stream.id, code))
            self._leave(stream, RESET)

    def reset_early(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Give a stream up, and tell its application."""
        self._output.add(encode_reset(stream.id, code))
        self.lose(stream, RESET)

    def lose(self, stream: Http2Stream, state: StreamState) -> None:
        """Close a stream before its time, and tell its application, whose place is not free before it is done."""
        if stream.linger:
            self._leave(stream, state)  # the application is done
            return
        self._output.drop(stream)
        stream.state = state
        del self.open[stream.id]
        self.bury(stream.id, state)
        self.held[stream.id] = stream
        stream.on_reset()

    def release(self, stream: Http2Stream) -> None:
        """Free the place of a stream that was closed before its time."""
        if self.held.pop(stream.id, None) is not None:
            self._intake.close(stream)

    def _leave(self, stream: Http2Stream, state: StreamState) -> None:
        """Forget a stream that has not ended, and of which nobody is told anything more."""
        if stream.backlog is not None:
            self._output.drop(stream)
        stream.state = state
        self.bury(stream.id, state)
        self._end(stream)
