"""Signals as something to wait for: handlers only record, a descriptor wakes the loop.

What a signal means is decided in `policy`. `supervisor` opens it around its loop.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

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
    """A context in which signals are recorded; `descriptor` is readable when there are some."""

    def __init__(self) -> None:
        self.descriptor, self._wake = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._wake, False)
        self._received: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}
        self._wake_before = -1
        self._mask_before: set[int] | None = None

    def __enter__(self) -> SignalInbox:
        # A full pipe has woken the loop already: no warning is due.
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in HANDLED:
            self._before[number] = signal.signal(number, self._record)
        if os.isatty(_STDERR):
            # With `stty tostop`, a write from the background brings SIGTTOU, and one that is handled
            # makes Python write again, for ever. Blocked, it lets the write pass; the workers inherit that.
            self._mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        return self

    def __exit__(self, *_: object) -> None:
        if self._mask_before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wake_before)
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
