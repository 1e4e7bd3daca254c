"""How many connections wait in a listening socket for somebody to accept them; `bindings` asks."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass

__all__ = ["Queue", "waiting"]

# struct tcp_info, linux/tcp.h: eight bytes, then numbers of 32 bits. Of a listening socket tcpi_unacked is the length
# of its accept queue (net/ipv4/tcp.c, tcp_get_info).
_UNACKED = struct.Struct("=8x4I I")


@dataclass(frozen=True, slots=True)
class Queue:
    """The accept queues of one address."""

    listener: str
    address: str  # as the operator wrote it
    waiting: int  # connections, in the queues of all slots
    most: int  # as many as each of them takes


def waiting(sock: socket.socket) -> int | None:
    """Return how many connections wait; None where the kernel does not tell: for unix sockets, and beside Linux."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
        return int(_UNACKED.unpack(info)[-1])
    except (OSError, struct.error):
        return None
