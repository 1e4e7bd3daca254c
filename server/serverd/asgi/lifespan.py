"""The ASGI lifespan of one application in one worker (ASGI Lifespan specification 2.0).

`auto` tolerates only an application that does not speak lifespan: one that, before it has asked for an event,
returns, answers in another protocol, or raises because of the type of the scope. Everything else that it
raises is a failure: a framework may build its middleware, and fail at it, before its first `receive`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from contextvars import Context
from enum import Enum

from serverd.asgi.types import Application, Message, Scope, State
from serverd.errors import LifespanError

__all__ = ["Lifespan", "Phase"]

log = logging.getLogger("serverd.lifespan")

# How long an application that has said it failed may take to raise what it failed of.
_LAST_WORDS_TIMEOUT = 1.0


class Phase(Enum):
    """Where the lifespan of an application stands."""

    OFF = "not run, or not spoken by the application"
    SILENT = "called, has not asked for an event"
    STARTING = "has asked for an event, start-up is not complete"
    UP = "start-up is complete"
    STOPPING = "shutdown has been announced"
    DOWN = "shutdown is complete"


class Lifespan:
    """Start-up and shutdown of an application, and the state it shares with its requests."""

    def __init__(self, application: Application, name: str, mode: str, context: Context | None = None) -> None:
        """Prepare; `mode` is "auto", "on" or "off", `context` what to run it in; None: a copy of ours."""
        self.state: State = {}
        self.phase = Phase.OFF
        self._application = application
        self.name = name
        self._mode = mode
        self._context = context
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()  # the application has answered the event of this phase
        self._failure: str | None = None  # the message of a *.failed
        self._exit: BaseException | None = None  # the application has called sys.exit()
        self._task: asyncio.Task[None] | None = None
        self._judged = False  # `start` has said how the start-up ended; not if it was cancelled

    async def start(self) -> None:
        """Run the start-up; raises LifespanError, with the application's exception as its cause.

        Who cancels it calls `stop`, which brings to an end what has begun.
        """
        if self._mode == "off":
            return
        self.phase = Phase.SILENT
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._call(), name=f"lifespan of {self.name}", context=self._context)
        self._task.add_done_callback(self._on_end)
        await self._wait_for_answer()
        if self._failure is not None:
            await asyncio.wait({self._task}, timeout=_LAST_WORDS_TIMEOUT)
            self._task.cancel()  # without effect on one that has ended
        self._judged = True
        if self._failure is not None:
            # Starlette sends its whole traceback as the message; the exception that follows says it again.
            message = self._failure.strip().rpartition("\n")[2] if self._exception() else self._failure
            raise LifespanError(f"start-up failed: {message or 'without a message'}") from self._exception()
        if self.phase is not Phase.UP:
            self._judge_end()

    def _judge_end(self) -> None:
        """Decide about an application that ended before its start-up was complete."""
        error = self._exception()
        if self.phase is not Phase.SILENT:
            raise LifespanError("ended before its start-up was complete") from error
        why = "it returned" if error is None else traceback.format_exception_only(error)[-1].strip()
        if error is not None and not _is_about_scope(error):
            remedy = (
                ' (lifespan = "off" for an application that does not speak lifespan)' if self._mode == "auto" else ""
            )
            raise LifespanError(f"failed before its start-up: {why}{remedy}") from error
        if self._mode == "on":
            raise LifespanError("does not speak lifespan") from error
        self.phase = Phase.OFF
        log.info("app %s does not speak lifespan (%s)", self.name, why)

    async def stop(self) -> None:
        """Run the shutdown; a failure is logged, nobody can do anything about it.

        A start-up whose `start` was cancelled is broken off if it goes on, and followed by its shutdown if it is
        complete, whichever way that came about.
        """
        if self._task is None:
            return
        if not self._judged and self.phase is not Phase.UP:
            await self._break_off()
        if self.phase is not Phase.UP:
            return
        self.phase = Phase.STOPPING
        self._failure = None
        self._answered.clear()
        self._events.put_nowait({"type": "lifespan.shutdown"})
        try:
            await self._wait_for_answer()
            await asyncio.wait({self._task}, timeout=_LAST_WORDS_TIMEOUT)
            error = self._exception()
            if self._failure is not None or error is not None:
                log.error("app %s failed to shut down: %s", self.name, self._failure or error, exc_info=error)
        finally:
            self._task.cancel()

    async def _break_off(self) -> None:
        """Cancel a start-up that nobody waits for any more; return when it has ended, or is complete after all."""
        assert self._task is not None  # the caller has looked
        self._judged = True
        failure = self._failure  # as of now: a framework that is cancelled says that it has failed
        self._answered.clear()
        self._task.cancel()  # without effect on one that has ended
        await self._wait_for_answer()
        if self.phase is Phase.UP:
            return
        await asyncio.wait({self._task}, timeout=_LAST_WORDS_TIMEOUT)
        error = self._exception()
        if error is not None and self.phase is Phase.SILENT and _is_about_scope(error):
            return  # it does not speak lifespan
        if failure is not None or error is not None:
            log.error(
                "app %s failed while its start-up was broken off: %s", self.name, failure or error, exc_info=error
            )

    async def _call(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._application(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio would end the process before anybody could say why.
            self._exit = error

    async def _wait_for_answer(self) -> None:
        """Wait until the application has answered or ended."""
        assert self._task is not None  # the callers have started it
        answered = asyncio.ensure_future(self._answered.wait())
        try:
            await asyncio.wait({self._task, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()

    def _exception(self) -> BaseException | None:
        if self._exit is not None:
            return self._exit
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        error = self._exception()  # looked at in any case: asyncio complains of one that nobody has retrieved
        if error is None:
            return
        if self.phase is Phase.UP:
            log.error("app %s: its lifespan ended with an error while it was serving", self.name, exc_info=error)
        else:  # who waits for it says so; one that comes later changes nothing
            log.debug("app %s: its lifespan ended with an error: %r", self.name, error)

    async def _receive(self) -> Message:
        if self.phase is Phase.SILENT:
            self.phase = Phase.STARTING
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        follows = _ANSWERS.get((self.phase, kind))
        if follows is None:
            raise LifespanError(f"unexpected message {kind!r} while {self.phase.value}")
        if kind.endswith(".failed"):
            self._failure = str(message.get("message", ""))
        self.phase = follows
        self._answered.set()


# What applications say when they are asked for something else than HTTP: Django "can only handle ASGI/HTTP
# connections, not lifespan", Channels "no application configured for scope type 'lifespan'", and by hand.
_ABOUT_SCOPE = re.compile(r"\blifespan\b|\bscope\b|\bonly (?:handles? |supports? |speaks? )?https?\b", re.IGNORECASE)
# What the scope of a request has and that of a lifespan lacks: who takes one for the other looks for these.
_HTTP_KEYS = frozenset(("client", "headers", "http_version", "method", "path", "query_string", "raw_path", "root_path"))


def _is_about_scope(error: BaseException) -> bool:
    """Return whether an application raised `error` because it knows no lifespan scope, as far as one can tell."""
    if isinstance(error, NotImplementedError | LifespanError):
        return True  # a LifespanError is ours, for a message of another protocol
    if isinstance(error, KeyError):
        return bool(error.args) and error.args[0] in _HTTP_KEYS
    if isinstance(error, AssertionError) and not str(error):
        return True  # assert scope["type"] == "http"
    return isinstance(error, Exception) and _ABOUT_SCOPE.search(str(error)) is not None


# Phase x message -> phase. A server may be answered before it was asked: some applications never receive.
_ANSWERS: dict[tuple[Phase, str], Phase] = {
    (Phase.SILENT, "lifespan.startup.complete"): Phase.UP,
    (Phase.STARTING, "lifespan.startup.complete"): Phase.UP,
    (Phase.SILENT, "lifespan.startup.failed"): Phase.DOWN,
    (Phase.STARTING, "lifespan.startup.failed"): Phase.DOWN,
    (Phase.STOPPING, "lifespan.shutdown.complete"): Phase.DOWN,
    (Phase.STOPPING, "lifespan.shutdown.failed"): Phase.DOWN,
}
