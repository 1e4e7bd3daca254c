"""HTTP/2, the server's side (RFC 9113), sans-IO: bytes in, requests out; responses in, bytes out.

`Http2Core` is one connection. It is fed what the peer sends, has a `StreamSource` make the streams, and tells them of
requests and bodies; it is told what to send, and `take` hands out the bytes, those of one turn of the loop for one
write. It has no clock: `tick` is called once a second. Whoever drives it

- writes what `take` returns after any other call, as long as `is_waiting`;
- feeds nothing while much is `unsent`, because the peer does not take it: answers must not pile up;
- says by `consume` what an application has read of a body, else the peer may send no more of it;
- calls `release` when the application of a stream is done of which `on_reset` has told;
- ends the connection, after writing, when `feed` raises ConnectionFault or when `is_finished`.

What is done with each frame is in `http2_receiver`; the table of stream states in `http2_states`; all limits, and what
others have, in `http2_bounds`.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.head import Fields
from serverd.protocol.hpack import HpackBomb, HpackError
from serverd.protocol.hpack_encoder import HpackEncoder
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2_bounds import Http2Bounds, Patience
from serverd.protocol.http2_frames import ConnectionFault, ErrorCode, encode_settings
from serverd.protocol.http2_head import TunnelHead
from serverd.protocol.http2_output import Output
from serverd.protocol.http2_reader import FrameReader
from serverd.protocol.http2_receiver import Http2Receiver
from serverd.protocol.http2_response import ResponseHeads, without_connection_fields
from serverd.protocol.http2_settings import server_settings
from serverd.protocol.http2_states import RESET, SEND_END
from serverd.protocol.http2_stream import Backlog, Http2Stream, StreamSource

__all__ = ["ConnectionFault", "ErrorCode", "Http2Bounds", "Http2Core", "Http2Stream", "StreamSource", "TunnelHead"]

# A state in which it may follow is one in which anything may be sent. Hot path: an index that is a plain number;
# benchmarks/ "HTTP/2".
_SEND_END: Final = int(SEND_END)


class Http2Core:
    """The server's end of one connection."""

    __slots__ = (
        "_bounds",
        "_drain",
        "_intake",
        "_output",
        "_patience",
        "_reader",
        "_receiver",
        "_responses",
        "_streams",
        "closed",
        "streams",
    )

    def __init__(self, source: StreamSource, bounds: Http2Bounds, defaults: DefaultFields) -> None:
        """Begin with our SETTINGS, which `take` hands out before anything has come."""
        self._bounds = bounds
        self._patience = Patience(bounds)
        encoder = HpackEncoder()
        self._output = Output(encoder, self._patience)
        self._responses = ResponseHeads(encoder, defaults)
        self._receiver = Http2Receiver(source, bounds, self._patience, encoder, self._output)
        self._reader = FrameReader(self._receiver, bounds)
        self._streams = self._receiver.streams
        self.streams = self._streams.open  # those that are open, by identifier; not to be changed by others
        self._intake = self._receiver.intake
        self._drain = self._receiver.drain
        self.closed = False  # nothing is received any more
        self._output.add(encode_settings(server_settings(bounds)))
        self._intake.open_connection()

    # What is known of the connection.

    @property
    def is_greeted(self) -> bool:
        """Whether the preface and the first SETTINGS of the peer have come."""
        return self._reader.is_greeted

    @property
    def is_amid(self) -> bool:
        """Whether a part of a frame, or of a header block, has come and the rest has not."""
        return self._reader.is_amid

    @property
    def is_amid_body(self) -> bool:
        """Whether that is a part of a DATA frame."""
        return self._reader.is_amid_body

    @property
    def begun(self) -> int:
        """How many frames and header blocks have come in parts: `is_amid` with another number is another one."""
        return self._reader.begun

    @property
    def unsent(self) -> int:
        """Bytes of frames that wait for `take` and that no window holds back."""
        return self._output.size

    @property
    def is_waiting(self) -> bool:
        """Whether `take` has something to hand out."""
        return bool(self._intake.due) or self._output.is_waiting

    @property
    def is_draining(self) -> bool:
        """Whether a GOAWAY has been sent."""
        return self._drain.has_begun

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is to come or to be sent: a last GOAWAY was sent, and no stream is open."""
        return self._drain.is_final and not self._streams.open

    # From the peer, and to it.

    def feed(self, data: bytes) -> int:
        """Take bytes from the peer; return how many at their end are left, which have to be fed again.

        Some are where there was so much to do that it may be the turn of others. Raises ConnectionFault; GOAWAY is then
        among what `take` returns, and all streams are reset.
        """
        if self.closed:
            return 0
        try:
            return self._reader.feed(data)
        except ConnectionFault as fault:  # not `error`: mypyc gives each name one type in a function
            self.close(fault.code, fault.reason)
            raise
        except HpackError as error:
            is_bomb = isinstance(error, HpackBomb)
            code = ErrorCode.ENHANCE_YOUR_CALM if is_bomb else ErrorCode.COMPRESSION_ERROR
            self.close(code, error.reason)
            raise ConnectionFault(code, error.reason) from None

    def take(self) -> list[bytes]:
        """Return what is to be written now; more may be left when `is_waiting`."""
        if self._intake.due:
            self._intake.deliver_held()
        output = self._output
        frames = output.take()
        if output.released:
            released = output.released
            output.released = []
            for stream in released:
                stream.on_writable()
        if output.ended:  # behind those released, which are told as long as they are open
            ended = output.ended
            output.ended = []
            for stream in ended:
                self._streams.end_response(stream)
        return frames

    def tick(self) -> None:
        """Take note that a second has passed: budgets are renewed, and what has waited too long is reset."""
        output = self._output
        self._patience.tick(output.data_frames)
        for stream in list(self._streams.open.values()):
            if stream.window is not None:
                stream.window.tick()
            if stream.linger:
                stream.linger -= 1
                if not stream.linger:
                    self._streams.reset(stream, ErrorCode.NO_ERROR)
            elif stream.backlog is not None:
                self._watch_progress(stream, stream.backlog)
        output.tick()
        self._drain.tick()

    def _watch_progress(self, stream: Http2Stream, backlog: Backlog) -> None:
        """Reset a stream when the peer does not open the window that it waits for.

        Only that counts, not how long other streams or the socket take: these the connection above looks after.
        """
        output = self._output
        waits = not backlog.made_progress and (
            stream.send_window <= 0 or (output.window <= 0 and not output.made_progress)
        )
        backlog.made_progress = False
        backlog.stalled = backlog.stalled + 1 if waits else 0
        if backlog.stalled > self._bounds.send_timeout:
            self._streams.reset_early(stream, ErrorCode.CANCEL)

    # The end of the connection.

    def drain(self) -> None:
        """Invite no further streams; the connection `is_finished` when those that are open have ended."""
        if not self.closed:
            self._drain.begin()

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """End the connection with GOAWAY (RFC 9113 §5.4.1): nothing is received after it, and all streams are reset."""
        if not self.closed:
            self._drain.finish(code, reason)
            self.lose()

    def lose(self) -> None:
        """Take note that the connection is gone: all streams are reset without a frame."""
        self.closed = True
        for stream in list(self._streams.open.values()):
            self._streams.lose(stream, RESET)

    # For the applications. A stream that is closed takes everything and sends nothing, as its peer is gone.

    def send_informational(self, stream: Http2Stream, status: int, fields: Fields) -> None:
        """Send an interim response, 100 or 103."""
        if stream.state.after[_SEND_END] is not None:
            self._output.send_fields(stream, self._responses.encode_informational(status, fields), False)

    def send_headers(self, stream: Http2Stream, status: int, fields: Fields, end: bool) -> None:
        """Send the head of the final response; with `end` there is no body."""
        if stream.state.after[_SEND_END] is not None:
            self._output.send_fields(stream, self._responses.encode(status, fields), end)
            if end:
                self._streams.end_response(stream)

    def send_response(self, stream: Http2Stream, status: int, fields: Fields, body: bytes) -> None:
        """Send a whole final response."""
        if stream.state.after[_SEND_END] is not None and self._output.send_whole(
            stream, self._responses.encode(status, fields), body
        ):
            self._streams.end_response(stream)

    def send_body(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        """Send a part of the body; with `end` the response is complete."""
        if stream.state.after[_SEND_END] is not None and self._output.send_data(stream, data, end):
            self._streams.end_response(stream)

    def send_trailers(self, stream: Http2Stream, fields: Fields) -> None:
        """Send the trailer section behind the body; the response is complete."""
        fields = without_connection_fields(fields)
        if not fields:
            self.send_body(stream, b"", True)
        elif stream.state.after[_SEND_END] is not None and self._output.send_trailers(stream, fields):
            self._streams.end_response(stream)

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """End a stream early, of which the application is done; without `on_reset`."""
        self._streams.reset(stream, code)

    def consume(self, stream: Http2Stream, count: int) -> None:
        """Take note that the application has read `count` bytes: the peer may send as many again."""
        self._intake.consume(stream, count)

    def release(self, stream: Http2Stream) -> None:
        """Take note that the application is done with a stream that `on_reset` has told of: its place is free."""
        self._streams.release(stream)
