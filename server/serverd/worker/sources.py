"""The files that the applications' modules were imported from, and whether they are still the same.

A worker that is to go on with new settings must not go on with old code; and an application that is tried again
must not be made of modules whose files have been mended since. Only files below the applications' directories
count. Nothing is read, only looked at; what changes between an import and the look that follows it is not seen.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

__all__ = ["Sources"]


class _Source(NamedTuple):
    """The file of a module, as it was."""

    file: str
    mtime: int  # nanoseconds
    size: int


class Sources:
    """The files of the modules below some directories."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = tuple(dict.fromkeys(os.path.join(directory, "") for directory in directories))
        self._names: set[str] = set()  # of the modules that have been looked at
        self._sources: dict[str, _Source] = {}  # by the name of the module

    def remember(self) -> None:
        """Look at the files of modules that have been imported since the last call; at nothing when there are none."""
        if len(sys.modules) == len(self._names):
            return
        modules = dict(sys.modules)
        for name in modules.keys() - self._names:
            file = _file_of(modules[name])
            if file.startswith(self._directories):
                mtime, size = _stamp(file)
                self._sources[name] = _Source(file, mtime, size)
        self._names = set(modules)

    def change(self, within: str = "") -> str | None:
        """Return what is not as it was, such as "shop/main.py has changed since it was imported"; None: nothing.

        Only files below the directory `within` count, if it is given.
        """
        prefix = os.path.join(within, "") if within else ""
        for source in self._sources.values():
            if source.file.startswith(prefix) and _stamp(source.file) != source[1:]:
                deed = "has changed" if os.path.exists(source.file) else "has gone"
                return f"{self._shown(source.file)} {deed} since it was imported"
        return None

    def forget(self, names: Iterable[str], directory: str) -> None:
        """Have those of the modules `names` that came from Python files below `directory` imported anew when asked for.

        Whoever holds one of them keeps it. Compiled extension modules stay: most cannot be loaded twice.
        """
        prefix = os.path.join(directory, "")
        for name in names:
            source = self._sources.get(name)
            if source is None or not source.file.startswith(prefix) or not source.file.endswith((".py", ".pyc")):
                continue
            module = sys.modules.pop(name, None)
            del self._sources[name]
            self._names.discard(name)
            parent, _, attribute = name.rpartition(".")
            package = sys.modules.get(parent)
            # `from parent import attribute` would take it without importing anything.
            if isinstance(package, ModuleType) and vars(package).get(attribute) is module:
                delattr(package, attribute)
        importlib.invalidate_caches()

    def _shown(self, file: str) -> str:
        directory = next(directory for directory in self._directories if file.startswith(directory))
        return file[len(directory) :]


def _file_of(module: ModuleType) -> str:
    try:
        # Not getattr: a module may import things when it is asked for an attribute.
        file = vars(module).get("__file__")
    except TypeError:
        return ""  # anything may be put into sys.modules
    return file if isinstance(file, str) else ""


def _stamp(file: str) -> tuple[int, int]:
    try:
        status = os.stat(file)
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size
