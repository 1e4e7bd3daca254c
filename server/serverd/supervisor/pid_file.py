"""The pid file: where other programs find the number of the supervisor.

serverd itself never reads it in order to signal anybody: a number in a file says nothing about who
has it today, and commands go through the control socket. `supervisor` calls it.

Who can put a number there can have somebody's script signal any process. So the directory must
belong to root or to us, and nobody else may replace what is in it; everything happens relative to
the directory that was looked at, and the file appears whole, by renaming.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from serverd.errors import BindError, reason_of

__all__ = ["PidFile"]

# Everybody may read whom to look at; nobody else may write.
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
# Bytes that are read to see whether the file is ours: more digits than any pid has.
_PID_SIZE = 32


class PidFile:
    """The file at `path`, an absolute path in a directory that nobody else can write to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory, self._name = os.path.split(path)
        self._content = b""  # what we have written; b"": nothing

    def write(self) -> None:
        """Put our pid into the file, in the place of whatever it was before, and create its directory if need be.

        In an upgrade the new supervisor calls it before the old one removes its own. Raises BindError
        when the directory or the file is not possible.
        """
        content = b"%d\n" % os.getpid()
        try:
            with self._opened(create=True) as directory:
                self._replace(directory, content)
        except FileNotFoundError as error:
            above = os.path.dirname(self._directory)
            raise self._refusal(f"there is no directory {above} ({self._directory} would be made in it)") from error
        except OSError as error:
            raise self._refusal(reason_of(error)) from error
        self._content = content

    def examine(self) -> None:
        """Raise BindError when `write` would, as far as is seen without changing anything."""
        try:
            with self._opened(create=False):
                place = self._directory
        except FileNotFoundError:
            place = os.path.dirname(self._directory)
            if not os.path.isdir(place):
                reason = f"there is no directory {place} ({self._directory} would be made in it)"
                raise self._refusal(reason) from None
        except OSError as error:
            raise self._refusal(reason_of(error)) from error
        if not os.access(place, os.W_OK | os.X_OK):
            raise self._refusal(f"nothing can be put into {place}: permission denied")

    def remove(self) -> None:
        """Remove the file if it still holds what `write` put there; not that of a successor."""
        if not self._content:
            return
        with contextlib.suppress(OSError, BindError), self._opened(create=False) as directory:
            # O_NONBLOCK: somebody may have put a fifo in its place, which would never open.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._name, flags, dir_fd=directory)
            try:
                found = os.read(descriptor, _PID_SIZE)
            finally:
                os.close(descriptor)
            if found == self._content:
                os.unlink(self._name, dir_fd=directory)
        self._content = b""

    @contextlib.contextmanager
    def _opened(self, *, create: bool) -> Iterator[int]:
        """Open the directory for as long as the context lasts; raises OSError or BindError."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            directory = os.open(self._directory, flags)
        except FileNotFoundError:
            if not create:
                raise
            self._make_directory()
            directory = os.open(self._directory, flags)
        try:
            self._check(os.fstat(directory))
            yield directory
        finally:
            os.close(directory)

    def _make_directory(self) -> None:
        """Make the directory, with its mode from the first moment on, whatever the umask; raises OSError."""
        # The supervisor is single-threaded, so a changed umask harms nobody. A chmod afterwards could meet another
        # directory, put there by somebody who may write to the one above.
        before = os.umask(0o777 & ~_DIRECTORY_MODE)
        try:
            with contextlib.suppress(FileExistsError):  # another server may be as far as we are
                os.mkdir(self._directory, _DIRECTORY_MODE)
        finally:
            os.umask(before)

    def _check(self, directory: os.stat_result) -> None:
        """Refuse a directory in which somebody else could put another file in the place of ours."""
        if directory.st_uid not in {0, os.geteuid()}:
            raise self._refusal(f"{self._directory} belongs to user {directory.st_uid}, expected root or us")
        if directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(directory.st_mode)
            raise self._refusal(
                f"{self._directory} can be written by others (mode {mode:04o}), who could put another number there; "
                "name a directory of its own"
            )

    def _replace(self, directory: int, content: bytes) -> None:
        """Put a file with `content` in place, whole from the first moment; raises OSError."""
        temporary = f".{self._name}.{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, _FILE_MODE, dir_fd=directory)
        try:
            try:
                os.fchmod(descriptor, _FILE_MODE)  # whatever the umask
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
            os.rename(temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise

    def _refusal(self, reason: str) -> BindError:
        return BindError(f"cannot write the pid file {self.path}: {reason}")
