"""Who is at the other end of a unix socket, by the kernel's word.

The modes of the socket file and its directory keep others away already; this holds when somebody has
loosened them, or has put a socket of theirs in the place of ours. `server` and `client` ask it.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any

__all__ = ["ROOT", "is_trusted", "peer_pid", "peer_uid"]

ROOT = 0

# struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("iII")


def peer_uid(sock: socket.socket) -> int | None:
    """Return the effective user of the other end when it connected, or listened; None where no one can tell.

    Raises OSError when the connection is gone.
    """
    if sys.platform == "linux":
        return _credentials(sock)[1]
    import ctypes  # not at the top: it is memory, and Linux does without

    return _getpeereid(sock, ctypes.CDLL(None, use_errno=True))


def peer_pid(sock: socket.socket) -> int | None:
    """Return the process that connected, or listened; None where no one can tell, or it is not ours to see.

    Raises OSError when the connection is gone.
    """
    if sys.platform == "linux":
        return _credentials(sock)[0] or None
    return None


def is_trusted(uid: int | None) -> bool:
    """Return whether the user may steer us, or be believed by us: the one we are, and root.

    None, where no one can tell, is trusted: the modes of the file and its directory have to do.
    """
    return uid is None or uid in {os.geteuid(), ROOT}


def _credentials(sock: socket.socket) -> tuple[int, int]:
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def _getpeereid(sock: socket.socket, library: Any) -> int | None:
    """Ask the C library of the BSDs and of macOS, getpeereid(3)."""
    import ctypes

    if not hasattr(library, "getpeereid"):
        return None
    # uid_t and gid_t are 32 bits, unsigned, wherever there is a getpeereid.
    uid, gid = ctypes.c_uint32(), ctypes.c_uint32()
    if library.getpeereid(sock.fileno(), ctypes.byref(uid), ctypes.byref(gid)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return uid.value
