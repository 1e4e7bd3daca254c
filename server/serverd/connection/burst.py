"""Telling what comes in a burst from what comes alone: a system call for each piece of a burst takes most of its time.

Who sends asks, before it decides whether a piece leaves at once or with what else comes in the same turn of the loop.
An application that computes between two pieces, and awaits nothing, keeps the loop to itself; its client should see
each event when it is there, in however many pieces it is sent.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

__all__ = ["FEW", "GAP", "Burst"]

# Pieces of a burst follow each other within so many seconds; the first few are none of it.
GAP = 0.001
FEW: Final = 4


class Burst:
    """The pieces that one connection sends."""

    __slots__ = ("_count", "_last")

    def __init__(self) -> None:
        self._last = 0.0
        self._count = 0  # of pieces that have followed each other at once

    def goes_on(self) -> bool:
        """Take note of a piece; return whether it comes in a burst."""
        now = perf_counter()
        self._count = self._count + 1 if now - self._last < GAP else 0
        self._last = now
        return self._count >= FEW

    def end(self) -> None:
        """Take the next piece for the first one."""
        self._last = 0.0
