"""Signals as something to wait for: handlers only record, a descriptor wakes the loop.

What a signal means is decided in `policy`. `supervisor` opens it around its loop.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["SignalInbox"]

# SIGPIPE is not among them: Python ignores it, and a write to a closed pipe raises an error instead.
HANDLED = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)

_STDERR = 2


class SignalInbox:
    """A context in which signals are recorded; `descriptor` is readable when there are some.

    Within it nothing is blocked, whatever the process has inherited, for us and the children we start. When it is
    left, the process is about to end, and ignores the signals: one that comes late must not become its exit code.
    """

    def __init__(self) -> None:
        self.descriptor, self._wake = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._wake, False)
        self._received: list[signal.Signals] = []

    def __enter__(self) -> SignalInbox:
        # A full pipe has woken the loop already: no warning is due.
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._record)
        # With `stty tostop`, a write from the background brings SIGTTOU, and one that is handled
        # makes Python write again, for ever. Blocked, it lets the write pass; the workers inherit that.
        blocked = {signal.SIGTTOU} if os.isatty(_STDERR) else set()
        # A mask is inherited through fork and exec: without this, who started us could make us deaf. After the
        # handlers, because what was sent meanwhile arrives now.
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self

    def __exit__(self, *_: object) -> None:
        for number in HANDLED:
            # Python resets handlers of its own when the interpreter ends, but leaves what is ignored.
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._wake)

    def take(self) -> list[signal.Signals]:
        """Return the signals that came since the last call, in order."""
        try:
            while os.read(self.descriptor, 512):
                pass
        except BlockingIOError:
            pass
        received, self._received = self._received, []
        return received

    def _record(self, number: int, _: FrameType | None) -> None:
        self._received.append(signal.Signals(number))
