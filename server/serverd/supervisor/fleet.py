"""The supervisor's picture of its workers and generations, and what it can do to one worker.

Plain data that only `policy` and the modules it dispatches to change; no I/O, no time of its own: `now` is
always an argument, in seconds of any one clock. Processes and sockets belong to `supervisor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serverd.generation import Generation
from serverd.messages import BEAT_INTERVAL, Drain
from serverd.supervisor.actions import Action, Kill, Log, Notice, Send, Spawn
from serverd.supervisor.backoff import Backoff
from serverd.supervisor.complaints import Complaints
from serverd.supervisor.states import (
    PHASES,
    STEPS,
    Phase,
    PhaseEvent,
    Step,
    StepEvent,
    WorkerEvent,
    WorkerState,
    advance,
)
from serverd.supervisor.worker import Worker

__all__ = ["UNREADY_PATIENCE", "Fleet", "Outcome", "Slot", "Wish"]

# Seconds for a worker that is no longer wanted and has never said it is ready: it has nothing in
# flight, at most an import or a start-up to break off.
UNREADY_PATIENCE = 5.0
# Seconds by which this process wakes too late before it is taken for having been stopped itself: more than
# a busy machine makes of it, less than what makes a beat late.
OVERSLEPT = 2 * BEAT_INTERVAL


@dataclass(slots=True)
class Slot:
    """A place for a worker of the committed generation."""

    backoff: Backoff = field(default_factory=Backoff)
    due: float | None = None  # no worker is spawned before, while the backoff lasts
    restarts: int = 0  # workers that died, or left without having been told
    last_exit: str = ""  # how the last of them ended


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last reload ended."""

    ok: bool
    at: float  # of the same clock as `now`
    message: str


@dataclass(slots=True)
class Wish:
    """What a transaction is wanted for; wishes that come while another one is under way become one."""

    reload: bool = False  # read everything
    fresh: bool = False  # with new workers in any case
    renewal: bool = False  # read the certificates
    clients: list[int] = field(default_factory=list)  # of the control socket, waiting for it

    @property
    def is_any(self) -> bool:
        """Whether anything is wished for."""
        return self.reload or self.renewal

    @property
    def is_renewal(self) -> bool:
        """Whether nothing but certificates is to be read; a reload reads them, too."""
        return self.renewal and not self.reload


_PHASES = {Phase.STARTING: "the server is starting"}
_STEPS = {
    Step.IDLE: "",
    Step.RETIRING: "the workers before the last reload are draining",
    Step.UPGRADING: "an upgrade is under way",
}


# Attributes that only grow, of the fleet of this supervisor and of those whose place it has taken.
_COUNTS = ("reloads", "failed_reloads", "restarts")


@dataclass(slots=True)
class Fleet:
    """Everything that decisions are made from."""

    phase: Phase = Phase.STARTING
    step: Step = Step.IDLE
    committed: Generation | None = None  # what serves
    candidate: Generation | None = None  # what is being prepared
    candidate_slots: int = 0  # how many workers it is to have
    workers: dict[int, Worker] = field(default_factory=dict)  # alive or dying, by number
    slots: dict[int, Slot] = field(default_factory=dict)  # of the committed generation
    slots_served: int = 0  # slots whose sockets have ever been accepted on: connections may come to them
    growing: int = 0  # slots that sockets are being opened for; 0: none
    preloaders: set[int] = field(default_factory=set)  # generations that have one
    is_rehearsal: bool = False  # the start ends where it would commit
    watches_files: bool = False  # reloads when they change; a start that fails waits for that, too
    has_file: bool = True  # whose change can mend a configuration; options never change
    is_succeeded: bool = False  # another supervisor has taken over
    wanted: Wish = field(default_factory=Wish)  # begins when the step is IDLE
    wish: Wish = field(default_factory=Wish)  # that the transaction under way fulfils
    complaints: Complaints = field(default_factory=Complaints)
    unannounced: bool = False  # a reload is committed, but a connection may still reach what was before
    live: str = ""  # what a reload changes that the running workers adopt; "": new workers
    outcome: Outcome | None = None
    reloads: int = 0  # that succeeded
    failed_reloads: int = 0
    restarts: int = 0  # workers, of any slot there has been, that died or left without having been told
    noticed: tuple[Notice, str] = (Notice.STARTING, "")  # what the service manager was told last
    step_deadline: float | None = None  # for the loader, the answers to a proposal, the preloader, the successor
    delay_ends: float | None = None  # while the phase is DELAYING
    last_worker: int = 0
    last_generation: int = 0
    exit_code: int = 0

    def counts(self) -> dict[str, int]:
        """Return how often what has happened, for a supervisor that takes our place."""
        return {name: getattr(self, name) for name in _COUNTS}

    def count_on(self, counts: Mapping[str, int]) -> None:
        """Begin with what `counts` of the supervisor before said."""
        for name in _COUNTS:
            setattr(self, name, int(counts.get(name, 0)))

    def move(self, event: PhaseEvent) -> None:
        """Move the supervisor's phase."""
        self.phase = advance(PHASES, self.phase, event)

    def take_step(self, event: StepEvent, deadline: float | None = None) -> None:
        """Move the transaction; the new step has time until `deadline`."""
        self.step = advance(STEPS, self.step, event)
        self.step_deadline = deadline

    @property
    def occupation(self) -> str:
        """Why nothing else can be begun, in words; "" when something can."""
        if self.phase is not Phase.SERVING:
            return _PHASES.get(self.phase, "the server is stopping")
        return _STEPS.get(self.step, "a reload is under way")

    @property
    def is_serving(self) -> bool:
        """Whether workers are kept in the slots."""
        return self.phase in {Phase.SERVING, Phase.DELAYING}

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send requests: a worker serves, and nobody has asked for the end."""
        return self.phase is Phase.SERVING and any(worker.serves for worker in self.current())

    def deadline(self) -> float | None:
        """Return when a Tick is due at the latest, or None when nothing is waited for."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        if self.step_deadline is not None:
            yield self.step_deadline
        if self.delay_ends is not None:
            yield self.delay_ends
        for worker in self.workers.values():
            yield from worker.deadlines()
        yield from (slot.due for slot in self.slots.values() if slot.due is not None)

    def wake(self, now: float) -> None:
        """Charge no worker with time in which this process did not run: it was stopped, frozen or starved.

        They may have been, too, and what they sent meanwhile is heard before any deadline is looked at.
        """
        overslept = now - min(self._deadlines(), default=now)
        if overslept >= OVERSLEPT:
            for worker in self.workers.values():
                worker.beat_at = min(now, worker.beat_at + overslept)

    def is_committed(self, worker: Worker) -> bool:
        """Return whether the worker is of the generation that serves."""
        return self.committed is not None and worker.generation.number == self.committed.number

    def is_candidate(self, worker: Worker) -> bool:
        """Return whether the worker is of the generation that is being prepared."""
        return self.candidate is not None and worker.generation.number == self.candidate.number

    def current(self) -> list[Worker]:
        """Return the workers of the committed generation that have not been told to leave, nor leave by themselves."""
        return [worker for worker in self.workers.values() if self.is_committed(worker) and not worker.is_leaving]

    def outdated(self) -> str:
        """Return why the code of a worker is not what is on disk, as far as they have been asked, or ""."""
        return next((worker.outdated for worker in self.current() if worker.outdated), "")

    def spawn(self, slot: int, generation: Generation, now: float) -> Action:
        """Add a worker and return the action that makes its process."""
        self.last_worker += 1
        deadline = now + generation.server.start_timeout
        self.workers[self.last_worker] = Worker(self.last_worker, slot, generation, now, deadline)
        return Spawn(self.last_worker, slot, generation, self._preloader_of(generation))

    def _preloader_of(self, generation: Generation) -> int:
        """Return the generation whose preloader has imported the applications of `generation`; 0: there is none."""
        own = {self.candidate.number} if self.candidate is not None else set()
        # What the running workers have adopted keeps the preloader of the generation that they began with.
        return max(self.preloaders & own if generation.number in own else self.preloaders - own, default=0)

    def drain(self, worker: Worker, now: float) -> list[Action]:
        """Tell a worker to finish and exit, unless it is on its way out already."""
        if not worker.can(WorkerEvent.DRAIN):
            return []
        patience = worker.drain_patience if worker.state is WorkerState.READY else UNREADY_PATIENCE
        worker.advance(WorkerEvent.DRAIN)
        worker.deadline = now + patience
        replaced = self.is_serving or self.is_succeeded
        return [Send(worker.number, Drain(worker.generation.server.graceful_timeout, replaced))]

    def kill(self, worker: Worker, why: str = "") -> list[Action]:
        """Kill a worker, unless that has been done; `why` is logged."""
        if worker.state is WorkerState.KILLED:
            return []
        worker.advance(WorkerEvent.KILL)
        worker.deadline = None
        worker.killed_for = worker.killed_for or why
        log: list[Action] = [Log("error", f"{worker} {why}, killing it")] if why else []
        return [*log, Kill(worker.number)]
