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
        self._below: dict[str, _Paths] | None = None  # by segment, with the slash before it; None: nothing leads on
        self._endpoint: Endpoint | None = None

    def add(self, path: str, endpoint: Endpoint) -> None:
        """Mount the endpoint at `path`."""
        paths = self
        if path != "/":
            for segment in path[1:].split("/"):
                if paths._below is None:
                    paths._below = {}
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

    __slots__ = ("_anywhere", "_options", "_served", "_unmounted", "_unserved", "_wildcard", "edition")

    def __init__(self, routes: Iterable[Route], unmounted: Endpoint, unserved: Endpoint, options: Endpoint) -> None:
        """Build the table.

        `unmounted` answers a path without mount, `unserved` a host without any, `options` the path "*".
        """
        self.edition = object()  # stands for this table where the table itself need not be kept
        self._options = options
        self._unmounted = unmounted
        by_host: dict[str, _Paths] = {}
        for route in routes:
            for host in route.hosts or ("",):
                by_host.setdefault(host, _Paths()).add(route.path, route.endpoint)
        self._unserved = unmounted if "" in by_host else unserved
        self._anywhere: tuple[_Paths, ...] = (by_host.pop("", _Paths()),)
        self._wildcard = {host[2:]: paths for host, paths in by_host.items() if host.startswith("*.")}
        exact = {host: paths for host, paths in by_host.items() if not host.startswith("*.")}
        # Of each host that is named: the tables that serve it, the most specific first.
        self._served = {host: (paths, *self._beyond(host)) for host, paths in exact.items()}

    def find(self, host: str | None, path: str) -> Endpoint:
        """Return the endpoint for a normalised host and path; it always returns one."""
        if path == "*":
            return self._options
        tables = self._anywhere
        if host is not None and (self._served or self._wildcard):
            tables = self._served.get(host) or self._beyond(host)
        for paths in tables:
            endpoint = paths.find(path)
            if endpoint is not None:
                return endpoint
        return self._unserved if tables is self._anywhere else self._unmounted

    def _beyond(self, host: str) -> tuple[_Paths, ...]:
        """Return the tables that serve `host` among others, the most specific first."""
        tables = []
        dot = host.find(".") if self._wildcard else -1
        while dot >= 0:
            paths = self._wildcard.get(host[dot + 1 :])
            if paths is not None:
                tables.append(paths)
            dot = host.find(".", dot + 1)
        return (*tables, *self._anywhere) if tables else self._anywhere
