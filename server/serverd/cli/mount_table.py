"""The mounts of a configuration as a table, in the order in which they are decided: what `serverd routes` shows.

The first row whose host and path match is the one that `asgi.router` finds: exact hosts before wildcards before any
host, the longer path before the shorter one.
"""

from __future__ import annotations

from typing import Any

from serverd.generation import AppTarget, Generation, Mount
from serverd.observe.columns import aligned
from serverd.observe.logs import escape
from serverd.supervisor.wording import describe_target, target_of

__all__ = ["ANY_HOST", "describe_table", "table"]

ANY_HOST = "*"  # in the place of a host; nothing else of that name can be configured
_HEADINGS = ("HOST", "PATH", "LISTENERS", "TARGET", "ROOT_PATH", "STRIP_PREFIX", "SOURCE")


def table(generation: Generation) -> list[dict[str, Any]]:
    """Return a row for each mount and host, as JSON takes it."""
    return [_row(host, mount) for host, mount in _in_order(generation)]


def _in_order(generation: Generation) -> list[tuple[str, Mount]]:
    return sorted(((host, mount) for mount in generation.mounts for host in mount.hosts or (ANY_HOST,)), key=_rank)


def _rank(row: tuple[str, Mount]) -> tuple[int, int, str, int, str]:
    host, mount = row
    kind = 2 if host == ANY_HOST else 1 if host.startswith("*.") else 0
    depth = mount.path.count("/") if mount.path != "/" else 0
    return kind, -host.count(".") if kind == 1 else 0, host, -depth, mount.path


def _row(host: str, mount: Mount) -> dict[str, Any]:
    is_app = isinstance(mount.target, AppTarget)
    return {
        "host": host,
        "path": mount.path,
        "listeners": list(mount.listeners),
        "target": target_of(mount),
        "root_path": mount.target.root_path if isinstance(mount.target, AppTarget) else None,
        "strip_prefix": mount.target.strip_prefix if isinstance(mount.target, AppTarget) else None,
        "headers": dict(mount.headers),
        "trace": mount.trace if is_app else None,
        "access_log": mount.access_log,
        "source": mount.source,
    }


def describe_table(generation: Generation) -> str:
    """Return the table as aligned text."""
    every_listener = [listener.name for listener in generation.listeners]
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for host, mount in _in_order(generation):
        row = _row(host, mount)
        listeners = "all" if row["listeners"] == every_listener else ", ".join(row["listeners"])
        root_path = "-" if row["root_path"] is None else row["root_path"] or '""'
        strip = "yes" if row["strip_prefix"] else "-"
        lines.append((host, mount.path, listeners, describe_target(mount), root_path, strip, mount.source))
    return "".join(f"{escape(line)}\n" for line in aligned(lines))
