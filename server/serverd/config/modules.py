"""Modules: where Python finds the one that an app names, and whether that is the app's own.

Python's finders are asked, which read folders and import nothing. What a worker does is imitated: it imports one app
after the other, each with its directory put in front of the import path, and a module name that has been imported
once stays what it is (`worker/apps`). Called by `apps` and `load`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder

from serverd.config.document import Entry
from serverd.config.models import App
from serverd.config.report import Problem
from serverd.generation import App as PlainApp

__all__ = ["Resolved", "find", "foreign_modules", "top_module"]

Resolved = Sequence[tuple[Entry[App], PlainApp]]


def top_module(target: str) -> str:
    """Return the first part of a target's module: what the import path is searched for."""
    return target.partition(":")[0].partition(".")[0]


def find(module: str, path: Sequence[str]) -> str | None:
    """Return where Python finds a top-level module, imported anew with `path` as the import path; None for nowhere.

    That is its file, the folder of a package without __init__, or "built-in". Without a finder but those for `path`,
    modules of editable installations would be missed.
    """
    for finder in sys.meta_path:
        spec = PathFinder.find_spec(module, path) if finder is PathFinder else finder.find_spec(module, None)
        if spec is not None:
            return _location(spec)
    return None


def _location(spec: ModuleSpec) -> str:
    if spec.origin is None:
        return os.path.realpath(next(iter(spec.submodule_search_locations or ()), spec.name))
    return os.path.realpath(spec.origin) if spec.has_location else spec.origin


def foreign_modules(apps: Resolved) -> Iterable[Problem]:
    """Yield a problem for every app that would silently get another module than the one it gets by itself.

    `apps` are in the order in which workers import them.
    """
    path = list(sys.path)
    imported: dict[str, tuple[Entry[App], str | None]] = {}  # who was first, and what that got, if it is known
    earlier: list[tuple[Entry[App], PlainApp]] = []
    for entry, app in apps:
        module = top_module(app.target) if entry.knows("app") else None
        if not entry.knows("directory") or not os.path.isdir(app.directory):
            if module is not None:
                imported.setdefault(module, (entry, None))
            continue
        if app.directory in path:
            path.remove(app.directory)
        path.insert(0, app.directory)
        own = None if module is None else find(module, [app.directory, *sys.path])
        if module is not None and own is not None:  # else a problem that has been told
            first, got = imported.setdefault(module, (entry, find(module, path)))
            if got not in (own, None):
                yield _hidden(entry, module, got, earlier) if first is entry else _same_name(entry, first)
        earlier.append((entry, app))


def _same_name(entry: Entry[App], first: Entry[App]) -> Problem:
    return entry.refusal(
        "app",
        f'has a top-level module of the same name as app "{first.name}" at {first.place("app")}, in another'
        " directory (one process can hold only one of them: rename a module, or put each into a package"
        " of its own name)",
    )


def _hidden(entry: Entry[App], module: str, got: str | None, earlier: Resolved) -> Problem:
    """Return the problem that an earlier app's directory, which stays on the import path, has the module, too."""
    first = next(one for one, app in reversed(earlier) if find(module, [app.directory]) == got)
    return entry.refusal(
        "app",
        f'names a module that one of the same name in the directory of app "{first.name}" at {first.place("app")}'
        " hides (directories stay on the import path for the apps that follow: rename one of the modules)",
    )
