"""What each frame from the peer means for its stream and the connection (RFC 9113 §5, §6, §8.1).

`http2_reader` has taken the frames apart; requests and bodies go on to the sink. An error of one stream ends that
stream here, one of the connection is raised.
"""

from __future__ import annotations

from typing import Final

from serverd.errors import PeerError
from serverd.protocol.hpack import HeaderListTooLarge, HpackError
from serverd.protocol.hpack_decoder import HpackDecoder
from serverd.protocol.hpack_encoder import HpackEncoder
from serverd.protocol.http2_bounds import Http2Bounds, Patience
from serverd.protocol.http2_drain import Drain
from serverd.protocol.http2_frames import (
    ACK,
    ConnectionFault,
    ErrorCode,
    FrameType,
    StreamFault,
    encode_frame,
    encode_reset,
)
from serverd.protocol.http2_head import Http2HeadReader, TunnelHead
from serverd.protocol.http2_intake import Intake
from serverd.protocol.http2_output import Output
from serverd.protocol.http2_registry import StreamRegistry
from serverd.protocol.http2_settings import Setting, check_settings
from serverd.protocol.http2_states import (
    OPEN,
    PEER_RESET,
    RECEIVE_DATA,
    RECEIVE_HEADERS,
    RECEIVE_RESET,
    RECEIVE_WINDOW_UPDATE,
    REMOTE_ENDED,
    RESET,
    Event,
    fault,
)
from serverd.protocol.http2_stream import Http2Stream, StreamSource

__all__ = ["Http2Receiver"]

_SETTINGS_ACK: Final = encode_frame(FrameType.SETTINGS, ACK, 0, b"")


class Http2Receiver:
    """The FrameSink of one connection."""

    __slots__ = (
        "_bounds",
        "_drain",
        "_encoder",
        "_heads",
        "_intake",
        "_is_settled",
        "_output",
        "_patience",
        "_source",
        "_streams",
    )

    def __init__(
        self, source: StreamSource, bounds: Http2Bounds, patience: Patience, encoder: HpackEncoder, output: Output
    ) -> None:
        self._source = source
        self._bounds = bounds
        self._patience = patience
        self._encoder = encoder
        self._output = output
        self._heads = Http2HeadReader(HpackDecoder(bounds.header_list_size), bounds)
        self._intake = Intake(output, bounds)
        self._streams = StreamRegistry(self._intake, output, bounds.concurrent_streams)
        self._drain = Drain(output, self._streams)
        self._is_settled = False  # the peer has acknowledged our SETTINGS

    @property
    def intake(self) -> Intake:
        """The receiving side of bodies."""
        return self._intake

    @property
    def streams(self) -> StreamRegistry:
        """The streams of the connection."""
        return self._streams

    @property
    def drain(self) -> Drain:
        """The end of the connection."""
        return self._drain

    # HEADERS

    def on_headers(self, stream_id: int, block: bytes, end: bool, depends_on_itself: bool) -> None:
        """Begin a request, or end one with trailers."""
        streams = self._streams
        if stream_id <= streams.last_id or not stream_id % 2:
            self._receive_more_headers(stream_id, block, end)
            return
        if self._drain.is_final:
            self._skip(block)  # RFC 9113 §6.8: it was told that this stream is not looked at
            self._patience.count_idle_frame()
            return
        has_room = streams.advance(stream_id)
        if depends_on_itself:  # RFC 7540 §5.3.1, the one rule of priorities that still has an error
            self._refuse(stream_id, block, ErrorCode.PROTOCOL_ERROR)
            return
        if not has_room:
            self._refuse(stream_id, block, ErrorCode.REFUSED_STREAM)  # RFC 9113 §5.1.2; safe to be tried again
            return
        try:
            head = self._heads.read(block, end)
        except HpackError:
            raise
        except StreamFault as broken:
            self._bury_reset(stream_id, broken.code)
            return
        except PeerError as error:
            stream = self._open(stream_id, end, -1, False)
            stream.is_refused = True
            stream.on_refused(error)
            return
        if end and not head.notable:
            # Hot path: `_open` without a call for it, and what no TunnelHead can be; benchmarks/ "HTTP/2".
            stream = self._source.make_stream(stream_id, REMOTE_ENDED, self._output.initial_window, False)
            streams.open[stream_id] = stream
        else:
            stream = self._open(stream_id, end, head.length, type(head) is TunnelHead)
        stream.on_request(head, end)

    def _open(self, stream_id: int, end: bool, length: int, is_tunnel: bool) -> Http2Stream:
        """Return a new stream whose body, unless there is none, has `length` bytes; less than 0: not announced."""
        state = REMOTE_ENDED if end else OPEN  # IDLE.after[RECEIVE_HEADERS], and with `end` what comes after that
        stream = self._source.make_stream(stream_id, state, self._output.initial_window, is_tunnel)
        self._streams.open[stream_id] = stream
        if not end:
            self._intake.admit(stream, length)
        return stream

    def _receive_more_headers(self, stream_id: int, block: bytes, end: bool) -> None:
        """Take a block that begins no stream."""
        stream = self._streams.open.get(stream_id)
        if stream is not None:
            self._receive_trailers(stream, block, end)
            return
        self._skip(block)
        self._streams.check_known(stream_id)
        self._receive_late(stream_id, RECEIVE_HEADERS)

    def _refuse(self, stream_id: int, block: bytes, code: ErrorCode) -> None:
        self._skip(block)
        self._bury_reset(stream_id, code)

    def _bury_reset(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream that nobody was told of, for an error of the peer."""
        self._output.add_answer(encode_reset(stream_id, code))
        self._streams.bury(stream_id, RESET)
        self._patience.count_reset()
        self._check_answers()

    def _skip(self, block: bytes) -> None:
        """Decode a block of which only the table matters (RFC 9113 §4.3)."""
        try:
            self._heads.skip(block)
        except HeaderListTooLarge:
            return

    def _receive_trailers(self, stream: Http2Stream, block: bytes, end: bool) -> None:
        error: PeerError | None = None
        try:
            if stream.state.after[RECEIVE_HEADERS] is None:
                self._skip(block)
                raise fault(stream.state, RECEIVE_HEADERS)
            error = self._heads.read_trailers(block)
            if not end:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")  # RFC 9113 §8.1
            if stream.is_tunnel:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers in a tunnel")  # RFC 9113 §8.5
            if error is None:
                self._intake.finish(stream)
        except StreamFault as broken:
            self._break(stream, broken)
            return
        if error is not None:
            self._refuse_body(stream, error)
        if stream.id in self._streams.open:
            self._streams.end_request(stream)

    # DATA

    def on_data(self, stream_id: int, data: bytes, size: int, end: bool) -> None:
        """Take a part of a body."""
        intake = self._intake
        intake.count(size)
        stream = self._streams.open.get(stream_id)
        if stream is None:
            intake.discard(size)
            if not size:
                self._patience.count_idle_frame()
            self._receive_late(stream_id, RECEIVE_DATA)
            return
        if not data and not end:
            self._patience.count_idle_frame()
        try:
            if stream.state.after[RECEIVE_DATA] is None:
                intake.discard(size)
                raise fault(stream.state, RECEIVE_DATA)
            if size or end:
                intake.receive(stream, data, size, end)
        except StreamFault as broken:
            self._break(stream, broken)
            return
        except PeerError as error:
            self._refuse_body(stream, error)
        if end and stream.id in self._streams.open:
            self._streams.end_request(stream)

    def _refuse_body(self, stream: Http2Stream, error: PeerError) -> None:
        """Have the answer of an application replaced, which has yet to notice: too many are an attack.

        One that is complete stays, as it does in HTTP/1.
        """
        if not stream.is_unread:
            stream.is_refused = True
            stream.on_refused(error)
            self._patience.count_reset()

    # Errors of one stream

    def _break(self, stream: Http2Stream, broken: StreamFault) -> None:
        """Reset a stream for an error of the peer (RFC 9113 §5.4.2); too many are an attack (CVE-2025-8671)."""
        self._streams.reset_early(stream, broken.code)
        self._patience.count_reset()

    def _receive_late(self, stream_id: int, event: Event) -> None:
        """Judge a frame of a stream that is not open."""
        if self._drain.is_final and stream_id > self._streams.last_id and stream_id % 2:
            return  # of a stream that we do not look at
        state = self._streams.late_state(stream_id)
        if state.after[event] is not None:
            return
        broken = fault(state, event)
        if isinstance(broken, ConnectionFault):
            raise broken
        self._bury_reset(stream_id, broken.code)

    # The other frames

    def on_priority(self, stream_id: int, depends_on_itself: bool, size: int) -> None:
        """Ignore a priority (RFC 9113 §5.3.2), unless the frame is none."""
        self._patience.count_idle_frame()
        if size == 5 and not depends_on_itself:
            return
        code = ErrorCode.FRAME_SIZE_ERROR if size != 5 else ErrorCode.PROTOCOL_ERROR
        broken = StreamFault(code, "malformed PRIORITY")
        stream = self._streams.open.get(stream_id)
        if stream is None:
            # RST_STREAM must not be sent for a stream that is idle (RFC 9113 §6.4).
            raise ConnectionFault(code, broken.reason)
        self._break(stream, broken)

    def on_reset(self, stream_id: int, _code: int) -> None:
        """End a stream that the peer has given up; too many are an attack (CVE-2023-44487)."""
        stream = self._streams.open.get(stream_id)
        if stream is None:
            self._patience.count_idle_frame()
            self._receive_late(stream_id, RECEIVE_RESET)
            return
        is_answered = stream.linger > 0
        self._streams.lose(stream, PEER_RESET)
        if not is_answered:
            self._patience.count_reset()

    def on_window_update(self, stream_id: int, increment: int) -> None:
        """Open a window of ours (RFC 9113 §6.9)."""
        self._patience.count_window_update(self._output.data_frames)
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._output.open_window(increment)
            return
        stream = self._streams.open.get(stream_id)
        if stream is None:
            self._receive_late(stream_id, RECEIVE_WINDOW_UPDATE)
            return
        try:
            if not increment:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._output.open_stream_window(stream, increment)
        except StreamFault as broken:
            self._break(stream, broken)

    def on_settings(self, values: list[tuple[int, int]]) -> None:
        """Obey the peer's settings (RFC 9113 §6.5.3)."""
        self._patience.count_idle_frame()
        settings = check_settings(values)
        output = self._output
        for key, value in values:
            if key == Setting.HEADER_TABLE_SIZE:
                self._encoder.limit_table(value)  # each: the least of them has to be announced (RFC 7541 §4.2)
        output.frame_size = settings.get(Setting.MAX_FRAME_SIZE, output.frame_size)
        window = settings.get(Setting.INITIAL_WINDOW_SIZE)
        if window is not None:
            difference = window - output.initial_window
            output.initial_window = window
            try:
                for stream in self._streams.open.values():
                    output.open_stream_window(stream, difference)
            except StreamFault as broken:
                raise ConnectionFault(broken.code, broken.reason) from None  # RFC 9113 §6.9.2
        output.add_answer(_SETTINGS_ACK)
        self._check_answers()

    def on_settings_ack(self) -> None:
        """Hold the peer to our settings from now on."""
        if self._is_settled:
            self._patience.count_idle_frame()
            return
        self._is_settled = True
        self._heads.limit_table(self._bounds.table_size)
        self._intake.adopt_initial_window(list(self._streams.open.values()))

    def on_ping(self, data: bytes, is_ack: bool) -> None:
        """Send a PING back (RFC 9113 §6.7)."""
        self._patience.count_idle_frame()
        if is_ack:
            self._drain.on_pong(data)
            return
        self._output.add_answer(encode_frame(FrameType.PING, ACK, 0, data))
        self._check_answers()

    def on_goaway(self, _code: int) -> None:
        """Do nothing: the peer begins no further streams, and those that are open go on (RFC 9113 §6.8)."""
        self._patience.count_idle_frame()

    def on_unknown(self) -> None:
        """Ignore what we do not know (RFC 9113 §5.5)."""
        self._patience.count_idle_frame()

    def _check_answers(self) -> None:
        """Bound what waits for a peer that asks and does not read (CVE-2019-9512, CVE-2019-9515)."""
        if self._output.answers > self._bounds.idle_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers that were not taken")
