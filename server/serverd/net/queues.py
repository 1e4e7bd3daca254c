"""How many connections wait in a listening socket for somebody to accept them; `bindings` asks.

Of TCP the socket itself tells, of unix sockets sock_diag(7): one question by netlink for each, which everybody may ask.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass

__all__ = ["Queue", "waiting"]

# struct tcp_info, linux/tcp.h: eight bytes, then numbers of 32 bits. Of a listening socket tcpi_unacked is the length
# of its accept queue (net/ipv4/tcp.c, tcp_get_info).
_UNACKED = struct.Struct("=8x4I I")

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h.
_SOCK_DIAG = 4  # the protocol
_BY_FAMILY = 20  # the type of question and answer
_REQUEST = 1
_SHOW_QUEUE = 0x10  # UNIX_DIAG_SHOW_RQLEN
_QUEUE = 4  # UNIX_DIAG_RQLEN; of a listening socket it has the length of its accept queue, and the most that it takes
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBHIIIII")  # family, protocol, padding, states, inode, what to show, and a cookie of two
_ANSWER_SIZE = 16  # struct unix_diag_msg; attributes follow
_ATTRIBUTE = struct.Struct("=HH")  # length, with itself, and type
_EVERY_STATE = _NO_COOKIE = 0xFFFFFFFF
_ROOM = 4096  # bytes; an answer has some 60


@dataclass(frozen=True, slots=True)
class Queue:
    """The accept queues of one address."""

    listener: str
    address: str  # as the operator wrote it
    waiting: int  # connections, in the queues of all slots
    most: int  # as many as each of them takes


def waiting(sock: socket.socket) -> int | None:
    """Return how many connections wait; None where the kernel does not tell, as beside Linux."""
    if sys.platform != "linux":
        return None
    try:
        if sock.family == socket.AF_UNIX:
            return _read_diagnosis(_diagnose(os.fstat(sock.fileno()).st_ino))
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
        return int(_UNACKED.unpack(info)[-1])
    except (OSError, struct.error):
        return None


def _diagnose(inode: int) -> bytes:
    """Return what the kernel says of a unix socket of our network namespace; raises OSError."""
    question = _QUESTION.pack(socket.AF_UNIX, 0, 0, _EVERY_STATE, inode, _SHOW_QUEUE, _NO_COOKIE, _NO_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.setblocking(False)  # the answer is there when the question has been sent
        kernel.send(header + question)
        return kernel.recv(_ROOM)


def _read_diagnosis(answer: bytes) -> int | None:
    """Return the length of the queue in an answer, None when there is none in it; raises struct.error."""
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        return None  # NLMSG_ERROR: the socket is not of this namespace, or the kernel built without UNIX_DIAG
    position = _HEADER.size + _ANSWER_SIZE
    while position < len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, position)
        if kind == _QUEUE:
            return int(struct.unpack_from("=I", answer, position + _ATTRIBUTE.size)[0])
        position += max(length + 3 & ~3, _ATTRIBUTE.size)  # aligned
    return None
