"""What the supervisor can do: the output of `policy.decide`, as frozen values.

`supervisor` performs them in order; some bring events. No behaviour.
"""

from __future__ import annotations

from enum import Enum

from serverd.generation import Generation, Logging
from serverd.messages import Adopt, Cover, Drain, Inspect, Unready
from serverd.records import record

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


@record
class StartLoader(Action):
    """Start reading the configuration; brings Loaded or LoadFailed."""

    renewed: Generation | None = None  # not the configuration, but the certificates of this one


@record
class StopLoader(Action):
    """Kill the loader; its result is no longer wanted."""


@record
class OpenSockets(Action):
    """Open what the generation needs of the machine, sockets for `slots` slots; brings SocketsOpened or BindFailed."""

    generation: Generation
    slots: int


@record
class CommitSockets(Action):
    """Close what only the older generation had open, and log what is new and what is closed."""


@record
class RollbackSockets(Action):
    """Close what the last OpenSockets opened."""


@record
class CloseSockets(Action):
    """Close everything that is open; `kept` leaves the files of unix sockets to the successor."""

    kept: bool = False


@record
class GrowSockets(Action):
    """Open sockets for `slots` slots of the committed generation; brings SlotsOpened or SlotsFailed."""

    slots: int
    client: int | None = None  # of the control socket, that waits for it


@record
class StartPreloader(Action):
    """Have the applications of the generation imported, for workers to be forked; brings Preloaded or PreloadFailed.

    A generation that running workers adopt gets none of its own: of those that are not stopped, the latest up to a
    worker's generation is its preloader.
    """

    generation: Generation


@record
class StopPreloader(Action):
    """End the preloader of a generation; without effect when it has none."""

    generation: int


@record
class Spawn(Action):
    """Start a worker; brings WorkerSpawned or SpawnFailed."""

    worker: int
    slot: int
    generation: Generation
    preloader: int = 0  # the generation whose preloader forks it; 0: it imports the applications itself


@record
class Send(Action):
    """Send a worker a message that carries no descriptors."""

    worker: int
    message: Adopt | Cover | Drain | Inspect | Unready


@record
class SendSockets(Action):
    """Send a worker the sockets of a generation as they are now; a generation proposed to it is dropped with that."""

    worker: int
    generation: int


@record
class SendProposal(Action):
    """Send a worker a generation and its sockets."""

    worker: int
    generation: Generation
    is_renewal: bool = False  # as in Propose


@record
class Tell(Action):
    """Answer a worker's question how everything stands."""

    worker: int
    number: int  # of the question


@record
class RequestStacks(Action):
    """Have the stacks of a worker's threads written down."""

    worker: int


@record
class LogStacks(Action):
    """Log `message` as an error, with the stacks that were requested."""

    worker: int
    message: str
    requests: tuple[str, ...]  # in flight


@record
class Kill(Action):
    """Send SIGKILL to a worker."""

    worker: int


@record
class StartSuccessor(Action):
    """Start another supervisor on our sockets; brings SuccessorReady or SuccessorFailed."""


@record
class StopSuccessor(Action):
    """Kill the other supervisor, which does not serve yet, or has only just said so."""


@record
class HandOn(Action):
    """Tell the service manager that the other supervisor is the main process, which speaks to it from here on."""

    pid: int


@record
class Log(Action):
    """Log one event; `detail` is a report or a traceback of several lines."""

    level: str
    message: str
    detail: str = ""


@record
class Complain(Action):
    """Write plain text to stderr: why the start failed."""

    text: str


@record
class Rehearsed(Action):
    """Note that everything has succeeded that a start does before its commit (`rehearsal`)."""


@record
class Reply(Action):
    """Answer a client of the control socket; without `end`, it waits on until the supervisor is gone."""

    client: int
    ok: bool
    text: str
    detail: str = ""
    end: bool = True


@record
class ReplyStatus(Action):
    """Tell a client of the control socket how everything stands."""

    client: int


@record
class ReplyPlan(Action):
    """Read the configuration, and tell a client of the control socket what a reload would do."""

    client: int


@record
class Notify(Action):
    """Tell the service manager where the service stands (sd_notify(3))."""

    notice: Notice | None  # None: as before, and only the text is new
    text: str


@record
class ReopenLogs(Action):
    """Open the log files anew, for ourselves and every worker."""

    client: int | None = None  # who asked for it on the control socket, and is told how it went


@record
class ConfigureLogging(Action):
    """Log as the generation says from here on."""

    logging: Logging


@record
class SetTitle(Action):
    """Set the process title."""

    title: str


@record
class Exit(Action):
    """End the supervisor."""

    code: int
