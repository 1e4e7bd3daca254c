"""Whole lines to a descriptor, in batches, without ever waiting for who reads them.

For lines that are many and of which one may be lost, such as those of an access log; what must not be lost is `logs`'.
Lines of several processes never mix: a file is appended to by one system call for each batch, everything else gets
whole lines of at most PIPE_BUF bytes at a time, which POSIX keeps together for pipes. What is longer is best effort.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import time
from collections.abc import Callable

from serverd.errors import reason_of

__all__ = ["LineWriter", "open_unblocking"]

log = logging.getLogger("serverd.access")

# Characters after which lines are written at once, instead of when the batch is due.
BATCH_SIZE = 64 * 1024
# Bytes that wait for a reader who does not read; more is lost, and counted.
PATIENCE_SIZE = 1024 * 1024
# Seconds that a reader has for what is left at the very end.
LAST_PATIENCE = 1.0

_NOWHERE = -1


def open_unblocking(descriptor: int) -> int:
    """Return another descriptor of the same pipe or terminal that never blocks, and a plain duplicate of all else.

    Writers that share a blocking pipe cannot know whether it still has room when they write, and it cannot be made a
    non-blocking one: that is a property of what others have, too. Whoever may not open it anew (proc(5)) gets the
    duplicate.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.dup(descriptor)


class LineWriter:
    """The lines of one process on their way to one descriptor."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object], descriptor: int = _NOWHERE) -> None:
        """Write to `descriptor`, -1: keep what comes until `reopen`; `schedule` calls a function a moment later."""
        self._schedule = schedule
        self._texts: list[str] = []  # each of whole lines
        self._size = 0  # characters in them
        self._unwritten: list[bytes] = []  # pieces, each of whole lines, that the reader has not taken
        self._lost = 0  # lines, since the last time that something could be written
        self._reasons: dict[str, None] = {}  # why, in the order in which that happened
        self._is_torn = False  # of the last line that was written the end is missing
        self._is_due = False  # `flush` is scheduled
        self._descriptor = _NOWHERE
        self._piece = 0  # bytes that go in one piece; 0: as many as there are
        if descriptor != _NOWHERE:
            self.reopen(descriptor)

    def write(self, text: str) -> None:
        """Write lines, each of which ends in a newline, soon."""
        self._texts.append(text)
        self._size += len(text)
        if self._size >= BATCH_SIZE:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._schedule(self._on_due)

    def reopen(self, descriptor: int) -> None:
        """Take this descriptor, which is ours to close, in the place of the one before."""
        self.flush()
        self._close()
        self._descriptor = descriptor
        self._piece = 0 if stat.S_ISREG(os.fstat(descriptor).st_mode) else select.PIPE_BUF

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return self._descriptor != _NOWHERE and os.isatty(self._descriptor)

    def close(self) -> None:
        """Write what is left, for which the reader has a moment, and close."""
        self.flush(LAST_PATIENCE)
        self._close()

    def _close(self) -> None:
        if self._descriptor != _NOWHERE:
            with contextlib.suppress(OSError):  # an application has closed it
                os.close(self._descriptor)
            self._descriptor = _NOWHERE

    def _on_due(self) -> None:
        self._is_due = False
        self.flush()
        if self._unwritten and not self._is_due:
            self._is_due = True
            self._schedule(self._on_due)

    def flush(self, patience: float = 0.0) -> None:
        """Write what there is, as far as it is taken; `patience` are seconds for the reader, in all."""
        self._gather()
        if self._descriptor == _NOWHERE or not self._unwritten:
            return
        writable = select.poll()
        writable.register(self._descriptor, select.POLLOUT)
        done = 0
        end = time.monotonic() + patience
        try:
            for piece in self._unwritten:
                if not writable.poll(max(0.0, end - time.monotonic()) * 1000):
                    break
                written = os.write(self._descriptor, piece)
                self._is_torn = piece[written - 1 : written] != b"\n"
                if written < len(piece):
                    self._unwritten[done] = piece[written:]
                    break
                done += 1
        except BlockingIOError:
            pass  # others were quicker; the pipe takes the rest later
        except OSError as error:
            self._lose(reason_of(error))
            return
        del self._unwritten[:done]
        if done and self._lost:
            log.warning("%d lines of the access log were lost: %s", self._lost, ", then ".join(self._reasons))
            self._lost = 0
            self._reasons.clear()

    def _gather(self) -> None:
        """Make pieces of the lines that have come."""
        if not self._texts:
            return
        text, self._texts, self._size = "".join(self._texts), [], 0
        if sum(map(len, self._unwritten)) > PATIENCE_SIZE:
            self._lost += text.count("\n")
            self._reasons["nobody read them"] = None
            return
        if self._is_torn and not self._unwritten:  # the end has been lost
            text = f"\n{text}"
        data = text.encode(errors="backslashreplace")
        size = self._piece or len(data)
        begin = 0
        while begin < len(data):
            end = begin + size
            if end < len(data):  # behind the last line that is whole
                end = data.rfind(b"\n", begin, end) + 1 or end
            self._unwritten.append(data[begin:end])
            begin = end

    def _lose(self, reason: str) -> None:
        """Give up what could not be written: the disk is full, or the reader has gone."""
        if reason not in self._reasons:
            log.error("the access log cannot be written: %s", reason)
            self._reasons[reason] = None
        self._lost += sum(piece.lstrip(b"\n").count(b"\n") for piece in self._unwritten)
        self._unwritten.clear()
