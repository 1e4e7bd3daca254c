"""The supervisor's picture of its workers and generations, and what it can do to one worker.

Plain data that only `policy` and `transaction` change; no I/O, no time of its own: `now` is always
an argument, in seconds of any one clock. Processes and sockets belong to `supervisor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serverd.generation import Generation
from serverd.supervisor.actions import Action, Kill, Log, SendDrain, Spawn
from serverd.supervisor.backoff import Backoff
from serverd.supervisor.states import (
    PHASES,
    STEPS,
    WORKERS,
    Phase,
    PhaseEvent,
    Step,
    StepEvent,
    WorkerEvent,
    WorkerState,
    advance,
)

__all__ = ["CUT_PATIENCE", "LEAVE_PATIENCE", "UNREADY_PATIENCE", "WHAT_LIMIT", "Fleet", "Slot", "Worker"]

# Seconds beyond graceful_timeout before a draining worker is killed: at the timeout it cuts what is
# left by itself, and then still has to run the applications' lifespan shutdown.
CUT_PATIENCE = 5.0
# Seconds for a worker that is no longer wanted and has never said it is ready: it has nothing in
# flight, at most an import or a start-up to break off.
UNREADY_PATIENCE = 5.0
# Seconds for a worker that said it cannot serve, or hung up, to exit by itself: it only shuts down
# those of its applications that had started.
LEAVE_PATIENCE = 5.0
# Characters kept of what a worker says it brings up: it runs foreign code, and this goes into one
# line. Enough for a place in a configuration and the name of an application.
WHAT_LIMIT = 300


@dataclass(slots=True)
class Worker:
    """One worker, from the decision to spawn it until it is reaped."""

    number: int  # its name among all workers there ever were
    slot: int
    generation: Generation
    deadline: float | None  # when the supervisor's patience with its state ends
    state: WorkerState = WorkerState.STARTING
    pid: int = 0
    ready_at: float | None = None
    brings_up: str = ""  # what it said last that it brings up
    has_failed: bool = False  # it said so, and exits with status 3

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def may_accept(self) -> bool:
        """Whether a new connection may reach it, for all we know: what is killed is not gone yet."""
        return self.state is not WorkerState.DRAINING

    @property
    def drain_patience(self) -> float:
        """Seconds from the beginning of its drain until it is killed."""
        return self.generation.server.graceful_timeout + CUT_PATIENCE

    def advance(self, event: WorkerEvent) -> None:
        """Move to the state that `event` leads to."""
        self.state = advance(WORKERS, self.state, event)

    def served(self, now: float) -> float:
        """Return for how many seconds it has been ready."""
        return 0.0 if self.ready_at is None else now - self.ready_at

    def is_overdue(self, now: float) -> bool:
        """Return whether the supervisor's patience has ended."""
        return self.deadline is not None and self.deadline <= now


@dataclass(slots=True)
class Slot:
    """A place for a worker of the committed generation."""

    backoff: Backoff = field(default_factory=Backoff)
    due: float | None = None  # when the next worker is spawned, while the backoff lasts


@dataclass(slots=True)
class Fleet:
    """Everything that decisions are made from."""

    phase: Phase = Phase.STARTING
    step: Step = Step.IDLE
    committed: Generation | None = None  # what serves
    candidate: Generation | None = None  # what is being prepared
    workers: dict[int, Worker] = field(default_factory=dict)  # alive or dying, by number
    slots: dict[int, Slot] = field(default_factory=dict)  # of the committed generation
    reload_wanted: bool = False  # HUP came; begins when the step is IDLE
    unannounced: bool = False  # a reload is committed, but a worker of the generation before may still accept
    load_deadline: float | None = None  # while the step is LOADING
    last_worker: int = 0
    last_generation: int = 0
    exit_code: int = 0

    def move(self, event: PhaseEvent) -> None:
        """Move the supervisor's phase."""
        self.phase = advance(PHASES, self.phase, event)

    def take_step(self, event: StepEvent) -> None:
        """Move the transaction."""
        self.step = advance(STEPS, self.step, event)

    def deadline(self) -> float | None:
        """Return when a Tick is due at the latest, or None when nothing is waited for."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        if self.load_deadline is not None:
            yield self.load_deadline
        yield from (worker.deadline for worker in self.workers.values() if worker.deadline is not None)
        yield from (slot.due for slot in self.slots.values() if slot.due is not None)

    def is_committed(self, worker: Worker) -> bool:
        """Return whether the worker is of the generation that serves."""
        return self.committed is not None and worker.generation.number == self.committed.number

    def is_candidate(self, worker: Worker) -> bool:
        """Return whether the worker is of the generation that is being prepared."""
        return self.candidate is not None and worker.generation.number == self.candidate.number

    def spawn(self, slot: int, generation: Generation, now: float) -> Action:
        """Add a worker and return the action that makes its process."""
        self.last_worker += 1
        deadline = now + generation.server.start_timeout
        self.workers[self.last_worker] = Worker(self.last_worker, slot, generation, deadline)
        return Spawn(self.last_worker, slot, generation)

    def drain(self, worker: Worker, now: float) -> list[Action]:
        """Tell a worker to finish and exit, unless it is on its way out already."""
        if worker.state not in {WorkerState.STARTING, WorkerState.READY}:
            return []
        patience = worker.drain_patience if worker.state is WorkerState.READY else UNREADY_PATIENCE
        worker.advance(WorkerEvent.DRAIN)
        worker.deadline = now + patience
        return [SendDrain(worker.number, worker.generation.server.graceful_timeout)]

    def kill(self, worker: Worker, why: str = "") -> list[Action]:
        """Kill a worker, unless that has been done; `why` is logged."""
        if worker.state is WorkerState.KILLED:
            return []
        worker.advance(WorkerEvent.KILL)
        worker.deadline = None
        log: list[Action] = [Log("error", f"{worker} {why}, killing it")] if why else []
        return [*log, Kill(worker.number)]
