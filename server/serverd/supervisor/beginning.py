"""The first reading of the configuration, begun before most of the supervisor is imported.

The loader takes longer to begin than what is left of the supervisor, and on another processor it does so meanwhile.
`cli` begins it, `reading` takes it over; nothing but `spawn` may be imported here.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands, Process, spawn_program

__all__ = ["OURS", "Begun", "begin_reading"]

# What a service manager says to us alone. `notify` and `net/inheritance` take it out of the environment, which happens
# later: the configuration must not see in its first reading what it sees in no other.
OURS = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
)

# Descriptors below which the supervisor needs all for itself, to say what is wrong: this reading takes two before it.
_FEW_DESCRIPTORS = 64


@dataclass(frozen=True, slots=True)
class Begun:
    """A loader that runs."""

    process: Process
    output: int  # the descriptor of what it says
    since: float  # time.time() before it read anything


def begin_reading(source: Source) -> Begun | None:
    """Start to read `source`; return None when that fails: the supervisor will see it, too, and says why."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _FEW_DESCRIPTORS:
        return None
    since = time.time()
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    try:
        process, output = spawn_program(Commands().loader, source.loader_arguments, source.options, environment)
    except OSError:
        return None
    if process.exit_descriptor is None:  # only SIGCHLD would tell of its end, and could come before anybody hears it
        process.kill()
        process.reap_within(None)
        os.close(output)
        return None
    return Begun(process, output, since)
