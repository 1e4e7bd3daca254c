"""How much of the machine a process may use, as the supervisor sets it for itself and all that it starts."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["raise_descriptor_limit"]


def raise_descriptor_limit() -> None:
    """Let this process, and those that it starts, open as many files as the hard limit has it.

    The soft limit is 1024 as a rule, for the sake of programs that use select(2) (systemd.exec(5), "LimitNOFILE").
    Every worker has the listening sockets of all workers, a connection for each client, and whatever the
    applications open: some hundred clients would reach it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS promises more than it gives.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
