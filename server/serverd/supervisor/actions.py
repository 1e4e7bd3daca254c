"""What the supervisor can do: the output of `policy.decide`, as frozen values.

`supervisor` performs them in order; some bring events (`StartLoader`, `OpenSockets`, `Spawn`). No
behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass

from serverd.generation import Generation, Logging

__all__ = [
    "Action",
    "CloseSockets",
    "CommitSockets",
    "Complain",
    "ConfigureLogging",
    "Exit",
    "Kill",
    "Log",
    "OpenSockets",
    "RollbackSockets",
    "SendDrain",
    "SetTitle",
    "Spawn",
    "StartLoader",
    "StopLoader",
]


@dataclass(frozen=True, slots=True)
class StartLoader:
    """Start reading the configuration; brings Loaded or LoadFailed."""


@dataclass(frozen=True, slots=True)
class StopLoader:
    """Kill the loader; its result is no longer wanted."""


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Open what the generation listens on; brings SocketsOpened or BindFailed."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class CommitSockets:
    """Close what only the older generation listened on, and log what is new and what is closed."""


@dataclass(frozen=True, slots=True)
class RollbackSockets:
    """Close what the last OpenSockets opened."""


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Close every listening socket."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker; brings WorkerSpawned or SpawnFailed."""

    worker: int
    slot: int
    generation: Generation


@dataclass(frozen=True, slots=True)
class SendDrain:
    """Tell a worker to finish within `timeout` seconds."""

    worker: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to a worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class Log:
    """Log one event; `detail` is a report or a traceback of several lines."""

    level: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Complain:
    """Write plain text to stderr: why the start failed."""

    text: str


@dataclass(frozen=True, slots=True)
class ConfigureLogging:
    """Log as the generation says from here on."""

    logging: Logging


@dataclass(frozen=True, slots=True)
class SetTitle:
    """Set the process title."""

    title: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the supervisor."""

    code: int


Action = (
    StartLoader
    | StopLoader
    | OpenSockets
    | CommitSockets
    | RollbackSockets
    | CloseSockets
    | Spawn
    | SendDrain
    | Kill
    | Log
    | Complain
    | ConfigureLogging
    | SetTitle
    | Exit
)
