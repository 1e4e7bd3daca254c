"""The processes that the supervisor has started: what they say and how they end, as events.

It holds their handles, waits on them through the supervisor's selector and carries messages to them. It
decides nothing: what comes from a child goes to `emit`, and `supervisor` says what is to be done.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from serverd.generation import Generation
from serverd.messages import FROM_WORKER, Failed, Loaded, LoadFailed, ToWorker, encode
from serverd.parent import take_in_orphans
from serverd.supervisor import events, spawn
from serverd.supervisor.handle import Garbage, LoaderHandle, WorkerHandle
from serverd.supervisor.ledger import Ledger
from serverd.supervisor.preloader import PreloaderHandle
from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands, Process, Surroundings
from serverd.supervisor.wording import describe_exit, why_no_process

__all__ = ["Children"]

log = logging.getLogger("serverd.supervisor")

# Seconds for a killed preloader or loader to be gone at the very end, so that no zombie is left to whoever adopts it.
REAP_PATIENCE = 1.0

Handle = WorkerHandle | PreloaderHandle | LoaderHandle
Outcome = Callable[[Loaded | LoadFailed], None]


class _Attention(NamedTuple):
    """What is done about a child whose process has not been reaped."""

    hear: Callable[[], None]  # take in what it has said
    on_end: Callable[[int], None]  # with its status, when its handle is closed


class Children:
    """Workers by number, preloaders by generation, and loaders."""

    def __init__(
        self, selector: selectors.BaseSelector, emit: Callable[[events.Event], None], commands: Commands
    ) -> None:
        self._selector = selector
        self._emit = emit
        self._commands = commands
        self.ledger = Ledger()
        self._workers: dict[int, WorkerHandle] = {}
        self._preloaders: dict[int, PreloaderHandle] = {}  # by generation
        self._loaders: dict[LoaderHandle, Outcome] = {}
        self._children: dict[Handle, _Attention] = {}  # all of these, until they are reaped

    # Workers

    def __contains__(self, worker: int) -> bool:
        """Return whether the process of a worker exists, or has not been reaped."""
        return worker in self._workers

    def spawn(self, number: int, preloader_of: int, title: str, surroundings: Surroundings) -> None:
        """Start a worker, from the preloader of that generation if it lives; brings WorkerSpawned or SpawnFailed."""
        preloader = self._preloaders.get(preloader_of)
        try:
            if preloader is None or not preloader.can_fork:
                process, channel, stacks = spawn.spawn_worker(self._commands.worker, title, surroundings)
            else:
                process, channel, stacks = spawn.fork_worker(partial(self._fork, preloader, title, surroundings))
        except OSError as error:
            self._emit(events.SpawnFailed(number, why_no_process(error)))
            return
        handle = self._workers[number] = WorkerHandle(number, process, channel, stacks)
        self._attend(handle, partial(self._hear_worker, handle), partial(self._on_worker_end, handle))
        self._emit(events.WorkerSpawned(number, process.pid))

    def _fork(self, preloader: PreloaderHandle, title: str, surroundings: Surroundings, *descriptors: int) -> int:
        stderr = sys.stderr.fileno() if surroundings.stderr is None else surroundings.stderr
        known = self._pids() | spawn.children()
        pid = preloader.fork(title, (*descriptors, stderr))
        if pid in known:
            raise OSError("the preloader names a process that is another child")
        return pid

    def send(self, number: int, message: ToWorker, descriptors: list[int] | None = None) -> None:
        """Send a worker a message; without effect on one that has gone, or could not be spawned."""
        handle = self._workers.get(number)
        if handle is not None and handle.is_open:
            handle.send(message, descriptors or ())
            self._watch(handle)

    def send_all(self, message: ToWorker, descriptors: list[int]) -> None:
        """Send every worker a message."""
        for number in list(self._workers):
            self.send(number, message, descriptors)

    def kill(self, number: int) -> None:
        """Send a worker SIGKILL; without effect on one that has gone."""
        handle = self._workers.get(number)
        if handle is not None:
            handle.process.kill()

    def request_stacks(self, number: int) -> None:
        """Have a worker write down the stacks of its threads."""
        handle = self._workers.get(number)
        if handle is not None:
            handle.request_stacks()

    def take_stacks(self, number: int) -> str:
        """Return what a worker has written down."""
        handle = self._workers.get(number)
        return "" if handle is None else handle.take_stacks()

    def _hear_worker(self, handle: WorkerHandle) -> None:
        for message in handle.receive():
            if isinstance(message, Garbage):
                self._emit(events.WorkerBroke(handle.number, message.reason))
            else:
                assert isinstance(message, FROM_WORKER)
                self._emit(events.WorkerSaid(handle.number, message))
        if not handle.is_open:
            self._emit(events.ChannelClosed(handle.number))

    def _on_worker_end(self, handle: WorkerHandle, status: int) -> None:
        del self._workers[handle.number]
        self.ledger.close(handle.number)
        self._emit(events.WorkerExited(handle.number, status))

    # Preloaders

    def start_preloader(self, generation: Generation, surroundings: Surroundings) -> None:
        """Have the applications of a generation imported; brings Preloaded or PreloadFailed."""
        if not take_in_orphans():
            self._emit(events.PreloadFailed("server.preload needs Linux: workers would not be our children"))
            return
        try:
            process, channel = spawn.spawn_preloader(self._commands.preloader, surroundings)
        except OSError as error:
            self._emit(events.PreloadFailed(f"no process for the preloader: {why_no_process(error)}"))
            return
        handle = self._preloaders[generation.number] = PreloaderHandle(generation, process, channel)
        self._attend(handle, partial(self._hear_preloader, handle), partial(self._on_preloader_end, handle))

    def stop_preloader(self, generation: int) -> None:
        """End the preloader of a generation; its workers live on."""
        handle = self._preloaders.get(generation)
        if handle is not None:
            handle.is_wanted = handle.can_fork = False
            handle.process.kill()

    def _hear_preloader(self, handle: PreloaderHandle) -> None:
        message = handle.receive()
        if not handle.is_wanted:
            return
        if isinstance(message, Failed):
            handle.is_wanted = False
            self._emit(events.PreloadFailed(message.summary, message.detail))
        elif message is not None:
            self._emit(events.Preloaded())

    def _on_preloader_end(self, handle: PreloaderHandle, status: int) -> None:
        del self._preloaders[handle.generation.number]
        if not handle.is_wanted:
            return
        if not handle.has_imported:
            self._emit(
                events.PreloadFailed(f"the preloader {describe_exit(status)}, the applications are not imported")
            )
        else:
            log.warning("the preloader %s, new workers import the applications themselves", describe_exit(status))

    # Loaders

    def start_loader(
        self, source: Source, on_outcome: Outcome, deadline: float | None = None, renewed: Generation | None = None
    ) -> LoaderHandle | None:
        """Have the configuration read; `on_outcome` gets the result, at once when there is no process.

        At `deadline`, of the monotonic clock, `expire` gives it up. Of a generation that is to be `renewed` only the
        certificates are read.
        """
        what, told = source.loader_arguments, source.options
        if renewed is not None:
            what, told = ("--renew",), encode(Loaded(renewed))
        try:
            handle = LoaderHandle(*spawn.spawn_program(self._commands.loader, what, told))
        except OSError as error:
            on_outcome(
                LoadFailed(f"the configuration cannot be read: no process for the loader: {why_no_process(error)}")
            )
            return None
        handle.deadline = deadline
        self._attend_loader(handle, on_outcome)
        return handle

    def take_loader(self, process: Process, output: int, on_outcome: Outcome) -> LoaderHandle:
        """Look after a loader that somebody else has started; it may have ended already, which its pidfd tells."""
        handle = LoaderHandle(process, output)
        self._attend_loader(handle, on_outcome)
        return handle

    def _attend_loader(self, handle: LoaderHandle, on_outcome: Outcome) -> None:
        self._loaders[handle] = on_outcome
        self._attend(handle, handle.receive, partial(self._on_loader_end, handle))

    def _on_loader_end(self, handle: LoaderHandle, status: int) -> None:
        self._loaders.pop(handle)(handle.outcome(status))

    def deadline(self) -> float | None:
        """Return when `expire` has something to do at the latest."""
        return min((one.deadline for one in self._loaders if one.deadline is not None), default=None)

    def expire(self, now: float) -> None:
        """Give up the loaders whose time has run out."""
        for handle in [one for one in self._loaders if one.deadline is not None and one.deadline <= now]:
            handle.deadline = None
            on_outcome = self._loaders[handle]
            self.stop_loader(handle)
            on_outcome(LoadFailed("the configuration could not be read in time"))

    def stop_loader(self, handle: LoaderHandle) -> None:
        """Kill a loader whose result is no longer wanted."""
        self._loaders[handle] = _ignore
        handle.process.kill()

    # All of them

    def _attend(self, handle: Handle, hear: Callable[[], None], on_end: Callable[[int], None]) -> None:
        """Wait for what a child says, for its room to be told more, and for its end."""
        self._children[handle] = _Attention(hear, on_end)
        self._selector.register(handle.channel, selectors.EVENT_READ, partial(self._on_channel, handle))
        if handle.process.exit_descriptor is not None:
            self._selector.register(handle.process.exit_descriptor, selectors.EVENT_READ, partial(self._look, handle))
        self._watch(handle)

    def _on_channel(self, handle: Handle, mask: int) -> None:
        attention = self._children.get(handle)
        if attention is None:  # reaped since select returned
            return
        if mask & selectors.EVENT_WRITE and not isinstance(handle, LoaderHandle):
            handle.flush()
        if mask & selectors.EVENT_READ:
            attention.hear()
        self._watch(handle)

    def _watch(self, handle: Handle) -> None:
        """Wait for what the handle wants next."""
        if handle.is_open:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if handle.wants_write else 0)
            self._selector.modify(handle.channel, wanted, partial(self._on_channel, handle))
        else:
            with contextlib.suppress(KeyError):  # it may have been closed by the message before
                self._selector.unregister(handle.channel)

    def _look(self, handle: Handle, _: int = 0) -> None:
        """See whether a child has ended, as its descriptor and SIGCHLD tell, whichever comes first."""
        attention = self._children.get(handle)
        status = None if attention is None else handle.process.reap()
        if attention is None or status is None:
            return
        if handle.is_open:
            attention.hear()  # its last words, which say more than its status
        with contextlib.suppress(KeyError):  # it may have hung up before
            self._selector.unregister(handle.channel)
        if handle.process.exit_descriptor is not None:
            self._selector.unregister(handle.process.exit_descriptor)
        handle.close()
        del self._children[handle]
        attention.on_end(status)

    def reap(self, others: set[int]) -> None:
        """Look after our children at SIGCHLD, and after orphans that have become ours; `others` are seen to elsewhere.

        Orphans come to the first process of a container, and to us when we take them in for a preloader's sake.
        """
        for handle in list(self._children):
            self._look(handle)
        spawn.reap_orphans(others | self._pids())

    def _pids(self) -> set[int]:
        return {handle.process.pid for handle in self._children}

    def close(self) -> None:
        """Leave no zombie of a preloader or loader behind; the workers have been reaped."""
        for generation in self._preloaders:
            self.stop_preloader(generation)
        for loader in self._loaders:
            self.stop_loader(loader)
        ending: list[Handle] = [*self._preloaders.values(), *self._loaders]
        for handle in ending:
            if handle.process.reap_within(REAP_PATIENCE):
                self._look(handle)


def _ignore(_: Loaded | LoadFailed) -> None:
    """Take the result of a loader that nobody waits for."""
