"""The keys of the process-wide tables: [server], [server.recycle], [control] and [logging].

As in `models`, which has the tables of what is served and puts all of them together: type, default, bounds and
description beside the field, and no key without its feature. What needs its neighbours or the machine is checked in
`process`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serverd.config.kinds import (
    Account,
    Count,
    Duration,
    FilePath,
    Flag,
    HangTimeout,
    HeaderName,
    LagThreshold,
    Lifetime,
    MaybePath,
    Memory,
    Umask,
    Workers,
)

__all__ = ["Control", "Logging", "Recycle", "Section", "Server", "as_written"]


def as_written(text: str) -> Any:
    """Return a default as the operator would write it; the model parses it like any other value."""
    return text


class Section(BaseModel):
    """A table of the configuration: frozen, strict about types, closed to unknown keys."""

    # `defer_build`: that of the whole file has all others within it, and few of those are asked by themselves as well.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True, defer_build=True)


class Recycle(Section):
    """When a worker is replaced although nothing is wrong with it; its successor is ready first."""

    requests: Count = Field(
        default=0,
        ge=0,
        description="After so many requests; looked at twice a second, so that a busy worker serves some more; 0 is"
        " never.",
    )
    jitter: Count = Field(
        default=0,
        ge=0,
        description="Up to so many requests more, differing from worker to worker, so that they do not go together.",
    )
    lifetime: Lifetime = Field(default=0, description="After so long; 0 is never.")
    memory: Memory = Field(
        default=0,
        description="Above so much resident memory, which counts also what it shares with others (preload); 0 is"
        " never.",
    )


class Server(Section):
    """Process-wide settings."""

    workers: Workers = Field(
        default=1,
        description='How many worker processes; "auto" is one per usable CPU, respecting affinity and cgroup quota.',
    )
    loop: Literal["auto", "uvloop", "asyncio"] = Field(
        default="auto", description="The event loop of the workers; auto takes uvloop where it is installed."
    )
    http1_parser: Literal["auto", "httptools", "h11"] = Field(
        default="auto", description="The HTTP/1 parser; auto takes httptools where it is installed."
    )
    user: Account | None = Field(
        default=None,
        description="Who the workers are, when serverd is started as root; the sockets are bound before.",
        examples=["www-data"],
    )
    group: Account | None = Field(
        default=None, description="Their group; the user's own by default.", examples=["www-data"]
    )
    umask: Umask | None = Field(
        default=None,
        description="Permission bits that files made by workers do not get, nor what the supervisor makes without a"
        " mode of its own: a new log file, unix sockets without socket_mode.",
        examples=["0027"],
    )
    pid_file: MaybePath = Field(
        default="", description='A file that holds the pid of the supervisor, relative to this file; "" is none.'
    )
    start_timeout: Duration = Field(
        default=as_written("60s"), gt=0, description="How long a worker may take to import and start every application."
    )
    shutdown_delay: Duration = Field(
        default=as_written("0s"),
        description="How long a server that was told to stop still accepts, while it says that it is not ready.",
    )
    graceful_timeout: Duration = Field(
        default=as_written("30s"),
        description="How long what is in flight may take to finish on a stop or a reload; 0 cuts at once.",
    )
    hang_timeout: HangTimeout = Field(
        default=as_written("30s"),
        description="A worker whose event loop does not answer for so long has its stacks logged, is killed and"
        " replaced; 0 is never, and then one that also holds the interpreter lock (GIL) can outlive a supervisor"
        " that is killed.",
    )
    lag_threshold: LagThreshold = Field(
        default=as_written("1s"),
        description="When the event loop does not answer for so long, the stack that blocks it is logged; 0 is never.",
    )
    preload: Flag = Field(
        default=False,
        description="Whether applications are imported once, in a process that the workers are forked from.",
    )
    server_header: Flag = Field(default=True, description="Whether responses carry a Server header.")
    date_header: Flag = Field(default=True, description="Whether responses carry a Date header.")
    request_id_header: HeaderName | None = Field(
        default=None,
        description="The response header that carries the id of the request, which stands in the logs and, as"
        " request_id, in the state of the scope; it is the X-Request-ID or the trace id that a trusted proxy sends,"
        " else made.",
        examples=["X-Request-ID"],
    )
    recycle: Recycle = Field(default_factory=Recycle, description="When workers are replaced.")


class Control(Section):
    """How serverd status, reload and the other commands reach a running server."""

    socket: FilePath | None = Field(
        default=None,
        description="A unix socket, relative to this file; by default a path under the runtime directory that is"
        " derived from the path of this file.",
        examples=["run/control.sock"],
    )


class Logging(Section):
    """How log lines look, and where they go."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe level that is logged."
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="The shape of log lines; auto is text on a terminal and JSON otherwise."
    )
    file: MaybePath = Field(
        default="",
        description="Where log lines, and what workers write to standard error, are appended, relative to this file;"
        ' "" is the standard error.',
    )
