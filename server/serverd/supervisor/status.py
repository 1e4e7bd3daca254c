"""How everything stands, as a document for the control socket: pure, from the fleet and what is open."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from serverd.config.expiry import tell_age
from serverd.generation import App
from serverd.messages import AppDown
from serverd.observe.counters import SESSIONS, Tally, ended
from serverd.supervisor.certificates import authorities, certificates, tables
from serverd.supervisor.fleet import Fleet, Outcome
from serverd.supervisor.worker import Worker

__all__ = ["describe", "with_counts"]

Number = TypeVar("Number", int, float)

# As much as a counter holds: more than anything is.
MOST = 2**63


def describe(fleet: Fleet, now: float, wall: float) -> dict[str, Any]:
    """Return how everything stands as JSON takes it; times are in seconds.

    `now` is of the fleet's clock, `wall` the same moment in seconds since the epoch.
    """
    return {
        "phase": fleet.phase.value,
        "step": fleet.step.value,
        "ready": fleet.is_ready,
        "generation": fleet.committed.number if fleet.committed is not None else None,
        "last_reload": _outcome(fleet.outcome, now, wall),
        "workers": [_worker(worker, now) for worker in _in_order(fleet)],
        "slots": [
            {
                "slot": number,
                "restarts": slot.restarts,
                "last_exit": slot.last_exit or None,
                "waits": None if slot.due is None else round(max(0.0, slot.due - now), 1),
            }
            for number, slot in sorted(fleet.slots.items())
        ],
        "certificates": [
            {
                "tls": tls.name,
                "names": list(certificate.names),
                "serial": certificate.serial,
                "not_before": certificate.not_before,
                "not_after": certificate.not_after,
                "chain_ends": None if first is None else {"name": first.name, "until": first.until},
                "age": tell_age(certificate, wall) or None,
                "kept": certificate.kept or None,
            }
            for tls, certificate in (certificates(fleet.committed) if fleet.committed is not None else ())
            for first in (certificate.first_to_end,)
        ],
        "authorities": [
            {
                "tls": tls.name,
                "key": key,
                "name": one.name,
                "since": one.since,
                "until": one.until or None,
                "age": age or None,
            }
            for tls in (tables(fleet.committed) if fleet.committed is not None else ())
            for key, one, age in authorities(tls, wall)
        ],
        "apps": [_app(app, fleet) for app in (fleet.committed.apps if fleet.committed is not None else ())],
    }


def with_counts(apps: list[dict[str, Any]], tally: Tally) -> list[dict[str, Any]]:
    """Return the applications of a description with how many requests each has had, and how many ended in a 5xx.

    A WebSocket is a request, too, as it is to the workers that are shown beside.
    """
    requests: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for (app, _), row in tally.mounts.items():
        requests[app] += row[SESSIONS]
        for those in ended(row):
            requests[app] += those.number
            errors[app] += those.number if those.status == "5xx" else 0
    return [one | {"requests": _sound(requests[one["name"]]), "errors": _sound(errors[one["name"]])} for one in apps]


def _in_order(fleet: Fleet) -> list[Worker]:
    return sorted(fleet.workers.values(), key=lambda worker: (worker.slot, worker.number))


def _outcome(outcome: Outcome | None, now: float, wall: float) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {"ok": outcome.ok, "at": round(wall - (now - outcome.at), 1), "message": outcome.message}


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    beat = worker.beat
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "generation": worker.generation.number,
        "state": worker.state.value,
        "age": round(now - worker.spawned_at, 1),
        "requests": _sound(beat.requests),
        "in_flight": _sound(beat.in_flight),
        "connections": _sound(beat.connections),
        "rss": _sound(beat.rss),
        "lag": round(_sound(beat.lag), 3),
        "late": worker.is_late,
        "covers": list(worker.covers),
        "recycle": worker.recycle or None,
    }


def _sound(value: Number) -> Number:
    """Return what a worker says of itself as a number that can be shown; it may say anything."""
    return min(max(value, type(value)(0)), type(value)(MOST)) if value == value else type(value)(0)


def _app(app: App, fleet: Fleet) -> dict[str, Any]:
    down = next((worker.down[app.name] for worker in fleet.current() if app.name in worker.down), None)
    return {
        "name": app.name,
        "target": app.target,
        "state": "up" if down is None else "unavailable",
        "failure": None if down is None else _failure(down),
    }


def _failure(down: AppDown) -> dict[str, str]:
    return {"summary": down.summary, "detail": down.detail}
