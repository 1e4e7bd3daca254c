"""What a person at a terminal sees of a start: where to click, and what is served there.

It takes the place of the log lines about listeners, once; everything after it, and all that goes elsewhere than to a
terminal, is one line for each event. `holdings` shows it with the first commit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from serverd.generation import App, AppTarget, Generation, Mount
from serverd.net.bindings import Place
from serverd.observe.columns import aligned
from serverd.observe.logs import escape
from serverd.supervisor.wording import describe_target
from serverd.version import RELEASE

__all__ = ["banner", "is_for_a_terminal"]

# Lines of mounts: what is more would push the addresses off the screen.
MOST_MOUNTS = 20
# Where a wildcard can be clicked on; any other address of the machine works as well.
_EVERYWHERE = ("//0.0.0.0", "//[::]")


def is_for_a_terminal(generation: Generation) -> bool:
    """Return whether a person looks at standard error, and has not asked for lines for programs."""
    return generation.logging.format != "json" and sys.stderr.isatty()


def banner(generation: Generation, places: Sequence[Place]) -> str:
    """Return the text, ending in a newline."""
    names = [place.listener for place in places]
    urls = [(name, clickable(place.url)) for name, place in zip(names, places, strict=True)]
    apps = {app.name: app for app in generation.apps}
    mounts = [_row(mount, generation, apps) for mount in generation.mounts[:MOST_MOUNTS]]
    lines = [f"serverd {RELEASE} serves {generation.source}", "", *_indented(urls), "", *_indented(mounts)]
    if len(generation.mounts) > MOST_MOUNTS:
        lines.append(f"  and {len(generation.mounts) - MOST_MOUNTS} mounts more (serverd routes)")
    return "".join(f"{escape(line)}\n" for line in [*lines, ""])


def clickable(url: str) -> str:
    """Return a URL that a browser on this machine can open; a path of a unix socket as it is."""
    if url.startswith("unix:"):
        return url
    for wildcard in _EVERYWHERE:
        url = url.replace(f"{wildcard}:", "//localhost:")
    return f"{url}/"


def _row(mount: Mount, generation: Generation, apps: dict[str, App]) -> tuple[str, ...]:
    hosts = f" on {', '.join(mount.hosts)}" if mount.hosts else ""
    is_everywhere = len(mount.listeners) == len(generation.listeners)
    listeners = "" if is_everywhere else f" by {', '.join(mount.listeners)}"
    app = apps[mount.target.app].target if isinstance(mount.target, AppTarget) else ""
    return mount.path + hosts + listeners, describe_target(mount), app, mount.source


def _indented(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    return (f"  {line}" for line in aligned(rows))
