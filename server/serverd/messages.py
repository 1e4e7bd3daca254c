"""What supervisor, loader and workers say to one another: plain values, one JSON object per line.

Values are the records below and those of `generation`; `codec` turns them into JSON and back, by their
type hints.
"""

from __future__ import annotations

import json
import typing
from typing import Any

from serverd.codec import build, plain
from serverd.generation import Generation
from serverd.records import record

__all__ = [
    "BEAT_INTERVAL",
    "EVERY_SLOT",
    "FROM_WORKER",
    "IN_FLIGHT_SHOWN",
    "Accepted",
    "Adopt",
    "Adopted",
    "AppDown",
    "AppUp",
    "Ask",
    "Beat",
    "Blocked",
    "Cover",
    "Declined",
    "Drain",
    "Draining",
    "Failed",
    "FromWorker",
    "Inspect",
    "LoadFailed",
    "Loaded",
    "Message",
    "Preload",
    "Preloaded",
    "Propose",
    "Ready",
    "Reopen",
    "SocketGrant",
    "Sockets",
    "Start",
    "Starting",
    "ToWorker",
    "Told",
    "Unready",
    "decode",
    "descriptors",
    "encode",
]

# Seconds between two beats of a worker.
BEAT_INTERVAL = 0.5
# Requests in flight that a worker names; more would not be read.
IN_FLIGHT_SHOWN = 20
# In the place of a slot: a socket that exists once, for every worker (unix, fd, systemd).
EVERY_SLOT = -1


@record
class SocketGrant:
    """A listening socket and what it is for; its descriptor comes along with the message, in the same order."""

    listener: str
    slot: int  # whose worker accepts on it; EVERY_SLOT: all do


# Supervisor to worker. Descriptors travel beside a message as SCM_RIGHTS (unix(7)): `descriptors` tells how many.


@record
class Start:
    """First and once: what to serve, in which slot; the sockets are those of all slots."""

    generation: Generation
    slot: int
    sockets: tuple[SocketGrant, ...]
    counted: bool = False  # behind the sockets comes the file of its counters (observe.counters)


@record
class Sockets:
    """The listening sockets of all slots, complete: those that are missing are closed."""

    sockets: tuple[SocketGrant, ...]


@record
class Cover:
    """The slots, beside its own, on whose sockets to accept from now on; complete, so () ends the covering."""

    slots: tuple[int, ...]


@record
class Propose:
    """A generation that differs in nothing the applications can see: can it be served without restarting them?"""

    generation: Generation
    sockets: tuple[SocketGrant, ...]  # complete, as in Sockets; in force with Adopt
    is_renewal: bool = False  # of certificates: nobody has asked for code that has changed on disk


@record
class Adopt:
    """The proposed generation is committed: serve it from now on."""

    number: int


@record
class Drain:
    """Stop accepting, finish what is in flight, shut the applications down, exit."""

    timeout: float  # seconds until what is left is cut
    replaced: bool = False  # others serve on: WebSocket sessions are told 1012 (come again) instead of 1001


@record
class Reopen:
    """Write to the descriptors that come along: one in the place of standard error, one the access log."""


@record
class Inspect:
    """Is the code on disk what was imported? If not, Declined of the worker's own generation is the answer."""


@record
class Unready:
    """The server is about to stop (shutdown_delay): it serves on, and whoever balances load should go elsewhere."""


@record
class Told:
    """The answer to Ask."""

    number: int  # that of the question
    report: dict[str, Any]  # as `supervisor.desk` makes it


# Worker to supervisor.


@record
class Ask:
    """How does everything stand? Asked for builtin mounts, one question at a time and once a second at most."""

    number: int


@record
class Starting:
    """It begins to bring up `what`, and is to blame when nothing more is heard."""

    what: str  # an application, with its place in the configuration


@record
class Ready:
    """Every application is up, or may be down (AppDown), and connections are being accepted."""

    pid: int


@record
class Beat:
    """The event loop turns; sent every BEAT_INTERVAL from Ready on."""

    requests: int  # begun since the start
    in_flight: int  # requests that have begun and not ended, background work included
    connections: int  # open
    rss: int  # bytes resident; 0: unknown
    lag: float  # seconds by which the event loop was late at most, since the last beat
    oldest: tuple[
        str, ...
    ] = ()  # requests in flight, the oldest first: method, path, app, age; at most IN_FLIGHT_SHOWN


@record
class Blocked:
    """The event loop has not turned for a while; told by a thread beside it, if there is a chance to run for it."""

    seconds: float
    requests: tuple[str, ...]  # in flight, as in Beat


@record
class AppDown:
    """An application with on_failure = "unavailable" could not be brought up; it answers 503 and is retried."""

    app: str  # its name
    summary: str  # one line, with the place in the configuration
    detail: str  # its traceback
    retry: float  # seconds until the next try


@record
class AppUp:
    """An application that was down is up."""

    app: str


@record
class Accepted:
    """The proposed generation can be served."""

    number: int


@record
class Declined:
    """The generation, proposed or served already, needs new workers."""

    number: int
    reason: str  # such as "shop/main.py has changed since it was imported"
    final: bool = False  # new workers could not serve it either


@record
class Adopted:
    """The generation is served; nothing of the one before is."""

    number: int


@record
class Draining:
    """Nothing more is accepted, the listening sockets are closed."""


@record
class Failed:
    """The generation cannot be served; the worker exits after this."""

    summary: str  # one line, with the place in the configuration
    detail: str = ""  # the application's own traceback, in full


# Supervisor to preloader, and its answers; Failed is one of them.


@record
class Preload:
    """First and once: the generation whose applications are to be imported."""

    generation: Generation


@record
class Preloaded:
    """The applications are imported, but those that failed and may be unavailable."""


@record
class Fork:
    """Fork a worker; its channel, the file for its stacks and what becomes its standard error come along."""

    title: str


@record
class Forked:
    """The worker exists, and is a child of the supervisor."""

    pid: int  # 0: it could not be forked
    reason: str = ""


# Loader to supervisor; what is to be renewed goes the other way.


@record
class Loaded:
    """The configuration is valid."""

    generation: Generation


@record
class LoadFailed:
    """There is no configuration to serve: it is not valid, or could not be read; `report` is the text for the operator.

    In a renewal `refused` tells what the files hold from anything else that would be reported in the same words.
    """

    report: str
    refused: tuple[str, ...] = ()


ToWorker = Start | Sockets | Cover | Propose | Adopt | Drain | Reopen | Inspect | Unready | Told
FromWorker = (
    Starting | Ready | Beat | Blocked | AppDown | AppUp | Accepted | Declined | Adopted | Draining | Failed | Ask
)
Message = ToWorker | FromWorker | Preload | Preloaded | Fork | Forked | Loaded | LoadFailed

FROM_WORKER = typing.get_args(FromWorker)


def descriptors(message: Message) -> int:
    """Return how many descriptors come along with `message`."""
    if isinstance(message, Start):
        return len(message.sockets) + message.counted
    if isinstance(message, Sockets | Propose):
        return len(message.sockets)
    return _FIXED.get(type(message), 0)


_FIXED: dict[type[Message], int] = {Reopen: 2, Fork: 3}


def encode(message: Message) -> bytes:
    """Return `message` as one line of JSON that ends in a newline."""
    return json.dumps(plain(message), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message that `line` holds.

    Raises ValueError when the line is not a message of this version.
    """
    try:
        message: Message = build(Message, json.loads(line))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:  # json follows any nesting
        raise ValueError(f"not a message: {line[:80]!r}") from error
    return message
