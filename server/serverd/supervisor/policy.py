"""What the supervisor does about what happens: `decide(fleet, event, now) -> actions`.

Everything it knows is in its arguments and all it changes is the fleet, so every decision is tested
as a table in virtual time. No I/O, no clock, no processes: `supervisor` feeds it events and performs
its actions. The course of a reload is in `transaction`, the tables of states in `states`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from serverd.errors import AppError
from serverd.supervisor import transaction
from serverd.supervisor.actions import Action, Exit, Log, StopLoader
from serverd.supervisor.events import (
    Begin,
    BindFailed,
    ChannelClosed,
    Event,
    Loaded,
    LoadFailed,
    SignalReceived,
    SocketsOpened,
    SpawnFailed,
    Tick,
    WorkerBroke,
    WorkerDraining,
    WorkerExited,
    WorkerFailed,
    WorkerReady,
    WorkerSpawned,
    WorkerStarting,
)
from serverd.supervisor.fleet import LEAVE_PATIENCE, WHAT_LIMIT, Fleet, Worker
from serverd.supervisor.states import WORKERS, Phase, PhaseEvent, Step, StepEvent, WorkerEvent, WorkerState
from serverd.supervisor.wording import describe_exit, duration

__all__ = ["decide"]

# What comes with later features; until then the default action must not end or stop the supervisor.
_NOT_YET = {
    signal.SIGUSR1: "there is nothing to reopen yet",
    signal.SIGUSR2: "the supervisor cannot be replaced yet",
    signal.SIGTTIN: "no worker can be added by a signal yet",
    signal.SIGTTOU: "no worker can be removed by a signal yet",
}


def decide(fleet: Fleet, event: Event, now: float) -> list[Action]:
    """Return what to do about `event` at `now`, in order, and bring `fleet` up to date.

    Raises StateError when the event cannot happen in the fleet's state.
    """
    actions = _HANDLERS[type(event)](fleet, event, now)
    return [*actions, *_follow_up(fleet, now)]


def _follow_up(fleet: Fleet, now: float) -> list[Action]:
    """Return what has become possible with the event: the end, or the end of a transaction and the next."""
    if fleet.phase in {Phase.STOPPING, Phase.KILLING} and not fleet.workers:
        fleet.move(PhaseEvent.EMPTY)
        # A failed start has said what there was to say.
        stopped = [] if fleet.exit_code else [Log("info", "stopped")]
        return [*stopped, Exit(fleet.exit_code)]
    actions = transaction.announce(fleet)
    if fleet.step is Step.RETIRING and all(fleet.is_committed(worker) for worker in fleet.workers.values()):
        fleet.take_step(StepEvent.RETIRED)
    if fleet.step is Step.IDLE and fleet.phase is Phase.SERVING and fleet.reload_wanted:
        actions += transaction.begin(fleet, now)
    return actions


def _on_begin(fleet: Fleet, _: Begin, now: float) -> list[Action]:
    return transaction.begin(fleet, now)


def _on_signal(fleet: Fleet, event: SignalReceived, now: float) -> list[Action]:
    name = event.signal.name.removeprefix("SIG")
    if event.signal in _NOT_YET:
        return [Log("info", f"{name} ignored: {_NOT_YET[event.signal]}")]
    alive = fleet.phase in {Phase.STARTING, Phase.SERVING}
    if event.signal is signal.SIGHUP:
        return _want_reload(fleet) if alive else []
    if alive and event.signal is not signal.SIGQUIT:
        log = Log("info", f"stopping: {name} received{transaction.patience(fleet)}")
        fleet.move(PhaseEvent.STOP)
        return [log, *transaction.stop(fleet, now)]
    if alive or fleet.phase is Phase.STOPPING:
        again = " again" if not alive else ""
        fleet.move(PhaseEvent.KILL)
        return [Log("warning", f"stopping at once: {name} received{again}"), *transaction.stop(fleet, now)]
    return []


def _want_reload(fleet: Fleet) -> list[Action]:
    """Note the wish; `_follow_up` begins as soon as no transaction is under way."""
    fleet.reload_wanted = True
    if fleet.step is Step.IDLE:
        return [Log("info", "reloading: HUP received")]
    what = "drained" if fleet.step is Step.RETIRING else "been decided on"
    return [Log("info", f"reload queued: HUP received before the last generation has {what}")]


def _on_loaded(fleet: Fleet, event: Loaded, _: float) -> list[Action]:
    return transaction.load(fleet, event.generation)


def _on_load_failed(fleet: Fleet, event: LoadFailed, now: float) -> list[Action]:
    return transaction.rollback(fleet, event.report, "", now)


def _on_opened(fleet: Fleet, _: SocketsOpened, now: float) -> list[Action]:
    return transaction.prepare(fleet, now)


def _on_bind_failed(fleet: Fleet, event: BindFailed, now: float) -> list[Action]:
    return transaction.rollback(fleet, event.report, "", now)


def _on_spawned(fleet: Fleet, event: WorkerSpawned, _: float) -> list[Action]:
    fleet.workers[event.worker].pid = event.pid
    return []


def _on_spawn_failed(fleet: Fleet, event: SpawnFailed, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    return _on_gone(fleet, worker, f"worker {worker.slot} could not be spawned: {event.reason}", now)


def _on_starting(fleet: Fleet, event: WorkerStarting, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    if (worker.state, WorkerEvent.STARTING) not in WORKERS:
        return _on_broke(fleet, WorkerBroke(event.worker, "said that it is starting at the wrong time"), now)
    worker.advance(WorkerEvent.STARTING)
    worker.brings_up = event.what[:WHAT_LIMIT]
    return []


def _on_ready(fleet: Fleet, event: WorkerReady, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    if (worker.state, WorkerEvent.READY) not in WORKERS:
        return _on_broke(fleet, WorkerBroke(event.worker, "said that it is ready at the wrong time"), now)
    worker.advance(WorkerEvent.READY)
    if worker.state is WorkerState.TOLD:
        # It became ready before it heard of Drain: it may have requests in flight after all.
        worker.deadline = now + worker.drain_patience
    if worker.state is not WorkerState.READY:
        return []
    worker.deadline, worker.ready_at = None, now
    if transaction.is_prepared(fleet):
        return transaction.commit(fleet, now)
    return [Log("info", f"{worker} is ready")] if fleet.is_committed(worker) else []


def _on_draining(fleet: Fleet, event: WorkerDraining, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    if (worker.state, WorkerEvent.DRAINING) not in WORKERS:
        return _on_broke(fleet, WorkerBroke(event.worker, "said that it is draining at the wrong time"), now)
    if worker.state in {WorkerState.STARTING, WorkerState.READY}:  # not told by us, so without a deadline for it
        worker.deadline = now + worker.drain_patience
    worker.advance(WorkerEvent.DRAINING)
    return []


def _on_failed(fleet: Fleet, event: WorkerFailed, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    heard_before = worker.state not in {WorkerState.STARTING, WorkerState.READY}
    worker.has_failed = True
    _let_leave(worker, now)
    if heard_before:
        return [Log("debug", f"{worker} failed while it was leaving: {event.summary}", event.detail)]
    if fleet.is_candidate(worker):
        return transaction.rollback(fleet, event.summary, event.detail, now)
    return [Log("error", f"{worker} cannot serve: {event.summary}", event.detail)]


def _on_channel_closed(fleet: Fleet, event: ChannelClosed, now: float) -> list[Action]:
    _let_leave(fleet.workers[event.worker], now)
    return []


def _let_leave(worker: Worker, now: float) -> None:
    if worker.state in {WorkerState.STARTING, WorkerState.READY}:
        worker.deadline = now + LEAVE_PATIENCE
    worker.advance(WorkerEvent.LEAVE)


def _on_broke(fleet: Fleet, event: WorkerBroke, _: float) -> list[Action]:
    return fleet.kill(fleet.workers[event.worker], event.reason)


def _on_exited(fleet: Fleet, event: WorkerExited, now: float) -> list[Action]:
    worker = fleet.workers[event.worker]
    expected = event.status == 0 or (worker.has_failed and event.status == AppError.exit_code)
    return _on_gone(fleet, worker, f"{worker} {describe_exit(event.status)}", now, expected=expected)


def _on_gone(fleet: Fleet, worker: Worker, how: str, now: float, *, expected: bool = False) -> list[Action]:
    """Return what to do about a worker that has no process any more."""
    before = worker.state
    worker.advance(WorkerEvent.EXIT)
    del fleet.workers[worker.number]
    if fleet.is_candidate(worker):
        if worker.pid:
            how += " before it was ready" if worker.ready_at is None else " before all workers were ready"
        return transaction.rollback(fleet, how, "", now)
    if fleet.is_committed(worker) and fleet.phase is Phase.SERVING:
        return _replace(fleet, worker, how, now)
    if expected or before not in {WorkerState.TOLD, WorkerState.DRAINING} or not worker.pid:
        return [Log("debug", how)]
    return [Log("warning", f"{how} while draining")]


def _replace(fleet: Fleet, worker: Worker, how: str, now: float) -> list[Action]:
    """Return what fills the slot of a worker that died in service: a new worker, now or after the backoff."""
    assert fleet.committed is not None
    slot = fleet.slots[worker.slot]
    slot.backoff = slot.backoff.after_death(worker.served(now))
    wait = slot.backoff.wait
    if wait:
        slot.due = now + wait
        return [Log("error", f"{how}, starting another in {duration(max(wait, 0.1))}")]
    return [Log("error", f"{how}, starting another"), fleet.spawn(worker.slot, fleet.committed, now)]


def _on_tick(fleet: Fleet, _: Tick, now: float) -> list[Action]:
    actions: list[Action] = []
    if fleet.load_deadline is not None and fleet.load_deadline <= now:
        return _load_overdue(fleet, now)
    for worker in list(fleet.workers.values()):
        if worker.is_overdue(now):
            actions += _worker_overdue(fleet, worker, now)
    for number, slot in fleet.slots.items():
        if slot.due is not None and slot.due <= now and fleet.committed is not None:
            slot.due = None
            actions.append(fleet.spawn(number, fleet.committed, now))
    return actions


def _load_overdue(fleet: Fleet, now: float) -> list[Action]:
    text = f"the configuration could not be read within {duration(transaction.LOAD_PATIENCE)}"
    # At the first start, the rollback stops the loader with everything else.
    stop_loader: list[Action] = [StopLoader()] if fleet.committed is not None else []
    return [*stop_loader, *transaction.rollback(fleet, text, "", now)]


def _worker_overdue(fleet: Fleet, worker: Worker, now: float) -> list[Action]:
    if worker.state is WorkerState.STARTING:
        return _start_overdue(fleet, worker, now)
    if worker.state in {WorkerState.TOLD, WorkerState.DRAINING}:
        return fleet.kill(worker, f"of generation {worker.generation.number} did not exit in time while draining")
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


_Handler = Callable[[Fleet, Any, float], list[Action]]

_HANDLERS: dict[type[Event], _Handler] = {
    Begin: _on_begin,
    SignalReceived: _on_signal,
    Loaded: _on_loaded,
    LoadFailed: _on_load_failed,
    SocketsOpened: _on_opened,
    BindFailed: _on_bind_failed,
    WorkerSpawned: _on_spawned,
    SpawnFailed: _on_spawn_failed,
    WorkerStarting: _on_starting,
    WorkerReady: _on_ready,
    WorkerDraining: _on_draining,
    WorkerFailed: _on_failed,
    WorkerBroke: _on_broke,
    ChannelClosed: _on_channel_closed,
    WorkerExited: _on_exited,
    Tick: _on_tick,
}
