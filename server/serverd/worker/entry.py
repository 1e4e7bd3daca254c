"""How the process of a worker begins, whoever has made it: signals, the file for its stacks, then its life."""

from __future__ import annotations

import faulthandler
import os
import signal
from types import FrameType

from serverd.worker.applications import Preloaded
from serverd.worker.channel import Channel
from serverd.worker.process import run

__all__ = ["leave_group_signals", "run_worker"]


def run_worker(channel: int, stacks: int, preloaded: Preloaded | None = None) -> int:
    """Run one worker on the descriptors of its channel and of its file for stacks; return its exit code."""
    leave_group_signals()
    # Written in C by whichever thread gets the signal: it works while no Python code can run.
    os.set_inheritable(stacks, False)
    faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True, chain=False)
    return run(Channel(channel), preloaded)


def leave_group_signals() -> None:
    """Leave to the supervisor what a terminal or a session sends to the whole process group."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Leave the signal to the supervisor; a handler and not SIG_IGN, which the application's children would inherit."""
