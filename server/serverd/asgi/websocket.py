"""An open WebSocket on a stream: messages in and out, liveness, and the closing handshake (RFC 6455 §5 to §7).

Not the application's side of it, which is `session`; and not the bytes of frames, which are `protocol.websocket`. What
a peer sends is bounded here: so many messages are kept, and nothing more is decoded until they are taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import Enum
from typing import Final, Protocol

from serverd.asgi.stream import ByteStream
from serverd.errors import SessionError
from serverd.generation import WebSocketLimits
from serverd.protocol.websocket import MessageBounds, MessageDecoder
from serverd.protocol.websocket_deflate import COMPRESSED_SIZE, Deflater, DeflateTerms, Inflater
from serverd.protocol.websocket_frames import (
    COMPRESSED,
    PING,
    PONG,
    CloseCode,
    encode_close,
    encode_control,
    frame_header,
)

__all__ = ["Reader", "WebSocket"]

log = logging.getLogger("serverd.session")

# How long the peer has for its Close after ours; the close_timeout of the websockets library.
CLOSE_TIMEOUT: Final = 10.0
# How long an application that does not ask for the next message may go on with those before the end.
ENDING_TIMEOUT: Final = 1.0
# Above this a payload leaves beside its header instead of being copied behind it.
JOIN_LIMIT: Final = 16 * 1024
# Bytes of messages kept for an application that does not read, beyond which no further one is decoded: one read of
# the event loop.
QUEUE_SIZE: Final = 256 * 1024


class State(Enum):
    """How far the closing handshake has come (RFC 6455 §7.1)."""

    OPEN = "messages go both ways"
    ENDING = "the peer has closed it, or broken the protocol, and the application answers what came before"
    CLOSING = "we have sent a Close and wait for the peer's"
    CLOSED = "nothing is sent any more, nor taken"


# Hot path: members looked up once; benchmarks/ "WebSocket echo, 64 B".
OPEN: Final[State] = State.OPEN
ENDING: Final[State] = State.ENDING
CLOSING: Final[State] = State.CLOSING
CLOSED: Final[State] = State.CLOSED


class Reader(Protocol):
    """Whom a WebSocket tells what happens to it."""

    @property
    def is_waiting(self) -> bool:
        """Whether the application waits for a message."""

    def on_readable(self) -> None:
        """A message has come."""

    def on_end(self) -> None:
        """No further message comes, and none can be sent."""


class WebSocket:
    """One open WebSocket; also the sink of its decoder."""

    __slots__ = (
        "_decoder",
        "_deflater",
        "_heard",
        "_limits",
        "_pinged",
        "_pong",
        "_reader",
        "_since",
        "_size",
        "_stream",
        "code",
        "ending",
        "is_held",
        "messages",
        "reason",
        "state",
    )

    def __init__(self, reader: Reader, limits: WebSocketLimits, terms: DeflateTerms | None) -> None:
        """Prepare; `terms` is there when compression has been agreed on. `open` comes before anything else."""
        self.state = OPEN
        self.messages: deque[str | bytes] = deque()  # received and not yet read
        self.code: int = CloseCode.ABNORMAL  # why it has ended, as far as that is known (RFC 6455 §7.1.5)
        self.reason = ""
        self._reader = reader
        self._limits = limits
        self._decoder = MessageDecoder(
            self,
            MessageBounds(limits.message_size, limits.frame_size),
            Inflater(terms) if terms is not None else None,
        )
        self._deflater = Deflater(terms) if terms is not None else None
        self._size = 0  # of the messages
        self.ending: tuple[int, str, bytes] | None = None  # code, reason and our Close when it is ENDING
        self.is_held = False  # the decoder waits until they are read
        self._since = 0.0  # loop's time since when nothing has come, or our Ping or Close is unanswered
        self._heard = True  # something has come after that, or the time is to be noted
        self._pinged = False  # we have asked whether anybody is there
        self._pong: bytes | None = None  # payload of a Ping, to be sent back when the peer reads again

    def open(self, stream: ByteStream) -> None:
        """Begin on this stream."""
        self._stream = stream

    # What the peer sends.

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether reading should pause."""
        self._heard = True
        try:
            held = self._decoder.feed(data)
        except SessionError as error:
            self._on_fault(error)
            return False
        if held:
            self._hold()
        return held

    def feed_eof(self) -> None:
        """Take note that the peer has gone: without a Close, or behind one that waits for its turn."""
        if self.state is ENDING and self.ending is not None:
            self.code, self.reason, _ = self.ending
        self._end()

    def take(self) -> str | bytes:
        """Return the next message; there must be one."""
        message = self.messages.popleft()
        self._size -= len(message)
        if self.is_held and not self.messages:
            # Not at once: a peer that sends many small messages must not hold the loop.
            asyncio.get_running_loop().call_soon(self._go_on)
        return message

    def on_message(self, message: str | bytes) -> bool:
        """Keep a message; return whether that is enough for now."""
        messages = self.messages
        messages.append(message)
        self._size += len(message)
        self._reader.on_readable()
        return len(messages) >= self._limits.queue or self._size >= QUEUE_SIZE

    def on_ping(self, payload: bytes) -> None:
        """Answer; to a peer that does not read only the last of its pings (RFC 6455 §5.5.3)."""
        if self.state is not OPEN:
            return  # nothing follows our Close
        if self._stream.blocked:
            self._pong = payload
        else:
            self._stream.send_body(encode_control(PONG, payload), False)

    def on_pong(self, payload: bytes) -> None:
        """Do nothing: whatever comes shows that the peer is there."""

    def on_close(self, code: int, reason: str) -> None:
        """End as the peer wants it (RFC 6455 §5.5.1)."""
        answer = encode_close(code, "") if self.state is OPEN else b""
        self._finish(code, reason, answer, at_once=not self.messages)

    def _hold(self) -> None:
        """Let the decoder wait until all is read; where that is so, or nobody will, for a turn of the others."""
        self.is_held = True
        if not self.messages or self.state is not OPEN:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self.is_held:
            return
        self.is_held = False
        self._heard = True  # it is, from now on
        try:
            held = self._decoder.go_on()
        except SessionError as error:
            self._on_fault(error)
            return
        if held:
            self._hold()
        else:
            self._stream.resume_reading()

    # What is sent.

    def send(self, first: int, data: bytes) -> None:
        """Send a message as one frame; `first` is FIN and the opcode of the data."""
        if self._deflater is not None and len(data) >= COMPRESSED_SIZE:
            data = self._deflater.deflate(data)
            first |= COMPRESSED
        header = frame_header(first, len(data))
        if len(data) <= JOIN_LIMIT:
            self._stream.send_body(header + data, False)
        else:
            self._stream.send_body(header, False)
            self._stream.send_body(data, False)

    def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the peer's; what has been received can still be read."""
        self.settle()
        if self.state is not OPEN:
            return
        self.state = CLOSING
        self._decoder.skip()
        self.code, self.reason = code, reason
        self._since = asyncio.get_running_loop().time()
        self._pong = None
        self._stream.send_body(encode_close(code, reason), False)
        if self.is_held:
            self._go_on()  # to its Close

    def sweep(self, now: float) -> None:
        """Ask whether the peer is still there, and end what has no answer; `now` is the loop's time in seconds."""
        if self._stream.blocked or self.state is CLOSED:
            self._since = now  # a peer that does not read is the connection's concern
            return
        if self._pong is not None:
            self._stream.send_body(encode_control(PONG, self._pong), False)
            self._pong = None
        if self.state is CLOSING:
            # Whatever else the peer sends meanwhile: it could go on for ever.
            if now - self._since >= CLOSE_TIMEOUT:
                self._end()
                self._stream.abort()
        elif self.state is ENDING:
            if now - self._since >= ENDING_TIMEOUT:
                self.settle()
        elif self._heard:
            self._heard = self._pinged = False
            self._since = now
        elif self.is_held:
            # The answer would not be read. That nobody takes the ping is for the kernel to find out.
            if 0 < self._limits.ping_interval <= now - self._since:
                self._stream.send_body(encode_control(PING, b""), False)
                self._since = now
        elif not self._pinged:
            if 0 < self._limits.ping_interval <= now - self._since:
                self._stream.send_body(encode_control(PING, b""), False)
                self._pinged = self._limits.ping_timeout > 0
                self._since = now
        elif 0 < self._limits.ping_timeout <= now - self._since:
            # The code that the websockets library sends; what the application sees is that no Close has come.
            reason = "no answer to a ping"
            log.debug("closed a session: %s", reason)
            answer = encode_close(CloseCode.INTERNAL_ERROR, reason)
            self._finish(CloseCode.ABNORMAL, reason, answer, at_once=True)

    # The end.

    def _on_fault(self, error: SessionError) -> None:
        """Fail the session (RFC 6455 §7.1.7), as if the fault were the next message for the application."""
        log.debug("closed a session: %d %s", error.code, error.reason)
        self._decoder.refuse()
        answer = encode_close(error.code, error.reason) if self.state is OPEN else b""
        is_asked_for = self._reader.is_waiting and not self.messages
        self._finish(error.code, error.reason, answer, at_once=is_asked_for)

    def _finish(self, code: int, reason: str, answer: bytes, *, at_once: bool) -> None:
        """End with `answer`; if not `at_once`, when the application has answered what came before, and soon."""
        if self.state is OPEN and not at_once:
            self.state = ENDING
            self.ending = code, reason, answer
            self._since = asyncio.get_running_loop().time()
            return
        self.code, self.reason = code, reason
        self._end()
        self._stream.send_body(answer, True)

    def settle(self) -> None:
        """Take note that the application has answered all it will: what the peer ended with has its turn."""
        if self.ending is not None and self.state is ENDING:
            self._finish(*self.ending, at_once=True)

    def _end(self) -> None:
        self.state = CLOSED
        self._decoder.refuse()
        self._deflater = self._pong = None
        self.is_held = False
        self._reader.on_end()
