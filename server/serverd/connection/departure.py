"""Whether a peer that nobody reads from has gone: what the kernel knows of it without a byte being taken.

Asked by connections whose reading is paused, because something of the peer waits (a pipelined request, a body).
"""

from __future__ import annotations

import select
from enum import Enum

__all__ = ["Departure", "look_for_departure"]

# What poll(2) tells of a peer that has gone although nothing is read from it; Linux tells of a half-close, too.
_HALF_CLOSE = getattr(select, "POLLRDHUP", 0)


class Departure(Enum):
    """What is left of the connection."""

    NONE = "both directions, as far as is known"
    HALF = "ours: the peer sends nothing more"
    WHOLE = "nothing"


def look_for_departure(fd: int) -> Departure:
    """Return what is left of the connection whose socket is `fd`."""
    poll = select.poll()
    poll.register(fd, _HALF_CLOSE)
    for _, events in poll.poll(0):
        return Departure.WHOLE if events & (select.POLLHUP | select.POLLERR) else Departure.HALF
    return Departure.NONE
