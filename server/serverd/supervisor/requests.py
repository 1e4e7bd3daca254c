"""What the operator wants, by signal or through the control socket: reload, reopen, stop, scale, upgrade.

Both ways lead to the same functions; a client of the control socket gets an answer, a signal a line in the log.
Pure like `policy`, which dispatches to `on_signal` and `on_asked`.
"""

from __future__ import annotations

import signal

from serverd.messages import Inspect, Unready
from serverd.supervisor import staffing, transaction, upgrade
from serverd.supervisor.actions import Action, GrowSockets, Log, ReopenLogs, Reply, ReplyPlan, ReplyStatus, Send
from serverd.supervisor.events import Asked, SignalReceived
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.states import Phase, PhaseEvent, Step, WorkerState
from serverd.supervisor.wording import duration, workers

__all__ = ["delay_over", "on_asked", "on_signal", "reload_changed", "scaled"]


def on_signal(fleet: Fleet, event: SignalReceived, now: float) -> list[Action]:
    """Do what configuration.md, "Signals", says."""
    name = event.signal.name.removeprefix("SIG")
    match event.signal:
        case signal.SIGHUP:
            refusal = "" if fleet.phase in {Phase.STARTING, Phase.SERVING} else fleet.occupation
            return [_ignored(name, refusal)] if refusal else _want_reload(fleet, f"{name} received")
        case signal.SIGUSR1:
            return [ReopenLogs()]
        case signal.SIGUSR2:
            refusal = upgrade.refusal(fleet)
            return [_ignored(name, refusal)] if refusal else upgrade.begin(fleet, now)
        case signal.SIGTTIN | signal.SIGTTOU:
            step = 1 if event.signal is signal.SIGTTIN else -1
            refusal, actions = staffing.scale(fleet, staffing.wanted(fleet) + step)
            return [_ignored(name, refusal)] if refusal else actions
        case signal.SIGQUIT:
            return _stop_at_once(fleet, f"{name} received", now)
        case signal.SIGTERM | signal.SIGINT:
            return _stop(fleet, f"{name} received", now)
    raise AssertionError(f"a signal that nobody listens to: {name}")


def _ignored(name: str, refusal: str) -> Log:
    return Log("warning", f"{name} ignored: {refusal}")


def on_asked(fleet: Fleet, event: Asked, now: float) -> list[Action]:
    """Do what a client of the control socket asks, and answer, now or when it is done."""
    client, request = event.client, event.request
    match request.command:
        case "status":
            return [ReplyStatus(client)]
        case "reopen":
            return [ReopenLogs(client)]
        case "stop":
            stop = _stop(fleet, "asked for on the control socket", now)
            return [*stop, Reply(client, True, "stopping", end=False)]
        case "scale":
            return _scale(fleet, client, request.workers or 0)
        case "reload" if fleet.phase is not Phase.SERVING:
            return [Reply(client, False, fleet.occupation)]
        case "reload" if request.dry_run:
            return [*_inspect(fleet), ReplyPlan(client)]
        case "reload":
            fleet.wanted.clients.append(client)
            return _want_reload(fleet, "asked for on the control socket")
        case "upgrade" if refusal := upgrade.refusal(fleet):
            return [Reply(client, False, refusal)]
        case "upgrade":
            fleet.wish.clients.append(client)
            return upgrade.begin(fleet, now)
    raise AssertionError(f"a command that nobody carries out: {request.command}")


def _inspect(fleet: Fleet) -> list[Action]:
    """Ask the workers for what only they know of a plan; their answers are there before the file has been read."""
    actions: list[Action] = []
    for worker in fleet.current():
        if worker.state is WorkerState.READY:
            worker.outdated = ""
            actions.append(Send(worker.number, Inspect()))
    return actions


def reload_changed(fleet: Fleet, what: str) -> list[Action]:
    """Reload because files have changed, with new workers in any case: what they read from them is not known."""
    if fleet.phase not in {Phase.STARTING, Phase.SERVING}:
        return []
    fleet.wanted.fresh = True
    return _want_reload(fleet, what)


def _want_reload(fleet: Fleet, why: str) -> list[Action]:
    """Note the wish; `policy` begins as soon as no transaction is under way."""
    fleet.wanted.reload = True
    if fleet.step is Step.IDLE:
        return [Log("info", f"reloading: {why}")]
    before = _UNTIL.get(fleet.step, "the last generation has been decided on")
    return [Log("info", f"reload queued: {why} before {before}")]


_UNTIL = {
    Step.RETIRING: "the last generation has drained",
    Step.UPGRADING: "the upgrade has been decided on",
}


def _scale(fleet: Fleet, client: int, count: int) -> list[Action]:
    refusal, actions = staffing.scale(fleet, count, client)
    if refusal:
        return [Reply(client, False, refusal)]
    if any(isinstance(action, GrowSockets) for action in actions):
        return actions  # the answer comes with the sockets
    return [*actions, Reply(client, True, scaled(count))]


def scaled(count: int) -> str:
    """Return the answer to a wish for so many workers that can be fulfilled."""
    return f"scaling to {workers(count)}"


def _stop(fleet: Fleet, why: str, now: float) -> list[Action]:
    """Stop gracefully, after shutdown_delay; a second wish stops at once."""
    if fleet.phase not in {Phase.STARTING, Phase.SERVING}:
        return _stop_at_once(fleet, f"{why} again", now)
    delay = fleet.committed.server.shutdown_delay if fleet.committed is not None else 0.0
    if not delay:
        fleet.move(PhaseEvent.STOP)
        return [Log("info", f"stopping: {why}{transaction.patience(fleet)}"), *transaction.stop(fleet, now)]
    fleet.move(PhaseEvent.DELAY)
    fleet.delay_ends = now + delay
    no_successor = upgrade.give_up(fleet, "the server is to stop")
    told = [Send(worker.number, Unready()) for worker in fleet.current()]
    return [
        *no_successor,
        *told,
        Log("info", f"not ready any more: {why}, stopping in {duration(delay)} (shutdown_delay)"),
    ]


def delay_over(fleet: Fleet, now: float) -> list[Action]:
    """Begin the drain that was put off."""
    fleet.move(PhaseEvent.STOP)
    return [Log("info", f"stopping{transaction.patience(fleet)}"), *transaction.stop(fleet, now)]


def _stop_at_once(fleet: Fleet, why: str, now: float) -> list[Action]:
    if fleet.phase in {Phase.KILLING, Phase.STOPPED}:
        return []
    fleet.move(PhaseEvent.KILL)
    return [Log("warning", f"stopping at once: {why}"), *transaction.stop(fleet, now)]
