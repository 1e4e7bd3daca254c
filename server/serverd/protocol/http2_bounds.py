"""What a peer may make an HTTP/2 connection hold or do, and who counts it.

`Http2Bounds` are the values, `Patience` counts the frames that cost a client nothing and the server something. There is
no clock here: `tick` is called once a second by whoever has one, and what is counted is counted per second.
"""

from __future__ import annotations

from typing import NamedTuple

from serverd.protocol.hpack import DEFAULT_TABLE_SIZE
from serverd.protocol.http2_frames import DEFAULT_FRAME_SIZE, ConnectionFault, ErrorCode

__all__ = ["Http2Bounds", "Patience"]


class Http2Bounds(NamedTuple):
    """Limits on one connection: in bytes, fields, frames, streams, or seconds; 0 for `body_size` is unlimited.

    A connection makes the application keep at most ``concurrent_streams * initial_window + window_growth`` bytes.
    """

    # At a time, those included that were reset and whose applications still work. nginx 128, Apache and hypercorn 100,
    # Go 250; RFC 9113 §6.5.2 recommends no less than 100.
    concurrent_streams: int = 128
    # What the peer may send on a stream before the application has read it: as much as HTTP/1 keeps (asgi.exchange),
    # and what RFC 9113 §6.9.2 begins with. nginx 64 KiB, Apache 65,535, Go 1 MiB.
    initial_window: int = 65_535
    # What the window of a stream grows to whose application reads fast: Go's 1 MiB.
    largest_window: int = 1024 * 1024
    # By how much the windows of all streams of a connection may have grown together; see `http2_windows`.
    window_growth: int = 4 * 1024 * 1024
    # RFC 9113 §4.2: the smallest that is allowed, and everybody's default.
    max_frame_size: int = DEFAULT_FRAME_SIZE
    header_list_size: int = 64 * 1024  # limits.header_size, counted as RFC 9113 §6.5.2 does; Go 1 MiB, nghttp2 64 KiB
    header_count: int = 100  # limits.header_count, pseudo-fields and repeated Cookie fields aside
    request_line: int = 8 * 1024  # limits.request_line, counted as if the request were one of HTTP/1.1
    ambiguous_names: str = "drop"  # field names with "_" or ".": drop | pass | refuse
    body_size: int = 0  # limits.body_size
    # The dynamic table that the peer may make us keep: what both begin with (RFC 9113 §6.5.2).
    table_size: int = DEFAULT_TABLE_SIZE
    # CONTINUATION frames of one header block: nghttp2's default since CVE-2024-28182.
    continuations: int = 8
    # Entries of one SETTINGS frame: nghttp2's default since CVE-2020-11080.
    settings: int = 32
    # Streams that may be reset, by the peer or for its errors, at once and then each second (CVE-2023-44487,
    # CVE-2025-8671): Envoy looks at the first 500 streams, nghttp2 regains 33 a second. A browser that leaves a page
    # cancels what it has open, so some times `concurrent_streams` have to be allowed.
    resets: int = 500
    resets_regained: int = 33
    # Frames a second that carry nothing or only ask for an answer, and answers that were not taken (CVE-2019-9511 to
    # 9518): nghttp2 and Envoy keep at most 1,000 answers unsent, Go 10,000. As many DATA frames may be made tiny by the
    # peer's windows, beyond those that are not: a small window for many streams has a remainder.
    idle_frames: int = 1000
    # WINDOW_UPDATE frames for each DATA frame that was sent, beyond `idle_frames`: Envoy's default.
    window_updates: int = 10
    # Seconds in which a peer whose window is used up has to open it again: limits.send_timeout.
    send_timeout: int = 30


class Patience:
    """Counts what a peer does for nothing, and ends the connection when it is too much (RFC 9113 §10.5)."""

    __slots__ = ("_bounds", "_data_frames", "_dribbles", "_idle_frames", "_resets", "_window_updates")

    def __init__(self, bounds: Http2Bounds) -> None:
        self._bounds = bounds
        self._resets = 0
        self._dribbles = 0
        self._idle_frames = 0
        self._window_updates = 0
        self._data_frames = 0  # those for which window updates have been allowed

    def tick(self, data_frames: int) -> None:
        """Take note that a second has passed, until which so many DATA frames were sent on the connection."""
        self._resets = max(0, self._resets - self._bounds.resets_regained)
        self._dribbles = 0
        self._idle_frames = 0
        self._window_updates = 0
        self._data_frames = data_frames

    def count_reset(self) -> None:
        """Count a stream that ended without its response; raises ConnectionFault."""
        self._resets += 1
        if self._resets > self._bounds.resets:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")

    def count_idle_frame(self) -> None:
        """Count a frame that did nothing, or a ping; raises ConnectionFault."""
        self._idle_frames += 1
        if self._idle_frames > self._bounds.idle_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def count_window_update(self, data_frames: int) -> None:
        """Count a WINDOW_UPDATE, until which so many DATA frames were sent on the connection; raises ConnectionFault.

        For each of them the peer may open its windows again; DATA may be the answer to it that is counted.
        """
        self._window_updates += 1 - (data_frames - self._data_frames) * self._bounds.window_updates
        self._data_frames = data_frames
        if max(self._window_updates, self._dribbles) > self._bounds.idle_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many WINDOW_UPDATE frames for what was sent")

    def note_dribble(self, is_tiny: bool) -> None:
        """Count a DATA frame that the peer's window made small; it is the WINDOW_UPDATE after it that raises."""
        self._dribbles = self._dribbles + 1 if is_tiny else max(0, self._dribbles - 1)
