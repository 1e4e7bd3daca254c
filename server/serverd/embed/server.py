"""A server within the caller's process and event loop: what one worker does, without supervisor, signals or logging.

Sockets are bound as the supervisor binds them, applications are brought up and requests are served as in a worker.
What a configuration says about processes, logging and the control socket is not looked at: they are the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

from serverd.asgi.types import Application
from serverd.embed.configuration import Configured, configure, refuse
from serverd.embed.keywords import OF_PROCESSES, Options
from serverd.errors import LifespanError, ServerdError
from serverd.messages import AppDown, AppUp, Message, SocketGrant
from serverd.net.bindings import Bindings
from serverd.worker.applications import SHUTDOWN_TIMEOUT, Applications, Imported
from serverd.worker.apps import as_application
from serverd.worker.identities import make_identities
from serverd.worker.serving import Serving
from serverd.worker.sources import Sources

__all__ = ["Server"]

log = logging.getLogger("serverd.embed")


class Server:
    """One server, started once and stopped once.

        async with serverd.Server(app=app, port=0) as server:
            ...  # server.urls[0] is where it listens

    or `await serve()` until `stop()` is called.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        app: str | Application | None = None,
        handle_signals: bool = False,
        **options: Unpack[Options],
    ) -> None:
        """Prepare to serve a configuration (the path of a file, or a dict in its language) or one application.

        In a dict `apps.NAME.app` may be an application object. With `handle_signals`, SIGINT and SIGTERM end
        `serve`; that needs the main thread. Nothing is read before `startup`.
        """
        self._configure = partial(configure, config, app, options)
        self._options = options.keys()
        self._handles_signals = handle_signals
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._bindings: Bindings | None = None
        self._serving: Serving | None = None
        self._applications: Applications | None = None
        self._patience = 0.0

    # Life

    async def startup(self) -> None:
        """Bind the addresses, run the lifespans and begin to accept connections.

        Raises ConfigError, BindError, AppLoadError or LifespanError, with nothing left behind.
        """
        if self._loop is not None:
            raise ServerdError("a Server is started once: make another one")
        self._loop = asyncio.get_running_loop()
        refuse(sorted(OF_PROCESSES & self._options), "means nothing for a server within your process")
        configured = self._configure()
        generation = configured.generation
        for warning in generation.warnings:
            log.warning("%s", warning)
        self._patience = generation.server.graceful_timeout
        identities = make_identities(generation)
        self._applications = Applications(generation, self._hear, _imported(configured))
        self._bindings = Bindings()
        try:
            self._bindings.prepare(generation, 1)
            self._bindings.commit()
            await self._bring_up(self._applications, generation.server.start_timeout)
            serving = Serving(self._loop, generation, self._applications.endpoints, identities=identities)
            self._applications.on_change = serving.reroute
            grants = self._bindings.grants(generation.number)
            granted = [SocketGrant(listener, slot) for listener, slot, _ in grants]
            await serving.open(granted, [os.dup(sock.fileno()) for _, _, sock in grants])
            self._serving = serving
        except BaseException:
            try:
                await self._applications.shut_down()
            finally:
                self._bindings.close()
                self._bindings = None
            raise

    async def serve(self) -> None:
        """Serve until `stop` is called or the task is cancelled, then shut down; starts up first if need be."""
        if self._serving is None:
            await self.startup()
        try:
            with self._signals():
                await self._stopping.wait()
                await self.shutdown()
        finally:
            await self.shutdown()

    def stop(self) -> None:
        """Have `serve` end, from any thread; a second call cuts what is in flight."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def shutdown(self, patience: float | None = None) -> None:
        """Finish what is in flight within `patience` seconds, graceful_timeout by default, and close everything.

        Idle connections are ended after a second. Harmless when nothing is served.
        """
        serving, self._serving = self._serving, None
        if serving is None:
            return
        assert self._loop is not None and self._applications is not None and self._bindings is not None  # noqa: PT018
        patience = self._patience if patience is None else patience
        end = self._loop.time() + patience
        self._applications.give_up()
        try:
            await serving.close()
            await self._drain(serving, patience)
        finally:
            try:
                await self._applications.shut_down(max(end - self._loop.time(), SHUTDOWN_TIMEOUT))
            finally:
                self._bindings.close()
                self._bindings = None
                self._stopping.set()

    async def _drain(self, serving: Serving, patience: float) -> None:
        """Finish what is in flight; who is in a hurry, or cancelled, cuts it."""
        drain = asyncio.ensure_future(serving.drain(patience))
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            if not drain.done():
                drain.cancel()
                await serving.drain(0.0)

    async def __aenter__(self) -> Self:
        """Start up."""
        await self.startup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Shut down."""
        await self.shutdown()

    # Where it is

    @property
    def urls(self) -> list[str]:
        """Where it is reached, such as "http://127.0.0.1:8000"; empty unless it serves."""
        return [place.url for place in self._bindings.places()] if self._bindings and self._serving else []

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Host and port of every socket, the path of unix sockets; empty unless it serves."""
        if self._bindings is None or self._serving is None:
            return []
        names = [sock.getsockname() for _, _, sock in self._bindings.grants(0)]
        return [name if isinstance(name, str) else (name[0], name[1]) for name in names]

    # Parts

    async def _bring_up(self, applications: Applications, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                is_up = await applications.bring_up()
        except TimeoutError:
            raise LifespanError(f"the applications have not started within {patience:g} s (start_timeout)") from None
        if not is_up:
            assert applications.failure is not None
            raise applications.failure

    def _hear(self, message: Message) -> None:
        """Log what a worker would tell its supervisor of applications that may be down."""
        if isinstance(message, AppDown):
            log.warning("%s\n%s", message.summary, message.detail)
        elif isinstance(message, AppUp):
            log.info("app %s is up", message.app)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if not self._handles_signals:
            yield
            return
        assert self._loop is not None
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            self._loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                self._loop.remove_signal_handler(number)
                signal.signal(number, handler)


def _imported(configured: Configured) -> Imported | None:
    """Return the application objects as if somebody had imported them; None: there are none."""
    if not configured.objects:
        return None
    apps = {app.name: app for app in configured.generation.apps}
    ready = {name: as_application(apps[name], loaded) for name, loaded in configured.objects.items()}
    return Imported(ready, Sources(app.directory for app in apps.values()))
