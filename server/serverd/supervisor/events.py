"""What can happen to the supervisor: the input of `policy.decide`, as frozen values.

`messages.Loaded` and `messages.LoadFailed` are events, too, as the loader said them. A worker is
named by the number the fleet gave it, never by its pid, which may be used again. No behaviour.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from serverd.messages import Loaded, LoadFailed

__all__ = [
    "Begin",
    "BindFailed",
    "ChannelClosed",
    "Event",
    "LoadFailed",
    "Loaded",
    "SignalReceived",
    "SocketsOpened",
    "SpawnFailed",
    "Tick",
    "WorkerBroke",
    "WorkerDraining",
    "WorkerExited",
    "WorkerFailed",
    "WorkerReady",
    "WorkerSpawned",
    "WorkerStarting",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """The supervisor's process has started; comes first, and once."""


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """One of HUP, TERM, INT, QUIT, USR1, USR2, TTIN and TTOU came."""

    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class SocketsOpened:
    """Every socket of the candidate is open."""


@dataclass(frozen=True, slots=True)
class BindFailed:
    """Not every socket of the candidate could be opened, and none has been."""

    report: str  # a line for every address


@dataclass(frozen=True, slots=True)
class WorkerSpawned:
    """The process of a worker exists."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The machine refused another process."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerStarting:
    """A worker said what it brings up next."""

    worker: int
    what: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker said that it accepts connections."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker said that it accepts no more connections, because we or somebody else told it to drain."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker said that it cannot serve, and exits."""

    worker: int
    summary: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerBroke:
    """A worker said what no worker says."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """A worker hung up: it exits, or can no longer be told anything."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker is reaped."""

    worker: int
    status: int  # as subprocess has it: the exit status, or minus the number of the signal


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline of the fleet has passed."""


Event = (
    Begin
    | SignalReceived
    | Loaded
    | LoadFailed
    | SocketsOpened
    | BindFailed
    | WorkerSpawned
    | SpawnFailed
    | WorkerStarting
    | WorkerReady
    | WorkerDraining
    | WorkerFailed
    | WorkerBroke
    | ChannelClosed
    | WorkerExited
    | Tick
)
