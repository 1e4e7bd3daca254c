"""What leaves: frames in order, and DATA in turns, as far as the peer's windows allow (RFC 9113 §5.2, §6.9).

Frames are collected until `take`, which hands them out for one write. DATA that has to wait stays with its stream; the
streams that could send form a round, in which each sends one frame and goes to the end, so that a large download does
not starve a small answer. A body that fits into the windows while nobody waits goes out without any of that.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from serverd.protocol.head import Fields
from serverd.protocol.hpack_encoder import HpackEncoder
from serverd.protocol.http2_bounds import Patience
from serverd.protocol.http2_frames import (
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    LARGEST_WINDOW,
    ConnectionFault,
    ErrorCode,
    FrameType,
    StreamFault,
    encode_header_block,
)
from serverd.protocol.http2_stream import Backlog, Http2Stream

__all__ = ["Output"]

# Bytes that are handed out at a time, and that a stream may have waiting: one socket buffer's worth, asyncio's default
# for a transport (`connection.base`). A blocked stream goes on when half of them have left.
TAKE_SIZE: Final = 64 * 1024
HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = HIGH_WATER // 2

# A peer has no use for DATA frames of fewer bytes, behind which more waits: its windows are an attack (CVE-2019-9511).
DRIBBLE_SIZE: Final = 64

# Above this frames leave one beside the other instead of being copied together.
JOIN_SIZE: Final = 16 * 1024

# A response head that comes again is kept if its block has no more: idle connections should keep little (`http2_head`).
_HEAD_SIZE: Final = 512

_pack_header = FRAME_HEADER.pack
# The parts of a frame header: what comes before the identifier, and the identifier.
_pack_beginning = Struct(">LB").pack
_pack_id = Struct(">L").pack
_HEADER_SIZE: Final = FRAME_HEADER.size
_HEADERS: Final = int(FrameType.HEADERS)
_DEFAULT_WINDOW: Final = 65_535  # RFC 9113 §6.9.2


class Output:
    """The sending side of one connection."""

    __slots__ = (
        "_before",
        "_between",
        "_block",
        "_body_size",
        "_encoder",
        "_frames",
        "_patience",
        "_round",
        "_ticked_frames",
        "answers",
        "data_frames",
        "ended",
        "frame_size",
        "initial_window",
        "released",
        "size",
        "window",
    )

    def __init__(self, encoder: HpackEncoder, patience: Patience) -> None:
        self._encoder = encoder
        self._patience = patience
        self._frames: list[bytes] = []
        self.size = 0  # of the frames
        # The last response that went out whole: its block and the size of its body, and the frames as far as these
        # tell, before the first identifier and between the two.
        self._block = b""
        self._body_size = 0
        self._before = self._between = b""
        self._round: deque[Http2Stream] = deque()  # those with DATA and a window for it
        self.frame_size = DEFAULT_FRAME_SIZE  # the peer's SETTINGS_MAX_FRAME_SIZE
        self.initial_window = _DEFAULT_WINDOW  # the peer's SETTINGS_INITIAL_WINDOW_SIZE
        self.window = _DEFAULT_WINDOW  # of the connection: bytes that the peer allows
        self.answers = 0  # frames among those to be taken that only answer the peer's control frames
        self.data_frames = 0  # that were sent so far
        self._ticked_frames = 0  # of them those before the last tick
        self.ended: list[Http2Stream] = []  # streams of which `take` has sent the end
        self.released: list[Http2Stream] = []  # streams that are blocked no more

    @property
    def is_waiting(self) -> bool:
        """Whether `take` has something to hand out."""
        return bool(self._frames) or (bool(self._round) and self.window > 0)

    @property
    def made_progress(self) -> bool:
        """Whether DATA was sent since the last tick."""
        return self.data_frames != self._ticked_frames

    def tick(self) -> None:
        """Take note that a second has passed."""
        self._ticked_frames = self.data_frames

    def add(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._frames.append(frame)
        self.size += len(frame)

    def add_answer(self, frame: bytes) -> None:
        """Send a frame that answers a control frame."""
        self._frames.append(frame)
        self.size += len(frame)
        self.answers += 1

    def send_fields(self, stream: Http2Stream, block: bytes, end: bool) -> None:
        """Send a header block."""
        frame = encode_header_block(stream.id, block, end, self.frame_size)
        self._frames.append(frame)
        self.size += len(frame)

    def send_whole(self, stream: Http2Stream, block: bytes, body: bytes) -> bool:
        """Send a header block and the body behind it; return whether the end has gone out."""
        size = len(body)
        if block is not self._block or size != self._body_size:
            if not size or size > DEFAULT_FRAME_SIZE or len(block) > _HEAD_SIZE:
                self.send_fields(stream, block, not size)
                return not size or self.send_data(stream, body, True)
            self._block = block
            self._body_size = size
            self._before = _pack_beginning(len(block) << 8 | _HEADERS, END_HEADERS)
            self._between = block + _pack_beginning(size << 8, END_STREAM)  # DATA is type 0
        if size > stream.send_window or size > self.window or self._round or self.size >= TAKE_SIZE:
            self.send_fields(stream, block, False)
            return self.send_data(stream, body, True)
        # Hot path: both frames of a response that fits, and of one that comes again only what differs; benchmarks/
        # "HTTP/2".
        self.window -= size
        stream.send_window -= size  # while the rest of the request comes, the peer may still open it
        self.data_frames += 1
        self.size += len(block) + size + 2 * _HEADER_SIZE
        number = _pack_id(stream.id)
        self._frames += (self._before, number, self._between, number, body)
        return True

    def send_data(self, stream: Http2Stream, data: bytes, end: bool) -> bool:
        """Send a part of the body; return whether its `end` has gone out."""
        size = len(data)
        backlog = stream.backlog
        if backlog is None:
            # Hot path: a body that fits; benchmarks/ "HTTP/2".
            if (
                size <= stream.send_window
                and size <= self.window
                and size <= DEFAULT_FRAME_SIZE
                and not self._round
                and self.size < TAKE_SIZE
            ) or not size:  # RFC 9113 §6.9.1: an empty frame needs no window
                if size or end:
                    self._emit(stream, data, end)
                return end
            backlog = stream.backlog = Backlog()
        if size:
            backlog.add(data)
            backlog.blocks = backlog.size > HIGH_WATER
        backlog.has_end = end
        self._join_round(stream, backlog)
        return False

    def send_trailers(self, stream: Http2Stream, fields: Fields) -> bool:
        """Send the trailer section behind what waits; return whether it has gone out."""
        backlog = stream.backlog
        if backlog is None:
            self.send_fields(stream, self._encoder.encode(fields), True)
            return True
        backlog.has_end = True
        backlog.trailers = fields
        return False

    def open_window(self, increment: int) -> None:
        """Follow a WINDOW_UPDATE of the connection; raises ConnectionFault (RFC 9113 §6.9.1)."""
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window of the connection larger than 2**31-1")

    def open_stream_window(self, stream: Http2Stream, increment: int) -> None:
        """Follow a WINDOW_UPDATE of a stream, or SETTINGS; raises StreamFault (RFC 9113 §6.9.1)."""
        stream.send_window += increment
        if stream.send_window > LARGEST_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "window of a stream larger than 2**31-1")
        if stream.backlog is not None:
            self._join_round(stream, stream.backlog)

    def drop(self, stream: Http2Stream) -> None:
        """Forget what waits of a stream that has ended early."""
        backlog = stream.backlog
        stream.backlog = None
        if backlog is not None and backlog.in_round:
            self._round.remove(stream)

    def take(self) -> list[bytes]:
        """Return the pieces to be written now, with DATA of about `TAKE_SIZE`; note what became of the streams."""
        waiting = self._round
        while waiting and self.size < TAKE_SIZE and self.window > 0:
            stream = waiting.popleft()
            backlog = stream.backlog
            assert backlog is not None  # else it would not be in the round
            backlog.in_round = False
            self._send_turn(stream, backlog)
        frames = self._frames
        if self.size <= JOIN_SIZE and len(frames) > 1:
            frames = [b"".join(frames)]
        self._frames = []
        self.size = 0
        self.answers = 0
        return frames

    def _join_round(self, stream: Http2Stream, backlog: Backlog) -> None:
        """Let a stream take its turns if its window allows it; what opens the window calls this again."""
        if not backlog.in_round and stream.send_window > 0:
            backlog.in_round = True
            self._round.append(stream)

    def _send_turn(self, stream: Http2Stream, backlog: Backlog) -> None:
        """Send one frame of what waits of a stream."""
        size = min(backlog.size, stream.send_window, self.window, DEFAULT_FRAME_SIZE)
        if size <= 0:
            return  # SETTINGS have made its window smaller meanwhile
        data = backlog.cut(size)
        is_last = backlog.has_end and not backlog.size
        self._emit(stream, data, is_last and backlog.trailers is None)
        backlog.made_progress = True
        if is_last:
            if backlog.trailers is not None:
                self.send_fields(stream, self._encoder.encode(backlog.trailers), True)
            stream.backlog = None
            self.ended.append(stream)
            return
        if backlog.blocks and backlog.size <= LOW_WATER:
            backlog.blocks = False
            self.released.append(stream)
        if not backlog.size:
            stream.backlog = None
            return
        if size < DEFAULT_FRAME_SIZE:
            self._patience.note_dribble(size < DRIBBLE_SIZE)
        self._join_round(stream, backlog)

    def _emit(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        size = len(data)
        stream.send_window -= size
        self.window -= size
        self.data_frames += 1
        self._frames.append(_pack_header(size << 8, END_STREAM if end else 0, stream.id))  # DATA is type 0
        self._frames.append(data)
        self.size += size + _HEADER_SIZE
