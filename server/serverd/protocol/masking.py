"""The XOR that a client's WebSocket payload is masked with (RFC 6455 §5.3).

In C where it is to be had, from the `websockets` library: Python's own way takes 40 times as long for 64 KiB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Final

__all__ = ["unmask", "unmask_slowly"]

Unmask = Callable[[bytes, bytes], bytes]


def unmask_slowly(data: bytes, mask: bytes) -> bytes:
    """Return `data` XOR the four bytes of `mask`, repeated; for interpreters without the C extension."""
    size = len(data)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def _in_c() -> Unmask | None:
    """Return the function of `websockets.speedups`; None on PyPy, and on platforms without a wheel.

    The extension is loaded without the package around it, which asks for its own version and has all of `email`
    imported for that: a seventh of the time until a worker serves.
    """
    name = "websockets.speedups"
    package = find_spec("websockets")
    spec = PathFinder.find_spec(name, package.submodule_search_locations) if package is not None else None
    if spec is None or spec.loader is None:
        return None
    known = sys.modules.get(name)
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        found: Unmask = module.apply_mask
    except (ImportError, AttributeError):
        return None
    finally:
        # An extension makes its name known by itself: an application that imports the package shall find all of it.
        if known is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = known
    return found


unmask: Final[Unmask] = _in_c() or unmask_slowly
