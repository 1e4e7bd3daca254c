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


@dataclass(frozen=True, slots=True)
class StartLoader:
    """Start reading the configuration; brings Loaded or LoadFailed."""

    renewed: Generation | None = None  # not the configuration, but the certificates of this one


@dataclass(frozen=True, slots=True)
class StopLoader:
    """Kill the loader; its result is no longer wanted."""


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Open what the generation needs of the machine, sockets for `slots` slots; brings SocketsOpened or BindFailed."""

    generation: Generation
    slots: int


@dataclass(frozen=True, slots=True)
class CommitSockets:
    """Close what only the older generation had open, and log what is new and what is closed."""


@dataclass(frozen=True, slots=True)
class RollbackSockets:
    """Close what the last OpenSockets opened."""


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Close everything that is open; `kept` leaves the files of unix sockets to the successor."""

    kept: bool = False


@dataclass(frozen=True, slots=True)
class GrowSockets:
    """Open sockets for `slots` slots of the committed generation; brings SlotsOpened or SlotsFailed."""

    slots: int
    client: int | None = None  # of the control socket, that waits for it


@dataclass(frozen=True, slots=True)
class StartPreloader:
    """Have the applications of the generation imported, for workers to be forked; brings Preloaded or PreloadFailed.

    A generation that running workers adopt gets none of its own: of those that are not stopped, the latest up to a
    worker's generation is its preloader.
    """

    generation: Generation


@dataclass(frozen=True, slots=True)
class StopPreloader:
    """End the preloader of a generation; without effect when it has none."""

    generation: int


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker; brings WorkerSpawned or SpawnFailed."""

    worker: int
    slot: int
    generation: Generation
    preloader: int = 0  # the generation whose preloader forks it; 0: it imports the applications itself


@dataclass(frozen=True, slots=True)
class Send:
    """Send a worker a message that carries no descriptors."""

    worker: int
    message: Adopt | Cover | Drain | Inspect | Unready


@dataclass(frozen=True, slots=True)
class SendSockets:
    """Send a worker the sockets of a generation as they are now; a generation proposed to it is dropped with that."""

    worker: int
    generation: int


@dataclass(frozen=True, slots=True)
class SendProposal:
    """Send a worker a generation and its sockets."""

    worker: int
    generation: Generation
    is_renewal: bool = False  # as in Propose


@dataclass(frozen=True, slots=True)
class Tell:
    """Answer a worker's question how everything stands."""

    worker: int
    number: int  # of the question


@dataclass(frozen=True, slots=True)
class RequestStacks:
    """Have the stacks of a worker's threads written down."""

    worker: int


@dataclass(frozen=True, slots=True)
class LogStacks:
    """Log `message` as an error, with the stacks that were requested."""

    worker: int
    message: str
    requests: tuple[str, ...]  # in flight


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to a worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class StartSuccessor:
    """Start another supervisor on our sockets; brings SuccessorReady or SuccessorFailed."""


@dataclass(frozen=True, slots=True)
class StopSuccessor:
    """Kill the other supervisor, which does not serve yet."""


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
class Rehearsed:
    """Note that everything has succeeded that a start does before its commit (`rehearsal`)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a client of the control socket; without `end`, it waits on until the supervisor is gone."""

    client: int
    ok: bool
    text: str
    detail: str = ""
    end: bool = True


@dataclass(frozen=True, slots=True)
class ReplyStatus:
    """Tell a client of the control socket how everything stands."""

    client: int


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """Read the configuration, and tell a client of the control socket what a reload would do."""

    client: int


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the service manager where the service stands (sd_notify(3))."""

    notice: Notice | None  # None: as before, and only the text is new
    text: str


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log files anew, for ourselves and every worker."""

    client: int | None = None  # who asked for it on the control socket, and is told how it went


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
    | GrowSockets
    | StartPreloader
    | StopPreloader
    | Spawn
    | Send
    | SendSockets
    | SendProposal
    | Tell
    | RequestStacks
    | LogStacks
    | Kill
    | StartSuccessor
    | StopSuccessor
    | Log
    | Complain
    | Rehearsed
    | Reply
    | ReplyStatus
    | ReplyPlan
    | Notify
    | ReopenLogs
    | ConfigureLogging
    | SetTitle
    | Exit
)
