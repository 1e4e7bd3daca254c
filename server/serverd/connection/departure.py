"""What the kernel knows of a peer: whether it has gone although nobody reads from it, and what it has not taken yet.

Asked by connections whose reading is paused, because something of the peer waits (a pipelined request, a body), and by
those that have ended.
"""

from __future__ import annotations

import fcntl
import select
import sys
import termios
from enum import Enum
from typing import Final

__all__ = ["Departure", "look_for_departure", "unacknowledged"]

# What poll(2) tells of a peer that has gone although nothing is read from it; Linux tells of a half-close, too.
_HALF_CLOSE: Final = getattr(select, "POLLRDHUP", 0)


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


def unacknowledged(fd: int) -> int:
    """Return how many bytes the kernel has to send that the peer has not acknowledged (tcp(7), SIOCOUTQ)."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed, or not known of sockets here
        return 0
