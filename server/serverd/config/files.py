"""Reading one file of the configuration: whole, bounded, and without ever waiting for what it may bring.

The only module that opens configuration files. What they hold is for `document`. Called by `load`, and by
`control`, which must do without the models.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import PurePath

from serverd.config.document import Unreadable
from serverd.errors import reason_of
from serverd.generation import Account

__all__ = ["LARGEST_FILE", "read_pem", "read_text"]

LARGEST_FILE = 1024 * 1024  # bytes; a hundred times the longest sensible file, and no log by mistake
MOST_LINKS = 40  # on one path: what Linux follows (MAXSYMLINKS)


def read_text(path: str, reader: int | None = None, account: Account | None = None) -> str:
    """Return the text of the regular file at `path`.

    `reader`: the user, another than ours, who is told what the file holds, and only root may choose which file that
    is. `account`: who is told as well, and must not choose it; others may. Raises Unreadable with a predicate.
    """
    content = _read(path, reader, account)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16 (expected UTF-8: save it with that encoding)")
    if b"\0" in content:  # which would pass for UTF-8, and is nothing that a configuration may hold
        raise Unreadable("is UTF-16, or no text at all (expected UTF-8: save it with that encoding)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(f"is not UTF-8: line {line} holds byte 0x{content[error.start]:02x}") from None


def read_pem(path: str, account: Account | None = None) -> str:
    """Return the text of a file of which counts what is PEM, and that is ASCII (RFC 7468 §3).

    Beside it may be names and remarks in whatever encoding. `account` and Unreadable are as in `read_text`.
    """
    return _read(path, None, account).decode("ascii", "replace")


def _read(path: str, reader: int | None, account: Account | None) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("is a directory (expected a file)")
        if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever, and could not be read again on reload
            raise Unreadable("is not a regular file")
        with open(path, "rb", opener=_open_without_waiting) as file:
            if reader is not None:
                _refuse_foreign(path, os.fstat(file.fileno()), reader)
            if account is not None and account.uid not in (None, os.geteuid()):
                _refuse_chosen(path, os.fstat(file.fileno()), account)
            content = file.read(LARGEST_FILE + 1) or b""  # the size that stat has is 0 for what the kernel makes up
        if len(content) > LARGEST_FILE:
            raise Unreadable(f"is larger than {LARGEST_FILE} bytes")
    except FileNotFoundError:
        raise Unreadable("does not exist") from None
    except ValueError:
        raise Unreadable("is not a path that this machine can take") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {reason_of(error)}") from None
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file that only looks regular, as some do in /proc and /sys, without waiting for what it may bring."""
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_foreign(path: str, opened: os.stat_result, reader: int) -> None:
    """Raise Unreadable unless the file is the reader's own, or nobody but root and us can put another in its place."""
    if opened.st_uid == reader:
        return  # also behind a link: what is theirs tells them nothing new
    place = _replaceable(os.path.abspath(path), opened, frozenset({0, os.geteuid()}))
    if place:
        raise Unreadable(
            f"could be replaced by another file: {place} is a symbolic link, or others than root can change it"
            " (expected a file of the user that `user` names, or a path without links that only root can change)"
        )


def _replaceable(path: str, opened: os.stat_result, trusted: frozenset[int]) -> str:
    """Return the first place on an absolute path that somebody who is not `trusted` decides about; "" when none.

    From the top down, so that what was found safe stays what the next name is looked up in.
    """
    parents = [str(parent) for parent in reversed(PurePath(path).parents)]
    for parent in parents:
        found = os.lstat(parent)
        open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # In a sticky directory nobody can rename what is root's; but links to root's files can be made in it.
        kept = found.st_mode & stat.S_ISVTX and parent != parents[-1]
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in trusted or (open_to_others and not kept):
            return parent
    found = os.lstat(path)
    same = (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
    return "" if same and found.st_uid in trusted else path


def _refuse_chosen(path: str, opened: os.stat_result, account: Account) -> None:
    """Raise Unreadable when the file is not the account's own, and yet the account can put another in its place."""
    place = "" if opened.st_uid == account.uid else _chosen(os.path.abspath(path), account)
    if place:
        raise Unreadable(
            f"could be replaced by another file: the user of the workers can change {place}"
            " (expected a path that only others can change)"
        )


def _chosen(path: str, account: Account) -> str:
    """Return the first place on the way along an absolute path, through all its links, that `account` decides about.

    Unlike `_replaceable` it follows links: what certbot calls live/NAME/privkey.pem is one.
    """
    here = "/"
    waiting = list(reversed(PurePath(path).parts[1:]))
    links = 0
    while waiting:
        folder = os.lstat(here)
        name = waiting.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        place = os.path.join(here, name)
        found = os.lstat(place)
        # In a sticky directory nobody can rename what is another's; but links to others' files can be made in it.
        kept = folder.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode)
        if folder.st_uid == account.uid or (_can_write(folder, account) and not kept):
            return here
        if not stat.S_ISLNK(found.st_mode):
            here = place
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = PurePath(os.readlink(place))
        here = "/" if target.is_absolute() else here
        waiting.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return ""


def _can_write(folder: os.stat_result, account: Account) -> bool:
    groups = {account.gid, *account.groups}
    return bool(folder.st_mode & stat.S_IWOTH or (folder.st_mode & stat.S_IWGRP and folder.st_gid in groups))
