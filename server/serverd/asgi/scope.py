"""The connection scope of an HTTP request, exactly as the ASGI HTTP specification has it.

`Endpoint` is what a mount leads to inside a worker; `router` finds it, `connection` starts an exchange
with it. Everything that does not depend on the request is prepared in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from serverd.asgi.observer import UNOBSERVED, Observer
from serverd.asgi.types import Application, Scope, State
from serverd.protocol.forwarded import Origin
from serverd.protocol.head import Fields, RequestHead

__all__ = ["Endpoint", "Peer", "apply_origin", "http_scope", "make_websocket_scope"]

# ASGI HTTP & WebSocket specification. Of HTTP, 2.3: what is sent after the disconnect is lost without a word, as
# `exchange` has it, and applications listen for `http.disconnect`. From 2.4 on Starlette streams without listening, and
# what it waits for would never end when its client goes.
_HTTP_VERSION: Final = "2.3"
_WEBSOCKET_VERSION: Final = "2.5"


# What each says of itself is nothing, for good: it is shared between requests, and applications.
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_EXTENSIONS: Final[dict[str, object]] = {
    "http.response.trailers": _NOTHING,
    "http.response.early_hint": _NOTHING,
    "http.response.pathsend": _NOTHING,
}
_WEBSOCKET_SCHEMES: Final = {"http": "ws", "https": "wss"}


class Peer(NamedTuple):
    """The two ends of a connection, as ASGI wants them."""

    client: tuple[str, int] | None  # None: a unix socket, or a client that had gone before anybody could ask
    server: tuple[str, int | None] | None  # (path, None) for a unix socket
    scheme: str = "http"
    tls: dict[str, object] | None = None  # what the ASGI extension of that name says; None: it is in the clear
    names: frozenset[str] = frozenset()  # in the certificate that the client was shown, "*.example.com" among them

    def __str__(self) -> str:
        """Return whom lines of the log speak of."""
        if self.client is None:
            return "a local client"
        host, port = self.client
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_local(self) -> bool:
        """Whether the connection is one on a unix socket."""
        return self.server is not None and self.server[1] is None

    def is_called(self, host: str) -> bool:
        """Return whether the certificate that the client was shown is for this host, as `normalise_host` has it."""
        name = host.strip("[]")
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An application with what its scope needs from the mount."""

    application: Application
    name: str  # for logs: the app's name, or what the server answers itself
    root_path: str = ""
    strip: str = ""  # the prefix that `strip_prefix` takes off the path
    state: State = field(default_factory=dict)  # the lifespan state, copied per request
    fields: Fields = field(default_factory=list)  # of every response that has none of the name
    request_id_name: bytes = b""  # of the field of every response that holds the id of the request; b"": none
    takes_trace: bool = False  # TRACE is the application's to answer
    is_ours: bool = False  # no application: the server answers by itself
    request_timeout: float = 0.0  # seconds for a response to be complete; 0: it may take its time
    observer: Observer = UNOBSERVED  # of the mount
    context: Context = field(default_factory=Context)  # what was set while it was imported; requests begin with a copy


def http_scope(head: RequestHead, endpoint: Endpoint, peer: Peer, path: str) -> Scope:
    """Return the scope of a request (ASGI HTTP spec, "Connection scope"); `path` is the normalised path."""
    extensions = _EXTENSIONS.copy()
    if peer.tls is not None:
        extensions["tls"] = peer.tls.copy()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": _HTTP_VERSION},
        "http_version": head.version,
        "method": head.method,
        "scheme": peer.scheme,
        "path": _strip(head.path, endpoint.strip, path) if endpoint.strip else head.path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "root_path": endpoint.root_path,
        "headers": head.fields.copy(),  # the application may change its own
        "client": peer.client,
        "server": peer.server,
        "state": endpoint.state.copy(),
        "extensions": extensions,
    }


def make_websocket_scope(scope: Scope, subprotocols: list[str]) -> None:
    """Make the scope of a request that of a WebSocket (ASGI WebSocket spec, "Websocket Connection Scope")."""
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"]["spec_version"] = _WEBSOCKET_VERSION
    scope["scheme"] = _WEBSOCKET_SCHEMES.get(scope["scheme"], scope["scheme"])
    scope["subprotocols"] = subprotocols.copy()
    extensions = scope["extensions"]
    scope["extensions"] = {"websocket.http.response": _NOTHING}
    if "tls" in extensions:
        scope["extensions"]["tls"] = extensions["tls"]


def apply_origin(scope: Scope, origin: Origin) -> None:
    """Put into the scope of a request what is believed of where it comes from."""
    scope["client"] = origin.client
    scope["scheme"] = origin.scheme
    scope["headers"] = origin.fields.copy()
    if origin.prefix:
        # What a proxy took off the path: the application makes its links from it.
        scope["root_path"] = origin.prefix + scope["root_path"]
        scope["path"] = origin.prefix + scope["path"]
        scope["raw_path"] = origin.prefix.encode() + scope["raw_path"]


def _strip(path: str, prefix: str, normalised: str) -> str:
    """Return the path below the mount; one that only leads there after normalisation is normalised."""
    below = path[len(prefix) :]
    if path != normalised and (not path.startswith(f"{prefix}/") or _climbs(below)):
        below = normalised[len(prefix) :]
    return below or "/"


def _climbs(path: str) -> bool:
    """Return whether the dot segments of `path` lead out of where it begins."""
    depth = 0
    for segment in path.split("/"):
        if segment == "..":
            depth -= 1
            if depth < 0:
                return True
        elif segment not in ("", "."):
            depth += 1
    return False
