"""What the supervisor does about what happens: `decide(fleet, event, now) -> actions`.

Everything it knows is in its arguments and all it changes is the fleet, so every decision is tested
as a table in virtual time. No I/O, no clock, no processes: `loop` feeds it events, `supervisor` performs
its actions. Here an event is handed to whoever knows what it means, and what has become possible or
necessary with it follows:

    workers        what happens to a worker          transaction    the course of a reload
    staffing       who has which slot                upgrade        the course of an upgrade
    requests       what the operator wants           states         the tables of all of these
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serverd.supervisor import events, requests, staffing, transaction, upgrade, workers
from serverd.supervisor.actions import Action, Exit, Log, Notice, Notify, Reply
from serverd.supervisor.events import Event
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.states import Phase, PhaseEvent, StateError, Step, StepEvent
from serverd.supervisor.wording import workers as some_workers

__all__ = ["decide"]


def decide(fleet: Fleet, event: Event, now: float) -> list[Action]:
    """Return what to do about `event` at `now`, in order, and bring `fleet` up to date.

    Raises StateError when the event cannot happen in the fleet's state.
    """
    awaited = _AWAITED.get(type(event), fleet.step)
    if awaited is fleet.step:
        actions = _HANDLERS[type(event)](fleet, event, now)
    elif fleet.phase in _ENDING:
        actions = []  # it was on its way when the supervisor began to stop, and leads nowhere any more
    else:
        raise StateError(f"{event} cannot happen in {fleet.step}")
    return [*actions, *_follow_up(fleet, now)]


_ENDING = {Phase.STOPPING, Phase.KILLING}
# What comes at one step only, because it is the outcome of what that step is about.
_AWAITED: dict[type[Event], Step] = {
    events.Loaded: Step.LOADING,
    events.LoadFailed: Step.LOADING,
    events.SocketsOpened: Step.OPENING,
    events.BindFailed: Step.OPENING,
    events.Preloaded: Step.PRELOADING,
}


def _follow_up(fleet: Fleet, now: float) -> list[Action]:
    """Return what has become possible with the event: a commit, the end, the end of a transaction and the next."""
    if fleet.phase in _ENDING and not fleet.workers:
        fleet.move(PhaseEvent.EMPTY)
        # A failed start has said what there was to say.
        stopped = [] if fleet.exit_code else [Log("info", "stopped")]
        return [*_notify(fleet), *stopped, Exit(fleet.exit_code)]
    actions = [*transaction.go_on(fleet, now), *transaction.announce(fleet, now)]
    is_alone = not fleet.unannounced and all(fleet.is_committed(worker) for worker in fleet.workers.values())
    if fleet.step is Step.RETIRING and is_alone:
        fleet.take_step(StepEvent.RETIRED)
    # While STARTING only where a start has failed that waits for a change.
    is_free = fleet.step is Step.IDLE and fleet.phase in {Phase.STARTING, Phase.SERVING}
    if is_free and fleet.wanted.is_any:
        # The end of one reload is told before the beginning of the next: whoever asked for the next waits for that.
        actions += [*_notify(fleet), *transaction.begin(fleet, now)]
    return [*actions, *staffing.staff(fleet, now), *staffing.cover(fleet), *_notify(fleet)]


# The steps during which a service manager sees a reload.
_RELOADING = {Step.LOADING, Step.OPENING, Step.PROPOSING, Step.PRELOADING, Step.PREPARING}


def _notify(fleet: Fleet) -> list[Action]:
    """Tell the service manager when it would see a difference."""
    if fleet.phase is Phase.STARTING or fleet.committed is None or fleet.is_succeeded:
        return []  # before the first word, or after the last: the successor speaks
    if fleet.phase is not Phase.SERVING:
        notice, text = Notice.STOPPING, "stopping"
    else:
        serving = sum(worker.serves for worker in fleet.current())
        notice = Notice.RELOADING if fleet.step in _RELOADING or fleet.unannounced else Notice.READY
        text = f"generation {fleet.committed.number}, {serving} of {some_workers(len(fleet.slots))} serving"
        if fleet.outcome is not None and not fleet.outcome.ok:
            text += f"; last reload failed, {fleet.outcome.message}"
    before, fleet.noticed = fleet.noticed, (notice, text)
    if before == fleet.noticed:
        return []
    return [Notify(notice if notice is not before[0] else None, text)]


def _on_certificates_changed(fleet: Fleet, _: events.CertificatesChanged, __: float) -> list[Action]:
    fleet.wanted.renewal = fleet.phase is Phase.SERVING
    return [Log("info", "renewing: files of certificates have changed")] if fleet.wanted.renewal else []


def _on_slots_opened(fleet: Fleet, event: events.SlotsOpened, _: float) -> list[Action]:
    is_wanted = event.count <= staffing.wanted(fleet)  # if only by now: others may have wished for as many
    actions = staffing.open_slots(fleet, event.count)
    if event.client is None:
        return actions
    text = requests.scaled(event.count) if is_wanted else "not scaled: something else was asked for meanwhile"
    return [*actions, Reply(event.client, is_wanted, text)]


def _on_slots_failed(fleet: Fleet, event: events.SlotsFailed, _: float) -> list[Action]:
    fleet.growing = 0
    text = "cannot scale"
    replies = [] if event.client is None else [Reply(event.client, False, text, event.report)]
    return [Log("error", text, event.report), *replies]


def _on_preload_failed(fleet: Fleet, event: events.PreloadFailed, now: float) -> list[Action]:
    if fleet.step not in {Step.PRELOADING, Step.PREPARING}:
        return []  # it has done its duty: its generation is committed, or has been rolled back
    return transaction.rollback(fleet, event.summary, event.detail, now)


def _on_tick(fleet: Fleet, _: events.Tick, now: float) -> list[Action]:
    fleet.wake(now)
    actions: list[Action] = []
    if fleet.step_deadline is not None and fleet.step_deadline <= now:
        actions += upgrade.overdue(fleet) if fleet.step is Step.UPGRADING else transaction.overdue(fleet, now)
    if fleet.delay_ends is not None and fleet.delay_ends <= now:
        actions += requests.delay_over(fleet, now)
    return actions + [
        action for worker in list(fleet.workers.values()) for action in workers.on_tick(fleet, worker, now)
    ]


_Handler = Callable[[Fleet, Any, float], list[Action]]

_HANDLERS: dict[type[Event], _Handler] = {
    events.Begin: lambda fleet, _, now: transaction.begin(fleet, now),
    events.SignalReceived: requests.on_signal,
    events.Asked: requests.on_asked,
    events.CertificatesChanged: _on_certificates_changed,
    events.FilesChanged: lambda fleet, event, _: requests.reload_changed(fleet, event.what),
    events.Loaded: lambda fleet, event, _: transaction.load(fleet, event.generation),
    events.LoadFailed: lambda fleet, event, now: transaction.rollback(
        fleet, event.report, "", now, is_final=not fleet.has_file, refused=event.refused
    ),
    events.SocketsOpened: lambda fleet, _, now: transaction.open_done(fleet, now),
    events.BindFailed: lambda fleet, event, now: transaction.rollback(fleet, event.report, "", now, is_final=True),
    events.SlotsOpened: _on_slots_opened,
    events.SlotsFailed: _on_slots_failed,
    events.Preloaded: lambda fleet, _, now: transaction.prepare(fleet, now),
    events.PreloadFailed: _on_preload_failed,
    events.WorkerSpawned: workers.on_spawned,
    events.SpawnFailed: workers.on_spawn_failed,
    events.WorkerSaid: workers.on_said,
    events.WorkerBroke: workers.on_broke,
    events.ChannelClosed: workers.on_channel_closed,
    events.WorkerExited: workers.on_exited,
    events.SuccessorReady: lambda fleet, event, now: upgrade.succeeded(fleet, event.pid, now),
    events.SuccessorFailed: lambda fleet, event, _: upgrade.failed(fleet, event.reason),
    events.Tick: _on_tick,
}
