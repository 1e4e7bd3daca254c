"""What the supervisor can do: the output of `policy.decide`, as frozen values.

`supervisor` performs them in order; some bring events. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from serverd.generation import Generation, Logging
from serverd.messages import Adopt, Cover, Drain, Inspect, Unready

__all__ = [
    "Action",
    "CloseSockets",
    "CommitSockets",
    "Complain",
    "ConfigureLogging",
    "Exit",
    "GrowSockets",
    "HandOn",
    "Kill",
    "Log",
    "LogStacks",
    "Notice",
    "Notify",
    "OpenSockets",
    "Rehearsed",
    "ReopenLogs",
    "Reply",
    "ReplyPlan",
    "ReplyStatus",
    "RequestStacks",
    "RollbackSockets",
    "Send",
    "SendProposal",
    "SendSockets",
    "SetTitle",
    "Spawn",
    "StartLoader",
    "StartPreloader",
    "StartSuccessor",
    "StopLoader",
    "StopPreloader",
    "StopSuccessor",
    "Tell",
]


class Notice(Enum):
    """What a service manager knows of a service (sd_notify(3))."""

    STARTING = "starting"  # what it takes for granted
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Action:
    """One thing to be done."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StartLoader(Action):
    """Start reading the configuration; brings Loaded or LoadFailed."""

    renewed: Generation | None = None  # not the configuration, but the certificates of this one


@dataclass(frozen=True, slots=True)
class StopLoader(Action):
    """Kill the loader; its result is no longer wanted."""


@dataclass(frozen=True, slots=True)
class OpenSockets(Action):
    """Open what the generation needs of the machine, sockets for `slots` slots; brings SocketsOpened or BindFailed."""

    generation: Generation
    slots: int


@dataclass(frozen=True, slots=True)
class CommitSockets(Action):
    """Close what only the older generation had open, and log what is new and what is closed."""


@dataclass(frozen=True, slots=True)
class RollbackSockets(Action):
    """Close what the last OpenSockets opened."""


@dataclass(frozen=True, slots=True)
class CloseSockets(Action):
    """Close everything that is open; `kept` leaves the files of unix sockets to the successor."""

    kept: bool = False


@dataclass(frozen=True, slots=True)
class GrowSockets(Action):
    """Open sockets for `slots` slots of the committed generation; brings SlotsOpened or SlotsFailed."""

    slots: int
    client: int | None = None  # of the control socket, that waits for it


@dataclass(frozen=True, slots=True)
class StartPreloader(Action):
    """Have the applications of the generation imported, for workers to be forked; brings Preloaded or PreloadFailed.

    A generation that running workers adopt gets none of its own: of those that are not stopped, the latest up to a
    worker's generation is its preloader.
    """

    generation: Generation


@dataclass(frozen=True, slots=True)
class StopPreloader(Action):
    """End the preloader of a generation; without effect when it has none."""

    generation: int


@dataclass(frozen=True, slots=True)
class Spawn(Action):
    """Start a worker; brings WorkerSpawned or SpawnFailed."""

    worker: int
    slot: int
    generation: Generation
    preloader: int = 0  # the generation whose preloader forks it; 0: it imports the applications itself


@dataclass(frozen=True, slots=True)
class Send(Action):
    """Send a worker a message that carries no descriptors."""

    worker: int
    message: Adopt | Cover | Drain | Inspect | Unready


@dataclass(frozen=True, slots=True)
class SendSockets(Action):
    """Send a worker the sockets of a generation as they are now; a generation proposed to it is dropped with that."""

    worker: int
    generation: int


@dataclass(frozen=True, slots=True)
class SendProposal(Action):
    """Send a worker a generation and its sockets."""

    worker: int
    generation: Generation
    is_renewal: bool = False  # as in Propose


@dataclass(frozen=True, slots=True)
class Tell(Action):
    """Answer a worker's question how everything stands."""

    worker: int
    number: int  # of the question


@dataclass(frozen=True, slots=True)
class RequestStacks(Action):
    """Have the stacks of a worker's threads written down."""

    worker: int


@dataclass(frozen=True, slots=True)
class LogStacks(Action):
    """Log `message` as an error, with the stacks that were requested."""

    worker: int
    message: str
    requests: tuple[str, ...]  # in flight


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """Send SIGKILL to a worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class StartSuccessor(Action):
    """Start another supervisor on our sockets; brings SuccessorReady or SuccessorFailed."""


@dataclass(frozen=True, slots=True)
class StopSuccessor(Action):
    """Kill the other supervisor, which does not serve yet, or has only just said so."""


@dataclass(frozen=True, slots=True)
class HandOn(Action):
    """Tell the service manager that the other supervisor is the main process, which speaks to it from here on."""

    pid: int


@dataclass(frozen=True, slots=True)
class Log(Action):
    """Log one event; `detail` is a report or a traceback of several lines."""

    level: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Complain(Action):
    """Write plain text to stderr: why the start failed."""

    text: str


@dataclass(frozen=True, slots=True)
class Rehearsed(Action):
    """Note that everything has succeeded that a start does before its commit (`rehearsal`)."""


@dataclass(frozen=True, slots=True)
class Reply(Action):
    """Answer a client of the control socket; without `end`, it waits on until the supervisor is gone."""

    client: int
    ok: bool
    text: str
    detail: str = ""
    end: bool = True


@dataclass(frozen=True, slots=True)
class ReplyStatus(Action):
    """Tell a client of the control socket how everything stands."""

    client: int


@dataclass(frozen=True, slots=True)
class ReplyPlan(Action):
    """Read the configuration, and tell a client of the control socket what a reload would do."""

    client: int


@dataclass(frozen=True, slots=True)
class Notify(Action):
    """Tell the service manager where the service stands (sd_notify(3))."""

    notice: Notice | None  # None: as before, and only the text is new
    text: str


@dataclass(frozen=True, slots=True)
class ReopenLogs(Action):
    """Open the log files anew, for ourselves and every worker."""

    client: int | None = None  # who asked for it on the control socket, and is told how it went


@dataclass(frozen=True, slots=True)
class ConfigureLogging(Action):
    """Log as the generation says from here on."""

    logging: Logging


@dataclass(frozen=True, slots=True)
class SetTitle(Action):
    """Set the process title."""

    title: str


@dataclass(frozen=True, slots=True)
class Exit(Action):
    """End the supervisor."""

    code: int
