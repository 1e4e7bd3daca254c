"""Which serverd this is: its version, and whether the modules on the path of a request are compiled.

Imports none of them, so that whoever only tells it stays small. Used by `cli` and `supervisor`.
"""

from __future__ import annotations

import importlib.metadata
from importlib.machinery import ExtensionFileLoader, PathFinder
from pathlib import Path

__all__ = ["is_compiled", "release"]

# A package of which everything is compiled where anything is (tools/backend.py), and a module of it.
_PACKAGE, _MODULE = Path(__file__).parent / "protocol", "head"


def release() -> str:
    """Return the version of serverd that is installed, in words when none is, and that it is compiled if it is."""
    try:
        version = importlib.metadata.version("asgi-serverd")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    return f"{version} (compiled)" if is_compiled() else version


def is_compiled() -> bool:
    """Return whether Python would import what mypyc has compiled: not an extension module for another Python."""
    found = PathFinder.find_spec(_MODULE, [str(_PACKAGE)])
    return found is not None and isinstance(found.loader, ExtensionFileLoader)
