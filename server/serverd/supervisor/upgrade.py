"""Another supervisor in the place of this one: it starts on our sockets, and when it serves, we leave.

That is how serverd itself, or Python, is upgraded without losing a request (USR2, `serverd upgrade`). Pure like
`policy`, which dispatches to the functions here.
"""

from __future__ import annotations

from serverd.supervisor import transaction
from serverd.supervisor.actions import Action, HandOn, Log, Reply, StartSuccessor, StopSuccessor
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.states import PhaseEvent, Step, StepEvent
from serverd.supervisor.transaction import LOAD_PATIENCE
from serverd.supervisor.wording import duration

__all__ = ["begin", "failed", "give_up", "overdue", "refusal", "succeeded"]


def refusal(fleet: Fleet) -> str:
    """Return why the supervisor cannot be replaced now, or ""."""
    return fleet.occupation


def begin(fleet: Fleet, now: float) -> list[Action]:
    """Start the successor; it has the time to read the configuration and to start its workers."""
    assert fleet.committed is not None
    patience = LOAD_PATIENCE + fleet.committed.server.start_timeout
    fleet.take_step(StepEvent.UPGRADE, now + patience)
    return [Log("info", "upgrading: starting another supervisor on the same sockets"), StartSuccessor()]


def succeeded(fleet: Fleet, pid: int, now: float) -> list[Action]:
    """Leave the place to the successor, which serves."""
    if fleet.step is not Step.UPGRADING:
        return []  # it has been killed, too late to keep it from saying so
    fleet.move(PhaseEvent.STOP)
    fleet.is_succeeded = True
    log = Log("info", f"upgraded: supervisor {pid} serves, leaving{transaction.patience(fleet)}")
    replies: list[Action] = [Reply(client, True, f"upgraded: supervisor {pid} serves") for client in fleet.wish.clients]
    fleet.wish.clients = []
    # It has read the configuration at some time since its start: before or after the change that was meant.
    lost = "the reload that was asked for meanwhile is not done, ask the new supervisor for it"
    left = [Log("warning", lost)] if fleet.wanted.reload else []
    return [HandOn(pid), log, *left, *replies, *transaction.stop(fleet, now)]


def failed(fleet: Fleet, reason: str) -> list[Action]:
    """Go on serving."""
    if fleet.step is not Step.UPGRADING:
        return []  # it was stopped, or could not take over before we were
    fleet.take_step(StepEvent.ROLLBACK)
    reason, _, detail = reason.partition("\n")  # it may be a whole report
    text = f"upgrade failed, this supervisor goes on serving: {reason}"
    clients, fleet.wish.clients = fleet.wish.clients, []
    return [Log("error", text, detail), *(Reply(client, False, text, detail) for client in clients)]


def give_up(fleet: Fleet, reason: str) -> list[Action]:
    """End a successor that does not serve yet; without effect when there is none."""
    return [StopSuccessor(), *failed(fleet, reason)] if fleet.step is Step.UPGRADING else []


def overdue(fleet: Fleet) -> list[Action]:
    """Give the successor up because its time has run out."""
    assert fleet.committed is not None
    patience = LOAD_PATIENCE + fleet.committed.server.start_timeout
    return give_up(fleet, f"it did not serve within {duration(patience)}")
