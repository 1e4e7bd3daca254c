"""The parent of every process: waits for something to happen and does what `policy` decides.

It holds processes, channels, sockets and the loader, and no policy: events go into `decide`, actions
come out and are performed in order. It never imports an application or the event loop of a worker.
There is no polling: it sleeps in `select` until something happens or the fleet's next deadline.
`cli` calls it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import setproctitle

from serverd.errors import BindError
from serverd.generation import Logging
from serverd.messages import Drain, Draining, Failed, LoadFailed, Ready, SocketGrant, Start, Starting
from serverd.net.bindings import Bindings
from serverd.observe import logs
from serverd.supervisor import actions, events, spawn
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.handle import Garbage, LoaderHandle, WorkerHandle
from serverd.supervisor.policy import decide
from serverd.supervisor.signals import SignalInbox
from serverd.supervisor.spawn import Commands

__all__ = ["Supervisor"]

log = logging.getLogger("serverd.supervisor")

# Seconds for a killed loader to be gone at the very end, so that no zombie is left to whoever adopts it.
REAP_PATIENCE = 1.0


class Supervisor:
    """One run of serverd, from the first reading of the configuration to the last worker's end."""

    def __init__(self, path: str, commands: Commands | None = None) -> None:
        self._path = path
        self._commands = commands or Commands()
        self._fleet = Fleet()
        self._bindings = Bindings()
        self._queue: deque[events.Event] = deque([events.Begin()])
        self._workers: dict[int, WorkerHandle] = {}
        self._loader: LoaderHandle | None = None  # the one whose outcome is wanted
        self._loaders: set[LoaderHandle] = set()  # all that are not reaped
        self._selector = selectors.DefaultSelector()
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until asked to stop; return the exit code of the process."""
        logs.configure(Logging(), sys.stderr)
        setproctitle.setproctitle(f"serverd: supervisor {self._path}")
        with contextlib.closing(self._bindings), self._selector, SignalInbox() as inbox:
            self._selector.register(inbox.descriptor, selectors.EVENT_READ, None)
            while self._exit_code is None:
                self._decide()
                if self._exit_code is None:
                    self._wait(inbox)
            self._reap_loaders()
        return self._exit_code

    def _decide(self) -> None:
        while self._queue and self._exit_code is None:
            for action in decide(self._fleet, self._queue.popleft(), time.monotonic()):
                _PERFORM[type(action)](self, action)

    def _wait(self, inbox: SignalInbox) -> None:
        """Sleep until something happens, and put it into the queue."""
        deadline = self._fleet.deadline()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = self._selector.select(timeout)
        # Signals first: whoever stops a whole process group should not see its workers replaced.
        for number in inbox.take():
            if number is signal.SIGCHLD:
                self._reap_unwatched()
            else:
                self._queue.append(events.SignalReceived(number))
        for key, mask in ready:
            if key.data is not None:
                key.data(mask)
        if deadline is not None and time.monotonic() >= deadline:
            self._queue.append(events.Tick())

    # What the children say and how they end

    def _on_channel(self, handle: WorkerHandle, mask: int) -> None:
        if handle.number not in self._workers:  # reaped since select returned
            return
        if mask & selectors.EVENT_WRITE:
            handle.flush()
        if mask & selectors.EVENT_READ:
            self._receive(handle)
        self._watch_channel(handle)

    def _receive(self, handle: WorkerHandle) -> None:
        for message in handle.receive():
            match message:
                case Starting(what):
                    self._queue.append(events.WorkerStarting(handle.number, what))
                case Ready():
                    self._queue.append(events.WorkerReady(handle.number))
                case Draining():
                    self._queue.append(events.WorkerDraining(handle.number))
                case Failed(summary, detail):
                    self._queue.append(events.WorkerFailed(handle.number, summary, detail))
                case Garbage(reason):
                    self._queue.append(events.WorkerBroke(handle.number, reason))
        if not handle.is_open:
            self._queue.append(events.ChannelClosed(handle.number))

    def _watch_channel(self, handle: WorkerHandle) -> None:
        """Wait for what the handle wants next."""
        if not handle.is_open:
            self._selector.unregister(handle.channel)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if handle.wants_write else 0)
        self._selector.modify(handle.channel, wanted, partial(self._on_channel, handle))

    def _on_worker_exit(self, handle: WorkerHandle, _: int = 0) -> None:
        status = handle.process.reap()
        if status is None:
            return
        if handle.is_open:
            self._receive(handle)  # its last words, which say more than its status
            self._selector.unregister(handle.channel)
        self._forget(handle)
        del self._workers[handle.number]
        self._queue.append(events.WorkerExited(handle.number, status))

    def _on_loader_output(self, handle: LoaderHandle, _: int) -> None:
        if handle not in self._loaders:  # reaped since select returned
            return
        handle.receive()
        if not handle.is_open:
            self._selector.unregister(handle.output)

    def _on_loader_exit(self, handle: LoaderHandle, _: int = 0) -> None:
        status = handle.process.reap()
        if status is None:
            return
        if handle.is_open:
            handle.receive()
            self._selector.unregister(handle.output)
        self._forget(handle)
        self._loaders.discard(handle)
        if handle is self._loader:
            self._loader = None
            self._queue.append(handle.outcome(status))

    def _forget(self, handle: WorkerHandle | LoaderHandle) -> None:
        if handle.process.exit_descriptor is not None:
            self._selector.unregister(handle.process.exit_descriptor)
        handle.close()

    def _reap_unwatched(self) -> None:
        """Look after the children whose end only SIGCHLD tells; the others have a descriptor for it."""
        for worker in [one for one in self._workers.values() if one.process.exit_descriptor is None]:
            self._on_worker_exit(worker)
        for loader in [one for one in self._loaders if one.process.exit_descriptor is None]:
            self._on_loader_exit(loader)

    def _reap_loaders(self) -> None:
        for handle in list(self._loaders):
            if handle.process.reap_within(REAP_PATIENCE):
                self._on_loader_exit(handle)

    # What the policy wants done

    def _start_loader(self, _: actions.StartLoader) -> None:
        try:
            handle = LoaderHandle(*spawn.spawn_loader(self._commands.loader, self._path))
        except OSError as error:
            self._queue.append(LoadFailed(f"the configuration cannot be read: no process for the loader: {error}"))
            return
        self._loader = handle
        self._loaders.add(handle)
        self._selector.register(handle.output, selectors.EVENT_READ, partial(self._on_loader_output, handle))
        if handle.process.exit_descriptor is not None:
            on_exit = partial(self._on_loader_exit, handle)
            self._selector.register(handle.process.exit_descriptor, selectors.EVENT_READ, on_exit)

    def _stop_loader(self, _: actions.StopLoader) -> None:
        if self._loader is not None:
            self._loader.process.kill()
            self._loader = None

    def _open_sockets(self, action: actions.OpenSockets) -> None:
        try:
            self._bindings.prepare(action.generation)
        except BindError as error:
            self._queue.append(events.BindFailed(str(error)))
        else:
            self._queue.append(events.SocketsOpened())

    def _commit_sockets(self, _: actions.CommitSockets) -> None:
        opened, closed = self._bindings.commit()
        for place in opened:
            log.info("listener %s: listening on %s", place.listener, place.url)
        for place in closed:
            log.info("listener %s: closed %s", place.listener, place.url)

    def _rollback_sockets(self, _: actions.RollbackSockets) -> None:
        self._bindings.rollback()

    def _close_sockets(self, _: actions.CloseSockets) -> None:
        self._bindings.close()

    def _spawn(self, action: actions.Spawn) -> None:
        generation = action.generation
        grants = self._bindings.grants(generation.number, action.slot)
        title = f"serverd: worker {action.slot} (generation {generation.number})"
        try:
            descriptors = [descriptor for _, descriptor in grants]
            process, channel = spawn.spawn_worker(self._commands.worker, title, descriptors)
        except OSError as error:
            self._queue.append(events.SpawnFailed(action.worker, (error.strerror or str(error)).lower()))
            return
        handle = self._workers[action.worker] = WorkerHandle(action.worker, process, channel)
        self._selector.register(channel, selectors.EVENT_READ, partial(self._on_channel, handle))
        if handle.process.exit_descriptor is not None:
            on_exit = partial(self._on_worker_exit, handle)
            self._selector.register(handle.process.exit_descriptor, selectors.EVENT_READ, on_exit)
        self._queue.append(events.WorkerSpawned(action.worker, handle.process.pid))
        self._send(handle, Start(generation, action.slot, tuple(SocketGrant(*grant) for grant in grants)))

    def _send(self, handle: WorkerHandle, message: Start | Drain) -> None:
        if handle.is_open:
            handle.send(message)
            self._watch_channel(handle)

    def _send_drain(self, action: actions.SendDrain) -> None:
        handle = self._workers.get(action.worker)  # None: it could not be spawned, and the event is in the queue
        if handle is not None:
            self._send(handle, Drain(float(action.timeout)))

    def _kill(self, action: actions.Kill) -> None:
        handle = self._workers.get(action.worker)
        if handle is not None:
            handle.process.kill()

    def _log(self, action: actions.Log) -> None:
        level = logging.getLevelNamesMapping()[action.level.upper()]
        log.log(level, "%s", action.message, extra={"detail": action.detail})

    def _complain(self, action: actions.Complain) -> None:
        lines = action.text.rstrip("\n").split("\n")
        with contextlib.suppress(OSError):
            print("\n".join(map(logs.escape, lines)), file=sys.stderr, flush=True)

    def _configure_logging(self, action: actions.ConfigureLogging) -> None:
        logs.configure(action.logging, sys.stderr)

    def _set_title(self, action: actions.SetTitle) -> None:
        setproctitle.setproctitle(action.title)

    def _exit(self, action: actions.Exit) -> None:
        self._exit_code = action.code


_PERFORM: dict[type[actions.Action], Callable[[Supervisor, Any], None]] = {
    actions.StartLoader: Supervisor._start_loader,
    actions.StopLoader: Supervisor._stop_loader,
    actions.OpenSockets: Supervisor._open_sockets,
    actions.CommitSockets: Supervisor._commit_sockets,
    actions.RollbackSockets: Supervisor._rollback_sockets,
    actions.CloseSockets: Supervisor._close_sockets,
    actions.Spawn: Supervisor._spawn,
    actions.SendDrain: Supervisor._send_drain,
    actions.Kill: Supervisor._kill,
    actions.Log: Supervisor._log,
    actions.Complain: Supervisor._complain,
    actions.ConfigureLogging: Supervisor._configure_logging,
    actions.SetTitle: Supervisor._set_title,
    actions.Exit: Supervisor._exit,
}
