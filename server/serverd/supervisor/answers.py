"""What clients of the control socket are answered, as documents for JSON; the status itself is in `status`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from serverd.config import changes
from serverd.generation import Generation
from serverd.messages import Loaded, LoadFailed
from serverd.net.bindings import Place
from serverd.supervisor.actions import Reply
from serverd.version import RELEASE

__all__ = ["identity", "outcome", "plan", "reopened"]


def outcome(reply: Reply) -> dict[str, Any]:
    """Return how a request ended."""
    if reply.ok:
        return {"ok": True, "text": reply.text}
    return {"ok": False, "error": reply.text, "detail": reply.detail}


def reopened(failures: list[str]) -> dict[str, Any]:
    """Return which log files could not be opened anew, and why."""
    return outcome(Reply(0, not failures, "\n".join(failures) or "log files reopened"))


def plan(committed: Generation | None, read: Loaded | LoadFailed, outdated: str = "") -> dict[str, Any]:
    """Return what a reload would do with the configuration that has been read.

    `outdated` is why the running workers' code is not what is on disk.
    """
    if isinstance(read, LoadFailed):
        return {"ok": False, "error": "a reload would fail", "detail": read.report}
    if committed is None:
        return {"ok": False, "error": "nothing is served yet", "detail": ""}
    found = changes.compare(committed, read.generation)
    if found.is_live and outdated:  # else there are reasons already
        found = replace(found, restart=(outdated,))
    return {"ok": True, "text": "\n".join(changes.describe(found))}


def identity(source: str, uptime: float, places: Iterable[Place]) -> dict[str, Any]:
    """Return who serves what and where, for `uptime` seconds."""
    return {
        "ok": True,
        "version": RELEASE,
        "pid": os.getpid(),
        "source": source,
        "uptime": round(uptime, 1),
        "listeners": [{"name": place.listener, "url": place.url} for place in places],
    }
