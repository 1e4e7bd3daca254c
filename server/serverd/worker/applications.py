"""The applications of a worker: brought up, down and tried again, shut down.

`process` makes one `Applications`. An application whose failure is no reason to give up (on_failure =
"unavailable") has an endpoint that answers 503 while it is down, and is tried again with growing waits. A try
imports in the main thread, as the first one did, because much code may only be imported there (signal handlers,
event loops made at import time): the event loop stands still meanwhile, which is the price of one process.

Modules that could be imported stay imported from one try to the next, as Python has it, since many cannot be
imported twice (a metric is registered once). When one of their files has changed, all that the application has
imported from its directory is imported anew: an operator who has mended something means it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass

from serverd.asgi import builtin
from serverd.asgi.lifespan import Lifespan
from serverd.asgi.scope import Endpoint
from serverd.asgi.types import Application
from serverd.errors import AppError
from serverd.generation import App, Generation
from serverd.messages import AppDown, AppUp, Failed, Message, Starting
from serverd.worker import retry
from serverd.worker.apps import explain, load_app, place
from serverd.worker.sources import Sources

__all__ = ["SHUTDOWN_TIMEOUT", "Applications", "Imported", "told"]

log = logging.getLogger("serverd.worker")

# What is left of a drain for the lifespan shutdowns when the requests have used all of it.
SHUTDOWN_TIMEOUT = 5.0
# Characters of an application's failure that are told: the end of a traceback says what went wrong.
_SUMMARY_SIZE = 2_000
_DETAIL_SIZE = 100_000
# Of start_timeout: an application that may be down and has not started by then is taken for down, so that the
# worker is ready before the supervisor gives it up.
_START_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported before this process was forked."""

    applications: dict[str, Application]  # by name; without those that failed and may be down
    sources: Sources


class Applications:
    """The applications of one worker."""

    def __init__(
        self,
        generation: Generation,
        tell: Callable[[Message], None],
        imported: Imported | None = None,
        slot: int = 0,
    ) -> None:
        """Prepare; `tell` sends to the supervisor, `imported` comes from a preloader, `slot` is that of the worker."""
        self.endpoints: dict[str, Endpoint] = {}  # by name; also of those that are down
        self.failure: AppError | None = None  # for which `bring_up` has given up
        self.on_change: Callable[[], None] | None = None  # called when an endpoint has been replaced
        self.sources = imported.sources if imported else Sources(app.directory for app in generation.apps)
        self._preloaded = dict(imported.applications) if imported else {}
        # With a preloader nobody knows which modules came with which application: any may be imported anew.
        self._tracks_imports = not imported
        self._apps = {app.name: app for app in generation.apps}
        # Of all applications, as their modules are: what one sets while it is imported (the precision of `decimal`, the
        # error handling of numpy) is meant for its requests, and nobody would find out that it is not set there.
        self._context = copy_context()
        self._start_timeout = generation.server.start_timeout
        self._tell = tell
        self._slot = slot
        self._lifespans: list[Lifespan] = []  # that are up, or on their way
        self._imported: dict[str, set[str]] = {}  # modules that came with an application that is down
        self._next_try: dict[str, float] = {}  # of applications that are down: in the loop's time
        self._trials: set[asyncio.Task[None]] = set()

    def down(self) -> list[str]:
        """Return the names of the applications that are not up."""
        return [name for name, endpoint in self.endpoints.items() if endpoint.is_ours]

    def adopt(self, generation: Generation) -> None:
        """Go by the settings of another generation of the same applications."""
        self._apps = {app.name: app for app in generation.apps}

    async def bring_up(self) -> bool:
        """Import and start every application; tell the supervisor and return False when one that must not fails."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout * _START_SHARE
        outcomes = {}
        for app in self._apps.values():
            self._tell(Starting(place(app)))
            if app.on_failure == "unavailable":
                outcomes[app.name] = loop.create_future()
                await self._begin_trials(app, outcomes[app.name])
                continue
            try:
                self.endpoints[app.name] = await self._start(app)
            except AppError as error:
                self.failure = error
                self._tell(Failed(*told(*explain(app, error))))
                return False
        if outcomes:
            await asyncio.wait(outcomes.values(), timeout=max(deadline - loop.time(), 0.0))
        for name in outcomes.keys() - self.endpoints.keys():
            patience = self._start_timeout * _START_SHARE
            app = self._apps[name]
            self._set_down(app, f"{place(app)}: not up after {patience:g} s, its start-up goes on", "", retry.wait(1))
        return True

    async def shut_down(self, patience: float = SHUTDOWN_TIMEOUT) -> None:
        """Shut the applications down, all at once: one that hangs takes nothing from the others.

        A start-up that goes on is broken off; `bring_up` must have ended or have been cancelled.
        """
        self.give_up()
        if self._trials:
            await asyncio.wait(self._trials)  # cancelled: they start nothing more
        stops = {asyncio.ensure_future(lifespan.stop()): lifespan.name for lifespan in self._lifespans}
        if not stops:
            return
        try:
            _, hanging = await asyncio.wait(stops, timeout=patience)
            for stop in hanging:
                log.warning("app %s did not shut down within %g s", stops[stop], patience)
        finally:
            for stop in stops:
                stop.cancel()  # without effect on one that has ended

    def give_up(self) -> None:
        """Try no application again."""
        for trial in self._trials:
            trial.cancel()

    # Applications that may be down.

    async def _begin_trials(self, app: App, outcome: asyncio.Future[None]) -> None:
        """Begin to start `app`, and return while it goes on: one that hangs takes no time from the others."""
        trial = asyncio.create_task(self._try_until_up(app.name, outcome), name=f"start of {app.name}")
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)
        await asyncio.sleep(0)  # it imports; what follows comes after it, as the configuration has it

    async def _try_until_up(self, name: str, outcome: asyncio.Future[None]) -> None:
        """Start the application until it is up; `outcome` is done when the first try has ended."""
        failures = 0
        while True:
            app = self._apps[name]
            try:
                endpoint = await self._start(app)
            except AppError as error:
                failures += 1
                wait = retry.wait(failures, self._slot)
                self._set_down(app, *explain(app, error), wait)
            else:
                self._set_up(name, endpoint)
                return
            finally:
                if not outcome.done():
                    outcome.set_result(None)
            await asyncio.sleep(wait)
            self._forget_changed(app)

    def _set_down(self, app: App, summary: str, detail: str, wait: float) -> None:
        loop = asyncio.get_running_loop()
        self._next_try[app.name] = loop.time() + wait
        if app.name not in self.endpoints:
            answer = builtin.unavailable(lambda: self._next_try[app.name] - loop.time())
            self.endpoints[app.name] = Endpoint(answer, "serverd", is_ours=True)
        self._tell(AppDown(app.name, *told(summary, detail), wait))

    def _set_up(self, name: str, endpoint: Endpoint) -> None:
        was_down = name in self.endpoints
        self.endpoints[name] = endpoint
        self._imported.pop(name, None)
        if was_down:
            if self.on_change is not None:
                self.on_change()
            self._tell(AppUp(name))

    def _forget_changed(self, app: App) -> None:
        """Make the next import see what has been mended."""
        importlib.invalidate_caches()  # a file may be there that was looked for in vain
        if self.sources.change(app.directory) is not None:
            self.sources.forget(self._imported.pop(app.name, set()), app.directory)

    # One application.

    async def _start(self, app: App) -> Endpoint:
        before = set(sys.modules) if self._tracks_imports else set()
        try:
            application = self._preloaded.pop(app.name, None) or self._context.run(load_app, app)
        finally:
            self.sources.remember()
            if app.on_failure == "unavailable":
                self._imported.setdefault(app.name, set()).update(sys.modules.keys() - before)
        lifespan = Lifespan(application, app.name, app.lifespan, self._context.copy())
        # First: whoever cancels us leaves behind what may have started already.
        self._lifespans.append(lifespan)
        try:
            await lifespan.start()
        except AppError:
            self._lifespans.remove(lifespan)  # it has ended, and the next try makes its own
            raise
        return Endpoint(application, app.name, state=lifespan.state, context=self._context)


def told(summary: str, detail: str) -> tuple[str, str]:
    """Return what of a failure is told."""
    return summary[:_SUMMARY_SIZE], detail[-_DETAIL_SIZE:]
