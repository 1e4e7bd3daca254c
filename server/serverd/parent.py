"""What a process has to do with parents: their death, its own's and those of orphans, and signals that are theirs.

Loader, preloader and workers call it, so that a killed supervisor leaves no orphan behind, and the supervisor,
which takes in what the preloader forks; it knows none of them. The kernel's help is Linux's; elsewhere a child has
to see the end of the channel to its parent. Signals wait while a process begins, in what it inherits from `spawn`.
"""

from __future__ import annotations

import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "begin_with_group_signals_held",
    "die_with_parent",
    "is_orphan",
    "leave_group_signals",
    "release_signals",
    "take_in_orphans",
]

# prctl(2), linux/prctl.h.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# What the supervisor acts upon without ending at once, and what a terminal sends to its jobs. A worker has
# SIGUSR2 write its stacks later.
_GROUP_SIGNALS = (
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)

# Of a process that is started, or is one: not SIGTTOU, which the supervisor blocks on some terminals, also for others.
_ALL = signal.valid_signals() - {signal.SIGTTOU}


def release_signals() -> None:
    """Answer signals from here on, those first that have waited since this process was started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)


@contextmanager
def begin_with_group_signals_held() -> Iterator[None]:
    """Have them wait for processes that are started within, until those call `leave_group_signals`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(_GROUP_SIGNALS) & _ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent(number: signal.Signals) -> None:
    """Have the kernel send us `number` when our parent dies; a later call replaces an earlier one.

    The parent is whoever it is at this moment: a fork forgets the setting, so does a change of user, and the
    death of a process in between counts as well. A parent that has died already is not noticed: ask
    `is_orphan` after the call. Does nothing where the kernel cannot do it.
    """
    # The result is left alone: a sandbox that forbids the call leaves what there is elsewhere, the channel's end.
    _prctl(PR_SET_PDEATHSIG, number)


def take_in_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies; return whether the kernel can do it."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_group_signals() -> None:
    """Leave to the supervisor what a terminal, a session or an operator sends to the whole process group.

    Not SIGTERM and SIGQUIT: whoever sends those to the group wants everybody to end. Signals that were made to wait
    until now (`begin_with_group_signals_held`) wait no longer.
    """
    for number in _GROUP_SIGNALS:
        signal.signal(number, _ignore)
    release_signals()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Leave the signal to the supervisor; a handler and not SIG_IGN, which the application's children would inherit."""


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # 0.6 MB and 2 ms, for who needs it

    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), *[ctypes.c_ulong(0)] * 3) == 0)


def is_orphan(channel: int) -> bool:
    """Return whether nobody holds the other end of `channel`, a pipe or stream socket to the parent.

    Not `getppid`: which number an orphan sees depends on subreapers and containers.
    """
    poll = select.poll()
    poll.register(channel, 0)  # POLLHUP and POLLERR are told without being asked for
    return bool(poll.poll(0))
