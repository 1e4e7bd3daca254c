"""The file of the control socket: where it may be, how it gets there, and who takes it away again.

What an attacker with an account on the machine could do, and what stands against it:

- wait for the socket under a name that everybody can guess, /tmp/serverd-<uid>: the directory must be ours or
  root's, no symbolic link, and nobody else's to write to; one that is missing is made with mode 0700.
- connect in the moment between bind and chmod: the umask makes it 0600 from the first moment on.
- put another socket, or a link, in the place of ours: it cannot be renamed in such a directory, nor in a sticky
  one like /tmp; and both ends check who the other is (`peer`).

The socket is bound under a name of its own and renamed over the path when it listens. So the path never leads to
a socket that does not listen yet, and a supervisor that takes over (upgrade) replaces the one before it without a
moment in which there is none. From the look at what is there until then a lock, a file beside it, keeps out any other
server that begins at the same moment: the later rename would take the path from the earlier one, and nobody be told.
`server` calls it; errors are BindErrors for the operator.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from serverd.control.peer import is_trusted, peer_pid
from serverd.errors import BindError, reason_of

__all__ = ["SocketFile"]

# Commands that may wait in the queue while the supervisor is busy; as many as the server keeps.
BACKLOG = 32

_PRIVATE = 0o700  # of a directory that we make
_NOT_FOR_OTHERS = 0o177  # the umask that makes a socket 0600


class SocketFile:
    """A listening socket with its place in the file system; `open` makes one."""

    def __init__(self, path: str, directory: int, sock: socket.socket, identity: tuple[int, int] | None) -> None:
        self.path = path
        self.socket = sock
        self._directory = directory  # held open for its lock
        self._identity = identity

    @classmethod
    def open(cls, path: str, *, replace: bool = False) -> SocketFile:
        """Return a socket that listens at `path`; `replace` takes the path from a server that listens there.

        Raises BindError.
        """
        try:
            directory = _open_directory(os.path.dirname(path))
            try:
                with _alone(path):
                    _check_way(path, replace=replace)
                    return cls(path, directory, *_listen(path))
            except BaseException:
                os.close(directory)
                raise
        except (OSError, BindError) as error:
            raise BindError(f"cannot open the control socket {path}: {_reason(error)}") from error

    @staticmethod
    def examine(path: str) -> None:
        """Raise BindError when `open` would, as far as is seen without changing anything."""
        folder = os.path.dirname(path)
        try:
            try:
                os.close(_hold_directory(folder))
            except FileNotFoundError:
                folder = os.path.dirname(folder)  # `open` makes the one below
            if not os.path.isdir(folder):
                raise FileNotFoundError
            if not os.access(folder, os.W_OK | os.X_OK):
                raise BindError(f"nothing can be put into {folder}: permission denied")
            _check_way(path, replace=False)
        except (OSError, BindError) as error:
            raise BindError(f"cannot open the control socket {path}: {_reason(error)}") from error

    @property
    def is_ours(self) -> bool:
        """Whether the path still leads to this socket: nobody has removed or replaced it."""
        return self._identity is not None and self._identity == _identity(self.path)

    def close(self, *, keep: bool = False) -> None:
        """Take the file away, if it is still ours and not to be kept, and stop listening."""
        # In this order: as long as the socket listens, no other server takes the path.
        if self.is_ours and not keep:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.socket.close()
        os.close(self._directory)


def _open_directory(path: str) -> int:
    """Return a descriptor of the directory, which is safe to put a socket into; make it if only it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _PRIVATE)
    return _hold_directory(path)


def _hold_directory(path: str) -> int:
    """Return a descriptor of the directory, which is safe to put a socket into; raises OSError or BindError."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:  # Linux says so of a symbolic link, too
        raise BindError(f"{path} is not a directory (a symbolic link is not followed)") from None
    try:
        found = os.fstat(directory)
        if not is_trusted(found.st_uid):
            raise BindError(
                f"the directory {path} belongs to user {found.st_uid}, expected {os.geteuid()} "
                "(remove it, or set socket in [control] to another place)"
            )
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            raise BindError(f"others may write to the directory {path} (chmod go-w {path})")
        if not found.st_mode & 0o077:
            # systemd-tmpfiles cleans up in /tmp and would take the socket of a server that has been running for long;
            # it leaves alone what is in a locked directory (tmpfiles.d(5)). Shared: there may be more servers.
            with contextlib.suppress(OSError):
                fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(directory)
        raise
    return directory


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep whoever else would open a socket at `path` out meanwhile; raises OSError or BindError.

    The directory cannot be the lock: servers that run there share one on it.
    """
    name = f"{path}.lock"
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise BindError(f"{name} is in the way (expected nothing there, or a file of user {os.geteuid()})")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BindError(_taken(None, "is about to listen")) from None
        # Whoever had it removes it: what we hold then is a file that nobody else will find.
        if _identity(name) != (found.st_dev, found.st_ino):
            raise BindError(_taken(None, "is about to listen"))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)
    finally:
        os.close(lock)


def _check_way(path: str, *, replace: bool) -> None:
    """Raise BindError when what is at `path` is not ours to replace."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise BindError("a file that is not a socket is in the way")
    if found.st_uid != os.geteuid():
        raise BindError(f"a socket of user {found.st_uid} is in the way")
    if replace:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):  # left behind by a server that ended suddenly
            return
        except BlockingIOError:  # its queue is full: somebody does listen
            raise BindError(_taken(None)) from None
        raise BindError(_taken(peer_pid(sock)))


def _taken(pid: int | None, what: str = "listens") -> str:
    who = f" (pid {pid})" if pid else ""
    # By default the path is that of the configuration file.
    return (
        f"another server{who} {what} on it, which serves the same configuration unless both name the socket (stop "
        "that one, or set socket in [control] to another place)"
    )


def _listen(path: str) -> tuple[socket.socket, tuple[int, int] | None]:
    """Return a socket that listens at `path`, whatever was there before, and the identity of its file."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with _bound(sock, os.path.dirname(path)) as name:
            sock.listen(BACKLOG)
            identity = _identity(name)
            os.rename(name, path)
    except BaseException:
        sock.close()
        raise
    return sock, identity


@contextmanager
def _bound(sock: socket.socket, directory: str) -> Iterator[str]:
    """Bind the socket to a name nobody else knows, short because a path may have some 100 bytes (unix(7))."""
    name = os.path.join(directory, f".{os.urandom(3).hex()}")
    before = os.umask(_NOT_FOR_OTHERS)
    try:
        sock.bind(name)
    finally:
        os.umask(before)
    try:
        yield name
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at `path` from another of the same name; None when there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the directory above its directory must exist"
    if isinstance(error, OSError) and not error.errno:  # Python's own check, before the kernel's
        return "the path is too long for a unix socket (set socket in [control] to a shorter one)"
    return reason_of(error)
