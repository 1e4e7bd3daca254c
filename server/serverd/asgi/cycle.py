"""What the cycles of HTTP and WebSocket have in common: a scope, an application that runs in a task, and its end.

`Exchange` and `Session` are cycles. The connection creates one for each request head, starts it, and calls
`deliver_body` and `deliver_disconnect`; the worker looks at those in flight and cuts them off in the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from inspect import CORO_CREATED, getcoroutinestate
from time import perf_counter
from types import CoroutineType
from typing import Any, Final

from serverd.asgi.calling import call
from serverd.asgi.failure import began_with_disconnect
from serverd.asgi.scope import Endpoint
from serverd.asgi.stream import ByteStream
from serverd.asgi.turn import Turn
from serverd.asgi.types import Message, Scope
from serverd.errors import ClientDisconnected, ResponseError
from serverd.protocol.head import Fields, RequestHead

__all__ = ["Cycle", "Stage"]

log = logging.getLogger("serverd.exchange")

# What a message counts for beside its bytes: one that sends small ones and awaits nothing would keep the loop from
# everybody.
_MESSAGE_WEIGHT: Final = 4 * 1024


class Stage(Enum):
    """How far a cycle has come; `actions` is what the application may send next: message type -> what is done."""

    _value_: str  # said because mypyc takes `actions`, which is none, for a value otherwise
    actions: dict[str, Callable[[Any, Any], Awaitable[None] | None]]


class Cycle:
    """One call of an application."""

    __slots__ = (
        "_active",
        "_cut",
        "_disconnected",
        "_is_observed",
        "_stream",
        "_waiters",
        "_weight",
        "began",
        "client",
        "ended",
        "endpoint",
        "first_byte",
        "given_up",
        "head",
        "host",
        "received",
        "request_id",
        "scope",
        "sent",
        "state",
        "status",
        "task",
        "tls",
        "trace_id",
    )

    ended: float  # when observers were told
    owes_continue = False  # the peer may hold the request body back for a 100 (RFC 9110 §10.1.1)
    ends_with_peer = False  # nothing can be sent to one that sends nothing more
    # Bytes that are sent, and something for each message, after which others get their turn: a tenth of a millisecond.
    # A quarter of it had each part of a stream pay for a turn of the loop; benchmarks/ "50 parts".
    fair_size = 256 * 1024

    def __init__(
        self, stream: ByteStream, head: RequestHead, endpoint: Endpoint, scope: Scope, active: set[Cycle], state: Stage
    ) -> None:
        """Prepare the cycle; `active` is the worker's set of requests in flight."""
        self.scope = scope
        self.state = state
        self.endpoint = endpoint
        self.task: asyncio.Task[None] | None = None
        self.head = head
        # What observers see. Hot path: this and no more for each request; benchmarks/ "plain GET".
        self.began = perf_counter()  # seconds, on a clock of its own
        self.first_byte = 0.0  # when the first byte of the response was sent; 0: with all of it, or never
        self.host = head.host  # as it is believed, too
        self.client = scope["client"]  # as it is believed; the scope is the application's to change
        self.request_id = ""  # its name in the logs
        self.tls: Mapping[str, object] | None = None  # what TLS says of the connection; None: in the clear
        self.trace_id = ""  # of a distributed trace that it is a part of; "": none
        self.status = 0  # of the final response, also when it could not be sent any more; 0: none was begun
        self.sent = 0  # bytes of the response body, or of messages
        self.received = 0  # bytes of the request body, or of messages
        self.given_up = False  # the peer has no whole response
        self._is_observed = False  # the observer has been told of the end
        self._stream = stream
        self._active = active
        self._cut = False  # the worker has ended it
        self._disconnected = False  # nothing more comes from the peer
        self._waiters: list[asyncio.Future[None]] | None = None  # one for each call of `receive` that waits
        self._weight = 0  # of what has been sent: its bytes, and something for each message

    # The connection's side.

    def start(self, turn: Turn) -> None:
        """Run the application in a task of its own, and a copy of the context in which it was imported."""
        self._active.add(self)
        turn.created += 1
        loop = turn.loop
        context = self.endpoint.context.copy()
        if turn.is_usual and loop.get_task_factory() is None:
            # Hot path: what `create_task` does, without making up a name first; benchmarks/ "plain GET", "HTTP/2".
            self.task = asyncio.Task(call(self, turn), loop=loop, name=self.request_id, context=context)
        else:
            self.task = loop.create_task(call(self, turn), context=context)  # a factory may know no name

    def deliver_body(self, data: bytes, end: bool) -> bool:
        """Take what the peer sends; return whether reading should pause."""
        raise NotImplementedError

    def deliver_disconnect(self) -> None:
        """Take note that nothing more comes from the peer."""
        self._disconnected = True
        self._wake()

    def refuse(self, status: int, size: int) -> None:
        """Take note that the connection answers `status`, with a body of `size` bytes, in the application's place.

        That is its end to observers, however long the application goes on; `deliver_disconnect` follows.
        """
        self.status = status
        self.sent = size
        self.first_byte = perf_counter()
        if not self._is_observed:
            self._observe()

    @property
    def waits_for_body(self) -> bool:
        """True while the application waits for a part of the request body."""
        return False

    # The worker's side.

    @property
    def is_complete(self) -> bool:
        """True when the peer has its answer, whatever the application still does."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """The request line as logs show it."""
        return f"{self.head.method} {self.head.raw_path.decode('ascii', 'backslashreplace')}"

    def more_fields(self) -> Fields:
        """Return the fields that the response gets which has none of the name."""
        endpoint = self.endpoint
        if endpoint.request_id_name:
            return [*endpoint.fields, (endpoint.request_id_name, self.request_id.encode())]
        return endpoint.fields

    def cancel(self) -> asyncio.Task[None]:
        """Cut the application off at the end of a drain; return the task that ends with it."""
        assert self.task is not None  # it has been started
        self._cut = True
        coroutine = self.task.get_coro()
        if isinstance(coroutine, CoroutineType) and getcoroutinestate(coroutine) == CORO_CREATED:
            # Behind its first step: of a task that is cancelled before it nothing runs, not even what notes its end.
            self.task.get_loop().call_soon(self.task.cancel)
        else:
            self.task.cancel()
        return self.task

    def conclude(self) -> None:
        """End a call whose task others have cancelled before its first step: nothing of it runs, nor notes its end."""
        if self.task is not None and self.task.done():
            self.on_failure(asyncio.CancelledError("before the application was called"))
            self.forget()

    def expire(self) -> None:
        """End a request that has taken too long: answer 504 if nothing is on the wire, and cancel the application."""
        self.end_incomplete(504)
        self.cancel()

    # The end of the call (`calling`).

    def on_failure(self, error: BaseException) -> None:
        """Log what the application has failed with, and end what it has not."""
        if self._cut or (self._is_gone and began_with_disconnect(error)):
            log.debug("app %s ended early on %s: %r", self.endpoint.name, self.description, error)
        else:
            trace = {"trace_id": self.trace_id} if self.trace_id else None
            log.error("app %s failed on %s", self.endpoint.name, self.description, exc_info=error, extra=trace)
        self.end_incomplete(500)

    def on_return(self) -> None:
        """End what the application has left open although it has returned."""
        raise NotImplementedError

    def forget(self) -> None:
        """Note that the application has returned."""
        self._active.discard(self)
        if not self._is_observed:
            self.given_up = True
            self._observe()

    def _observe(self) -> None:
        """Tell the observer, once, of the end."""
        self._is_observed = True
        self.ended = perf_counter()
        self.endpoint.observer.on_exchange(self)

    @property
    def _is_gone(self) -> bool:
        """Whether nothing that is sent can reach the peer."""
        return self._stream.closed or (self._disconnected and self.ends_with_peer)

    def end_incomplete(self, status: int) -> None:
        """End what the application has not: with a response of `status` while nothing is on the wire."""
        raise NotImplementedError

    def _complain(self) -> None:
        """Log that the application has returned too early."""
        expected = " or ".join(self.state.actions)
        log.error("app %s returned too early on %s: expected %s", self.endpoint.name, self.description, expected)

    # The application's side.

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """ASGI `send`: do what `state` has for the message.

        Raises ClientDisconnected as `on_unheard` has it, ResponseError for what must not be sent.
        """
        # Hot path: `_is_gone` without a call for it; benchmarks/ "plain GET", "50 parts".
        if self._stream.closed or (self._disconnected and self.ends_with_peer):
            await self.on_unheard()
            return
        action = self.state.actions.get(message["type"])
        if action is None:
            expected = " or ".join(self.state.actions) or f"nothing: {self.state.value}"
            raise ResponseError(f"unexpected message {message['type']!r}: expected {expected}")
        pending = action(self, message)
        if pending is not None:
            await pending
        if self._stream.blocked:
            await self._stream.writable()

    async def on_unheard(self) -> None:
        """Say what becomes of a message when nothing can reach the peer."""
        raise ClientDisconnected

    def _give_way(self, size: int) -> Awaitable[None] | None:
        """Count a message of `size` bytes; return what to await when it is the turn of others.

        Else one that awaits nothing would keep the loop from everybody, and never hear that its client has gone.
        """
        self._weight = weight = self._weight + size + _MESSAGE_WEIGHT
        if weight < self.fair_size:
            return None
        self._weight = 0
        return asyncio.sleep(0)

    async def _wait(self) -> None:
        """Wait for the next event: what the peer sends, its disconnect, the end of the cycle."""
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._give_up(waiter)

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        """Forget a waiter that the application has given up."""
        # Apart from `_wait`: mypy, and mypyc with it, believes that `_waiters` is still the list that it was there.
        if self._waiters and waiter in self._waiters:
            self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters = self._waiters
        if waiters:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
