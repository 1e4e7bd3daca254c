"""A world that does what the fleet wants, with dice: the events that it offers are those that could happen.

It holds what the supervisor would hold (processes, sockets, loader, preloaders, clients), and after every event it
checks what must always be true.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

from serverd.generation import Recycle
from serverd.messages import (
    Accepted,
    Adopt,
    Adopted,
    AppDown,
    AppUp,
    Ask,
    Beat,
    Blocked,
    Cover,
    Declined,
    Drain,
    Draining,
    Failed,
    Ready,
    Starting,
)
from serverd.supervisor import actions, events
from serverd.supervisor.actions import Notice
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.policy import decide
from serverd.supervisor.states import Phase, Step, WorkerState
from tests.supervisor.scene import HUP, TERM, TTIN, TTOU, USR1, USR2, asked, make_generation, said

SERVING = {Phase.SERVING, Phase.DELAYING}


class World:
    """Processes, sockets and clients of one supervisor."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.fleet = Fleet()
        self.now = 0.0
        self.exit_code: int | None = None
        self.notices: list[Notice] = []
        self.seen: Counter[str] = Counter()  # what has happened at all
        # Workers, by number
        self.alive: set[int] = set()
        self.generations: dict[int, int] = {}  # what each serves
        self.has_started: set[int] = set()  # or said that it cannot
        self.said_draining: set[int] = set()
        self.told: set[int] = set()  # to drain
        self.killed: set[int] = set()
        self.covered: dict[int, tuple[int, ...]] = {}
        self.proposed: dict[int, int] = {}
        self.accepted: dict[int, int] = {}
        self.adopts: dict[int, int] = {}
        # Everything else
        self.announced: list[int] = []  # generations, in order
        self.is_loading = False
        self.is_opened = False  # and neither committed nor rolled back
        self.is_closed = False
        self.preloading: int | None = None
        self.preloaders: set[int] = set()
        self.has_successor = False
        self.clients = 0
        self.answers: Counter[int] = Counter()

    # What happens

    def happens(self, event: events.Event) -> None:
        """Let `event` happen, and whatever its consequences bring; others may come in between."""
        queue = [event]
        while queue and self.exit_code is None:
            if queue[0] is not event and self.dice.random() < 0.05:
                queue.insert(0, self.dice.choice([HUP, TTIN, TTOU, USR2, self.wish()]))
            event_now = queue.pop(0)
            if isinstance(event_now, events.Asked):
                self.clients = event_now.client
            said_now = event_now.message if isinstance(event_now, events.WorkerSaid) else event_now
            self.seen[type(said_now).__name__] += 1
            for action in decide(self.fleet, event_now, self.now):
                queue += self.perform(action)
            if isinstance(event_now, events.Tick):
                deadline = self.fleet.deadline()
                assert deadline is None or deadline > self.now, "the loop would turn without a pause"
        self.check()

    def wish(self) -> events.Event:
        """Return the wish of another client."""
        command = self.dice.choice(["status", "reload", "reload", "scale", "upgrade"])
        return asked(self.clients + 1, command, self.dice.choice([0, 1, 2, 3, 4]), dry_run=self.dice.random() < 0.2)

    def perform(self, action: actions.Action) -> list[events.Event]:
        """Do what is wanted; return what it brings."""
        self.seen[type(action.message if isinstance(action, actions.Send) else action).__name__] += 1
        for kind, deed in self.DEEDS.items():
            if isinstance(action, kind):
                return deed(self, action) or []
        return []

    def _start_loader(self, _: actions.StartLoader) -> None:
        assert not self.is_loading
        if self.fleet.committed is not None:
            assert self.notices[-1] is Notice.READY, "the end of the reload before is told first"
        self.is_loading = True

    def _stop_loader(self, _: actions.StopLoader) -> None:
        self.is_loading = False

    def _open(self, action: actions.OpenSockets) -> list[events.Event]:
        assert not self.is_opened
        assert not self.is_closed
        if self.fleet.committed is not None and self.dice.random() < 0.1:
            return [events.BindFailed("cannot bind")]
        self.is_opened = True
        return [events.SocketsOpened()]

    def _end_open(self, _: actions.CommitSockets | actions.RollbackSockets) -> None:
        assert self.is_opened
        self.is_opened = False

    def _close(self, action: actions.CloseSockets) -> None:
        assert action.kept is self.fleet.is_succeeded
        self.is_opened, self.is_closed = False, True

    def _grow(self, action: actions.GrowSockets) -> list[events.Event]:
        assert not self.is_closed
        if self.dice.random() < 0.2:
            return [events.SlotsFailed("too many open files", action.client)]
        return [events.SlotsOpened(action.slots, action.client)]

    def _start_preloader(self, action: actions.StartPreloader) -> None:
        assert self.preloading is None
        self.preloading = action.generation.number
        self.preloaders.add(action.generation.number)

    def _stop_preloader(self, action: actions.StopPreloader) -> None:
        self.preloaders.remove(action.generation)
        if self.preloading == action.generation:
            self.preloading = None

    def _spawn(self, action: actions.Spawn) -> list[events.Event]:
        number = action.generation.number
        if action.generation.server.preload:
            latest = max(one for one in self.preloaders if one <= number)
            assert latest != self.preloading
        self.generations[action.worker] = number
        if self.fleet.committed is not None and self.dice.random() < 0.1:
            return [events.SpawnFailed(action.worker, "no memory")]
        self.alive.add(action.worker)
        return [events.WorkerSpawned(action.worker, action.worker)]

    def _send(self, action: actions.Send) -> None:
        assert not self.is_gone(action.worker)
        match action.message:
            case Drain():
                assert action.worker not in self.told
                self.told.add(action.worker)
            case Cover(slots):
                assert self.fleet.workers[action.worker].state is WorkerState.READY
                assert self.covered.get(action.worker, ()) != slots
                self.covered[action.worker] = slots
            case Adopt(number):
                assert self.accepted.pop(action.worker) == number == self.proposed.pop(action.worker)
                self.adopts[action.worker] = number

    def _propose(self, action: actions.SendProposal) -> None:
        assert action.worker not in self.proposed
        self.proposed[action.worker] = action.generation.number

    def _send_sockets(self, action: actions.SendSockets) -> None:
        self.proposed.pop(action.worker, None)
        self.accepted.pop(action.worker, None)

    def _kill(self, action: actions.Kill) -> None:
        assert action.worker not in self.killed
        self.killed.add(action.worker)

    def _start_successor(self, _: actions.StartSuccessor) -> None:
        assert not self.has_successor
        self.has_successor = True

    def _stop_successor(self, _: actions.StopSuccessor) -> None:
        assert self.has_successor
        self.has_successor = False

    def _reply(self, action: actions.Reply | actions.ReplyStatus | actions.ReplyPlan) -> None:
        self.answers[action.client] += 1

    def _notify(self, action: actions.Notify) -> None:
        if action.notice is not None:
            assert [action.notice] != self.notices[-1:], "nothing is told twice"
            self.notices.append(action.notice)

    def _log(self, action: actions.Log) -> None:
        if found := re.match(r"(?:ready|reloaded): generation (\d+)", action.message):
            self.announced.append(int(found[1]))
            older = {worker for worker in self.alive if self.generations[worker] < self.announced[-1]}
            assert older <= self.said_draining
            assert self.fleet.phase in SERVING

    def _exit(self, action: actions.Exit) -> None:
        self.exit_code = action.code

    DEEDS = {  # noqa: RUF012 - a table of what the class defines above
        actions.StartLoader: _start_loader,
        actions.StopLoader: _stop_loader,
        actions.OpenSockets: _open,
        actions.CommitSockets: _end_open,
        actions.RollbackSockets: _end_open,
        actions.CloseSockets: _close,
        actions.GrowSockets: _grow,
        actions.StartPreloader: _start_preloader,
        actions.StopPreloader: _stop_preloader,
        actions.Spawn: _spawn,
        actions.Send: _send,
        actions.SendProposal: _propose,
        actions.SendSockets: _send_sockets,
        actions.Kill: _kill,
        actions.StartSuccessor: _start_successor,
        actions.StopSuccessor: _stop_successor,
        actions.Reply: _reply,
        actions.ReplyStatus: _reply,
        actions.ReplyPlan: _reply,
        actions.Notify: _notify,
        actions.Log: _log,
        actions.Exit: _exit,
    }

    # What must always be true

    def is_gone(self, worker: int) -> bool:
        """Return whether the fleet knows that the worker has no process."""
        return worker not in self.fleet.workers

    def check(self) -> None:
        """Check it."""
        assert len({worker.generation.number for worker in self.fleet.workers.values()}) <= 2
        assert set(self.fleet.workers) == self.alive
        assert self.announced == sorted(set(self.announced))
        assert max(self.answers.values(), default=0) <= 1
        waiting = len(self.fleet.wish.clients) + len(self.fleet.wanted.clients)
        assert self.answers.total() + waiting == self.clients
        if self.exit_code is not None:
            self._check_end()
        elif self.fleet.phase in SERVING and self.fleet.committed is not None:
            if self.fleet.step is not Step.RETIRING:
                assert self.announced[-1] == self.fleet.committed.number
            self._check_slots()
            self._check_cover()

    def _check_slots(self) -> None:
        successors = 0
        for number, slot in self.fleet.slots.items():
            members = [worker for worker in self.fleet.current() if worker.slot == number]
            if len(members) == 2:
                assert members[0].recycle
                successors += 1
            elif not members:
                assert slot.due is not None
                assert slot.due > self.now
            else:
                assert len(members) == 1
        assert successors <= 1, "one is recycled after the other"
        can_serve = {WorkerState.STARTING, WorkerState.READY}
        assert {one.slot for one in self.fleet.current() if one.state in can_serve} <= set(self.fleet.slots)

    def _check_cover(self) -> None:
        serving = [worker for worker in self.fleet.current() if worker.serves]
        orphaned = set(range(self.fleet.slots_served)) - {worker.slot for worker in serving}
        assert set(self.fleet.slots) <= set(range(self.fleet.slots_served))
        for worker in serving:
            assert set(self.covered.get(worker.number, ())) == orphaned

    def _check_end(self) -> None:
        assert self.is_closed
        assert not self.is_loading
        assert not self.preloaders
        assert self.answers.total() == self.clients
        assert self.has_successor is self.fleet.is_succeeded
        assert self.fleet.deadline() is None

    # What could happen next

    def choices(self) -> list[events.Event]:
        """Return it; what is there several times is likelier."""
        found: list[events.Event] = [HUP, TTIN, TTOU, USR1, self.dice.choice([USR2, events.Tick()])]
        found += [events.Tick()] * 8
        if self.dice.random() < 0.3:
            found.append(self.wish())
        if self.dice.random() < 0.01:
            found.append(TERM)
        if self.dice.random() < 0.1 and self.fleet.committed is not None:
            found.append(events.CertificatesChanged())
            found.append(events.FilesChanged("shop.py changed"))
        if self.is_loading:
            found += [events.Loaded(self.generation())] * 8 + [events.LoadFailed("no")]
        if self.preloading is not None:
            found += [events.Preloaded()] * 6 + [events.PreloadFailed("no module")]
        if self.has_successor and not self.fleet.is_succeeded:
            found += [events.SuccessorFailed("no")] * 4 + [events.SuccessorReady(99)] * (self.dice.random() < 0.5)
        for worker in sorted(self.alive):
            found += self.choices_of(worker)
        if self.fleet.committed is None and self.dice.random() < 0.9:  # else most worlds would end here
            return [one for one in found if not self.ends_the_start(one)]
        return found

    def ends_the_start(self, event: events.Event) -> bool:
        """Return whether a first start fails with it."""
        match event:
            case events.LoadFailed() | events.PreloadFailed() | events.WorkerExited() | events.WorkerBroke():
                return True
            case events.ChannelClosed() | events.Tick() | events.WorkerSaid(_, Failed() | Draining()):
                return True
        return False

    def generation(self) -> actions.Generation:
        """Return what may be read from the file; some differ in what applications see, some do not."""
        dice = self.dice
        recycle = Recycle(dice.choice([0, 5]), dice.choice([0, 3]), dice.choice([0.0, 20.3]), dice.choice([0, 1000]))
        generation = make_generation(dice.choice([1, 2, 3]), recycle=recycle, date_header=dice.random() < 0.5)
        return replace(
            generation,
            server=replace(
                generation.server,
                hang_timeout=dice.choice([0.0, 1.0, 7.7]),
                shutdown_delay=dice.choice([0.0, 3.3]),
                umask=dice.choice([None, None, None, 2]),
                preload=dice.random() < 0.1,
            ),
        )

    def choices_of(self, worker: int) -> list[events.Event]:
        """Return what a worker could do."""
        dice = self.dice
        dies = worker in self.killed or worker in self.told or dice.random() < 0.2
        status = -9 if worker in self.killed else dice.choice([0, 1, -11, -9])
        found: list[events.Event] = [events.WorkerExited(worker, status)] * (2 if dies else 0)
        if dice.random() < 0.02:
            found += [events.ChannelClosed(worker), events.WorkerBroke(worker, "sent nonsense")]
        if worker not in self.has_started:
            found += [said(worker, Starting("apps.h"))] + [said(worker, Ready(0))] * 3
            return found + [said(worker, Failed("no"))] * (dice.random() < 0.2)
        beat = Beat(dice.choice([0, 0, 4, 9]), 1, 1, dice.choice([0, 0, 2000]), 0.0, ("GET / shop 1 s",))
        found += [said(worker, beat)] * 3
        found.append(
            said(worker, dice.choice([Blocked(1.0, ("GET /",)), AppDown("shop", "no", "", 1.0), AppUp("shop"), Ask(1)]))
        )
        if worker in self.proposed:
            found += [said(worker, Accepted(self.proposed[worker]))] * 6
            found += [said(worker, Declined(self.proposed[worker], "code changed"))] * (dice.random() < 0.2)
            found += [said(worker, Declined(self.proposed[worker], "no key", final=True))] * (dice.random() < 0.1)
        if worker in self.adopts:
            found += [said(worker, Adopted(self.adopts[worker]))] * 4
        if worker not in self.said_draining:
            likely = worker in self.told or dice.random() < 0.02  # by somebody else's signal
            found += [said(worker, Draining())] * (2 if likely else 0)
        return found

    def step(self, event: events.Event) -> None:
        """Let one of the choices happen."""
        match event:
            case events.Loaded() | events.LoadFailed():
                self.is_loading = False
            case events.Preloaded() | events.PreloadFailed():
                self.preloading = None
            case events.SuccessorFailed():
                self.has_successor = False
            case events.WorkerExited(worker):
                self.alive.discard(worker)
            case events.WorkerSaid(worker, Ready() | Failed()):
                self.has_started.add(worker)
            case events.WorkerSaid(worker, Draining()):
                self.said_draining.add(worker)
            case events.WorkerSaid(worker, Accepted(number)):
                self.accepted[worker] = number
            case events.WorkerSaid(worker, Adopted(number)):
                self.generations[worker] = number
                del self.adopts[worker]
            case events.Tick():
                deadline = self.fleet.deadline()
                steps = [0.1, 0.7, 1.0] if self.dice.random() < 0.9 else [40.0]
                self.now += self.dice.choice(steps)
                if deadline is not None and self.dice.random() < 0.5:
                    self.now = max(self.now, deadline)
        self.happens(event)

    def runs(self, steps: int) -> None:
        """Let so many things happen, unless the supervisor ends before."""
        for _ in range(steps):
            if self.exit_code is None:
                self.step(self.dice.choice(self.choices()))

    def is_left_alone(self) -> None:
        """Let nothing happen any more but that time passes and that what is killed is gone; at most 200 times."""
        for _ in range(200):
            for worker in sorted(self.killed & self.alive):
                if self.exit_code is None:
                    self.step(events.WorkerExited(worker, -9))
            deadline = self.fleet.deadline()
            if self.exit_code is not None or deadline is None:
                return
            self.now = max(self.now, deadline)
            self.happens(events.Tick())
