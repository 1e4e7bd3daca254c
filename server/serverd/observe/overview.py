"""How everything stands, in few words: from the supervisor's report to what people and scripts read.

Numbers of rows get names here, mounts are gathered under their apps, and latencies become quantiles. Pure; the status
page and its JSON are made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serverd.observe import counters
from serverd.observe.counters import BOUNDS, FIRST_REFUSAL, REFUSALS, ended

__all__ = ["PROTOCOLS", "OverviewSource", "make_overview", "quantile"]

OverviewSource = dict[str, Any]
"""A report as `supervisor.report` makes it."""

PROTOCOLS = {
    "http/1.1": counters.HTTP1,
    "h2": counters.HTTP2,
    "websocket": counters.WEBSOCKET,
    "none": counters.NOTHING_YET,  # no request yet
}
"""What a connection speaks, and the column of a listener's row that counts those that are open and do."""

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_BUCKETS = len(BOUNDS) + 1


def make_overview(report: OverviewSource) -> dict[str, Any]:
    """Return the overview; times are in seconds, sizes in bytes, moments in seconds since the epoch."""
    states = {one["name"]: one["state"] for one in report["apps"]}
    mounts: dict[str, list[dict[str, Any]]] = {name: [] for name in states}
    for one in report["counted"]["mounts"]:
        mounts.setdefault(one["app"], []).append(_mount(one["mount"], one["row"]))
    kept = ("version", "uptime", "phase", "ready", "generation", "last_reload", "reloads", "restarts", "workers")
    return {
        **{key: report[key] for key in kept},
        "apps": [_app(name, states.get(name, ""), of_it) for name, of_it in mounts.items()],
        "listeners": _listeners(report),
        "certificates": report["certificates"],
        "authorities": report["authorities"],
    }


def _mount(path: str, row: Sequence[int]) -> dict[str, Any]:
    classes = [one for one in ended(row) if any(one.buckets)]
    buckets = [sum(column) for column in zip([0] * _BUCKETS, *(one.buckets for one in classes), strict=True)]
    return {
        "mount": path,
        "requests": {one.status: one.number for one in classes},
        "in_flight": row[counters.IN_FLIGHT],
        "received": sum(one.received for one in classes),
        "sent": sum(one.sent for one in classes),
        "sessions": row[counters.SESSIONS],
        "sessions_open": row[counters.SESSIONS_OPEN],
        "messages_received": row[counters.MESSAGES_RECEIVED],
        "messages_sent": row[counters.MESSAGES_SENT],
        "buckets": buckets,
        "latency": _quantiles(buckets),
    }


def _app(name: str, state: str, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    summed = ("in_flight", "received", "sent", "sessions", "sessions_open", "messages_received", "messages_sent")
    buckets = [sum(column) for column in zip([0] * _BUCKETS, *(one["buckets"] for one in mounts), strict=True)]
    return {
        "name": name,
        "state": state,
        "requests": sum(buckets),
        "errors": sum(one["requests"].get("5xx", 0) for one in mounts),
        **{key: sum(one[key] for one in mounts) for key in summed},
        "buckets": buckets,
        "latency": _quantiles(buckets),
        "mounts": sorted(mounts, key=lambda one: str(one["mount"])),
    }


def _listeners(report: OverviewSource) -> list[dict[str, Any]]:
    rows = {one["listener"]: one["row"] for one in report["counted"]["listeners"]}
    urls: dict[str, list[str]] = {}
    for place in report["listeners"]:
        urls.setdefault(place["name"], []).append(place["url"])
    waiting: dict[str, int] = {}
    for queue in report["queues"]:
        waiting[queue["listener"]] = waiting.get(queue["listener"], 0) + queue["waiting"]
    found = []
    for name, addresses in urls.items():
        row = rows.get(name, [0] * counters.LISTENER_WIDTH)
        refusals = dict(zip(map(str, REFUSALS), row[FIRST_REFUSAL:], strict=True))
        refusals["other"] = refusals.pop("0")
        found.append(
            {
                "name": name,
                "urls": addresses,
                "open": {protocol: row[column] for protocol, column in PROTOCOLS.items()},
                "connections": row[counters.ACCEPTED],
                "waiting": waiting.get(name),  # None: the kernel does not tell
                "handshakes": row[counters.HANDSHAKES],
                "handshakes_failed": row[counters.HANDSHAKES_FAILED],
                "refusals": {status: count for status, count in refusals.items() if count},
            }
        )
    return found


def _quantiles(buckets: Sequence[int]) -> dict[str, float | None]:
    return {name: quantile(buckets, share) for name, share in _SHARES.items()}


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the seconds within which that share of the requests had ended, None when there were none.

    Between two bounds they are taken to be spread evenly, as PromQL's histogram_quantile does.
    """
    rank = share * sum(buckets)
    if not rank:
        return None
    before = 0
    lower = 0.0
    for bound, count in zip(BOUNDS, buckets, strict=False):
        if before + count >= rank:
            return round(lower + (bound - lower) * (rank - before) / count, 6)
        before, lower = before + count, bound
    return BOUNDS[-1]
