"""What the peer may still send: the receive windows of streams and connection (RFC 9113 §5.2, §6.9).

A window is given back as the application reads, so that one that does not read holds its own stream, and only that:
the window of the connection is as large as those of all its streams together, and some more for what was read and not
yet given back. So it never stops anybody, and is what bounds the memory of a connection.

A stream whose application reads fast gets a larger window: when twice its window was read within a second, it is
doubled, as long as `Growth` has something left, which all streams of a connection share.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.http2_frames import ConnectionFault, ErrorCode, StreamFault

__all__ = ["ConnectionWindow", "Growth", "ReceiveWindow"]

# The window of a stream is given back by halves, as in nghttp2: by less would be more frames, by more would make the
# peer wait. That of the connection, which nobody waits for, in parts of this many bytes.
_SHARE: Final = 2
_SLACK: Final = 256 * 1024


class ConnectionWindow:
    """The receive window of a connection."""

    __slots__ = ("_left", "_owed", "size")

    def __init__(self, size: int) -> None:
        """Begin with room for `size` bytes that nobody has read."""
        self.size = size + _SLACK
        self._left = self.size  # bytes that the peer may send
        self._owed = 0  # bytes that were read and not given back yet

    def receive(self, count: int) -> None:
        """Take note of DATA of `count` bytes, padding included; raises ConnectionFault."""
        self._left -= count
        if self._left < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window of the connection")

    def release(self, count: int) -> int:
        """Take note that `count` bytes need no memory any more; return by how much to open the window now."""
        self._owed += count
        if self._owed < _SLACK:
            return 0
        increment = self._owed
        self._owed = 0
        self._left += increment
        return increment


class Growth:
    """By how much the windows of the streams of a connection may still grow."""

    __slots__ = ("largest", "left")

    def __init__(self, largest: int, total: int) -> None:
        self.largest = largest  # that one window may be
        self.left = total


class ReceiveWindow:
    """The receive window of one stream."""

    __slots__ = ("_growth", "_initial", "_owed", "_read", "_size", "left", "unread")

    def __init__(self, size: int, growth: Growth) -> None:
        self._initial = size
        self._size = size
        self._growth = growth
        self.left = size  # bytes that the peer may send; less than 0 after SETTINGS that made it smaller
        self.unread = 0  # bytes that have come and were not read
        self._owed = 0
        self._read = 0  # bytes since the last tick

    def receive(self, count: int) -> None:
        """Take note of DATA of `count` bytes, padding included; raises StreamFault."""
        if count > self.left:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window of the stream")
        self.left -= count
        self.unread += count

    def release(self, count: int) -> int:
        """Take note that `count` bytes were read; return by how much to open the window now."""
        self.unread -= count
        self._owed += count
        self._read += count
        if self._owed * _SHARE < self._size:
            return 0
        increment = self._owed
        growth = self._growth
        if self._read >= 2 * self._size and self._size * 2 <= growth.largest and self._size <= growth.left:
            growth.left -= self._size
            increment += self._size
            self._size *= 2
            self._read = 0
        self._owed = 0
        self.left += increment
        return increment

    def resize(self, difference: int) -> None:
        """Follow SETTINGS_INITIAL_WINDOW_SIZE of ours, which the peer has acknowledged (RFC 9113 §6.9.2)."""
        self._initial += difference
        self._size += difference
        self.left += difference

    def tick(self) -> None:
        """Take note that a second has passed."""
        self._read = 0

    def close(self) -> int:
        """Give back what the stream had beyond others; return the bytes that nobody will read."""
        self._growth.left += self._size - self._initial
        unread = self.unread
        self.unread = 0
        return unread
