"""How many connections a worker may still accept, by the descriptors that are left to its process.

Who accepts until the kernel refuses has no descriptor left for what connections need: a file that is served, a log
that is opened anew, an application's database. And event loops make little of the refusal: uvloop resets what it
cannot accept without a word, asyncio logs a traceback for each, sixty times a second. So some are kept, and further
connections wait in the queues of the listening sockets. `acceptors` asks.

No more are kept than connections are open. An application may have taken so many descriptors for itself that a fixed
number is never free, and a worker that waits for others to end their connections must have some.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable

__all__ = ["Room"]

log = logging.getLogger("serverd.worker")

# What is kept: one descriptor in so many of those that the process may open, and this at most, for as many connections.
RESERVE_SHARE = 8
MOST_RESERVE = 256
# Of what is kept, one part in so many may be accepted at once: two batches go by until nothing more is.
BATCH_SHARE = 4
# Seconds from one warning to the next: a worker that is full goes back and forth as its connections end.
WARNING_REST = 60.0


class Room:
    """The room of one process."""

    def __init__(
        self, clock: Callable[[], float], connections: Callable[[], int], on_change: Callable[[], None]
    ) -> None:
        """Begin with as much as there is; `on_change` is called when `is_out` changes.

        `clock` returns seconds, `connections` how many are open.
        """
        self._clock = clock
        self._connections = connections
        self._on_change = on_change
        self._warned_at = float("-inf")
        self._left = 0  # connections that may be accepted before another look
        self.is_out = False  # nothing more should be accepted

    @staticmethod
    def batch(most: int) -> int:
        """Return how many connections may be accepted at once, `most` at most."""
        return max(1, min(most, _reserve(_limit()) // BATCH_SHARE))

    def take(self) -> None:
        """Take note of a connection that has been accepted."""
        self._left -= 1
        if self._left <= 0 and not self.is_out:
            self.look()

    def look(self) -> None:
        """Find out how many descriptors are left; due now and then, as others than connections come and go."""
        used, limit = _count(), _limit()
        reserve = min(_reserve(limit), self._connections())
        left = limit - used - reserve
        self._left = left // 2  # each may have one more kept
        # To begin again takes several free ones, so that it does not happen with each connection that ends.
        is_out = left < (max(1, reserve // 2) if self.is_out else 1)
        if is_out is self.is_out:
            return
        self.is_out = is_out
        if is_out and self._clock() - self._warned_at >= WARNING_REST:
            self._warned_at = self._clock()
            log.warning(
                "%d of %d descriptors are in use: further connections wait until there are more"
                " (expected a higher limit, LimitNOFILE= of systemd or ulimit -n, or limits.connections)",
                used,
                limit,
            )
        self._on_change()


def _reserve(limit: int) -> int:
    return min(MOST_RESERVE, limit // RESERVE_SHARE)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def _count() -> int:
    """Return how many descriptors are open; 0 where nobody tells."""
    try:
        told = os.stat("/proc/self/fd").st_size  # Linux from 6.2 on (proc(5)); before, it is 0
    except OSError:
        told = 0  # another system, or no /proc
    try:
        return told or len(os.listdir("/dev/fd"))
    except OSError:
        return 0
