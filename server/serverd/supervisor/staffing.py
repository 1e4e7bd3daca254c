"""Which worker has which slot: missing ones are spawned, superfluous ones drained, late ones covered.

It is decided from the fleet as it stands and not from what has just happened, so a worker that crashed, was
terminated by somebody, is to be recycled or was scaled away is one case: a slot whose worker is not as it
should be. Pure like `policy`, which calls `staff` and `cover` after every event.
"""

from __future__ import annotations

from serverd.control.requests import MOST_WORKERS
from serverd.messages import Cover
from serverd.supervisor.actions import Action, GrowSockets, Log, Send, SendSockets
from serverd.supervisor.fleet import Fleet, Slot
from serverd.supervisor.states import Step, WorkerState
from serverd.supervisor.wording import duration, size, workers
from serverd.supervisor.worker import Worker

__all__ = ["MEMORY_REST", "cover", "judge", "lose", "open_slots", "scale", "staff", "wanted"]

# Seconds that a worker serves at least before it is recycled for its memory. A limit below what the applications
# hold from the start would else replace workers as fast as they start.
MEMORY_REST = 5.0


def staff(fleet: Fleet, now: float) -> list[Action]:
    """Fill the slots of the committed generation, and drain who has none or has a successor."""
    if not fleet.is_serving or fleet.committed is None:
        return []
    actions: list[Action] = []
    for worker in fleet.current():
        if worker.slot not in fleet.slots or _is_succeeded(fleet, worker):
            actions += fleet.drain(worker, now)
    for number, slot in fleet.slots.items():
        if slot.due is not None and slot.due <= now:
            slot.due = None
        if slot.due is None and _needs_worker(fleet, number):
            actions.append(fleet.spawn(number, fleet.committed, now))
    return actions


def _needs_worker(fleet: Fleet, slot: int) -> bool:
    members = [worker for worker in fleet.current() if worker.slot == slot]
    if not members:
        return True
    # One successor at a time, and none beside a new generation: never more than one worker more than there should be.
    if fleet.step is not Step.IDLE or not members[0].recycle or len(members) > 1:
        return False
    return not _is_recycling(fleet)


def _is_recycling(fleet: Fleet) -> bool:
    """Return whether a worker starts, has its successor beside it, or still drains after that: the next waits."""
    current = fleet.current()
    starts = any(worker.state is WorkerState.STARTING for worker in current)
    drains = any(worker.recycle and worker.is_leaving for worker in fleet.workers.values())
    return starts or drains or len(current) > len({worker.slot for worker in current})


def _is_succeeded(fleet: Fleet, worker: Worker) -> bool:
    return bool(worker.recycle) and any(
        other.slot == worker.slot and other.serves and not other.recycle for other in fleet.current()
    )


def judge(worker: Worker, now: float) -> list[Action]:
    """Decide whether a worker has served enough, from its last beat and its age."""
    if worker.state is not WorkerState.READY or worker.recycle:
        return []
    recycle = worker.generation.server.recycle
    beat = worker.beat
    if beat.requests >= worker.request_limit():
        worker.recycle = f"it has had {beat.requests} requests"
    elif 0 < recycle.memory < beat.rss and worker.served(now) >= MEMORY_REST:
        worker.recycle = f"it holds {size(beat.rss)}, more than {size(recycle.memory)}"
    elif worker.old_at <= now:
        worker.recycle = f"it has served for {duration(recycle.lifetime)}"
    else:
        return []
    return [Log("info", f"{worker} is recycled: {worker.recycle}")]


def lose(fleet: Fleet, worker: Worker, how: str, now: float) -> list[Action]:
    """Take note that a worker left its slot untold; `staff` spawns another, now or after the backoff."""
    slot = fleet.slots.get(worker.slot)
    if slot is None:
        return [Log("debug", how)]
    slot.restarts += 1
    fleet.restarts += 1
    slot.last_exit = how
    slot.backoff = slot.backoff.after_death(worker.served(now))
    if worker.recycle and any(other.slot == worker.slot and other is not worker for other in fleet.current()):
        return [Log("error", f"{how}, its successor has its slot")]
    wait = slot.backoff.wait
    slot.due = now + wait if wait else None
    return [Log("error", f"{how}, starting another{f' in {duration(max(wait, 0.1))}' if wait else ''}")]


def cover(fleet: Fleet) -> list[Action]:
    """Have every slot's sockets accepted on: those without a worker that serves are covered by all the others."""
    if not fleet.is_serving:
        return []
    kept = {worker.slot for worker in fleet.current() if worker.serves}
    orphaned = tuple(slot for slot in range(fleet.slots_served) if slot not in kept)
    actions: list[Action] = []
    for worker in fleet.current():
        if worker.serves and worker.covers != orphaned:
            worker.covers = orphaned
            actions.append(Send(worker.number, Cover(orphaned)))
    return actions


def scale(fleet: Fleet, count: int, client: int | None = None) -> tuple[str, list[Action]]:
    """Change the number of slots; return why not, or "", and the actions; `client` waits for more of them."""
    if not 1 <= count <= MOST_WORKERS:
        return f"the number of workers can be 1 to {MOST_WORKERS}", []
    if fleet.occupation and not (fleet.is_serving and fleet.step in {Step.IDLE, Step.RETIRING}):
        return fleet.occupation, []
    before = wanted(fleet)
    log = [Log("info", f"scaling from {workers(before)} to {count}")] if count != before else []
    fleet.growing = count if count > len(fleet.slots) else 0
    if fleet.growing:
        return "", [*log, GrowSockets(count, client)]
    for number in [number for number in fleet.slots if number >= count]:
        del fleet.slots[number]
    return "", [*log]


def wanted(fleet: Fleet) -> int:
    """Return the number of slots as it was wished for last, whether or not there are sockets for them yet."""
    return fleet.growing or len(fleet.slots)


def open_slots(fleet: Fleet, count: int) -> list[Action]:
    """Add the slots that there are sockets for, unless fewer are wanted by now; everybody gets the sockets to cover."""
    count = min(count, fleet.growing)
    if not count or fleet.committed is None:
        return []
    if count == fleet.growing:
        fleet.growing = 0
    for number in range(count):
        fleet.slots.setdefault(number, Slot())
    fleet.slots_served = max(fleet.slots_served, count)
    return [
        SendSockets(worker.number, fleet.committed.number)
        for worker in fleet.current()
        if worker.state in {WorkerState.STARTING, WorkerState.READY}
    ]
