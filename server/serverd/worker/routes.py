"""From the mounts of a generation to the router of one listener.

`serving` calls it for each listener, again whenever the mounts change or an application comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from serverd.asgi import builtin
from serverd.asgi.observer import UNOBSERVED, MountObserver
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.asgi.types import Scope
from serverd.generation import AppTarget, Generation, Listener, Mount, RedirectTarget, RespondTarget
from serverd.protocol.head import Fields, normalise_host
from serverd.worker.observers import Observers

__all__ = ["build_router", "make_router", "make_routes"]


def make_router(
    generation: Generation, listener: Listener, endpoints: Mapping[str, Endpoint], observers: Observers | None = None
) -> Router:
    """Return the router of `listener`; `endpoints` holds the applications by name, `observers` look on."""
    observers = observers or Observers()
    routes = (route for _, route in make_routes(generation, listener, endpoints, observers))
    return build_router(routes, _id_name(generation), observers.of_mount(listener.name, None))


def make_routes(
    generation: Generation, listener: Listener, endpoints: Mapping[str, Endpoint], observers: Observers
) -> list[tuple[Mount, Route]]:
    """Return the mounts of `listener`, each with its route, whose endpoint is no other mount's."""
    timeouts = {app.name: app.request_timeout for app in generation.apps}
    return [
        (
            mount,
            Route(
                mount.hosts,
                mount.path,
                replace(
                    _endpoint(mount, endpoints, timeouts),
                    fields=_fields(mount.headers),
                    request_id_name=_id_name(generation),
                    observer=observers.of_mount(listener.name, mount),
                ),
            ),
        )
        for mount in generation.mounts
        if listener.name in mount.listeners
    ]


def build_router(routes: Iterable[Route], id_name: bytes = b"", observer: MountObserver = UNOBSERVED) -> Router:
    """Return the router of these routes, with what answers for none of them."""
    ours = partial(Endpoint, name="serverd", is_ours=True, request_id_name=id_name, observer=observer)
    return Router(
        routes,
        unmounted=ours(builtin.not_found),
        unserved=ours(builtin.misdirected),
        options=ours(builtin.options),
    )


def _id_name(generation: Generation) -> bytes:
    return (generation.server.request_id_header or "").encode()


def _endpoint(mount: Mount, endpoints: Mapping[str, Endpoint], timeouts: Mapping[str, float]) -> Endpoint:
    target = mount.target
    if isinstance(target, AppTarget):
        strip = mount.path if target.strip_prefix and mount.path != "/" else ""
        return replace(
            endpoints[target.app],
            root_path=target.root_path,
            strip=strip,
            takes_trace=mount.trace,
            request_timeout=timeouts[target.app],
        )
    if isinstance(target, RespondTarget):
        fields = _fields(target.headers)
        return Endpoint(builtin.respond(target.status, target.body.encode(), fields), "serverd", is_ours=True)
    return Endpoint(builtin.redirect(_location(target)), "serverd", is_ours=True)


def _fields(headers: Iterable[tuple[str, str]]) -> Fields:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers]


def _location(target: RedirectTarget) -> Callable[[Scope], bytes]:
    """Return what fills {host} and {uri} of a redirect from a request's scope; one pass, nothing is expanded twice."""
    parts = [part.encode() for part in target.location.replace("{uri}", "\0u\0").replace("{host}", "\0h\0").split("\0")]

    def location(scope: Scope) -> bytes:
        host = next((normalise_host(value) for name, value in scope["headers"] if name == b"host"), "")
        query = scope["query_string"]
        uri = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        filled = {b"u": uri, b"h": (host or _own_host(scope)).encode()}
        # Every second part stood between two marks.
        return b"".join(filled[part] if index % 2 else part for index, part in enumerate(parts))

    return location


def _own_host(scope: Scope) -> str:
    """Return where the request came in, for an HTTP/1.0 client that does not say where it wanted to go."""
    host, port = scope["server"] or ("localhost", None)
    if port is None:
        return "localhost"  # a unix socket: whoever stands before it knows the name
    return f"[{host}]" if ":" in host else host
