"""Where the control socket of a server is, from the path of its configuration file alone.

Server and command line come to the same path by themselves, so that `serverd -c FILE status` finds the server of
FILE. Nothing is created, bound or connected to here, and pydantic is not needed: a command answers at once. Called by
`process` and by the command line.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping

from serverd.config.addresses import UNIX_PATH_BYTES
from serverd.config.document import Document, Unreadable
from serverd.config.files import read_text
from serverd.config.values import parse_file_path

__all__ = ["configured_socket", "socket_path"]

STEM_CHARACTERS = 24  # enough to tell files apart by eye; the digest is what does it
DIGEST_CHARACTERS = 12  # 48 bits: no two files of a machine meet by chance

_KEY = ("control", "socket")
_UNPLEASANT = re.compile(r"[^A-Za-z0-9_.-]")


def socket_path(config_file: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the absolute path of the control socket that a server of `config_file` has by default.

    It is in /run/serverd for root, else in $XDG_RUNTIME_DIR/serverd where that is a directory of ours, else in
    /tmp/serverd-UID. `environ` is that of the server.
    """
    return next(_candidates(config_file, environ))


def configured_socket(config_file: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the absolute path of the control socket that a running server of `config_file` has.

    The file is read for `control.socket` only; one that is missing or wrong counts as one that does not have it, since
    the server may run on an earlier state of it. Of the paths by default it is the one where there is something: the
    server's environment, which has decided between them, may have been another one.
    """
    written = _written_socket(config_file, environ)
    if written is not None:
        return written
    candidates = list(_candidates(config_file, environ))
    return next(filter(os.path.lexists, candidates), candidates[0])


def _written_socket(config_file: str, environ: Mapping[str, str]) -> str | None:
    """Return the path that the file has as `control.socket`, resolved; None when it has none that is sound."""
    document = Document(os.path.abspath(config_file), config_file, 0)
    try:
        wrong = document.parse(read_text(document.path))
    except Unreadable:
        return None
    if wrong or _KEY in document.expand(environ):
        return None
    table = document.values.get("control")
    try:
        return document.resolve(parse_file_path(table.get("socket") if isinstance(table, dict) else None))
    except ValueError:
        return None


def _candidates(config_file: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths by default, the preferred one first."""
    path = os.path.abspath(config_file)
    stem = _UNPLEASANT.sub("_", os.path.splitext(os.path.basename(path))[0][:STEM_CHARACTERS])
    name = f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:DIGEST_CHARACTERS]}.sock"
    uid = os.geteuid()
    if uid == 0:
        yield f"{'/run' if os.path.isdir('/run') else '/var/run'}/serverd/{name}"
        return
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    preferred = f"{runtime.rstrip('/')}/serverd/{name}"
    if _is_own_directory(runtime, uid) and len(os.fsencode(preferred)) <= UNIX_PATH_BYTES:
        yield preferred
    # Not TMPDIR, which differs from shell to shell. That nobody else has made the folder is checked by whoever uses it.
    yield f"/tmp/serverd-{uid}/{name}"  # noqa: S108


def _is_own_directory(path: str, uid: int) -> bool:
    """Return whether `path` is an absolute one of a directory that belongs to `uid`."""
    try:
        return os.path.isabs(path) and os.path.isdir(path) and os.stat(path).st_uid == uid
    except (OSError, ValueError):
        return False
