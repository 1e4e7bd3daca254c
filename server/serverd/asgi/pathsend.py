"""Opening the file that an application wants sent with `http.response.pathsend` (ASGI extensions).

Opening may block for a moment, as it does in every server with sendfile; it never waits for a writer.
"""

from __future__ import annotations

import os
import stat
from io import FileIO

from serverd.errors import ResponseError

__all__ = ["open_regular"]


def open_regular(path: str) -> FileIO:
    """Return the regular file at the absolute `path`, open for reading.

    Raises ResponseError, and OSError as open() does.
    """
    if not os.path.isabs(path):
        raise ResponseError(f"pathsend of {path!r}: expected an absolute path")
    file = FileIO(path, opener=_open_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ResponseError(f"pathsend of {path!r}: not a regular file")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    # A FIFO in the place of the file would stop the worker until somebody writes to it.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
