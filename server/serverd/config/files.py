"""Reading one file of the configuration: whole, bounded, and without ever waiting for what it may bring.

The only module that opens configuration files. What they hold is for `document`. Called by `load`, and by
`control`, which must do without the models.
"""

from __future__ import annotations

import os
import stat

from serverd.config.document import Unreadable

__all__ = ["LARGEST_FILE", "read_text"]

LARGEST_FILE = 1024 * 1024  # bytes; a hundred times the longest sensible file, and no log by mistake


def read_text(path: str) -> str:
    """Return the text of the regular file at `path`.

    Raises Unreadable with a predicate.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("is a directory (expected a file)")
        if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever, and could not be read again on reload
            raise Unreadable("is not a regular file")
        with open(path, "rb", opener=_open_without_waiting) as file:
            content = file.read(LARGEST_FILE + 1) or b""  # the size that stat has is 0 for what the kernel makes up
        if len(content) > LARGEST_FILE:
            raise Unreadable(f"is larger than {LARGEST_FILE} bytes")
    except FileNotFoundError:
        raise Unreadable("does not exist") from None
    except ValueError:
        raise Unreadable("is not a path that this machine can take") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(f"is not UTF-8: line {line} holds byte 0x{content[error.start]:02x}") from None


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file that only looks regular, as some do in /proc and /sys, without waiting for what it may bring."""
    return os.open(path, flags | os.O_NONBLOCK)
