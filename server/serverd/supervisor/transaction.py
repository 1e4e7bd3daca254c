"""A new generation as a transaction: load, open, then propose or prepare, then commit or roll back, then retire.

A generation in which the applications can see no difference is proposed to the running workers, which adopt it;
any other gets new workers. The first start is the same transaction with nothing to fall back to. Pure like
`policy`, which calls these functions when the event has come that each of them waits for; each returns actions.

The workers of a generation that is rolled back are drained, not killed: those that were ready have
accepted connections on sockets that both generations share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from serverd.config.changes import compare
from serverd.errors import OperatorError
from serverd.generation import Generation
from serverd.messages import Adopt
from serverd.supervisor.actions import (
    Action,
    CloseSockets,
    CommitSockets,
    Complain,
    ConfigureLogging,
    Log,
    OpenSockets,
    Rehearsed,
    Reply,
    RollbackSockets,
    Send,
    SendProposal,
    SendSockets,
    SetTitle,
    StartLoader,
    StartPreloader,
    StopLoader,
    StopPreloader,
    StopSuccessor,
)
from serverd.supervisor.fleet import Fleet, Outcome, Slot, Wish
from serverd.supervisor.states import Phase, PhaseEvent, Step, StepEvent, WorkerState
from serverd.supervisor.wording import duration, workers

__all__ = [
    "ANSWER_PATIENCE",
    "LOAD_PATIENCE",
    "announce",
    "begin",
    "go_on",
    "load",
    "open_done",
    "overdue",
    "patience",
    "prepare",
    "rollback",
    "stop",
    "withdraw",
]

# Seconds for the loader. It reads a few files and looks up a few names; what takes longer hangs on a
# dead network file system, and the operator should hear of it.
LOAD_PATIENCE = 30.0
# Seconds for the running workers to answer a proposal, which takes them milliseconds. One whose loop does not
# turn, or that is only starting, is not waited for longer: new workers serve the generation then.
ANSWER_PATIENCE = 5.0


def begin(fleet: Fleet, now: float) -> list[Action]:
    """Begin a transaction: have the configuration read, or, if that is all that is wanted, the certificates."""
    fleet.take_step(StepEvent.LOAD, now + LOAD_PATIENCE)
    fleet.wish, fleet.wanted = fleet.wanted, Wish()
    renewed = fleet.committed if fleet.wish.is_renewal else None
    return [StartLoader(renewed)]


def load(fleet: Fleet, generation: Generation) -> list[Action]:
    """Number the generation that was read, and have its sockets opened."""
    fleet.take_step(StepEvent.LOADED)
    fleet.last_generation += 1
    fleet.candidate = replace(generation, number=fleet.last_generation)
    fleet.candidate_slots = _count_slots(fleet, generation)
    actions: list[Action] = []
    if fleet.committed is None:
        actions.append(ConfigureLogging(generation.logging))
    warnings = fleet.complaints.hear_loaded(generation, is_renewal=fleet.wish.is_renewal)
    actions.extend(Log("warning", warning) for warning in warnings)
    return [*actions, OpenSockets(fleet.candidate, fleet.candidate_slots)]


def _count_slots(fleet: Fleet, new: Generation) -> int:
    """Return how many workers the new generation has: as many as there are, unless the file has changed its mind."""
    count = new.server.workers
    is_same = fleet.committed is not None and fleet.committed.server.workers == count
    return (len(fleet.slots) or count) if is_same else count


def open_done(fleet: Fleet, now: float) -> list[Action]:
    """Ask the running workers whether they can serve the candidate, or get new ones if that is out of the question."""
    assert fleet.candidate is not None
    changes = compare(fleet.committed, fleet.candidate) if fleet.committed is not None else None
    if changes is None or fleet.wish.fresh:
        return _renew(fleet, now)
    if not (changes.is_live or fleet.wish.is_renewal):
        return [Log("info", f"starting new workers: {', '.join(changes.restart)}"), *_renew(fleet, now)]
    fleet.take_step(StepEvent.PROPOSE, now + ANSWER_PATIENCE)
    fleet.live = ", ".join(changes.live) or "nothing has changed"
    return []


def _propose(fleet: Fleet) -> list[Action]:
    assert fleet.candidate is not None
    actions: list[Action] = []
    for worker in fleet.current():
        if worker.state is WorkerState.READY and not worker.has_proposal:
            worker.has_proposal, worker.has_accepted = True, False
            actions.append(SendProposal(worker.number, fleet.candidate, fleet.wish.is_renewal))
    return actions


def withdraw(fleet: Fleet, reason: str, now: float) -> list[Action]:
    """Serve the candidate with new workers after all."""
    return [Log("info", f"starting new workers: {reason}"), *_take_back(fleet), *_renew(fleet, now)]


def _take_back(fleet: Fleet) -> list[Action]:
    """Free the workers of what was proposed to them; its sockets are held by nobody then."""
    assert fleet.committed is not None
    fleet.live = ""
    actions: list[Action] = []
    for worker in fleet.workers.values():
        if worker.has_proposal and not worker.is_leaving:
            actions.append(SendSockets(worker.number, fleet.committed.number))
        worker.has_proposal = worker.has_accepted = False
    return actions


def _renew(fleet: Fleet, now: float) -> list[Action]:
    assert fleet.candidate is not None
    server = fleet.candidate.server
    if not server.preload:
        return prepare(fleet, now)
    fleet.take_step(StepEvent.PRELOAD, now + server.start_timeout)
    fleet.preloaders.add(fleet.candidate.number)
    return [StartPreloader(fleet.candidate)]


def prepare(fleet: Fleet, now: float) -> list[Action]:
    """Start the candidate's workers beside those that serve."""
    fleet.take_step(StepEvent.PREPARE)
    assert fleet.candidate is not None
    return [fleet.spawn(slot, fleet.candidate, now) for slot in range(fleet.candidate_slots)]


def go_on(fleet: Fleet, now: float) -> list[Action]:
    """Propose the candidate to whoever can be asked, and commit it when every worker is ready for it."""
    if fleet.step is Step.PROPOSING:
        actions = _propose(fleet)
        current = fleet.current()
        filled = {worker.slot for worker in current} >= set(fleet.slots)
        agreed = all(one.has_accepted and one.state is WorkerState.READY for one in current)
        return [*actions, *_adopt(fleet, now)] if filled and agreed else actions
    if fleet.step is not Step.PREPARING or fleet.candidate is None:
        return []
    ready = sum(fleet.is_candidate(one) and one.serves for one in fleet.workers.values())
    if ready < fleet.candidate_slots:
        return []
    return _end_rehearsal(fleet, now) if fleet.is_rehearsal else _replace(fleet, now)


def _end_rehearsal(fleet: Fleet, now: float) -> list[Action]:
    """Stop where a start would commit the candidate, which its workers never learn."""
    fleet.move(PhaseEvent.STOP)
    return [Rehearsed(), *stop(fleet, now)]


def _adopt(fleet: Fleet, now: float) -> list[Action]:
    """Commit the candidate in the running workers."""
    assert fleet.candidate is not None
    new = fleet.candidate
    slots = {number: fleet.slots.get(number, Slot()) for number in range(fleet.candidate_slots)}
    adopt: list[Action] = []
    for worker in fleet.current():
        worker.generation, worker.adopts = new, True
        worker.has_proposal = worker.has_accepted = False
        worker.deadline = now + worker.drain_patience  # as long as it would have had, had it been replaced
        adopt.append(Send(worker.number, Adopt(new.number)))
    return [*adopt, *_commit(fleet, slots)]


def _replace(fleet: Fleet, now: float) -> list[Action]:
    """Commit the candidate, which has workers of its own, and retire those of the generation before it."""
    assert fleet.candidate is not None
    slots = {slot: Slot() for slot in range(fleet.candidate_slots)}
    # The old ones drain before the sockets that only they have are closed: they still take what is queued there.
    retire = [
        action
        for worker in fleet.workers.values()
        if not fleet.is_candidate(worker)
        for action in fleet.drain(worker, now)
    ]
    done = _stop_preloaders(fleet, fleet.preloaders - {fleet.candidate.number})
    return [*retire, *done, *_commit(fleet, slots)]


def _commit(fleet: Fleet, slots: dict[int, Slot]) -> list[Action]:
    """Let the candidate be what serves; `announce` tells when nothing before it is in reach any more."""
    fleet.take_step(StepEvent.COMMIT)
    fleet.move(PhaseEvent.COMMIT)
    assert fleet.candidate is not None
    new = fleet.candidate
    fleet.unannounced = fleet.committed is not None
    fleet.committed, fleet.candidate = new, None
    fleet.complaints.hear_committed(new)
    fleet.slots, fleet.growing = slots, 0
    fleet.slots_served = max(fleet.slots_served, len(slots))
    ready = Log("info", f"ready: generation {new.number}, {workers(len(slots))}")
    return [
        ConfigureLogging(new.logging),
        CommitSockets(),
        SetTitle(f"serverd: supervisor {new.source} (generation {new.number})"),
        *([] if fleet.unannounced else [ready]),
    ]


def announce(fleet: Fleet, now: float) -> list[Action]:
    """Say that a reload has succeeded, once and as soon as no connection can reach what was before it."""
    if not fleet.unannounced or fleet.committed is None:
        return []
    for worker in fleet.workers.values():
        if worker.may_serve_older and (worker.adopts or not fleet.is_committed(worker)):
            return []
    fleet.unannounced = False
    how = f", adopted by the running workers: {fleet.live}" if fleet.live else ""
    fleet.live = ""
    text = f"generation {fleet.committed.number} is serving{how}"
    return [Log("info", f"reloaded: {text}"), *_conclude(fleet, Outcome(True, now, text))]


def _conclude(fleet: Fleet, outcome: Outcome, detail: str = "") -> list[Action]:
    """Tell those who wait how it ended."""
    fleet.outcome = outcome
    fleet.reloads += outcome.ok
    fleet.failed_reloads += not outcome.ok
    clients, fleet.wish.clients = fleet.wish.clients, []
    text = outcome.message if outcome.ok else f"reload failed, {outcome.message}"
    return [Reply(client, outcome.ok, text, detail) for client in clients]


def rollback(
    fleet: Fleet, reason: str, detail: str, now: float, *, is_final: bool = False, refused: Sequence[str] = ()
) -> list[Action]:
    """Give the candidate up; the committed generation goes on, or, when there is none, the start has failed.

    With --reload a start that has failed waits for a change, unless no change can mend it (`is_final`). Files that a
    renewal has `refused` are complained of once.
    """
    is_known = fleet.complaints.hear_failed(reason, refused, is_renewal=fleet.wish.is_renewal)
    had_sockets = fleet.step in {Step.PROPOSING, Step.PRELOADING, Step.PREPARING}
    if fleet.committed is None and (is_final or not fleet.watches_files):
        fleet.exit_code = OperatorError.exit_code
        complaint = "\n".join(part.rstrip("\n") for part in (reason, detail) if part)
        fleet.move(PhaseEvent.STOP)
        return [Complain(complaint), *stop(fleet, now)]
    take_back = _take_back(fleet) if fleet.step is Step.PROPOSING else []
    fleet.take_step(StepEvent.ROLLBACK)
    leave = [
        action for worker in fleet.workers.values() if fleet.is_candidate(worker) for action in fleet.drain(worker, now)
    ]
    preloader = _stop_preloaders(fleet, fleet.preloaders & {fleet.candidate.number} if fleet.candidate else set())
    fleet.candidate = None
    # What a reload would have brought along has a chance by itself; nobody tells of those files again.
    fleet.wanted.renewal |= fleet.wish.renewal and fleet.wish.reload
    reason, _, rest = reason.partition("\n")
    what = "reload" if fleet.committed else "start"
    then = f"generation {fleet.committed.number} goes on serving" if fleet.committed else "waiting for a change"
    text = f"{then}: {reason}"
    # A report of several lines: the log line gets the first, what follows it gets them all.
    report = f"{reason}\n{rest}" if rest else detail
    known = "nothing is renewed: what cannot be used is as it was when that was said, and nothing else is new"
    told = Log("info", known) if is_known else Log("error", f"{what} failed, {text}", report)
    return [
        told,
        *take_back,
        *leave,
        *preloader,
        *([RollbackSockets()] if had_sockets else []),
        *_conclude(fleet, Outcome(False, now, text), rest or detail),
    ]


def _stop_preloaders(fleet: Fleet, generations: set[int]) -> list[Action]:
    fleet.preloaders = fleet.preloaders - generations
    return [StopPreloader(number) for number in sorted(generations)]


def overdue(fleet: Fleet, now: float) -> list[Action]:
    """Do what follows when the time of the present step has run out."""
    if fleet.step is Step.PROPOSING:
        return withdraw(fleet, f"not every worker has answered within {duration(ANSWER_PATIENCE)}", now)
    if fleet.step is Step.PRELOADING and fleet.candidate is not None:
        within = duration(fleet.candidate.server.start_timeout)
        return rollback(fleet, f"the applications were not imported within {within} (start_timeout)", "", now)
    text = f"the configuration could not be read within {duration(LOAD_PATIENCE)}"
    return [StopLoader(), *rollback(fleet, text, "", now)]


def stop(fleet: Fleet, now: float) -> list[Action]:
    """Abort whatever transaction there is and drain every worker, or kill it; the phase has been moved already."""
    actions: list[Action] = []
    if fleet.step is Step.LOADING:
        actions.append(StopLoader())
    if fleet.step is Step.UPGRADING and not fleet.is_succeeded:
        actions.append(StopSuccessor())
    actions += _stop_preloaders(fleet, fleet.preloaders)
    fleet.take_step(StepEvent.ABORT)
    fleet.unannounced = False
    fleet.delay_ends = fleet.candidate = None
    fleet.slots.clear()
    fleet.growing = 0
    clients = [*fleet.wish.clients, *fleet.wanted.clients]
    fleet.wish, fleet.wanted = Wish(), Wish()
    text = "another supervisor has taken over" if fleet.is_succeeded else "the server stops"
    actions += [Reply(client, False, text) for client in clients]
    for worker in fleet.workers.values():
        actions += fleet.kill(worker) if fleet.phase is Phase.KILLING else fleet.drain(worker, now)
    return [*actions, CloseSockets(kept=fleet.is_succeeded)]


def patience(fleet: Fleet) -> str:
    """Return how long a stop waits for what is in flight, in words."""
    generation = fleet.committed or fleet.candidate
    return f", draining up to {duration(generation.server.graceful_timeout)}" if generation else ""
