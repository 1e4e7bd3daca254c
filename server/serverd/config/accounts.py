"""Users and groups of this machine: from what the operator wrote to numbers.

Only looks up; who may become whom is decided in `process`. Called by `listeners` and `process`.
"""

from __future__ import annotations

import grp
import os
import pwd

__all__ = ["find_group", "find_user", "groups_of", "primary_group"]


def find_user(account: int | str) -> int | None:
    """Return the number of a user; None when no user of this machine has the name."""
    if isinstance(account, int):
        return account
    try:
        return pwd.getpwnam(account).pw_uid
    except (KeyError, UnicodeError):
        return None


def find_group(account: int | str) -> int | None:
    """Return the number of a group; None when no group of this machine has the name."""
    if isinstance(account, int):
        return account
    try:
        return grp.getgrnam(account).gr_gid
    except (KeyError, UnicodeError):
        return None


def primary_group(uid: int) -> int | None:
    """Return the number of a user's own group; None when the user has no account."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


def groups_of(uid: int, gid: int) -> tuple[int, ...]:
    """Return the groups that a user belongs to, with `gid`, ascending; a user without account is in that one only."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return (gid,)
    return tuple(sorted(set(os.getgrouplist(name, gid))))
