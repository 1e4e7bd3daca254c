"""Status documents, as `supervisor/status` makes them."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000.0


def worker(slot: int, **changes: Any) -> dict[str, Any]:
    return {
        "slot": slot,
        "pid": 4712 + slot,
        "generation": 7,
        "state": "ready",
        "age": 187_200.4,
        "requests": 120_433,
        "in_flight": 3,
        "connections": 17,
        "rss": 50_541_363,
        "lag": 0.0012,
        "late": False,
        "covers": [],
        "recycle": None,
    } | changes


def status(**changes: Any) -> dict[str, Any]:
    """Return the status of a server in good order."""
    return {
        "version": "0.1.0",
        "pid": 4711,
        "source": "/srv/shop/server.toml",
        "phase": "serving",
        "ready": True,
        "uptime": 190_000.0,
        "generation": 7,
        "step": "idle",
        "last_reload": {"ok": True, "at": NOW - 754, "message": "generation 7 is serving"},
        "workers": [worker(0), worker(1, requests=9, lag=0.0)],
        "slots": [
            {"slot": 0, "restarts": 0, "last_exit": None, "waits": None},
            {"slot": 1, "restarts": 0, "last_exit": None, "waits": None},
        ],
        "apps": [
            {"name": "shop", "target": "shop.main:app", "state": "up", "failure": None, "requests": 1204, "errors": 17},
            {"name": "blog", "target": "blog:create_app", "state": "up", "failure": None, "requests": 0, "errors": 0},
        ],
        "listeners": [{"name": "web", "url": "http://127.0.0.1:8000"}],
    } | changes
