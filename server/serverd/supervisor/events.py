"""What can happen to the supervisor: the input of `policy.decide`, as frozen values.

What a worker or the loader says is an event as it was said (`messages`). A worker is named by the
number the fleet gave it, never by its pid, which may be used again. No behaviour.
"""

from __future__ import annotations

import signal

from serverd.control.requests import Request
from serverd.messages import FromWorker, Loaded, LoadFailed
from serverd.records import record

__all__ = [
    "Asked",
    "Begin",
    "BindFailed",
    "CertificatesChanged",
    "ChannelClosed",
    "Event",
    "FilesChanged",
    "Happening",
    "LoadFailed",
    "Loaded",
    "PreloadFailed",
    "Preloaded",
    "SignalReceived",
    "SlotsFailed",
    "SlotsOpened",
    "SocketsOpened",
    "SpawnFailed",
    "SuccessorFailed",
    "SuccessorReady",
    "Tick",
    "WorkerBroke",
    "WorkerExited",
    "WorkerSaid",
    "WorkerSpawned",
]


class Happening:
    """An event that is not a message of the loader's."""

    __slots__ = ()


@record
class Begin(Happening):
    """The supervisor's process has started; comes first, and once."""


@record
class SignalReceived(Happening):
    """One of HUP, TERM, INT, QUIT, USR1, USR2, TTIN and TTOU came."""

    signal: signal.Signals


@record
class Asked(Happening):
    """A client of the control socket wants something; it waits for a Reply."""

    client: int
    request: Request


@record
class CertificatesChanged(Happening):
    """Files of certificates, keys or revoked certificates are others than those that were read."""


@record
class SocketsOpened(Happening):
    """Everything that the candidate needs of the machine is open."""


@record
class BindFailed(Happening):
    """Not everything that the candidate needs of the machine could be opened, and nothing has been."""

    report: str  # a line for everything that failed


@record
class SlotsOpened(Happening):
    """There are sockets for this number of slots."""

    count: int
    client: int | None = None  # of the control socket, that waits for it


@record
class SlotsFailed(Happening):
    """There could be no sockets for more slots."""

    report: str
    client: int | None = None


@record
class Preloaded(Happening):
    """The applications of the candidate are imported, and workers can be forked."""


@record
class PreloadFailed(Happening):
    """They could not be imported."""

    summary: str
    detail: str = ""


@record
class WorkerSpawned(Happening):
    """The process of a worker exists."""

    worker: int
    pid: int


@record
class SpawnFailed(Happening):
    """The machine refused another process."""

    worker: int
    reason: str


@record
class WorkerSaid(Happening):
    """A worker sent a message."""

    worker: int
    message: FromWorker


@record
class WorkerBroke(Happening):
    """A worker said what no worker says."""

    worker: int
    reason: str


@record
class ChannelClosed(Happening):
    """A worker hung up: it exits, or can no longer be told anything."""

    worker: int


@record
class WorkerExited(Happening):
    """A worker is reaped."""

    worker: int
    status: int  # as subprocess has it: the exit status, or minus the number of the signal


@record
class SuccessorReady(Happening):
    """The other supervisor serves on our sockets."""

    pid: int


@record
class SuccessorFailed(Happening):
    """The other supervisor has gone without serving, or could not be started."""

    reason: str


@record
class Tick(Happening):
    """A deadline of the fleet has passed."""


@record
class FilesChanged(Happening):
    """With --reload: what the configuration or an application is made of has changed, in words."""

    what: str


Event = Happening | Loaded | LoadFailed
