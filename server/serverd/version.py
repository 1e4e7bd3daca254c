"""Which serverd this is: its version, which the distribution takes from here (pyproject.toml), and how it was built.

A constant, and not looked up in what is installed: that would cost each start the import of `importlib.metadata`,
which brings a parser of e-mail and one of zip files, and would tell what is on disk, not what runs. Nothing else of
serverd is imported, so that whoever only tells it stays small.
"""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader, PathFinder
from pathlib import Path

__all__ = ["RELEASE", "VERSION", "is_compiled"]

VERSION = "0.1.0"

# A package of which everything is compiled where anything is (tools/backend.py), and a module of it.
_PACKAGE, _MODULE = Path(__file__).parent / "protocol", "head"


def is_compiled() -> bool:
    """Return whether Python would import what mypyc has compiled: not an extension module for another Python."""
    found = PathFinder.find_spec(_MODULE, [str(_PACKAGE)])
    return found is not None and isinstance(found.loader, ExtensionFileLoader)


RELEASE = f"{VERSION} (compiled)" if is_compiled() else VERSION
"""The version as people are told it. Looked up once: later there may be no descriptor to look with."""
