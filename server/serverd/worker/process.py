"""The life of a worker: receive a generation, bring it up, say ready, serve, drain, end.

Everything it learns comes over the channel; everything it decides is told there. Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from setproctitle import setproctitle

from serverd.asgi.lifespan import Lifespan
from serverd.asgi.scope import Endpoint
from serverd.errors import AppError
from serverd.generation import App, Generation
from serverd.messages import Drain, Draining, Failed, Message, Ready, Start, Starting
from serverd.observe import logs
from serverd.worker.apps import explain, load_app, place
from serverd.worker.channel import Channel
from serverd.worker.serving import Serving

__all__ = ["run"]

log = logging.getLogger("serverd.worker")

# What is left of a drain for the lifespan shutdowns when the requests have used all of it.
_SHUTDOWN_TIMEOUT = 5.0
# Characters of an application's failure that are told: the end of a traceback says what went wrong.
_SUMMARY_SIZE = 2_000
_DETAIL_SIZE = 100_000
# Seconds that tasks which outlive everything have to end when they are cancelled.
_CANCEL_TIMEOUT = 1.0
# Seconds before start_timeout at which a start-up that hangs shows its stack. The supervisor counts
# from the spawn, we from when the interpreter is up, which takes 0.2 s and on a busy machine several
# times that; the stack has to be out before the supervisor kills us.
_STACK_MARGIN = 1.0


def run(channel: Channel, title: str) -> int:
    """Run a worker on `channel` until it is drained; return the exit code: 0, or 3 for a generation that fails."""
    start = channel.receive()
    if start is None:
        return 0  # the supervisor has gone before it said anything
    assert isinstance(start, Start)  # the first message, always
    logs.configure(start.generation.logging, sys.stderr)
    setproctitle(f"{title} (starting)")
    runner = asyncio.Runner(loop_factory=_loop_factory(start.generation.server.loop))
    code = _run_on(runner.get_loop(), _Worker(channel, start, title).run())
    if runner.run(_cancel_leftovers()):
        runner.close()  # waits for every task, which is why a stubborn one is left to the end of the process
    return code


def _run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, int]) -> int:
    """Run the worker to its end, whatever the tasks of its applications do to the loop."""
    task = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            # sys.exit() in a task leaves the loop, loop.stop() stops it: neither is an application's to do.
            if task.done():
                raise
            log.error("an application has stopped the event loop, which goes on: %r", error)


async def _cancel_leftovers() -> bool:
    """Cancel the tasks that the applications have left behind; return whether all of them ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, stubborn = await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT)
    for task in stubborn:
        log.warning("left behind: task %s does not end when it is cancelled", task.get_name())
    return not stubborn


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop" or (name == "auto" and importlib.util.find_spec("uvloop")):
        import uvloop  # only where it is used: not every platform has it

        return uvloop.new_event_loop
    return asyncio.new_event_loop


class _Worker:
    """One run of a worker."""

    def __init__(self, channel: Channel, start: Start, title: str) -> None:
        self._channel = channel
        self._start = start
        self._generation: Generation = start.generation
        self._title = title
        self._lifespans: list[Lifespan] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._drain: asyncio.Future[float] = loop.create_future()  # seconds; set when a drain is asked for
        self._channel.watch(loop, self._on_message)
        loop.add_signal_handler(signal.SIGTERM, self._ask_for_drain, self._generation.server.graceful_timeout)
        bring_up = asyncio.ensure_future(self._bring_up())
        await asyncio.wait((bring_up, self._drain), return_when=asyncio.FIRST_COMPLETED)
        if not bring_up.done():
            # Nobody wants this generation any more, and its start-up may take for ever.
            bring_up.cancel()
            await asyncio.wait({bring_up})
            await self._shut_down(_SHUTDOWN_TIMEOUT)
            return 0
        endpoints = bring_up.result()
        if endpoints is None:
            await self._shut_down(_SHUTDOWN_TIMEOUT)
            return 3
        serving = Serving(loop, self._generation, endpoints)
        if not self._drain.done():
            await serving.open(self._start.sockets)
            # The collector need not walk the applications' modules again; performance.md, "gc.freeze".
            gc.collect()
            gc.freeze()
            self._channel.send(Ready(os.getpid()))
            setproctitle(f"{self._title} (ready)")
        timeout = await self._drain
        setproctitle(f"{self._title} (draining)")
        end = loop.time() + timeout
        await serving.close()
        self._channel.send(Draining())
        await serving.drain(timeout)
        await self._shut_down(max(end - loop.time(), _SHUTDOWN_TIMEOUT))
        return 0

    def _on_message(self, message: Message | None) -> None:
        if message is None:
            # The supervisor has gone: nobody would replace us, and the port must become free.
            self._ask_for_drain(self._generation.server.graceful_timeout)
        elif isinstance(message, Drain):
            self._ask_for_drain(message.timeout)

    def _ask_for_drain(self, timeout: float) -> None:
        if not self._drain.done():
            self._drain.set_result(timeout)

    async def _bring_up(self) -> dict[str, Endpoint] | None:
        """Import and start every application; tell the supervisor and return None when one fails."""
        endpoints = {}
        self._show_stack_before_the_end()
        try:
            for app in self._generation.apps:
                self._channel.send(Starting(place(app)))
                try:
                    endpoints[app.name] = await self._bring_up_app(app)
                except AppError as error:
                    summary, detail = explain(app, error)
                    self._channel.send(Failed(summary[:_SUMMARY_SIZE], detail[-_DETAIL_SIZE:]))
                    return None
        finally:
            faulthandler.cancel_dump_traceback_later()
        return endpoints

    def _show_stack_before_the_end(self) -> None:
        """Have the stack written to stderr when the start-up is about to be killed.

        That is plain text and no log line, as a blocked import lets no Python code run that could make
        one. faulthandler escapes what is not printable, so that no application forges a line with it.
        """
        server = self._generation.server
        # One slot after the other: the text is written piece by piece, and would be mixed.
        margin = min(_STACK_MARGIN, server.start_timeout / 4) * (2 - self._start.slot / server.workers)
        delay = max(server.start_timeout - margin, 0.001)  # it refuses what rounds to nothing
        faulthandler.dump_traceback_later(delay)

    async def _bring_up_app(self, app: App) -> Endpoint:
        application = load_app(app)
        lifespan = Lifespan(application, app.name, app.lifespan)
        await lifespan.start()
        self._lifespans.append(lifespan)
        return Endpoint(application, app.name, state=lifespan.state)

    async def _shut_down(self, patience: float) -> None:
        """Shut the applications down, all at once: one that hangs takes nothing from the others."""
        stops = {asyncio.ensure_future(lifespan.stop()): lifespan.name for lifespan in self._lifespans}
        if not stops:
            return
        _, hanging = await asyncio.wait(stops, timeout=patience)
        for stop in hanging:
            log.warning("app %s did not shut down within %g s", stops[stop], patience)
            stop.cancel()
