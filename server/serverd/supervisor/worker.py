"""One worker as the supervisor sees it, from the decision to spawn it until it is reaped.

Plain data with what can be read off it; `fleet` holds the workers, `workers` and `staffing` change them.
No I/O, no time of its own: `now` is always an argument, in seconds of any one clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serverd.generation import Generation
from serverd.messages import BEAT_INTERVAL, AppDown, Beat
from serverd.supervisor.states import WORKERS, WorkerEvent, WorkerState, advance

__all__ = ["CUT_PATIENCE", "LATE_AFTER", "Worker"]

# Seconds beyond graceful_timeout before a draining worker is killed: at the timeout it cuts what is
# left by itself, and then still has to run the applications' lifespan shutdown.
CUT_PATIENCE = 5.0
# Seconds without a beat after which the other workers accept in its place: the beat is late by more than a second.
LATE_AFTER = BEAT_INTERVAL + 1.0
# Multiples of the golden section are spread evenly however many there are: the jitter of each worker, without chance.
GOLDEN = 0.6180339887498949

NO_BEAT = Beat(0, 0, 0, 0, 0.0)


@dataclass(slots=True)
class Worker:
    """A worker in its slot."""

    number: int  # its name among all workers there ever were
    slot: int
    generation: Generation
    spawned_at: float
    deadline: float | None  # when the supervisor's patience with its state ends
    state: WorkerState = WorkerState.STARTING
    pid: int = 0
    ready_at: float | None = None
    brings_up: str = ""  # what it said last that it brings up
    has_failed: bool = False  # it said so, and exits with status 3
    is_leaving: bool = False  # it has been told to leave, or leaves as if it had been
    beat_at: float = 0.0  # when it last beat; from READY on
    beat: Beat = NO_BEAT  # what it said then
    in_flight: tuple[str, ...] = ()  # the requests that it named last
    is_late: bool = False  # with its beat: the others cover its slot
    covers: tuple[int, ...] = ()  # the slots it was told to cover
    recycle: str = ""  # why a successor should take its place
    has_proposal: bool = False  # it was asked whether it can serve the candidate
    has_accepted: bool = False  # it can
    killed_for: str = ""  # why it was killed, as "worker 1 (pid 123) ..." goes on
    outdated: str = ""  # why its code is not what is on disk, as far as it has been asked (Inspect)
    asked_at: float = float("-inf")  # when it was answered last how everything stands
    adopts: bool = False  # it has been told to, and may still serve the generation before
    down: dict[str, AppDown] = field(default_factory=dict)  # the applications that are not up, by name

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def may_serve_older(self) -> bool:
        """Whether a new connection may reach code or routes before the committed ones, once another is committed."""
        return self.state is not WorkerState.DRAINING

    @property
    def drain_patience(self) -> float:
        """Seconds from the beginning of its drain until it is killed."""
        return self.generation.server.graceful_timeout + CUT_PATIENCE

    @property
    def serves(self) -> bool:
        """Whether it accepts connections, and its event loop turns."""
        return self.state is WorkerState.READY and not self.is_late

    def advance(self, event: WorkerEvent) -> None:
        """Move to the state that `event` leads to."""
        self.state = advance(WORKERS, self.state, event)
        self.is_leaving = self.is_leaving or self.state in {WorkerState.TOLD, WorkerState.DRAINING}

    def can(self, event: WorkerEvent) -> bool:
        """Return whether `event` can happen in its state."""
        return (self.state, event) in WORKERS

    def served(self, now: float) -> float:
        """Return for how many seconds it has been ready."""
        return 0.0 if self.ready_at is None else now - self.ready_at

    # Each moment is computed in one place, and compared as it is: a sum and a difference may be rounded differently,
    # and the loop would turn without a pause between the two.

    @property
    def late_at(self) -> float:
        """When its next beat is late."""
        return self.beat_at + LATE_AFTER

    @property
    def hung_at(self) -> float:
        """When it is taken for hung, unless it beats."""
        return self.beat_at + (self.generation.server.hang_timeout or float("inf"))

    @property
    def old_at(self) -> float:
        """When it will have served for its lifetime."""
        return (self.ready_at or 0.0) + (self.generation.server.recycle.lifetime or float("inf"))

    def is_overdue(self, now: float) -> bool:
        """Return whether the supervisor's patience has ended."""
        return self.deadline is not None and self.deadline <= now

    def request_limit(self) -> float:
        """Return after how many requests it is recycled, with its share of the jitter."""
        recycle = self.generation.server.recycle
        if not recycle.requests:
            return float("inf")
        return recycle.requests + int(self.number * GOLDEN % 1 * (recycle.jitter + 1))

    def deadlines(self) -> Iterator[float]:
        """Yield when something is due about it, were nothing to happen."""
        if self.deadline is not None:
            yield self.deadline
        if self.state is not WorkerState.READY:
            return
        if not self.is_late:
            yield self.late_at
        if self.hung_at < float("inf"):
            yield self.hung_at
        if self.old_at < float("inf") and not self.recycle:
            yield self.old_at
