"""What a process that an application forks from its worker must not have in common with it.

Such as a child of multiprocessing, or of a pool of processes. It would hand the SIGTERM that is to end it to the
worker, which reads what the child's signal handlers write, and drains. It would keep the ports when it outlives the
worker, and until it ends no client would see that the worker has closed a connection. A program that is executed has
nothing of this: the kernel resets handlers and closes descriptors.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

__all__ = ["set_apart"]


def set_apart(sockets: Callable[[], Iterable[int]]) -> None:
    """Have every process that is forked from now on end upon SIGTERM, and hold none of `sockets()`, descriptors."""

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in sockets():
            # Not closed: the number would become another file's, which whoever still knows it would close.
            os.dup2(null, fd, inheritable=False)
        os.close(null)

    os.register_at_fork(after_in_child=in_child)
