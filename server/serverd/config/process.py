"""The process-wide tables: from the models to the generation, and what is wrong with them beyond a single value.

Resolves accounts with the user database and paths against the file; creates and opens nothing. Called by `load`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from serverd.config.accounts import find_group, find_user, groups_of, primary_group
from serverd.config.addresses import UNIX_PATH_BYTES
from serverd.config.control import socket_path
from serverd.config.cpus import usable_cpus
from serverd.config.document import Entry
from serverd.config.models import File
from serverd.config.report import Problem
from serverd.generation import AccessLog, Account, Logging, Recycle, Server

__all__ = ["resolve_access_log", "resolve_control", "resolve_logging", "resolve_server", "taken_files"]

WRITTEN_FILES = (("server", "pid_file"), ("logging", "file"), ("access_log", "file"), ("control", "socket"))

_UNCHANGED = Account()


def resolve_server(root: Entry[File], problems: list[Problem]) -> Server:
    """Return the process-wide settings of a generation; what is wrong with them is added to `problems`."""
    model = root.model.server
    problems += _contradictions(root)
    plain = model.model_dump(exclude={"user", "group", "recycle"})
    plain |= {
        "workers": usable_cpus() if model.workers == "auto" else model.workers,
        "request_id_header": model.request_id_header and model.request_id_header.lower(),
        "pid_file": _absolute(root, model.pid_file),
        "account": _account(root, problems),
        "recycle": Recycle(**model.recycle.model_dump()),
    }
    return Server(**plain)


def resolve_logging(root: Entry[File]) -> Logging:
    """Return how a generation logs."""
    model = root.model.logging
    return Logging(**{**model.model_dump(), "file": _absolute(root, model.file)})


def resolve_access_log(root: Entry[File]) -> AccessLog:
    """Return what a generation logs of each request."""
    model = root.model.access_log
    return AccessLog(**{**model.model_dump(), "file": _absolute(root, model.file)})


def resolve_control(root: Entry[File], environ: Mapping[str, str], problems: list[Problem]) -> str:
    """Return the path of the control socket; what is wrong with a written one is added to `problems`."""
    written = root.model.control.socket
    if written is None:
        return socket_path(root.document.path, environ)
    path = root.document.resolve(written)
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        where = ("control", "socket")
        problems.append(root.document.refusal(where, f"leads to a unix path of more than {UNIX_PATH_BYTES} bytes"))
    return path


def taken_files(root: Entry[File], taken: Mapping[str, str]) -> Iterable[Problem]:
    """Yield a problem for every file that is to be written, and is something else already.

    `taken` has absolute paths and what they are, for the operator.
    """
    known = dict(taken)
    for table, key in WRITTEN_FILES:
        written = getattr(getattr(root.model, table), key)
        if written and root.knows(table, key):
            other = known.setdefault(root.document.resolve(written), f"{table}.{key}")
            if other != f"{table}.{key}":
                yield root.document.refusal((table, key), f"is {other}, too (expected a file of its own)")


def _contradictions(root: Entry[File]) -> Iterable[Problem]:
    """Yield a problem for every setting that another one leaves without effect."""
    model, document = root.model.server, root.document
    both_known = root.knows("server", "hang_timeout") and root.knows("server", "lag_threshold")
    if both_known and 0 < model.hang_timeout <= model.lag_threshold:
        yield document.refusal(
            ("server", "lag_threshold"),
            "has no effect: a worker is killed after `hang_timeout` (expected less than that, or 0 for never)",
        )
    if model.recycle.jitter and not model.recycle.requests and root.knows("server", "recycle", "requests"):
        yield document.problem(("server", "recycle", "jitter"), "has no effect without `requests`")


def _absolute(root: Entry[File], path: str) -> str:
    return root.document.resolve(path) if path else ""


def _account(root: Entry[File], problems: list[Problem]) -> Account:
    """Return who the workers are; what cannot be is added to `problems`."""
    model = root.model.server
    uid = None if model.user is None else find_user(model.user)
    gid = None if model.group is None else find_group(model.group)
    before = len(problems)
    if model.user is not None and uid is None:
        problems.append(_refusal(root, "user", "is not a user of this machine"))
    if model.group is not None and gid is None:
        problems.append(_refusal(root, "group", "is not a group of this machine"))
    if len(problems) > before:
        return _UNCHANGED
    if os.geteuid() != 0:
        problems += _out_of_reach(root, uid, gid)
        return _UNCHANGED  # who the supervisor is, it is already, and may not even say so (setgroups(2))
    if uid is None:
        return Account(gid=gid)
    if gid is None:
        gid = primary_group(uid)
    if gid is None:
        if root.knows("server", "group"):
            problems.append(
                _refusal(root, "user", "has no account, which would tell the group (expected `group` beside it)")
            )
        return _UNCHANGED
    return Account(uid, gid, groups_of(uid, gid))


def _out_of_reach(root: Entry[File], uid: int | None, gid: int | None) -> Iterable[Problem]:
    """Yield a problem for every identity that a process which is not root cannot take on."""
    if uid not in (None, os.geteuid()):
        yield _refusal(root, "user", "is not who serverd runs as (only root can become somebody else)")
    if gid not in (None, os.getegid()):
        yield _refusal(root, "group", "is not the group that serverd runs as (only root can change it)")


def _refusal(root: Entry[File], key: str, predicate: str) -> Problem:
    return root.document.refusal(("server", key), predicate)
