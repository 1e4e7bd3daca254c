"""The XOR that a client's WebSocket payload is masked with (RFC 6455 §5.3).

In C where it is to be had, from the `websockets` library: Python's own way takes 40 times as long for 64 KiB.
"""

from __future__ import annotations

__all__ = ["unmask", "unmask_slowly"]


def unmask_slowly(data: bytes, mask: bytes) -> bytes:
    """Return `data` XOR the four bytes of `mask`, repeated; for interpreters without the C extension."""
    size = len(data)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


try:
    from websockets.speedups import apply_mask as unmask
except ImportError:  # PyPy, and platforms without a wheel
    unmask = unmask_slowly  # type: ignore[assignment]  # it takes fewer kinds of buffers
