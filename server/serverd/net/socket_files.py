"""The file that stands for a unix socket: which one it is, its owner and its mode, without following a name.

Whoever may write to the socket's directory can put a symbolic link, or another file, in its place at any moment; were
the link followed, root would open a file of somebody else to everybody. So the file is held first, looked at, and
changed through what is held. Called by `sockets` and `binding`, in the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator

from serverd.errors import BindError
from serverd.net.endpoints import Access

__all__ = ["Identity", "change_access", "new_identity", "unix_identity"]

Identity = tuple[int, int]  # device and inode: no other file has both while the socket is open

REPLACED = "its file was replaced by another one (expected a directory that only trusted users can write to)"


def unix_identity(path: str) -> Identity | None:
    """Return what tells the file at `path` from a later one of the same name; None when there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def new_identity(path: str) -> Identity:
    """Return the identity of the socket file that was bound at `path` just now.

    Raises OSError as the kernel says it, or BindError when what is there cannot be it.
    """
    found = os.lstat(path)
    # The file system user of a process that never changes it is the effective one, and bind makes the file its own.
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise BindError(REPLACED)
    return (found.st_dev, found.st_ino)


def change_access(path: str, access: Access, identity: Identity | None) -> None:
    """Give the unix socket at `path`, which must be the one of `identity`, its owner, then its mode.

    Raises OSError as the kernel says it, or BindError when another file has taken the place; it is not touched.
    """
    if access == Access():
        return
    with _held(path, identity) as (name, found):
        if access.uid is not None or access.gid is not None:
            owner = (-1 if access.uid is None else access.uid, -1 if access.gid is None else access.gid)
            os.chown(name, *owner, follow_symlinks=name != path)
        # Mostly bind made it so already; not where the directory has a default ACL, which stands above the umask.
        if access.mode is not None and access.mode != stat.S_IMODE(found.st_mode):
            _chmod(name, access.mode, follow=name != path)


@contextlib.contextmanager
def _held(path: str, identity: Identity | None) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a name that leads to the socket of `identity` whatever becomes of `path`, and what it is now.

    Other systems than Linux have no such name: there it is `path`, which must not be followed.
    """
    if sys.platform != "linux":
        yield path, _checked(os.lstat(path), identity)
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = _checked(os.fstat(fd), identity)
        name = f"/proc/self/fd/{fd}"  # leads to the open file itself (proc(5)); fchmod refuses O_PATH
        if not os.path.lexists(name):
            raise BindError("the access of its file cannot be set (expected /proc to be mounted)")
        yield name, found
    finally:
        os.close(fd)


def _checked(found: os.stat_result, identity: Identity | None) -> os.stat_result:
    if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != identity:
        raise BindError(REPLACED)
    return found


def _chmod(name: str, mode: int, *, follow: bool) -> None:
    if follow or os.chmod in os.supports_follow_symlinks:
        os.chmod(name, mode, follow_symlinks=follow)
    else:  # neither Linux nor a system with lchmod: `_held` has looked a moment ago, and more cannot be done
        os.chmod(name, mode)
