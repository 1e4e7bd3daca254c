"""What is done about what happens to a worker: it says something, hangs up, hangs, exits.

Pure like `policy`, which dispatches to the functions here; each takes the fleet, the event and the time and
returns actions. Who takes a worker's place is decided in `staffing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serverd.errors import AppError
from serverd.messages import (
    Accepted,
    Adopted,
    AppDown,
    AppUp,
    Ask,
    Beat,
    Blocked,
    Declined,
    Draining,
    Failed,
    FromWorker,
    Ready,
    Starting,
    Unready,
)
from serverd.supervisor import staffing, transaction
from serverd.supervisor.actions import Action, Log, LogStacks, RequestStacks, Send, Tell
from serverd.supervisor.events import (
    ChannelClosed,
    SpawnFailed,
    WorkerBroke,
    WorkerExited,
    WorkerSaid,
    WorkerSpawned,
)
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.states import Phase, WorkerEvent, WorkerState
from serverd.supervisor.wording import describe_exit, duration, size
from serverd.supervisor.worker import Worker

__all__ = [
    "ASK_REST",
    "LEAVE_PATIENCE",
    "STACKS_PATIENCE",
    "WHAT_LIMIT",
    "on_broke",
    "on_channel_closed",
    "on_exited",
    "on_said",
    "on_spawn_failed",
    "on_spawned",
    "on_tick",
]

# Seconds for a worker that said it cannot serve, or hung up, to exit by itself: it only shuts down
# those of its applications that had started.
LEAVE_PATIENCE = 5.0
# Seconds for a hung worker to write its stacks down: it takes milliseconds, unless the machine is very busy.
STACKS_PATIENCE = 0.5
# Characters kept of what a worker says it brings up: it runs foreign code, and this goes into one
# line. Enough for a place in a configuration and the name of an application.
WHAT_LIMIT = 300
# Seconds between two answers to the same worker: one that is sound asks once a second, whoever asks it how often.
ASK_REST = 0.5


def on_spawned(fleet: Fleet, event: WorkerSpawned, _: float) -> list[Action]:
    """Its process exists."""
    fleet.workers[event.worker].pid = event.pid
    return []


def on_spawn_failed(fleet: Fleet, event: SpawnFailed, now: float) -> list[Action]:
    """The machine refused its process."""
    worker = fleet.workers[event.worker]
    return _on_gone(fleet, worker, f"worker {worker.slot} could not be spawned: {event.reason}", now)


def on_said(fleet: Fleet, event: WorkerSaid, now: float) -> list[Action]:
    """It sent a message."""
    worker = fleet.workers[event.worker]
    move = _MOVES.get(type(event.message))
    if move is not None and not worker.can(move):
        said = type(event.message).__name__.lower()
        return on_broke(fleet, WorkerBroke(event.worker, f"said that it is {said} at the wrong time"), now)
    return _SAID[type(event.message)](fleet, worker, event.message, now)


def _on_starting(_: Fleet, worker: Worker, message: Starting, __: float) -> list[Action]:
    worker.advance(WorkerEvent.STARTING)
    worker.brings_up = message.what[:WHAT_LIMIT]
    return []


def _on_ready(fleet: Fleet, worker: Worker, _: Ready, now: float) -> list[Action]:
    worker.advance(WorkerEvent.READY)
    if worker.state is WorkerState.TOLD:
        # It became ready before it heard of Drain: it may have requests in flight after all.
        worker.deadline = now + worker.drain_patience
    if worker.state is not WorkerState.READY:
        return []
    worker.deadline, worker.ready_at, worker.beat_at = None, now, now
    # One that takes a place while the end is put off has not heard of it.
    leaving = [Send(worker.number, Unready())] if fleet.phase is Phase.DELAYING else []
    return [*leaving, Log("info", f"{worker} is ready")] if fleet.is_committed(worker) else []


def _on_beat(_: Fleet, worker: Worker, message: Beat, now: float) -> list[Action]:
    if worker.state is WorkerState.HUNG:
        return []  # too late, and what is about to be told of it must be true of its hanging
    was_late, worker.is_late = worker.is_late, False
    worker.beat_at, worker.beat, worker.in_flight = now, message, message.oldest
    told: list[Action] = [Log("debug", f"{worker} beats again")] if was_late else []
    return told + staffing.judge(worker, now)


def _on_blocked(_: Fleet, worker: Worker, message: Blocked, __: float) -> list[Action]:
    worker.in_flight = message.requests
    return []


def _on_app_down(fleet: Fleet, worker: Worker, message: AppDown, _: float) -> list[Action]:
    if message.app not in {app.name for app in worker.generation.apps}:
        return fleet.kill(worker, "said that an application is down that it does not have")
    is_known = any(
        other.down[message.app].summary == message.summary
        for other in fleet.workers.values()
        if message.app in other.down
    )
    worker.down[message.app] = message
    text = f"{message.summary}: answering 503, next try in {duration(message.retry)}"
    return [Log("debug", f"{worker}: {text}") if is_known else Log("error", text, message.detail)]


def _on_app_up(fleet: Fleet, worker: Worker, message: AppUp, _: float) -> list[Action]:
    if worker.down.pop(message.app, None) is None:
        return []
    is_up = not any(message.app in other.down for other in fleet.workers.values())
    return [
        Log("info", f"app {message.app} is up again") if is_up else Log("debug", f"app {message.app} is up in {worker}")
    ]


def _on_accepted(fleet: Fleet, worker: Worker, message: Accepted, _: float) -> list[Action]:
    # Else it is the answer to a proposal that has been withdrawn.
    worker.has_accepted = (
        worker.has_proposal and fleet.candidate is not None and message.number == fleet.candidate.number
    )
    return []


def _on_declined(fleet: Fleet, worker: Worker, message: Declined, now: float) -> list[Action]:
    if message.number == worker.generation.number:
        worker.outdated = message.reason[:WHAT_LIMIT]
    if not worker.has_proposal or fleet.candidate is None or message.number != fleet.candidate.number:
        return []
    if message.final:
        return transaction.rollback(fleet, message.reason, "", now)
    return transaction.withdraw(fleet, message.reason, now)


def _on_adopted(fleet: Fleet, worker: Worker, message: Adopted, _: float) -> list[Action]:
    if fleet.committed is not None and message.number == fleet.committed.number:
        worker.adopts = False
        if worker.state is WorkerState.READY:
            worker.deadline = None
    return []


def _on_draining(fleet: Fleet, worker: Worker, _: Draining, now: float) -> list[Action]:
    before = worker.state
    worker.advance(WorkerEvent.DRAINING)
    if before not in {WorkerState.STARTING, WorkerState.READY}:
        return []
    worker.deadline = now + worker.drain_patience  # not told by us, so without a deadline for it
    if not (fleet.is_committed(worker) and fleet.is_serving):
        return []
    return staffing.lose(fleet, worker, f"{worker} leaves without having been told, as after SIGTERM", now)


def _on_ask(_: Fleet, worker: Worker, message: Ask, now: float) -> list[Action]:
    if now - worker.asked_at < ASK_REST:
        return []
    worker.asked_at = now
    return [Tell(worker.number, message.number)]


def _on_failed(fleet: Fleet, worker: Worker, message: Failed, now: float) -> list[Action]:
    heard_before = not worker.can(WorkerEvent.DRAIN)
    worker.has_failed = True
    _let_leave(worker, now)
    if heard_before:
        return [Log("debug", f"{worker} failed while it was leaving: {message.summary}", message.detail)]
    if fleet.is_candidate(worker):
        return transaction.rollback(fleet, message.summary, message.detail, now)
    return [Log("error", f"{worker} cannot serve: {message.summary}", message.detail)]


def on_channel_closed(fleet: Fleet, event: ChannelClosed, now: float) -> list[Action]:
    """It hung up."""
    _let_leave(fleet.workers[event.worker], now)
    return []


def _let_leave(worker: Worker, now: float) -> None:
    if worker.can(WorkerEvent.DRAIN):
        worker.deadline = now + LEAVE_PATIENCE
    worker.advance(WorkerEvent.LEAVE)


def on_broke(fleet: Fleet, event: WorkerBroke, _: float) -> list[Action]:
    """It said what no worker says."""
    return fleet.kill(fleet.workers[event.worker], event.reason)


def on_exited(fleet: Fleet, event: WorkerExited, now: float) -> list[Action]:
    """It is reaped."""
    worker = fleet.workers[event.worker]
    expected = event.status == 0 or (worker.has_failed and event.status == AppError.exit_code)
    return _on_gone(fleet, worker, f"{worker} {_explain_exit(worker, event.status)}", now, expected=expected)


def _explain_exit(worker: Worker, status: int) -> str:
    how = describe_exit(status)
    if worker.state is WorkerState.KILLED or how != "was killed by SIGKILL":
        return f"was killed: it {worker.killed_for}" if worker.killed_for else how
    held = f" {size(worker.beat.rss)} resident at its last beat" if worker.beat.rss else ""
    return f"{how} (out of memory?{held})"


def _on_gone(fleet: Fleet, worker: Worker, how: str, now: float, *, expected: bool = False) -> list[Action]:
    """Return what to do about a worker that has no process any more."""
    before = worker.state
    had_left = worker.is_leaving
    worker.advance(WorkerEvent.EXIT)
    del fleet.workers[worker.number]
    if fleet.is_candidate(worker):
        if worker.pid:
            how += " before it was ready" if worker.ready_at is None else " before all workers were ready"
            if worker.ready_at is None and worker.brings_up:
                how += f" (bringing up {worker.brings_up})"
        return transaction.rollback(fleet, how, "", now)
    if fleet.is_committed(worker) and fleet.is_serving and not had_left:
        return staffing.lose(fleet, worker, how, now)
    if expected or before is WorkerState.KILLED or not had_left or not worker.pid:
        return [Log("debug", how)]
    return [Log("warning", f"{how} while draining")]


def on_tick(fleet: Fleet, worker: Worker, now: float) -> list[Action]:
    """Time has passed, and may have run out for the worker."""
    if worker.is_overdue(now):
        return _on_overdue(fleet, worker, now)
    if worker.state is not WorkerState.READY:
        return []
    actions: list[Action] = []
    if worker.late_at <= now and not worker.is_late:
        worker.is_late = True
        actions.append(Log("debug", f"{worker} is late with its beat, the others accept in its place"))
    if worker.hung_at <= now:
        worker.advance(WorkerEvent.HANG)
        worker.deadline = now + STACKS_PATIENCE
        return [*actions, RequestStacks(worker.number)]
    return actions + staffing.judge(worker, now)


def _on_overdue(fleet: Fleet, worker: Worker, now: float) -> list[Action]:
    if worker.state is WorkerState.STARTING:
        return _start_overdue(fleet, worker, now)
    if worker.state is WorkerState.HUNG:
        why = f"hangs: its event loop has not turned for {duration(now - worker.beat_at)} (hang_timeout)"
        worker.killed_for = why
        return [LogStacks(worker.number, f"{worker} {why}, killing it", worker.in_flight), *fleet.kill(worker)]
    if worker.is_leaving:
        return fleet.kill(worker, f"of generation {worker.generation.number} did not exit in time while draining")
    if worker.state is WorkerState.READY:  # which has a deadline only then
        return fleet.kill(worker, f"has not adopted generation {worker.generation.number} in time")
    return fleet.kill(worker, "did not exit by itself")


def _start_overdue(fleet: Fleet, worker: Worker, now: float) -> list[Action]:
    within = f"within {duration(worker.generation.server.start_timeout)} (start_timeout)"
    reason = f"{worker.brings_up}: not up {within}" if worker.brings_up else ""
    if not fleet.is_candidate(worker):
        return fleet.kill(worker, f"cannot serve: {reason}" if reason else f"was not ready {within}")
    # What hangs in one worker hangs in most: none of them gets more time. The rollback says why, once.
    hanging = [
        other
        for other in fleet.workers.values()
        if fleet.is_candidate(other) and other.state is WorkerState.STARTING and other.is_overdue(now)
    ]
    killed = [action for other in hanging for action in fleet.kill(other)]
    return [*killed, *transaction.rollback(fleet, reason or f"{worker} was not ready {within}", "", now)]


# Messages that may come only at their time, because they move a worker's state; the others are reports.
_MOVES: dict[type[FromWorker], WorkerEvent] = {
    Starting: WorkerEvent.STARTING,
    Ready: WorkerEvent.READY,
    Draining: WorkerEvent.DRAINING,
}

_SAID: dict[type[FromWorker], Callable[[Fleet, Worker, Any, float], list[Action]]] = {
    Starting: _on_starting,
    Ready: _on_ready,
    Beat: _on_beat,
    Blocked: _on_blocked,
    AppDown: _on_app_down,
    AppUp: _on_app_up,
    Accepted: _on_accepted,
    Declined: _on_declined,
    Adopted: _on_adopted,
    Draining: _on_draining,
    Failed: _on_failed,
    Ask: _on_ask,
}
