"""A fleet in virtual time, and generations to put into it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace

from serverd.control.requests import Request
from serverd.generation import Address, AddressKind, App, Generation, Limits, Listener, Logging, Server
from serverd.messages import BEAT_INTERVAL, Accepted, Adopt, Adopted, Beat, Cover, Drain, Draining, FromWorker, Ready
from serverd.supervisor import events
from serverd.supervisor.actions import Action, Exit, Kill, Log, Notify, Reply, Send, SendProposal, Spawn
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.policy import decide
from serverd.supervisor.states import Step, WorkerState

HUP = events.SignalReceived(signal.SIGHUP)
TERM = events.SignalReceived(signal.SIGTERM)
INT = events.SignalReceived(signal.SIGINT)
QUIT = events.SignalReceived(signal.SIGQUIT)
USR1 = events.SignalReceived(signal.SIGUSR1)
USR2 = events.SignalReceived(signal.SIGUSR2)
TTIN = events.SignalReceived(signal.SIGTTIN)
TTOU = events.SignalReceived(signal.SIGTTOU)

SHOP = App("shop", "shop:app", "/srv/shop", on_failure="unavailable", source="server.toml:7")


def said(worker: int, message: FromWorker) -> events.WorkerSaid:
    """Return the event that a worker said `message`."""
    return events.WorkerSaid(worker, message)


def asked(client: int, command: str, workers: int | None = None, *, dry_run: bool = False) -> events.Asked:
    """Return the event that a client of the control socket wants something."""
    return events.Asked(client, Request(command, workers, dry_run))


def make_generation(workers: int = 2, **server: object) -> Generation:
    """Return a valid generation as the loader makes it: without a number."""
    settings = replace(Server(workers=workers, start_timeout=60.0, graceful_timeout=30.0), **server)  # type: ignore[arg-type]
    address = Address(AddressKind.TCP, "127.0.0.1:0", host="127.0.0.1")
    listener = Listener("web", (address,), 128, Limits(), source="server.toml:3")
    return Generation("/etc/server.toml", settings, (listener,), (SHOP,), (), Logging())


def renewed(generation: Generation) -> Generation:
    """Return a generation that running workers of `generation`, or of another like it, cannot adopt."""
    return replace(generation, server=replace(generation.server, umask=(generation.server.umask or 0) + 1))


class Scene:
    """A supervisor without a world: the test says what happens and sees what is decided."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.now = 1000.0
        self.actions: list[Action] = []  # of the last event, but for `notified`
        self.notified: list[Notify] = []  # all that the service manager was told
        self.has_room = True  # for processes; without, the test says SpawnFailed itself
        self.silent: set[int] = set()  # workers whose event loop does not turn
        self.beats: dict[int, Beat] = {}  # what a worker says with its beat, when it is not nothing

    def happens(self, event: events.Event) -> list[Action]:
        """Let `event` happen now, and every process that is wanted then exist; return what was decided."""
        decided = decide(self.fleet, event, self.now)
        self.notified += [action for action in decided if isinstance(action, Notify)]
        self.actions = [action for action in decided if not isinstance(action, Notify)]
        for action in self.actions:
            if isinstance(action, Spawn) and self.has_room:
                assert decide(self.fleet, events.WorkerSpawned(action.worker, 100 + action.worker), self.now) == []
        return self.actions

    def passes(self, seconds: float) -> list[Action]:
        """Let time pass, with a beat of every worker that is ready and not silent, and a Tick whenever one is due."""
        end, decided = self.now + seconds, []
        while self.now < end:
            self.now = min(self.now + BEAT_INTERVAL, end)
            due = self.fleet.deadline()
            if due is not None and due < self.now:
                self.now = due
            decided += self._beat()
            decided += self.happens(events.Tick())
        self.actions = decided
        return decided

    def _beat(self) -> list[Action]:
        decided: list[Action] = []
        for worker in list(self.fleet.workers.values()):
            if worker.state is WorkerState.READY and worker.number not in self.silent:
                decided += self.happens(said(worker.number, self.beats.get(worker.number, Beat(0, 0, 0, 0, 0.0))))
        return decided

    def beats_once(self, worker: int, **values: int) -> list[Action]:
        """Let a worker beat with these values, now and from now on."""
        self.silent.discard(worker)
        self.beats[worker] = replace(Beat(0, 0, 0, 0, 0.0), **values)
        return self.happens(said(worker, self.beats[worker]))

    def sleeps(self, seconds: float) -> list[Action]:
        """Let time pass in which the supervisor does not run, and then a Tick happen."""
        self.now += seconds
        return self.happens(events.Tick())

    def awaited(self) -> float | None:
        """Return the fleet's next deadline, were all workers to go on beating."""
        found = [self.fleet.step_deadline, self.fleet.delay_ends]
        found += [slot.due for slot in self.fleet.slots.values()]
        found += [worker.deadline for worker in self.fleet.workers.values()]
        return min((one for one in found if one is not None), default=None)

    def passes_until_deadline(self) -> list[Action]:
        """Let time pass until the fleet has waited enough for something that is no beat."""
        deadline = self.awaited()
        assert deadline is not None
        self.passes(deadline - self.now - BEAT_INTERVAL / 2)
        self.now = deadline
        return self.happens(events.Tick())

    def is_prepared(self, generation: Generation | None = None) -> list[int]:
        """Let a generation be loaded and its sockets opened; return its workers, which are starting."""
        self.happens(events.Loaded(generation or make_generation()))
        self.happens(events.SocketsOpened())
        return [action.worker for action in self.actions if isinstance(action, Spawn)]

    def are_ready(self, *workers: int) -> list[Action]:
        """Let workers say that they are ready, one after the other; return what the last brought."""
        for worker in workers:
            self.happens(said(worker, Ready(0)))
        return self.actions

    def serves(self, generation: Generation | None = None) -> list[int]:
        """Let the first generation be committed; return its workers."""
        self.happens(events.Begin())
        workers = self.is_prepared(generation)
        self.are_ready(*workers)
        return workers

    def reloads(self, generation: Generation | None = None) -> list[int]:
        """Let HUP come and the next generation be prepared, which needs new workers; return these."""
        self.happens(HUP)
        return self.is_prepared(generation and renewed(generation))

    def reloaded(self, generation: Generation | None = None) -> list[int]:
        """Let the next generation be committed; return its workers."""
        workers = self.reloads(generation)
        self.are_ready(*workers)
        return workers

    def proposes(self, generation: Generation | None = None) -> list[int]:
        """Let HUP come and a generation be proposed to the running workers; return these."""
        self.happens(HUP)
        self.happens(events.Loaded(generation or make_generation(date_header=False)))
        self.happens(events.SocketsOpened())
        return self.asked_to_adopt()

    def reaches(self, step: Step, **server: object) -> list[int]:
        """Let the first generation serve and then a transaction come as far as `step`; return the first workers."""
        first = make_generation(**server)  # type: ignore[arg-type]
        workers = self.serves(first)
        match step:
            case Step.LOADING:
                self.happens(HUP)
            case Step.OPENING:
                self.happens(HUP)
                self.happens(events.Loaded(first))
            case Step.PROPOSING:
                self.proposes(replace(first, server=replace(first.server, date_header=False)))
            case Step.PRELOADING:
                self.reloads(replace(first, server=replace(first.server, preload=True)))
            case Step.PREPARING:
                self.reloads(first)
            case Step.RETIRING:
                self.reloaded(first)
            case Step.UPGRADING:
                self.happens(USR2)
        assert self.fleet.step is step
        return workers

    def accept(self, *workers: int) -> list[Action]:
        """Let workers accept what is proposed, one after the other; return what the last brought."""
        assert self.fleet.candidate is not None
        number = self.fleet.candidate.number
        for worker in workers:
            self.happens(said(worker, Accepted(number)))
        return self.actions

    def adopted(self, *workers: int) -> list[Action]:
        """Let workers say that they serve what is committed, one after the other; return what the last brought."""
        assert self.fleet.committed is not None
        for worker in workers:
            self.happens(said(worker, Adopted(self.fleet.committed.number)))
        return self.actions

    def drains(self, *workers: int) -> list[Action]:
        """Let workers say that they accept nothing more, one after the other; return what the last brought."""
        for worker in workers:
            self.happens(said(worker, Draining()))
        return self.actions

    def exits(self, *workers: int, status: int = 0) -> list[Action]:
        """Let workers be reaped, one after the other; return what the last brought."""
        for worker in workers:
            self.happens(events.WorkerExited(worker, status))
        return self.actions

    # What was decided

    def logged(self) -> str:
        """Return what the last event logged above debug, a line for each message."""
        shown = (action for action in self.actions if isinstance(action, Log) and action.level != "debug")
        return "\n".join(action.message for action in shown)

    def told(self, kind: Callable[[object], bool]) -> list[int]:
        """Return the workers that the last event sent such a message."""
        return [action.worker for action in self.actions if isinstance(action, Send) and kind(action.message)]

    def drained(self) -> list[int]:
        """Return the workers that the last event told to drain."""
        return self.told(lambda message: isinstance(message, Drain))

    def told_to_adopt(self) -> list[int]:
        """Return the workers that the last event told to adopt a generation."""
        return self.told(lambda message: isinstance(message, Adopt))

    def asked_to_adopt(self) -> list[int]:
        """Return the workers that the last event proposed a generation to."""
        return [action.worker for action in self.actions if isinstance(action, SendProposal)]

    def covers(self) -> dict[int, tuple[int, ...]]:
        """Return what the last event told workers to cover."""
        sent = [action for action in self.actions if isinstance(action, Send)]
        return {action.worker: action.message.slots for action in sent if isinstance(action.message, Cover)}

    def killed(self) -> list[int]:
        """Return the workers that the last event killed."""
        return [action.worker for action in self.actions if isinstance(action, Kill)]

    def spawned(self) -> list[int]:
        """Return the slots that the last event started workers for."""
        return [action.slot for action in self.actions if isinstance(action, Spawn)]

    def replies(self) -> list[Reply]:
        """Return what the last event answered clients of the control socket."""
        return [action for action in self.actions if isinstance(action, Reply)]

    def exit_code(self) -> int | None:
        """Return the code that the last event ended the supervisor with."""
        return next((action.code for action in self.actions if isinstance(action, Exit)), None)

    def slots_of(self, *workers: int) -> list[int]:
        """Return the slots of workers that are alive."""
        return [self.fleet.workers[worker].slot for worker in workers]
