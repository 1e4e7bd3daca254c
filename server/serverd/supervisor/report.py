"""What a worker is told of everything, for metrics and the status page: pure, as a document for JSON.

Less than the control socket tells its owner, and more: whoever may see the page need not be allowed to see what an
application said when it failed, or what stands in the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serverd.net.bindings import Queue
from serverd.observe.counters import ELSEWHERE, Key, Tally, key_of
from serverd.supervisor.fleet import Fleet

__all__ = ["MOST_AT_ZERO", "make_report"]

# Mounts that are told before anybody has asked for them; of more, those only that were asked for. A thousand would
# cost whoever renders them 50 ms, in which a worker does nothing else.
MOST_AT_ZERO = 256

_TOLD = ("version", "uptime", "phase", "ready", "generation", "listeners", "certificates", "authorities")
_TOLD_OF_WORKER = ("slot", "pid", "generation", "state", "age", "requests", "in_flight", "connections", "rss", "lag")


def make_report(fleet: Fleet, described: dict[str, Any], queues: Sequence[Queue], tally: Tally) -> dict[str, Any]:
    """Return the report; `described` is the status as the control socket has it."""
    last = described["last_reload"]
    current = {worker.pid for worker in fleet.current()}
    return {
        **{key: described[key] for key in _TOLD},
        "last_reload": last and {"ok": last["ok"], "at": last["at"]},  # its words may hold those of an application
        "workers": [
            {**{key: one[key] for key in _TOLD_OF_WORKER}, "current": one["pid"] in current}
            for one in described["workers"]
        ],
        "apps": [{"name": one["name"], "state": one["state"]} for one in described["apps"]],
        "reloads": {"ok": fleet.reloads, "rolled_back": fleet.failed_reloads},
        "restarts": fleet.restarts,
        "queues": [
            {"listener": one.listener, "address": one.address, "waiting": one.waiting, "most": one.most}
            for one in queues
        ],
        "known": _known(fleet),
        "counted": {
            "mounts": [{"app": app, "mount": mount, "row": row} for (app, mount), row in tally.mounts.items()],
            "listeners": [{"listener": name, "row": row} for name, row in tally.listeners.items()],
        },
    }


def _known(fleet: Fleet) -> list[Key]:
    """Return the keys of everything that may be asked for, unless they are many."""
    mounts = fleet.committed.mounts if fleet.committed is not None else ()
    keys = dict.fromkeys([ELSEWHERE, *map(key_of, mounts)])
    return [*keys] if len(keys) <= MOST_AT_ZERO else []
