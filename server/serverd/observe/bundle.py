"""Which of the authorities in a file are shown to people: a bundle holds a hundred of which nothing is to be said.

Pure; the status as text and the status page ask it. Programs are told all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["chosen"]

# Of one file, with nothing to be said of them; of more, only the one that ends first.
_MOST = 3


def chosen(authorities: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield those that are shown, file by file, each with what is to be said of it, or of those that it stands for."""
    files: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in authorities:
        files.setdefault((one["tls"], one["key"]), []).append(one)
    for those in files.values():
        sound = [one for one in those if not one["age"]]
        rest = sound if len(sound) > _MOST else []
        yield from ((one, one["age"] or "") for one in those if one["age"] or not rest)
        if rest:
            first = min(rest, key=lambda one: one["until"] or float("inf"))
            yield first, f"and {len(rest) - 1} more that end no earlier"
