"""From listener, host and path to an endpoint: the most specific mount wins, order never matters.

Built once per generation and listener, read-only afterwards. Mounts are matched on the decoded path
with dot segments and empty segments removed, so that `/public/../admin`, `/%2e%2e/admin` and `//admin`
cannot walk around a mount (RFC 3986 §5.2.4); the application still gets what the client sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from serverd.asgi.scope import Endpoint

__all__ = ["Route", "Router", "normalise_path"]


class Route(NamedTuple):
    """One mount as the router needs it."""

    hosts: tuple[str, ...]  # lower case, exact or "*.name"; empty: any
    path: str  # "/" or "/a/b"
    endpoint: Endpoint


def normalise_path(path: str) -> str:
    """Return `path` without empty, "." and ".." segments; it never climbs above "/"."""
    if "//" not in path and "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if segments:
                segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    directory = path.endswith(("/", "/.", "/.."))
    return "/" + "/".join(segments) + ("/" if directory and segments else "")


class _Paths:
    """The mounts of one host below one path: its own endpoint, and a table for each segment that leads on."""

    __slots__ = ("_below", "_endpoint")

    def __init__(self) -> None:
        self._below: dict[str, _Paths] = {}  # by segment, with the slash before it
        self._endpoint: Endpoint | None = None

    def add(self, path: str, endpoint: Endpoint) -> None:
        """Mount the endpoint at `path`."""
        paths = self
        if path != "/":
            for segment in path[1:].split("/"):
                paths = paths._below.setdefault(f"/{segment}", _Paths())
        paths._endpoint = endpoint

    def find(self, path: str) -> Endpoint | None:
        """Return the endpoint of the longest mount that `path` is below."""
        # Hot path: one look-up for each segment that mounts have in common with the path, however many mounts there are
        # and however long it is; benchmarks/ "1,000 mounts".
        found = self._endpoint
        below = self._below
        start = 0
        while below:
            end = path.find("/", start + 1)
            paths = below.get(path[start:] if end < 0 else path[start:end])
            if paths is None:
                break
            found = paths._endpoint or found
            if end < 0:
                break
            start = end
            below = paths._below
        return found


class Router:
    """The mount table of one listener."""

    __slots__ = ("_any", "_exact", "_options", "_unmounted", "_unserved", "_wildcard")

    def __init__(self, routes: Iterable[Route], unmounted: Endpoint, unserved: Endpoint, options: Endpoint) -> None:
        """Build the table.

        `unmounted` answers a path without mount, `unserved` a host without any, `options` the path "*".
        """
        self._options = options
        self._exact: dict[str, _Paths] = {}
        self._wildcard: dict[str, _Paths] = {}
        self._any = _Paths()
        self._unmounted = unmounted
        self._unserved = unserved
        serves_any = False
        for route in routes:
            serves_any = serves_any or not route.hosts
            for host in route.hosts or ("",):
                self._paths_of(host).add(route.path, route.endpoint)
        if serves_any:
            self._unserved = unmounted

    def _paths_of(self, host: str) -> _Paths:
        if not host:
            return self._any
        table, name = (self._wildcard, host[2:]) if host.startswith("*.") else (self._exact, host)
        return table.setdefault(name, _Paths())

    def find(self, host: str | None, path: str) -> Endpoint:
        """Return the endpoint for a normalised host and path; it always returns one."""
        if path == "*":
            return self._options
        served = False
        if host is not None and (self._exact or self._wildcard):
            for paths in self._candidates(host):
                endpoint = paths.find(path)
                if endpoint is not None:
                    return endpoint
                served = True
        endpoint = self._any.find(path)
        if endpoint is not None:
            return endpoint
        return self._unmounted if served else self._unserved

    def _candidates(self, host: str) -> Iterable[_Paths]:
        """Yield the tables that serve `host`, the most specific first."""
        paths = self._exact.get(host)
        if paths is not None:
            yield paths
        dot = host.find(".") if self._wildcard else -1
        while dot >= 0:
            paths = self._wildcard.get(host[dot + 1 :])
            if paths is not None:
                yield paths
            dot = host.find(".", dot + 1)
