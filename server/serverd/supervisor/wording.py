"""Numbers and outcomes as log lines say them."""

from __future__ import annotations

import signal

__all__ = ["describe_exit", "duration", "size", "workers"]


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


def describe_exit(status: int) -> str:
    """Return in words how a process ended, from the status as subprocess gives it."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
