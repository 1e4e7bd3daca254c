"""One WebSocket session: the ASGI WebSocket cycle, written once for every protocol that carries one.

A session begins as a request. When the application accepts it, the stream becomes one of bytes both ways, which is a
`WebSocket`'s from then on; when it refuses, the answer is a response, which an `Exchange` takes care of. Which message
an application may send is a table at the end of this file: state x message type -> what is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final

from serverd.asgi.cycle import Cycle, Stage
from serverd.asgi.exchange import Exchange
from serverd.asgi.failure import error_body, send_error
from serverd.asgi.fields import check_body, check_fields, missing_from
from serverd.asgi.observer import UNOBSERVED
from serverd.asgi.scope import Endpoint
from serverd.asgi.stream import Stream
from serverd.asgi.types import Message, Scope
from serverd.asgi.websocket import WebSocket
from serverd.errors import ResponseError, without_context
from serverd.generation import WebSocketLimits
from serverd.protocol.head import RequestHead
from serverd.protocol.websocket_frames import BINARY, CLOSE_REASON_SIZE, FIN, TEXT, CloseCode, is_sendable
from serverd.protocol.websocket_handshake import Handshake

__all__ = ["Session", "Sessions"]

# Fields of the answer that are not the application's to write, as the session itself is what they are about.
_OWNED: Final = frozenset((b"upgrade", b"connection", b"content-length", b"transfer-encoding"))


@dataclass(slots=True)
class Sessions:
    """The sessions of one listener, and their bounds."""

    limits: WebSocketLimits
    requests: set[Cycle]  # in flight, those among them that may become sessions
    open: set[Session] = field(default_factory=set)


class State(Stage):
    """How far the session has come."""

    CONNECTING = "the application has neither accepted nor refused the session"
    REFUSED = "the application answers with a response"
    OPEN = "messages go both ways"
    CLOSED = "the application has closed the session"


# Hot path: members looked up once; benchmarks/ "WebSocket echo, 64 B".
CONNECTING: Final[State] = State.CONNECTING
REFUSED: Final[State] = State.REFUSED
OPEN: Final[State] = State.OPEN
CLOSED: Final[State] = State.CLOSED


class Session(Cycle):
    """The ASGI cycle of one WebSocket."""

    __slots__ = (
        "_connected",
        "_handshake",
        "_refusal",
        "_request",
        "_sessions",
        "_told",
        "_websocket",
        "messages_received",
        "messages_sent",
    )

    def __init__(
        self,
        stream: Stream,
        head: RequestHead,
        endpoint: Endpoint,
        scope: Scope,
        handshake: Handshake,
        sessions: Sessions,
    ) -> None:
        """Prepare the cycle; it is one of the requests in flight until it becomes one of the open `sessions`."""
        super().__init__(stream, head, endpoint, scope, sessions.requests, CONNECTING)
        self._request: Stream | None = stream  # what it began on; None when it has become another one
        self._handshake = handshake
        self._sessions = sessions
        self._connected = False  # the application has had websocket.connect
        self._refusal: Exchange | None = None  # what answers in the place of the session
        self._websocket = WebSocket(self, sessions.limits, handshake.terms)
        self._told = False  # the application has had websocket.disconnect
        self.messages_received = 0  # by the application
        self.messages_sent = 0

    fair_size = 64 * 1024  # less: its messages may have to be compressed
    ends_with_peer = True  # RFC 6455 §7.1.1: a session has no other half

    # The connection's side.

    def deliver_body(self, data: bytes, end: bool) -> bool:
        """Take bytes of an open session; return whether reading should pause."""
        return self._websocket.feed(data)

    def deliver_disconnect(self) -> None:
        """Take note that the peer has gone."""
        if self._refusal is not None:
            self._refusal.deliver_disconnect()
        self._websocket.feed_eof()

    def refuse(self, status: int, size: int) -> None:
        """Take note that the connection answers `status` in the place of what the application has said."""
        if self._refusal is not None:
            self._refusal.refuse(status, size)
        super().refuse(status, size)

    def sweep(self, now: float) -> None:
        """Look after an open session; `now` is the loop's time in seconds."""
        self._websocket.sweep(now)

    @property
    def is_accepted(self) -> bool:
        """Whether the application has accepted it, at any time."""
        return self._request is None

    @property
    def close_code(self) -> int:
        """Why the session has ended, as far as that is known (RFC 6455 §7.1.5)."""
        return int(self._websocket.code)

    @property
    def is_held(self) -> bool:
        """Whether nothing more should be read from the peer for now."""
        return self._websocket.is_held

    @property
    def is_waiting(self) -> bool:
        """Whether the application waits for a message."""
        return bool(self._waiters)

    def on_readable(self) -> None:
        """A message has come."""
        if self._waiters:
            self._wake()

    def on_end(self) -> None:
        """Nothing more comes."""
        super().deliver_disconnect()

    # The worker's side.

    @property
    def is_complete(self) -> bool:
        """True when the request has its answer, or will not have any."""
        if self._cut:
            return True
        return self._refusal.is_complete if self._refusal is not None else self.state is not CONNECTING

    def leave(self, code: int) -> None:
        """Close an open session from our side; the application is told at once."""
        if self.state is OPEN and not self._is_gone:
            self._websocket.close(code, "")
            self.on_end()

    def forget(self) -> None:
        """Note that the application has returned."""
        self._sessions.open.discard(self)
        super().forget()

    def _observe(self) -> None:
        refusal = self._refusal
        if refusal is not None:
            # With a status of its own it has been answered in the refusal's place (`refuse`).
            self.given_up = refusal.given_up or not (refusal.is_complete or self.status)
            self.status, self.first_byte, self.sent = refusal.status, refusal.first_byte, refusal.sent
        else:
            self.given_up = not self.status
        if self.is_accepted:
            self._is_observed = True
            self.ended = perf_counter()
            self.endpoint.observer.on_session(self)
        else:
            super()._observe()

    def end_incomplete(self, status: int) -> None:
        """Answer `status` in the place of a session; close an open one with 1011."""
        if self._refusal is not None:
            self._refusal.end_incomplete(status)
        elif self.state is OPEN:
            self._close(CloseCode.INTERNAL_ERROR, "")
        elif self.state is CONNECTING:
            self.state = CLOSED
            if self._cut or self._is_gone:
                self._stream.abort()
            else:
                self._send_error(status)
        self._wake()

    def on_return(self) -> None:
        """Close what the application has left open although it has returned."""
        if self._refusal is not None:
            self._refusal.on_return()
        elif self.state is OPEN:
            self._close(CloseCode.NORMAL, "")
        elif self.state is CONNECTING:
            if not self._is_gone:
                self._complain()
            self.end_incomplete(500)

    def _send_error(self, status: int) -> None:
        assert self._request is not None  # there is no session yet
        self.status = status
        self.sent = len(error_body(status))
        send_error(self._request, status, self.more_fields(), bodiless=False)

    def _close(self, code: int, reason: str) -> None:
        self.state = CLOSED
        self._websocket.close(code, reason)
        self._wake()

    # The application's side.

    async def receive(self) -> Message:
        """ASGI `receive`: `websocket.connect`, the messages, then `websocket.disconnect`."""
        if not self._connected:
            self._connected = True  # also when it was accepted unasked: this comes first
            return {"type": "websocket.connect"}
        websocket = self._websocket
        while True:
            if websocket.messages:
                message = websocket.take()
                self.messages_received += 1
                self.received += len(message) if isinstance(message, bytes) or message.isascii() else _size(message)
                return {"type": "websocket.receive", "text" if type(message) is str else "bytes": message}
            if websocket.ending is not None:
                websocket.settle()
            if self._disconnected or (self.state is not OPEN and self.is_complete):
                if self._told:
                    await asyncio.sleep(0)  # one that asks again and again must not hold the loop
                self._told = True
                return {"type": "websocket.disconnect", "code": int(websocket.code), "reason": websocket.reason}
            await self._wait()

    def _accept(self, message: Message) -> None:
        """`websocket.accept`: the stream becomes one of messages."""
        fields = [*self._handshake.fields]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            offered = self._handshake.subprotocols
            if subprotocol not in offered:
                raise ResponseError(f"subprotocol {subprotocol!r}: expected one that the client offers: {offered}")
            fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        headers, _ = check_fields(message.get("headers", ()))
        for name, _ in headers:
            if name in _OWNED or name.startswith(b"sec-websocket-"):
                raise ResponseError(f"header {name.decode()} of websocket.accept is the server's to write")
        self.state = OPEN
        self._active.discard(self)
        self._sessions.open.add(self)
        self.status = 101
        self.first_byte = perf_counter()
        assert self._request is not None  # it has not been accepted before
        fields += headers
        self._stream = self._request.send_upgrade([*fields, *missing_from(fields, self.more_fields())])
        self._request = None
        self._websocket.open(self._stream)

    def _refuse(self, message: Message) -> Awaitable[None]:
        """`websocket.http.response.start`: a response of the application's making in the place of the session."""
        self.state = REFUSED
        assert self._request is not None  # nor has it been accepted
        self._refusal = refusal = Exchange(
            self._request, self.head, replace(self.endpoint, observer=UNOBSERVED), self.scope, self._active
        )
        refusal.request_id = self.request_id
        return self._go_on_refusing(message)

    async def _go_on_refusing(self, message: Message) -> None:
        assert self._refusal is not None  # only then is the state REFUSED
        # Trailers are none of what ASGI knows of a refusal.
        kept = {key: value for key, value in message.items() if key != "trailers"}
        await self._refusal.send({**kept, "type": message["type"].removeprefix("websocket.")})
        if self._refusal.is_complete:
            self._wake()

    def _forbid(self, message: Message) -> None:
        """`websocket.close` before the session is accepted: 403 (ASGI WebSocket spec, "Close")."""
        self.state = CLOSED
        self._send_error(403)
        self._wake()

    def _send_message(self, message: Message) -> Awaitable[None] | None:
        data = message.get("bytes")
        if data is None:
            data = _encode(message.get("text"))
            self._websocket.send(FIN | TEXT, data)
        else:
            data = check_body(data)
            self._websocket.send(FIN | BINARY, data)
        self.messages_sent += 1
        self.sent += len(data)
        return self._give_way(len(data))

    def _send_close(self, message: Message) -> None:
        code, reason = message.get("code", CloseCode.NORMAL), message.get("reason") or ""
        if not isinstance(code, int) or not is_sendable(code):
            raise ResponseError(
                f"close code {code!r} cannot be sent: expected 1000 to 1003, 1007 to 1014, 3000 to 4999"
            )
        if len(_encode(reason)) > CLOSE_REASON_SIZE:
            raise ResponseError(f"close reason is too long: expected at most {CLOSE_REASON_SIZE} bytes in UTF-8")
        self._websocket.messages.clear()
        self._close(code, reason)


def _size(text: str) -> int:
    """Return the bytes of a text in UTF-8, in which all that was received came."""
    return len(text.encode())


def _encode(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ResponseError(f"text of a WebSocket is {type(text).__name__}: expected str, or bytes in its place")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise without_context(ResponseError("text of a WebSocket holds surrogates, which UTF-8 cannot")) from None


State.CONNECTING.actions = {
    "websocket.accept": Session._accept,
    "websocket.close": Session._forbid,
    "websocket.http.response.start": Session._refuse,
}
# The first may be said again when it could not be sent; which is next is the refusal's to know.
State.REFUSED.actions = {
    "websocket.http.response.start": Session._go_on_refusing,
    "websocket.http.response.body": Session._go_on_refusing,
}
State.OPEN.actions = {"websocket.send": Session._send_message, "websocket.close": Session._send_close}
State.CLOSED.actions = {}
