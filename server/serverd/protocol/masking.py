"""The XOR that a client's WebSocket payload is masked with (RFC 6455 §5.3).

In C where it is to be had, from the `websockets` library: Python's own way takes 40 times as long for 64 KiB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final

__all__ = ["unmask", "unmask_slowly"]

Unmask = Callable[[bytes, bytes], bytes]

_PACKAGE: Final = "websockets"
_EXTENSION: Final = "websockets.speedups"


def unmask_slowly(data: bytes, mask: bytes) -> bytes:
    """Return `data` XOR the four bytes of `mask`, repeated; for interpreters without the C extension."""
    size = len(data)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def _in_c() -> Unmask | None:
    """Return the function of `websockets.speedups`; None on PyPy, and on platforms without a wheel."""
    try:
        if not sys.modules.keys().isdisjoint((_PACKAGE, _EXTENSION)):
            # Who has been there before says what is to be found.
            from websockets.speedups import apply_mask

            return apply_mask
        found: Unmask = _extension().apply_mask
    except (ImportError, AttributeError):
        return None
    return found


def _extension() -> ModuleType:
    """Return the extension without the package around it; raises ImportError.

    The package asks for its own version and has all of `email` imported for that: a seventh of the time until a worker
    serves.
    """
    package = find_spec(_PACKAGE)
    # A module that is no package has no places, and without places all of sys.path would be searched.
    places = None if package is None else package.submodule_search_locations
    spec = None if places is None else PathFinder.find_spec(_EXTENSION, places)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no {_EXTENSION}")
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        # It makes its name known by itself: an application that imports the package shall find all of it.
        sys.modules.pop(_EXTENSION, None)
    return module


unmask: Final[Unmask] = _in_c() or unmask_slowly
