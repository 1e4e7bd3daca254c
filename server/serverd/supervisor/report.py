"""What a worker is told of everything, for metrics and the status page: pure, as a document for JSON.

Less than the control socket tells its owner, and more: whoever may see the page need not be allowed to see what an
application said when it failed, or what stands in the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serverd.net.bindings import Queue
from serverd.observe.counters import Tally
from serverd.supervisor.fleet import Fleet

__all__ = ["make_report"]

_TOLD = ("version", "uptime", "phase", "ready", "generation", "listeners", "certificates")
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
        "counted": {
            "mounts": [{"app": app, "mount": mount, "row": row} for (app, mount), row in tally.mounts.items()],
            "listeners": [{"listener": name, "row": row} for name, row in tally.listeners.items()],
        },
    }
