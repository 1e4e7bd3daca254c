"""Numbers, targets and outcomes as log lines say them."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

from serverd.errors import reason_of
from serverd.generation import Mount, RespondTarget

__all__ = [
    "describe_exit",
    "describe_target",
    "duration",
    "explain_exit",
    "size",
    "target_of",
    "why_no_process",
    "workers",
]


def duration(seconds: float) -> str:
    """Return seconds as people write them."""
    return f"{round(seconds, 1):g} s"


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    # Whole numbers: what a worker says of itself may be too large for a float.
    return f"{(count + 2**19) // 2**20} MiB"


def workers(count: int) -> str:
    """Return a number of workers as people write it."""
    return "1 worker" if count == 1 else f"{count} workers"


def target_of(mount: Mount) -> dict[str, Any]:
    """Return the target of a mount: its kind, as the configuration calls it, and what that is given."""
    target = mount.target
    kind = type(target).__name__.removesuffix("Target").lower()
    values = {item.name: getattr(target, item.name) for item in dataclasses.fields(target)}
    if isinstance(target, RespondTarget):
        values["headers"] = dict(target.headers)
    return {"kind": kind} | {name: value for name, value in values.items() if name not in ("root_path", "strip_prefix")}


def describe_target(mount: Mount) -> str:
    """Return the target of a mount in words, such as "app shop" and "redirect https://{host}{uri}"."""
    kind, value, *_ = target_of(mount).values()
    return f"{kind} {value}"


def why_no_process(error: OSError) -> str:
    """Return why the machine has not started a process."""
    text = reason_of(error)
    return f"{text}: {error.filename}" if error.filename else text  # a program that is gone, or that is not permitted


def describe_exit(status: int) -> str:
    """Return in words how a process ended, from the status as subprocess gives it."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def explain_exit(status: int) -> str:
    """Return in words how a process ended that should not have, with what is likely behind it."""
    return describe_exit(status) + (" (out of memory?)" if status == -signal.SIGKILL else "")
