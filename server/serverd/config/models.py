"""Every key of the configuration language: type, default, bounds and description, each beside the field.

The keys of process-wide tables stand in `settings`, those of [limits] in `limits` and of [tls.NAME] in `tls_table`, all
others here. The models judge each value by itself. What needs its neighbours, other tables or the machine is checked in
`process`, `listeners`, `tls`, `apps` and `mounts`. A key whose feature does not exist yet is not here, so that nothing
is accepted and ignored. Instances are frozen; defaults are written as the operator would write them.

Used by `validation`; read by `reference` (reference.toml and the JSON Schema come from here) and
`wording` (the nearest known key).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serverd.config.access_table import AccessLog
from serverd.config.kinds import (
    Account,
    AppReference,
    BindAddresses,
    Duration,
    FilePath,
    Flag,
    ForwardedHeader,
    HeaderName,
    HeaderValue,
    Host,
    ListenerReference,
    MountPath,
    Name,
    Protocol,
    Proxy,
    PythonTarget,
    Redirect,
    RootPath,
    SocketMode,
    Status,
    Text,
    TlsReference,
    VariableName,
    VariableValue,
    Whole,
)
from serverd.config.limits import Http2Limits, Limits, WebSocketLimits
from serverd.config.settings import Control, Logging, Recycle, Section, Server, as_written
from serverd.config.tls_table import Certificate, Tls

__all__ = [
    "AccessLog",
    "App",
    "Certificate",
    "Control",
    "File",
    "Fragment",
    "Http2Limits",
    "Limits",
    "Listener",
    "Logging",
    "Mount",
    "Recycle",
    "Respond",
    "Section",
    "Server",
    "Tls",
    "WebSocketLimits",
]

LOOSE = Field(strict=False)  # TOML has lists and the models keep tuples: only the container is converted


class Listener(Section):
    """A named set of addresses that are served alike."""

    bind: BindAddresses = Field(
        description='Where to listen; ":8000" is every interface, unix paths are relative to this file.',
        examples=["127.0.0.1:8000"],
    )
    protocols: Annotated[tuple[Protocol, ...], LOOSE] = Field(
        default=("http/1.1", "h2"),
        min_length=1,
        description="What is spoken; HTTP/2 without TLS to clients that begin with it.",
    )
    backlog: Whole = Field(
        default=2048, ge=1, le=2**31 - 1, description="How many connections the kernel queues before they are accepted."
    )
    socket_mode: SocketMode | None = Field(
        default=None, description="Permission bits of unix sockets.", examples=["0660"]
    )
    socket_user: Account | None = Field(default=None, description="Owner of unix sockets.", examples=["www-data"])
    socket_group: Account | None = Field(default=None, description="Group of unix sockets.", examples=["www-data"])
    trusted_proxies: Annotated[tuple[Proxy, ...], LOOSE] = Field(
        default=(),
        description="Peers that are believed when they say on whose behalf they speak (Forwarded, X-Forwarded-*,"
        ' PROXY); "unix" is whoever connects to a unix socket.',
        examples=[["10.0.0.0/8", "fd00::/8", "unix"]],
    )
    forwarded_headers: Annotated[tuple[ForwardedHeader, ...], LOOSE] = Field(
        default=("x-forwarded-for", "x-forwarded-proto"),
        description="Which headers of trusted_proxies are believed; name those only that your proxies overwrite or"
        " append to: what they let through is the word of the client. The others of these are removed.",
        examples=[["forwarded"]],
    )
    proxy_protocol: Flag = Field(
        default=False,
        description="Whether every connection begins with a PROXY header, of version 1 or 2; only trusted_proxies may"
        " connect then.",
    )
    ambiguous_headers: Literal["drop", "pass", "refuse"] = Field(
        default="drop",
        description='What happens to request headers with "_" or "." in their names, which CGI-style applications'
        ' cannot tell from those with "-": drop takes them out, pass leaves them, refuse answers 400.',
    )
    tls: TlsReference | None = Field(
        default=None,
        description="The table [tls.NAME] by which TLS is spoken; without it, nothing is encrypted.",
        examples=["main"],
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Keys of [limits] that differ for this listener.",
        examples=[{"body_size": "1GiB"}],
    )


class App(Section):
    """An ASGI application that every worker imports."""

    app: PythonTarget = Field(
        description="The application as package.module:attribute; the attribute defaults to app and may hold dots.",
        examples=["shop.main:app"],
    )
    factory: Flag = Field(
        default=False, description="Whether the attribute is a function that returns the application."
    )
    interface: Literal["auto", "asgi3", "asgi2"] = Field(
        default="auto", description="The calling convention of the application; auto looks at its signature."
    )
    directory: FilePath | None = Field(
        default=None,
        description="First on the import path, relative to this file; the folder of this file by default.",
        examples=["."],
    )
    env: dict[VariableName, VariableValue] = Field(
        default={}, description="Environment variables; the applications of a worker share one environment."
    )
    env_file: FilePath | None = Field(
        default=None,
        description="A file of NAME=value lines, relative to this file; env wins over it.",
        examples=["shop.env"],
    )
    lifespan: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether the application has a lifespan; auto finds out, on demands one."
    )
    on_failure: Literal["exit", "unavailable"] = Field(
        default="exit",
        description="What follows when it cannot be imported or started: exit stops the start, or the reload, of all;"
        " unavailable lets it alone answer 503 and tries it again.",
    )
    request_timeout: Duration = Field(
        default=as_written("0s"),
        description="How long a request may take until its response is complete; then it is cancelled, and answered 504"
        " if nothing was sent; 0 is no bound.",
    )


class Respond(Section):
    """A fixed response."""

    status: Status = Field(default=200, description="The status of the response.")
    body: Text = Field(default="", description="The body, sent as UTF-8.")
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Header fields of the response.")


class Mount(Section):
    """What is served where; the most specific mount wins, their order never matters."""

    path: MountPath = Field(
        default="/", description="Prefix on a segment boundary: /shop matches /shop and /shop/x, never /shopping."
    )
    hosts: Annotated[tuple[Host, ...], LOOSE] = Field(
        default=(), description='Exact names or "*.example.com"; empty is any host.'
    )
    listeners: Annotated[tuple[ListenerReference, ...], LOOSE] = Field(
        default=(), description="Names of listeners; empty is all of them."
    )
    app: AppReference | None = Field(
        default=None,
        description="Target: an app. A mount has exactly one of app, redirect, respond and builtin.",
        examples=["shop"],
    )
    redirect: Redirect | None = Field(
        default=None,
        description="Target: a redirect (307); {host} and {uri} stand for the request's.",
        examples=["https://{host}{uri}"],
    )
    respond: Respond | None = Field(
        default=None, description="Target: a fixed response.", examples=[{"status": 200, "body": "ok"}]
    )
    builtin: Literal["health", "metrics", "status"] | None = Field(
        default=None,
        description="Target: what the server knows of itself. health answers /livez and /readyz below path, metrics is"
        " for Prometheus, status is a page for people, and JSON. Keep them on a listener that not everybody reaches.",
        examples=["health"],
    )
    root_path: RootPath | None = Field(
        default=None,
        description='For apps: their root_path; path without trailing slash by default, "" with strip_prefix.',
        examples=["/shop"],
    )
    strip_prefix: Flag = Field(
        default=False,
        description="For apps that know no root_path: take path off the front of the request's path (not of raw_path).",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={},
        description="Header fields that every response gets which has none of the name, such as"
        " Strict-Transport-Security; also those that the server makes itself once the mount is found, whatever their"
        " status.",
        examples=[{"strict-transport-security": "max-age=31536000"}],
    )
    access_log: Flag = Field(default=True, description="Whether what it answers stands in the access log.")
    trace: Flag = Field(
        default=False, description="For apps: whether TRACE requests are passed on; they are answered 405 otherwise."
    )


class Fragment(Section):
    """An included file, which may add listeners, tls, apps and mounts only."""

    listeners: dict[Name, Listener] = Field(default={}, description="Where serverd listens, by name.")
    tls: dict[Name, Tls] = Field(default={}, description="How listeners speak TLS, by name.")
    apps: dict[Name, App] = Field(default={}, description="The applications, by name.")
    mounts: Annotated[tuple[Mount, ...], LOOSE] = Field(default=(), description="What is served where.")


class File(Fragment):
    """The main configuration file of serverd."""

    include: Annotated[tuple[FilePath, ...], LOOSE] = Field(
        default=(),
        description="Further files, relative to this one, with wildcards; each may add listeners, tls, apps and"
        " mounts.",
        examples=[["apps.d/*.toml"]],
    )
    server: Server = Field(default_factory=Server, description="Process-wide settings.")
    limits: Limits = Field(default_factory=Limits, description="Bounds for every listener.")
    control: Control = Field(default_factory=Control, description="How commands reach a running server.")
    logging: Logging = Field(default_factory=Logging, description="How log lines look, and where they go.")
    access_log: AccessLog = Field(default_factory=AccessLog, description="A line for each request.")
