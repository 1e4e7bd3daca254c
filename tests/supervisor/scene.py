"""A fleet in virtual time, and generations to put into it."""

from __future__ import annotations

import signal
from dataclasses import replace

from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Server
from serverd.supervisor import events
from serverd.supervisor.actions import Action, Exit, Kill, Log, SendDrain, Spawn
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.policy import decide

HUP = events.SignalReceived(signal.SIGHUP)
TERM = events.SignalReceived(signal.SIGTERM)
INT = events.SignalReceived(signal.SIGINT)
QUIT = events.SignalReceived(signal.SIGQUIT)


def make_generation(workers: int = 2, **server: object) -> Generation:
    """Return a valid generation as the loader makes it: without a number."""
    settings = replace(Server(workers=workers, start_timeout=60.0, graceful_timeout=30.0), **server)  # type: ignore[arg-type]
    address = Address(AddressKind.TCP, "127.0.0.1:0", host="127.0.0.1")
    listener = Listener("web", (address,), 128, Limits(), source="server.toml:3")
    return Generation("/etc/server.toml", settings, (listener,), (), (), Logging())


class Scene:
    """A supervisor without a world: the test says what happens and sees what is decided."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.now = 1000.0
        self.actions: list[Action] = []  # of the last event
        self.has_room = True  # for processes; without, the test says SpawnFailed itself

    def happens(self, event: events.Event) -> list[Action]:
        """Let `event` happen now, and every process that is wanted then exist; return what was decided."""
        self.actions = decide(self.fleet, event, self.now)
        for action in self.actions:
            if isinstance(action, Spawn) and self.has_room:
                assert decide(self.fleet, events.WorkerSpawned(action.worker, 100 + action.worker), self.now) == []
        return self.actions

    def passes(self, seconds: float) -> list[Action]:
        """Let time pass, and a Tick happen."""
        self.now += seconds
        return self.happens(events.Tick())

    def passes_until_deadline(self) -> list[Action]:
        """Let time pass until the fleet wants a Tick."""
        deadline = self.fleet.deadline()
        assert deadline is not None
        return self.passes(deadline - self.now)

    def is_prepared(self, generation: Generation | None = None) -> list[int]:
        """Let a generation be loaded and its sockets opened; return its workers, which are starting."""
        self.happens(events.Loaded(generation or make_generation()))
        self.happens(events.SocketsOpened())
        return [action.worker for action in self.actions if isinstance(action, Spawn)]

    def serves(self, generation: Generation | None = None) -> list[int]:
        """Let the first generation be committed; return its workers."""
        self.happens(events.Begin())
        workers = self.is_prepared(generation)
        for worker in workers:
            self.happens(events.WorkerReady(worker))
        return workers

    def reloads(self, generation: Generation | None = None) -> list[int]:
        """Let HUP come and the next generation be prepared; return its workers, which are starting."""
        self.happens(HUP)
        return self.is_prepared(generation)

    def reloaded(self, generation: Generation | None = None) -> list[int]:
        """Let the next generation be committed; return its workers."""
        workers = self.reloads(generation)
        for worker in workers:
            self.happens(events.WorkerReady(worker))
        return workers

    def drains(self, *workers: int) -> list[Action]:
        """Let workers say that they accept nothing more, one after the other; return what the last brought."""
        for worker in workers:
            self.happens(events.WorkerDraining(worker))
        return self.actions

    def exits(self, *workers: int, status: int = 0) -> list[Action]:
        """Let workers be reaped, one after the other; return what the last brought."""
        for worker in workers:
            self.happens(events.WorkerExited(worker, status))
        return self.actions

    def logged(self) -> str:
        """Return what the last event logged above debug, a line for each message."""
        shown = (action for action in self.actions if isinstance(action, Log) and action.level != "debug")
        return "\n".join(action.message for action in shown)

    def drained(self) -> list[int]:
        """Return the workers that the last event told to drain."""
        return [action.worker for action in self.actions if isinstance(action, SendDrain)]

    def killed(self) -> list[int]:
        """Return the workers that the last event killed."""
        return [action.worker for action in self.actions if isinstance(action, Kill)]

    def spawned(self) -> list[int]:
        """Return the slots that the last event started workers for."""
        return [action.slot for action in self.actions if isinstance(action, Spawn)]

    def exit_code(self) -> int | None:
        """Return the code that the last event ended the supervisor with."""
        return next((action.code for action in self.actions if isinstance(action, Exit)), None)
