"""A new generation as a transaction: load, prepare, then commit or roll back, then retire.

The first start is the same transaction with nothing to fall back to. Pure like `policy`, which calls
these functions when the event has come that each of them waits for; each returns actions.

The workers of a generation that is rolled back are drained, not killed: those that were ready have
accepted connections on sockets that both generations share.
"""

from __future__ import annotations

from dataclasses import replace

from serverd.errors import OperatorError
from serverd.generation import Generation
from serverd.supervisor.actions import (
    Action,
    CloseSockets,
    CommitSockets,
    Complain,
    ConfigureLogging,
    Log,
    OpenSockets,
    RollbackSockets,
    SetTitle,
    StartLoader,
    StopLoader,
)
from serverd.supervisor.fleet import Fleet, Slot
from serverd.supervisor.states import Phase, PhaseEvent, Step, StepEvent, WorkerState
from serverd.supervisor.wording import duration, workers

__all__ = [
    "LOAD_PATIENCE",
    "announce",
    "begin",
    "commit",
    "is_prepared",
    "load",
    "patience",
    "prepare",
    "rollback",
    "stop",
]

# Seconds for the loader. It reads a few files and looks up a few names; what takes longer hangs on a
# dead network file system, and the operator should hear of it.
LOAD_PATIENCE = 30.0


def begin(fleet: Fleet, now: float) -> list[Action]:
    """Begin a transaction: have the configuration read."""
    fleet.take_step(StepEvent.LOAD)
    fleet.reload_wanted = False
    fleet.load_deadline = now + LOAD_PATIENCE
    return [StartLoader()]


def load(fleet: Fleet, generation: Generation) -> list[Action]:
    """Number the generation that was read, and have its sockets opened."""
    fleet.take_step(StepEvent.LOADED)
    fleet.load_deadline = None
    fleet.last_generation += 1
    fleet.candidate = replace(generation, number=fleet.last_generation)
    actions: list[Action] = []
    if fleet.committed is None:
        actions.append(ConfigureLogging(generation.logging))
    actions.extend(Log("warning", warning) for warning in generation.warnings)
    return [*actions, OpenSockets(fleet.candidate)]


def prepare(fleet: Fleet, now: float) -> list[Action]:
    """Start the candidate's workers beside those that serve."""
    fleet.take_step(StepEvent.OPENED)
    assert fleet.candidate is not None
    return [fleet.spawn(slot, fleet.candidate, now) for slot in range(fleet.candidate.server.workers)]


def is_prepared(fleet: Fleet) -> bool:
    """Return whether every worker of the candidate is ready."""
    if fleet.step is not Step.PREPARING or fleet.candidate is None:
        return False
    ready = sum(fleet.is_candidate(one) and one.state is WorkerState.READY for one in fleet.workers.values())
    return ready == fleet.candidate.server.workers


def commit(fleet: Fleet, now: float) -> list[Action]:
    """Let the candidate serve, and retire the generation before it; `announce` tells when that one is out of reach."""
    fleet.take_step(StepEvent.COMMIT)
    fleet.move(PhaseEvent.COMMIT)
    assert fleet.candidate is not None
    new = fleet.candidate
    fleet.unannounced = fleet.committed is not None
    fleet.committed, fleet.candidate = new, None
    fleet.slots = {slot: Slot() for slot in range(new.server.workers)}
    retire = [
        action
        for worker in fleet.workers.values()
        if not fleet.is_committed(worker)
        for action in fleet.drain(worker, now)
    ]
    ready = Log("info", f"ready: generation {new.number}, {workers(new.server.workers)}")
    return [
        ConfigureLogging(new.logging),
        *retire,  # before the sockets that only they have are closed: they still take what is queued there
        CommitSockets(),
        SetTitle(f"serverd: supervisor {new.source} (generation {new.number})"),
        *([] if fleet.unannounced else [ready]),
    ]


def announce(fleet: Fleet) -> list[Action]:
    """Say that a reload has succeeded, once and as soon as no connection can reach a generation before it."""
    older = (worker for worker in fleet.workers.values() if not fleet.is_committed(worker))
    if not fleet.unannounced or fleet.committed is None or any(worker.may_accept for worker in older):
        return []
    fleet.unannounced = False
    return [Log("info", f"reloaded: generation {fleet.committed.number} is serving")]


def rollback(fleet: Fleet, reason: str, detail: str, now: float) -> list[Action]:
    """Give the candidate up; the committed generation goes on, or, when there is none, the start has failed."""
    had_sockets = fleet.step is Step.PREPARING
    if fleet.committed is None:
        fleet.exit_code = OperatorError.exit_code
        complaint = "\n".join(part.rstrip("\n") for part in (reason, detail) if part)
        fleet.move(PhaseEvent.STOP)
        return [Complain(complaint), *stop(fleet, now)]
    fleet.take_step(StepEvent.ROLLBACK)
    fleet.load_deadline = None
    leave = [
        action for worker in fleet.workers.values() if fleet.is_candidate(worker) for action in fleet.drain(worker, now)
    ]
    fleet.candidate = None
    reason, _, rest = reason.partition("\n")
    if rest:  # a report of several lines: the log line gets the first, what follows it gets them all
        detail = f"{reason}\n{rest}"
    text = f"reload failed, generation {fleet.committed.number} goes on serving: {reason}"
    return [Log("error", text, detail), *leave, *([RollbackSockets()] if had_sockets else [])]


def stop(fleet: Fleet, now: float) -> list[Action]:
    """Abort whatever transaction there is and drain every worker; the phase has been moved already."""
    actions: list[Action] = [StopLoader()] if fleet.step is Step.LOADING else []
    fleet.take_step(StepEvent.ABORT)
    fleet.load_deadline = None
    fleet.reload_wanted = fleet.unannounced = False
    fleet.candidate = None
    fleet.slots.clear()
    for worker in fleet.workers.values():
        actions += fleet.kill(worker) if fleet.phase is Phase.KILLING else fleet.drain(worker, now)
    return [*actions, CloseSockets()]


def patience(fleet: Fleet) -> str:
    """Return how long a stop waits for what is in flight, in words."""
    generation = fleet.committed or fleet.candidate
    return f", draining up to {duration(generation.server.graceful_timeout)}" if generation else ""
