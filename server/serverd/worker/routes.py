"""From the mounts of a generation to the router of one listener.

`serving` calls it for each listener, again whenever the mounts change or an application comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from serverd.asgi import builtin
from serverd.asgi.observer import UNOBSERVED, Observer
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.asgi.types import Application, Scope
from serverd.generation import AppTarget, BuiltinTarget, Generation, Listener, Mount, RedirectTarget, RespondTarget
from serverd.protocol.head import Fields, normalise_host
from serverd.worker.inside import Inside

__all__ = ["build_router", "make_router", "make_routes", "request_id_name"]


def make_router(
    generation: Generation, listener: Listener, endpoints: Mapping[str, Endpoint], inside: Inside | None = None
) -> Router:
    """Return the router of `listener`; `endpoints` holds the applications by name, `inside` the builtin ones."""
    inside = inside or Inside(generation)
    routes = (route for _, route in make_routes(generation, listener, endpoints, inside))
    return build_router(routes, request_id_name(generation), inside.observers.of_mount(listener, None))


def make_routes(
    generation: Generation, listener: Listener, endpoints: Mapping[str, Endpoint], inside: Inside
) -> list[tuple[Mount, Route]]:
    """Return the mounts of `listener`, each with its route, whose endpoint is no other mount's."""
    timeouts = {app.name: app.request_timeout for app in generation.apps}
    name = request_id_name(generation)
    routes = []
    for mount in generation.mounts:
        if listener.name not in mount.listeners:
            continue
        if isinstance(mount.target, BuiltinTarget):
            endpoint = _builtin(mount.path, inside.builtins[mount.target.name])
        else:
            endpoint = _endpoint(mount, endpoints, timeouts)
        fields, observer = _fields(mount.headers), inside.observers.of_mount(listener, mount)
        endpoint = replace(endpoint, fields=fields, request_id_name=name, observer=observer)
        routes.append((mount, Route(mount.hosts, mount.path, endpoint)))
    return routes


def build_router(routes: Iterable[Route], id_name: bytes = b"", observer: Observer = UNOBSERVED) -> Router:
    """Return the router of these routes, with what answers for none of them."""
    ours = partial(Endpoint, name="serverd", is_ours=True, request_id_name=id_name, observer=observer)
    return Router(
        routes,
        unmounted=ours(builtin.not_found),
        unserved=ours(builtin.misdirected),
        options=ours(builtin.options),
    )


def request_id_name(generation: Generation) -> bytes:
    """Return the name of the field of every response that holds the id of the request; b"" for none."""
    return (generation.server.request_id_header or "").encode()


def _builtin(path: str, application: Application) -> Endpoint:
    return Endpoint(application, "serverd", root_path="" if path == "/" else path, is_ours=True)


def _endpoint(mount: Mount, endpoints: Mapping[str, Endpoint], timeouts: Mapping[str, float]) -> Endpoint:
    target = mount.target
    assert not isinstance(target, BuiltinTarget)
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
