"""The parent of every process: does what `policy` decides about what its `loop` has waited for.

It holds the children (`children`), what is open (`holdings`) and the way to the service manager (`notify`),
and no policy. It never imports an application or the event loop of a worker. `cli` calls it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import setproctitle

from serverd.errors import BindError, reason_of
from serverd.generation import Generation, Logging
from serverd.messages import Adopt, Propose, Reopen, SocketGrant, Sockets, Start
from serverd.observe import logs
from serverd.supervisor import actions, events, spawn
from serverd.supervisor.actions import Notice
from serverd.supervisor.beginning import Begun
from serverd.supervisor.certificates import CertificateWatch
from serverd.supervisor.children import Children
from serverd.supervisor.desk import Desk
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.holdings import Holdings
from serverd.supervisor.limits import raise_descriptor_limit
from serverd.supervisor.loop import Loop
from serverd.supervisor.notify import Notifier
from serverd.supervisor.reading import Reading
from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands, Surroundings
from serverd.supervisor.succession import HandOver, Predecessor, Successor
from serverd.supervisor.wording import why_no_process

__all__ = ["Supervisor"]

log = logging.getLogger("serverd.supervisor")


class Supervisor:
    """One run of serverd, from the first reading of the configuration to the last worker's end."""

    def __init__(
        self, source: Source, commands: Commands | None = None, take_over: int | None = None, begun: Begun | None = None
    ) -> None:
        """Prepare to serve `source`, whose reading may have `begun`; `take_over`: the channel to whom we replace."""
        self._source = source
        self._commands = commands or Commands()
        self._take_over = take_over
        self._predecessor: Predecessor | None = None  # until we serve
        self._successor: Successor | None = None
        self._fleet = Fleet(watches_files=source.watched is not None, has_file=not source.options)
        self._loop = Loop(self._fleet, lambda action: _PERFORM[type(action)](self, action), self._reap)
        selector, emit = self._loop.selector, self._loop.emit
        self._children = Children(selector, emit, self._commands)
        self._holdings = Holdings(selector, lambda *asked: emit(events.Asked(*asked)))
        self._reading = Reading(source, self._children, selector, emit, self._commands.watcher, begun)
        self._desk = Desk(self._fleet, self._holdings, self._children, self._reading)
        self._notifier = Notifier.from_environment()
        self._certificates = CertificateWatch(time.monotonic, time.time)
        self._loop.attend(self._children.deadline, self._children.expire)
        self._loop.attend(lambda: self._certificates.deadline, self._look_at_certificates)
        self._loop.attend(lambda: self._notifier.due, self._notifier.attend)

    def run(self) -> int:
        """Serve until asked to stop; return the exit code of the process."""
        logs.configure(Logging(), sys.stderr)
        raise_descriptor_limit()
        setproctitle.setproctitle(f"serverd: supervisor {logs.escape(self._source.path)}")
        with self._loop:
            try:
                return self._loop.run() if self._inherit() else BindError.exit_code
            finally:
                self._reading.close()
                self._children.close()
                self._holdings.leave()

    def _inherit(self) -> bool:
        """Take over what another supervisor leaves to us, if it does; return False when that fails."""
        if self._take_over is None:
            return True
        try:
            self._predecessor = Predecessor(self._take_over)
            left = self._predecessor.receive()
            self._holdings.take_over(left.sockets, left.descriptors)
        except BindError as error:
            self._complain(actions.Complain(str(error)))
            return False
        self._fleet.last_generation = left.generation
        self._fleet.count_on(left.happened)
        if left.counters and not self._children.ledger.take_over(left.counters, left.counter_files):
            log.warning("the metrics begin anew: the running server is of a version that counts differently")
        self._fleet.slots_served = self._holdings.bindings.slots()  # connections may wait on any of them
        return True

    def _reap(self) -> None:
        if self._successor is not None:
            self._successor.look()
        self._children.reap(set() if self._successor is None else {self._successor.pid})

    def _look_at_certificates(self, _: float) -> None:
        if self._certificates.look(self._fleet.committed):
            self._loop.emit(events.CertificatesChanged())

    # What is open

    def _open_sockets(self, action: actions.OpenSockets) -> None:
        try:
            self._holdings.prepare(action.generation, action.slots)
        except BindError as error:
            self._loop.emit(events.BindFailed(str(error)))
        else:
            self._loop.emit(events.SocketsOpened())

    def _commit_sockets(self, _: actions.CommitSockets) -> None:
        if self._holdings.commit():
            self._children.send_all(Reopen(), self._holdings.log_descriptors())
        if self._predecessor is not None:
            self._predecessor.tell_ready()
            self._predecessor = None

    def _grow_sockets(self, action: actions.GrowSockets) -> None:
        try:
            self._holdings.bindings.grow(action.slots)
        except BindError as error:
            self._loop.emit(events.SlotsFailed(str(error), action.client))
        else:
            self._loop.emit(events.SlotsOpened(action.slots, action.client))

    def _grants(self, generation: int) -> tuple[tuple[SocketGrant, ...], list[int]]:
        """Return the sockets of all slots as a worker is told of them, and their descriptors."""
        grants = self._holdings.bindings.grants(generation)
        told = tuple(SocketGrant(listener, slot) for listener, slot, _ in grants)
        return told, [sock.fileno() for _, _, sock in grants]

    # Workers

    def _surroundings(self, generation: Generation) -> Surroundings:
        server = generation.server
        return Surroundings(server.account, server.umask, self._holdings.log_descriptors(generation)[0])

    def _start_preloader(self, action: actions.StartPreloader) -> None:
        self._children.start_preloader(action.generation, self._surroundings(action.generation))

    def _spawn(self, action: actions.Spawn) -> None:
        generation = action.generation
        title = f"serverd: worker {action.slot} (generation {generation.number})"
        self._children.spawn(action.worker, action.preloader, title, self._surroundings(generation))
        if action.worker not in self._children:
            return
        told, descriptors = self._grants(generation.number)
        try:
            descriptors.append(self._children.ledger.open(action.worker, generation))
        except OSError as error:
            log.error("worker %d is not counted: there is no memory for it: %s", action.slot, reason_of(error))
        counted = len(descriptors) > len(told)
        self._children.send(action.worker, Start(generation, action.slot, told, counted), descriptors)
        self._children.send(action.worker, Reopen(), self._holdings.log_descriptors(generation))

    def _send(self, action: actions.Send) -> None:
        if isinstance(action.message, Adopt):
            self._children.ledger.adopt(action.worker, self._fleet.workers[action.worker].generation)
        self._children.send(action.worker, action.message)

    def _send_sockets(self, action: actions.SendSockets) -> None:
        told, descriptors = self._grants(action.generation)
        self._children.send(action.worker, Sockets(told), descriptors)

    def _send_proposal(self, action: actions.SendProposal) -> None:
        told, descriptors = self._grants(action.generation.number)
        self._children.send(action.worker, Propose(action.generation, told, action.is_renewal), descriptors)

    def _log_stacks(self, action: actions.LogStacks) -> None:
        stacks = self._children.take_stacks(action.worker) or "its stacks could not be had"
        in_flight = "".join(f"\n  {request}" for request in action.requests) or " none that is known"
        log.error("%s", action.message, extra={"detail": f"in flight:{in_flight}\n{stacks}"})

    # Another supervisor in our place

    def _start_successor(self, _: actions.StartSuccessor) -> None:
        if os.getpid() == 1:
            # What runs as the first process of a container takes the container along when it ends.
            self._loop.emit(events.SuccessorFailed("process 1 cannot be replaced: start the container anew"))
            return
        fleet = self._fleet
        assert fleet.committed is not None  # else there is nothing to leave
        try:
            counted = self._children.ledger.hand_over(fleet.committed)
            sockets = self._holdings.bindings.hand_over()
            hand_over = HandOver(*sockets, fleet.last_generation, *counted, fleet.counts())
            process, channel = spawn.spawn_supervisor(
                (*self._commands.supervisor, *self._source.arguments),
                self._notifier.environment(),
                (*hand_over.descriptors, *hand_over.counter_files),
            )
        except OSError as error:
            self._loop.emit(events.SuccessorFailed(f"no process for it: {why_no_process(error)}"))
            return
        self._successor = Successor(self._loop.selector, self._on_successor, process, channel, hand_over)

    def _on_successor(self, event: events.SuccessorReady | events.SuccessorFailed) -> None:
        if isinstance(event, events.SuccessorFailed):
            self._successor = None
        self._loop.emit(event)

    def _hand_on(self, action: actions.HandOn) -> None:
        self._successor = None
        self._notifier.main_pid(action.pid)

    def _stop_successor(self, _: actions.StopSuccessor) -> None:
        if self._successor is not None:
            self._successor.kill()
            self._successor = None

    # What is told

    def _notify(self, action: actions.Notify) -> None:
        if action.notice is not None:
            _NOTICES[action.notice](self._notifier)
        self._notifier.status(action.text)

    def _log(self, action: actions.Log) -> None:
        log.log(getattr(logging, action.level.upper()), "%s", action.message, extra={"detail": action.detail})

    def _complain(self, action: actions.Complain) -> None:
        if self._predecessor is not None:
            self._predecessor.tell_failed(action.text)
        lines = action.text.rstrip("\n").split("\n")
        with contextlib.suppress(OSError):
            print("\n".join(map(logs.escape, lines)), file=sys.stderr, flush=True)

    def _reopen_logs(self, action: actions.ReopenLogs) -> None:
        failures = self._holdings.reopen_logs()
        self._children.send_all(Reopen(), self._holdings.log_descriptors())
        if action.client is not None:
            self._desk.reply_reopened(action.client, failures)


_NOTICES: dict[Notice, Callable[[Notifier], None]] = {
    Notice.READY: Notifier.ready,
    Notice.RELOADING: Notifier.reloading,
    Notice.STOPPING: Notifier.stopping,
}

_PERFORM: dict[type[actions.Action], Callable[[Supervisor, Any], None]] = {
    actions.StartLoader: lambda supervisor, action: supervisor._reading.start(action.renewed),
    actions.StopLoader: lambda supervisor, _: supervisor._reading.stop(),
    actions.OpenSockets: Supervisor._open_sockets,
    actions.CommitSockets: Supervisor._commit_sockets,
    actions.RollbackSockets: lambda supervisor, _: supervisor._holdings.rollback(),
    actions.CloseSockets: lambda supervisor, action: supervisor._holdings.close(kept=action.kept),
    actions.GrowSockets: Supervisor._grow_sockets,
    actions.StartPreloader: Supervisor._start_preloader,
    actions.StopPreloader: lambda supervisor, action: supervisor._children.stop_preloader(action.generation),
    actions.Spawn: Supervisor._spawn,
    actions.Send: Supervisor._send,
    actions.SendSockets: Supervisor._send_sockets,
    actions.SendProposal: Supervisor._send_proposal,
    actions.RequestStacks: lambda supervisor, action: supervisor._children.request_stacks(action.worker),
    actions.LogStacks: Supervisor._log_stacks,
    actions.Kill: lambda supervisor, action: supervisor._children.kill(action.worker),
    actions.StartSuccessor: Supervisor._start_successor,
    actions.StopSuccessor: Supervisor._stop_successor,
    actions.HandOn: Supervisor._hand_on,
    actions.Log: Supervisor._log,
    actions.Complain: Supervisor._complain,
    actions.Reply: lambda supervisor, action: supervisor._desk.reply(action),
    actions.ReplyStatus: lambda supervisor, action: supervisor._desk.reply_status(action),
    actions.ReplyPlan: lambda supervisor, action: supervisor._desk.reply_plan(action),
    actions.Tell: lambda supervisor, action: supervisor._desk.tell(action),
    actions.Notify: Supervisor._notify,
    actions.ReopenLogs: Supervisor._reopen_logs,
    actions.ConfigureLogging: lambda supervisor, action: supervisor._holdings.configure_logging(action.logging),
    actions.SetTitle: lambda _, action: setproctitle.setproctitle(logs.escape(action.title)),
    actions.Exit: lambda *_: None,  # the loop sees to it
}
