"""What arrives: the bodies of requests, counted against their windows and handed on (RFC 9113 §6.1, §6.9, §8.1.1).

The other direction is `http2_output`. A window is opened again only by `consume`, or for what nobody will read.
"""

from __future__ import annotations

from typing import Final

from serverd.errors import PeerError
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_frames import ErrorCode, StreamFault, encode_window_update
from serverd.protocol.http2_output import Output
from serverd.protocol.http2_settings import DEFAULT_WINDOW
from serverd.protocol.http2_states import LOCAL_ENDED, OPEN
from serverd.protocol.http2_stream import Http2Stream
from serverd.protocol.http2_windows import ConnectionWindow, Growth, ReceiveWindow

__all__ = ["Intake"]

# Parts of a body that an application gets before it has read one: what comes then is joined. A window of 64 KiB could
# be 65,536 parts of a byte each, and take fifty times the memory.
_PIECES: Final = 64


class Intake:
    """The receiving side of one connection."""

    __slots__ = ("_bounds", "_growth", "_initial_window", "_output", "_window", "due")

    def __init__(self, output: Output, bounds: Http2Bounds) -> None:
        self._output = output
        self._bounds = bounds
        self._initial_window = DEFAULT_WINDOW  # of a stream, until the peer has acknowledged ours
        self._growth = Growth(bounds.largest_window, bounds.window_growth)
        largest = max(bounds.initial_window, DEFAULT_WINDOW) * bounds.concurrent_streams + bounds.window_growth
        self._window = ConnectionWindow(largest)
        self.due: list[Http2Stream] = []  # for `deliver_held`: streams whose application has read, and more is held

    def open_connection(self) -> None:
        """Tell the peer of the window of the connection, which begins with less."""
        self._output.add(encode_window_update(0, self._window.size - DEFAULT_WINDOW))

    def admit(self, stream: Http2Stream, length: int) -> None:
        """Prepare for a body of `length` bytes; less than 0: not announced."""
        stream.window = ReceiveWindow(self._initial_window, self._growth)
        stream.expected = length

    def adopt_initial_window(self, streams: list[Http2Stream]) -> None:
        """Go over to our SETTINGS_INITIAL_WINDOW_SIZE, which the peer has acknowledged (RFC 9113 §6.9.2)."""
        difference = self._bounds.initial_window - self._initial_window
        self._initial_window += difference
        if difference:
            for stream in streams:
                if stream.window is not None:
                    stream.window.resize(difference)

    def count(self, size: int) -> None:
        """Take note of a DATA frame of `size` bytes on whatever stream; raises ConnectionFault."""
        self._window.receive(size)

    def discard(self, size: int) -> None:
        """Give back what `count` has noted and nobody will read."""
        increment = self._window.release(size)
        if increment:
            self._output.add(encode_window_update(0, increment))

    def receive(self, stream: Http2Stream, data: bytes, size: int, end: bool) -> None:
        """Take a part of a body that takes `size` bytes of the window.

        Raises StreamFault, or PeerError 413.
        """
        window = stream.window
        assert window is not None  # only a stream without a body has none, and its state takes no DATA
        try:
            window.receive(size)
        except StreamFault:
            self.discard(size)
            raise
        count = len(data)
        if stream.expected >= 0:
            stream.expected -= count
            if stream.expected < 0 or (end and stream.expected):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "body is not as long as its Content-Length")
        if stream.is_unread:
            self.consume(stream, size)  # nobody will read it
            return
        if size > count:
            self.consume(stream, size - count)
        stream.received += count
        most = self._bounds.body_size
        if most and stream.received > most and not stream.is_tunnel:
            raise PeerError(413, "body larger than limits.body_size")
        if data or end:
            self._deliver(stream, data, end)

    def finish(self, stream: Http2Stream) -> None:
        """Take the end of a body that ends with trailers; raises StreamFault."""
        if stream.expected > 0:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "body is shorter than its Content-Length")
        if stream.is_unread:
            return
        self._deliver(stream, b"", True)

    def _deliver(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        if stream.pieces < _PIECES:
            stream.pieces += 1
            stream.on_body(data, end)
            return
        if stream.held is None:
            stream.held = bytearray()
        stream.held += data
        if end:
            data = bytes(stream.held)
            stream.held = None
            stream.on_body(data, True)

    def consume(self, stream: Http2Stream, count: int) -> None:
        """Take note that the application has read `count` bytes of what it was given."""
        window = stream.window
        if window is None:
            return  # the stream is closed, and has given all back
        increment = window.release(count)
        if increment and (stream.state is OPEN or stream.state is LOCAL_ENDED):
            self._output.add(encode_window_update(stream.id, increment))
        self.discard(count)
        held = len(stream.held) if stream.held is not None else 0
        if window.unread == held:
            stream.pieces = 0
            if held:
                self.due.append(stream)

    def deliver_held(self) -> None:
        """Hand on what was held back of bodies whose applications have read all they were given."""
        due = self.due
        self.due = []
        for stream in due:
            held = stream.held
            if held is not None:
                stream.held = None
                stream.pieces = 1
                stream.on_body(bytes(held), False)

    def close(self, stream: Http2Stream) -> None:
        """Give back what a stream holds of the windows."""
        window = stream.window
        stream.held = None
        if window is not None:
            stream.window = None
            self.discard(window.close())
