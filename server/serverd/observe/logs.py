"""How serverd's log lines look, and how they reach standard error or a file.

One line per event, written with one system call, so that lines of several processes never mix
(POSIX promises that for pipes up to PIPE_BUF; longer ones are best effort). Control characters in
what is logged are escaped, so that nobody can forge a line. This is not the access log, and decides
nothing about what is logged. The supervisor and every worker call `configure` once per generation.

A log file is the supervisor's to open and reopen; a worker finds it as its standard error, where an
application's own prints go, too, and needs no right to open it.

A record may carry a report of several lines: `logger.error(..., extra={"detail": text})`. It is
shown like a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import select
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from serverd.errors import OperatorError, reason_of
from serverd.generation import Logging

__all__ = ["LogFile", "Stream", "configure", "escape", "keep"]

# C0, DEL and C1 controls; line and paragraph separators, which JSON and some terminals take for line
# ends; the characters with the property Bidi_Control (Unicode, PropList.txt), which make a line read differently
# than it is: marks, embeddings, overrides and isolates; lone surrogates, which cannot be encoded.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_RESET = "\x1b[0m"

# Above all loggers of ours.
_OWN = "serverd"

# The attribute of a record that holds the id of its request.
_REQUEST_ID = "request_id"

# Milliseconds that a full pipe is waited for before lines are given up: a log reader that hangs must not
# stop the server.
_WRITE_PATIENCE = 1000.0

# Of a new log file, less the umask: what requests hold is not everybody's; Debian's logs are adm's to read.
_FILE_MODE = 0o640
_WITHOUT = "(without a file: standard error; of the access log, standard output)"
_NO_FILE = f"it is no plain file, expected one {_WITHOUT}"


class Stream(Protocol):
    """Where log lines go: all that is needed of sys.stderr."""

    def fileno(self) -> int:
        """Return the descriptor that is written to."""

    def isatty(self) -> bool:
        """Return whether a person looks at it."""


class LogFile:
    """A log file, as a stream for `configure` whose descriptor keeps its number for good."""

    def __init__(self, path: str) -> None:
        """Open the file at `path`, and create it if there is none.

        Raises OperatorError when it cannot be opened or is no plain file.
        """
        self.path = path
        self._descriptor, _ = _open_file(path)

    @staticmethod
    def examine(path: str) -> None:
        """Raise OperatorError when the file could not be opened, as far as is seen without creating it."""
        try:
            descriptor, _ = _open_file(path, create=False)
        except FileNotFoundError:
            folder = os.path.dirname(path)
            if not os.path.isdir(folder):
                raise OperatorError(f"cannot open the log file {path}: its directory must exist") from None
            if not os.access(folder, os.W_OK | os.X_OK):
                raise OperatorError(f"cannot open the log file {path}: no file can be made in its directory") from None
        else:
            os.close(descriptor)

    def fileno(self) -> int:
        """Return the descriptor that is written to; a worker inherits it as its standard error."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return that no person looks at it."""
        return False

    def reopen(self) -> None:
        """Open the path again, where logrotate has moved the file away; a new file is given the access of the old.

        The descriptor keeps its number, but copies of it, such as a worker's standard error, keep the
        old file. Raises OperatorError, and goes on with the old file, when the path cannot be opened.
        """
        descriptor, is_new = _open_file(self.path)
        try:
            if is_new:
                before = os.fstat(self._descriptor)
                # Only root may give a file away, and only to whom its namespace knows (EINVAL); some file systems know
                # of no owners at all.
                with contextlib.suppress(OSError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                with contextlib.suppress(OSError):
                    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file; `configure` has to have been called with another stream before."""
        os.close(self._descriptor)


def _open_file(path: str, *, create: bool = True) -> tuple[int, bool]:
    """Return a descriptor that appends to the file at `path`, and whether the file is new.

    No link is followed at the end of the path: in a directory that a worker's user can write to, root
    would else be made to write, and to give away, any file of the machine (CVE-2016-1247).
    Raises OperatorError with the sentence for the operator, and FileNotFoundError unless it is to `create` the file.
    """
    # O_NONBLOCK: a fifo would keep us waiting for its reader, instead of being refused.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            descriptor, is_new = os.open(path, flags), False
        except FileNotFoundError:
            if not create:
                raise
            descriptor, is_new = os.open(path, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE), True
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not create:
            raise
        raise OperatorError(f"cannot open the log file {path}: {_reason(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OperatorError(f"cannot open the log file {path}: {_NO_FILE}")
    os.set_blocking(descriptor, True)
    return descriptor, is_new


def _reason(error: OSError) -> str:
    # What O_NOFOLLOW makes of a link (FreeBSD says EMLINK), and the others of what is no file but there.
    if error.errno in {errno.ELOOP, errno.EMLINK}:
        return f"it is a symbolic link, expected the file that it leads to {_WITHOUT}"
    if error.errno in {errno.EISDIR, errno.ENXIO}:
        return _NO_FILE
    if error.errno == errno.ENOENT:
        return "its directory must exist"
    return reason_of(error)


def configure(settings: Logging, stream: Stream, request_id: Callable[[], str] = str) -> None:
    """Make the root logger write to `stream` as `settings` say; other handlers and loggers stay as they are.

    `request_id` returns the id of the request for which something is logged, "" for none. Warnings of Python's are
    logged, too.
    """
    handler = _make_handler(settings, stream, request_id)
    logging.captureWarnings(True)
    root, own = logging.getLogger(), logging.getLogger(_OWN)
    target = own if any(isinstance(old, _Handler) for old in own.handlers) else root  # as `keep` has left it
    for logger in (root, own):
        for old in logger.handlers[:]:
            if isinstance(old, _Handler):
                logger.removeHandler(old)
    target.addHandler(handler)
    for logger in (target, own):  # ours has a level of its own since `keep`, which that of the root would not change
        logger.setLevel(settings.level.upper())


def keep(settings: Logging, stream: Stream, request_id: Callable[[], str] = str) -> None:
    """See that our own lines are written, whatever applications have done to logging; arguments as for `configure`.

    `dictConfig` disables every logger that it does not name, and takes the handlers off the root logger. What they have
    made of the root logger stays: then our lines have a handler of their own.
    """
    own = logging.getLogger(_OWN)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and f"{name}.".startswith(f"{_OWN}."):
            logger.disabled = False
    own.setLevel(settings.level.upper())
    if not any(isinstance(handler, _Handler) for handler in (*logging.root.handlers, *own.handlers)):
        own.addHandler(_make_handler(settings, stream, request_id))
        own.propagate = False


def _make_handler(settings: Logging, stream: Stream, request_id: Callable[[], str]) -> _Handler:
    handler = _Handler(stream.fileno(), request_id)
    handler.setFormatter(_formatter(settings.format, stream.isatty()))
    return handler


def escape(text: str) -> str:
    """Return `text` as one line that cannot pass for anything else."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # of a name that is no text, a byte as os.fsdecode has it
        code -= 0xDC00
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _formatter(name: str, is_terminal: bool) -> logging.Formatter:
    if name == "auto":
        is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return _Text(coloured=not is_plain) if is_terminal else _Json()
    return _Text(coloured=False) if name == "text" else _Json()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _marks(record: logging.LogRecord) -> dict[str, str]:
    """Return what ties the record to others: its request, and the trace that this is a part of."""
    marks = {name: getattr(record, name, "") for name in (_REQUEST_ID, "trace_id")}
    return {name: escape(str(value)) for name, value in marks.items() if value}


def _explanation(record: logging.LogRecord, formatter: logging.Formatter) -> list[str]:
    """Return the escaped lines of the record's detail, traceback and stack."""
    parts = [str(getattr(record, "detail", ""))]
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    lines = "\n".join(part for part in parts if part).rstrip("\n").split("\n")
    return [escape(line) for line in lines] if lines != [""] else []


class _Text(logging.Formatter):
    """Lines for people."""

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        shown = f"{level:<8}"
        if self._coloured and level in _COLOURS:
            shown = f"{_COLOURS[level]}{shown}{_RESET}"
        line = f"{_time(record)} {shown} {escape(record.name)}: {escape(record.getMessage())}"
        line += "".join(f" [{name} {value}]" for name, value in _marks(record).items())
        return "\n    ".join([line, *_explanation(record, self)])


class _Json(logging.Formatter):
    """Lines for programs: one object each."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": escape(record.name),
            "pid": record.process,
            "message": escape(record.getMessage()),
        }
        line |= _marks(record)
        explanation = _explanation(record, self)
        if explanation:
            line["exception"] = "\n".join(explanation)
        return json.dumps(line, ensure_ascii=False)


def _is_shown(record: logging.LogRecord, descriptor: int) -> bool:
    """Return whether a logger below the root has written the record already, in its words, to where `descriptor` leads.

    Django with DEBUG, Sanic and others have such handlers, made for servers that leave the root logger as it is: each
    of their lines would be there twice.
    """
    logger = logging.root.manager.loggerDict.get(record.name)
    while isinstance(logger, logging.Logger) and logger is not logging.root:
        for handler in logger.handlers:
            if record.levelno >= handler.level and _leads_to(descriptor, handler) and handler.filter(record):
                return True
        logger = logger.parent
    return False


def _leads_to(descriptor: int, handler: logging.Handler) -> bool:
    """Return whether a handler writes to the file, terminal or pipe of `descriptor`, or beside it.

    Standard output is that where both are pipes: whoever runs containers shows the two together. Otherwise it may lead
    to another file, or to none, and our lines would lack what it has.
    """
    stream = getattr(handler, "stream", None)
    try:
        ours, theirs = os.fstat(descriptor), os.fstat(stream.fileno())  # type: ignore[union-attr]
    except (AttributeError, OSError, TypeError, ValueError):
        return False  # it is no file
    both_pipes = stat.S_ISFIFO(ours.st_mode) and stat.S_ISFIFO(theirs.st_mode)
    return os.path.samestat(ours, theirs) or (both_pipes and stream is sys.stdout)


class _Handler(logging.Handler):
    """Writes each record with one system call, past Python's buffers."""

    def __init__(self, descriptor: int, request_id: Callable[[], str]) -> None:
        super().__init__()
        self._request_id = request_id
        self._descriptor = descriptor
        self._is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._patience = _WRITE_PATIENCE

    def emit(self, record: logging.LogRecord) -> None:
        if _is_shown(record, self._descriptor):
            return
        try:
            if not hasattr(record, _REQUEST_ID):
                setattr(record, _REQUEST_ID, self._request_id())
            data = (self.format(record) + "\n").encode(errors="backslashreplace")
        except Exception:
            # A caller's mistake, such as a wrong number of arguments: logging says where it is.
            self.handleError(record)
            return
        with contextlib.suppress(OSError):  # nobody reads any more: there is nowhere to say so
            self._write(data)

    def _write(self, data: bytes) -> None:
        writable = select.poll()
        writable.register(self._descriptor, select.POLLOUT)
        # A pipe that polls as writable takes PIPE_BUF bytes without blocking, and may not take more.
        most = select.PIPE_BUF if self._is_pipe else len(data)
        while data:
            if not writable.poll(self._patience):
                self._patience = 0.0  # what follows is lost, too, but at once, until it is read again
                return
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._descriptor, data[:most]) :]
        self._patience = _WRITE_PATIENCE
