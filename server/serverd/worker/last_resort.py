"""What ends a worker that nobody else can: the GIL is held, so that no Python code runs, and the supervisor has died.

The supervisor comes first, then the thread of the `watchdog`; both are gone or cannot run when this is needed. It does
its work in the kernel and in faulthandler, both written in C. `process` arms it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import sys
import time

from serverd.generation import Server

__all__ = ["LastResort", "arm_end"]

_MARGIN = 2.0  # seconds: supervisor and watchdog come first
_STANDARD_ERROR = 2


class _Event(ctypes.Structure):
    """struct sigevent of Linux (sigevent(7)), 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Setting(ctypes.Structure):
    """struct itimerspec, where all of it are 64 bits."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("every", "every_ns", "seconds", "ns"))


class _Timer:
    """Sends a signal after so many seconds of the processor's that this thread has had; Linux on 64 bits."""

    def __init__(self, number: signal.Signals) -> None:
        """Raises OSError where there is none."""
        if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("not the structures that are known here")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._id = ctypes.c_void_p()
        clock = time.CLOCK_THREAD_CPUTIME_ID
        event = _Event(signo=number, notify=0)  # SIGEV_SIGNAL
        if not hasattr(self._libc, "timer_create") or self._libc.timer_create(
            clock, ctypes.byref(event), ctypes.byref(self._id)
        ):
            raise OSError(ctypes.get_errno(), "there is no timer")

    def set(self, seconds: float) -> None:
        """Begin anew; 0: never."""
        setting = _Setting(0, 0, int(seconds), int(seconds % 1 * 1e9))
        self._libc.timer_settime(self._id, 0, ctypes.byref(setting), None)


class LastResort:
    """The end of one worker, from the thread of its event loop; a fork forgets it."""

    def __init__(self) -> None:
        self._timer: _Timer | None = None
        if signal.getsignal(signal.SIGVTALRM) is not signal.SIG_DFL:
            return  # the application's, as of a profiler: each time that it comes we would write stacks
        try:
            self._timer = _Timer(signal.SIGVTALRM)
        except OSError:
            return
        faulthandler.register(signal.SIGVTALRM, file=_STANDARD_ERROR, all_threads=True, chain=True)

    def arm(self, server: Server) -> None:
        """Have the process end itself unless it is armed again; called with every beat.

        After a time of the processor's, not of the day: a worker that was paused, with its container or its machine,
        must not end when it goes on. So what holds the GIL and sleeps is not seen; nor is what a thread beside the
        event loop does. The kernel sends SIGVTALRM, upon which faulthandler writes the stacks to standard error, and
        the process ends of it.
        """
        seconds = server.hang_timeout and server.hang_timeout + server.graceful_timeout + _MARGIN
        if self._timer is not None:
            self._timer.set(seconds)
        elif seconds:
            faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
        else:
            faulthandler.cancel_dump_traceback_later()


def arm_end(patience: float) -> None:
    """Have the process, which leaves, end itself after `patience` seconds, and some.

    Not even what sleeps with the GIL held may keep it, nor the end of the interpreter. faulthandler waits in C, writes
    the stacks to standard error and exits with status 1.
    """
    faulthandler.dump_traceback_later(patience + _MARGIN, exit=True, file=_STANDARD_ERROR)
