"""Where each frame begins and ends, and whether it is well-formed (RFC 9113 §3.4, §4, §6).

The reader takes frames apart - padding, priority, numbers - and puts header blocks together out of HEADERS and
CONTINUATION. Whatever is wrong with a frame as such is found here, so that `http2_receiver`, which knows what a frame
means, sees good values only.
"""

from __future__ import annotations

from typing import Final, Protocol

from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    LARGEST_ID,
    PADDED,
    PREFACE,
    PRIORITY,
    ConnectionFault,
    ErrorCode,
    FrameType,
)

__all__ = ["FrameReader", "FrameSink"]

_HEADER_SIZE: Final = FRAME_HEADER.size
_TYPE_OFFSET: Final = 3  # in the header (RFC 9113 §4.1)
_unpack_header = FRAME_HEADER.unpack_from
_HEADERS: Final = int(FrameType.HEADERS)
_SETTINGS: Final = int(FrameType.SETTINGS)
_CONTINUATION: Final = int(FrameType.CONTINUATION)

# The flags of HEADERS that are all of a request, with nothing beside the block.
_WHOLE_REQUEST: Final = END_HEADERS | END_STREAM

# Octets after which `feed` lets its caller look at the clock, those of bodies aside, which take no time to speak of: a
# header block takes up to half a microsecond for each, and so does a small frame.
_AT_ONCE = 4 * 1024

# A block that takes more bytes than twice the list it may be (`hpack_decoder`) is not collected any further.
_BLOCK_FACTOR: Final = 2


class FrameSink(Protocol):
    """Whom the reader tells what it received; stream 0 is the connection."""

    def on_headers(self, stream_id: int, block: bytes, end: bool, depends_on_itself: bool) -> None:
        """A whole header block."""

    def on_data(self, stream_id: int, data: bytes, size: int, end: bool) -> None:
        """A part of a body; `size` is what it takes of the windows."""

    def on_priority(self, stream_id: int, depends_on_itself: bool, size: int) -> None:
        """A PRIORITY frame of `size` bytes."""

    def on_reset(self, stream_id: int, code: int) -> None:
        """The peer has given a stream up."""

    def on_settings(self, values: list[tuple[int, int]]) -> None:
        """The peer's settings."""

    def on_settings_ack(self) -> None:
        """The peer obeys ours."""

    def on_ping(self, data: bytes, is_ack: bool) -> None:
        """Eight bytes to be sent back, or that came back."""

    def on_goaway(self, code: int) -> None:
        """The peer begins no further streams."""

    def on_window_update(self, stream_id: int, increment: int) -> None:
        """The peer takes more DATA; 0 is an error."""

    def on_unknown(self) -> None:
        """A frame of a type that we do not know."""


def _broken(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, reason)


def _wrong_size(kind: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{kind} frame of a wrong size")


class FrameReader:
    """Takes the bytes of one connection apart."""

    __slots__ = (
        "_block",
        "_block_end",
        "_block_id",
        "_block_itself",
        "_bounds",
        "_continuations",
        "_is_bound",
        "_needed",
        "_partial",
        "_preface_left",
        "_sink",
        "begun",
        "is_greeted",
    )

    def __init__(self, sink: FrameSink, bounds: Http2Bounds) -> None:
        self._sink = sink
        self._bounds = bounds
        self._partial = bytearray()  # the beginning of a frame
        self._needed = 0  # bytes that have to be there before looking again is of use
        self._preface_left = PREFACE
        self._is_bound = True  # what the next frame is has been decided by those before
        self.is_greeted = False  # the preface and the first SETTINGS have come
        self.begun = 0  # frames of which a part came first; those that continue a header block aside
        self._block_id = 0  # the stream of the header block that goes on in CONTINUATION; 0: none does
        self._block = bytearray()
        self._block_end = False
        self._block_itself = False
        self._continuations = 0

    @property
    def is_amid(self) -> bool:
        """Whether a part of a frame, or of a header block, has come and the rest has not."""
        return bool(self._partial) or self._block_id != 0

    @property
    def is_amid_body(self) -> bool:
        """Whether that is a part of a DATA frame."""
        return len(self._partial) > _TYPE_OFFSET and not self._partial[_TYPE_OFFSET]

    def feed(self, data: bytes) -> int:
        """Take bytes from the peer; return how many at their end have to be fed again, because there was much to do.

        Raises ConnectionFault, after which nothing more can be taken.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return 0
            data = bytes(self._partial)
            self._partial.clear()
        position = 0
        if self._preface_left:
            position = self._receive_preface(data)
        end = len(data)
        largest = self._bounds.max_frame_size
        limit = position + _AT_ONCE
        # Hot path: as little as can be for each frame, and HEADERS without a call between; benchmarks/ "HTTP/2".
        while (start := position + _HEADER_SIZE) <= end:
            size, flags, stream_id = _unpack_header(data, position)
            kind = size & 0xFF
            size >>= 8
            if size > largest:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
            stop = start + size
            if stop > end:
                self._keep(data[position:], size + _HEADER_SIZE)
                return 0
            position = stop
            if stream_id > LARGEST_ID:
                stream_id &= LARGEST_ID  # RFC 9113 §4.1: the bit that is reserved means nothing
            if self._is_bound:
                self._check_bound(kind, flags, stream_id)
            if kind == _HEADERS and flags == _WHOLE_REQUEST and stream_id:
                self._sink.on_headers(stream_id, data[start:position], True, False)
            elif kind < _KNOWN:
                _RECEIVERS[kind](self, flags, stream_id, data[start:position])
                if not kind:  # DATA
                    limit += size
            else:
                self._sink.on_unknown()  # RFC 9113 §5.5
            if position > limit:
                unread: int = end - position
                return unread
        if position < end:
            self._keep(data[position:], _HEADER_SIZE)
        return 0

    def _keep(self, rest: bytes, needed: int) -> None:
        """Wait for the rest of a frame, of which there have to be `needed` bytes."""
        self._needed = needed
        self._partial += rest
        if not self._block_id:
            self.begun += 1

    def _receive_preface(self, data: bytes) -> int:
        """Compare the beginning with the preface (RFC 9113 §3.4); return where what follows begins."""
        left = self._preface_left
        if not data.startswith(left[: len(data)]):
            raise _broken("connection preface is not that of HTTP/2")
        self._preface_left = left[len(data) :]
        return min(len(left), len(data))

    def _check_bound(self, kind: int, flags: int, stream_id: int) -> None:
        """Check a frame that has to be a certain one."""
        if self._block_id:
            if kind != _CONTINUATION or stream_id != self._block_id:
                raise _broken("a header block is interrupted by another frame")  # RFC 9113 §4.3
        elif kind != _SETTINGS or flags & ACK:
            raise _broken("first frame is not SETTINGS")  # RFC 9113 §3.4
        else:
            self.is_greeted = True
            self._is_bound = False

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _broken("DATA on stream 0")
        data = _without_padding(payload) if flags & PADDED else payload
        self._sink.on_data(stream_id, data, len(payload), flags & END_STREAM != 0)

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _broken("HEADERS on stream 0")
        if flags & PADDED:
            payload = _without_padding(payload)
        itself = False
        if flags & PRIORITY:
            if len(payload) < 5:
                raise _wrong_size("HEADERS")
            itself = int.from_bytes(payload[:4], "big") & LARGEST_ID == stream_id
            payload = payload[5:]
        end = flags & END_STREAM != 0
        if flags & END_HEADERS:
            self._sink.on_headers(stream_id, payload, end, itself)
            return
        self._block_id = stream_id
        self._is_bound = True
        self._block[:] = payload
        self._block_end = end
        self._block_itself = itself
        self._continuations = 0

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_id:
            raise _broken("CONTINUATION without a header block to continue")
        self._block += payload
        self._continuations += 1
        if (
            self._continuations > self._bounds.continuations
            or len(self._block) > self._bounds.header_list_size * _BLOCK_FACTOR
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block without an end")
        if flags & END_HEADERS:
            block = bytes(self._block)
            self._block.clear()
            self._block_id = 0
            self._is_bound = False
            self._sink.on_headers(stream_id, block, self._block_end, self._block_itself)

    def _receive_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _broken("PRIORITY on stream 0")
        itself = int.from_bytes(payload[:4], "big") & LARGEST_ID == stream_id
        self._sink.on_priority(stream_id, itself, len(payload))

    def _receive_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _broken("RST_STREAM on stream 0")
        if len(payload) != 4:
            raise _wrong_size("RST_STREAM")
        self._sink.on_reset(stream_id, int.from_bytes(payload, "big"))

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _broken("SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise _wrong_size("SETTINGS")
            self._sink.on_settings_ack()
            return
        if len(payload) % 6:
            raise _wrong_size("SETTINGS")
        if len(payload) > self._bounds.settings * 6:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "SETTINGS frame with too many entries")
        entries = [payload[start : start + 6] for start in range(0, len(payload), 6)]
        self._sink.on_settings([(int.from_bytes(item[:2], "big"), int.from_bytes(item[2:], "big")) for item in entries])

    def _receive_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise _broken("PUSH_PROMISE from a client")  # RFC 9113 §8.4

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _broken("PING on a stream")
        if len(payload) != 8:
            raise _wrong_size("PING")
        self._sink.on_ping(payload, flags & ACK != 0)

    def _receive_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _broken("GOAWAY on a stream")
        if len(payload) < 8:
            raise _wrong_size("GOAWAY")
        self._sink.on_goaway(int.from_bytes(payload[4:8], "big"))

    def _receive_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _wrong_size("WINDOW_UPDATE")
        self._sink.on_window_update(stream_id, int.from_bytes(payload, "big") & LARGEST_ID)


def _without_padding(payload: bytes) -> bytes:
    """Return the payload of a padded frame without the length of its padding and the padding (RFC 9113 §6.1)."""
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without the length of its padding")
    size = payload[0]
    if size >= len(payload):
        raise _broken("padding is as long as its frame")
    return payload[1 : len(payload) - size]


_RECEIVERS: Final = (  # by type
    FrameReader._receive_data,
    FrameReader._receive_headers,
    FrameReader._receive_priority,
    FrameReader._receive_reset,
    FrameReader._receive_settings,
    FrameReader._receive_push_promise,
    FrameReader._receive_ping,
    FrameReader._receive_goaway,
    FrameReader._receive_window_update,
    FrameReader._receive_continuation,
)
_KNOWN: Final = len(_RECEIVERS)
