"""How the process of a worker begins, whoever has made it: signals, the file for its stacks, then its life."""

from __future__ import annotations

import faulthandler
import os
import signal

from serverd.parent import leave_group_signals
from serverd.worker.applications import Imported
from serverd.worker.channel import Channel
from serverd.worker.process import run

__all__ = ["leave_group_signals", "run_worker"]


def run_worker(channel: int, stacks: int, imported: Imported | None = None) -> int:
    """Run one worker on the descriptors of its channel and of its file for stacks; return its exit code.

    `imported` comes from a preloader.
    """
    leave_group_signals()
    # Written in C by whichever thread gets the signal: it works while no Python code can run.
    os.set_inheritable(stacks, False)
    faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True, chain=False)
    return run(Channel(channel), imported)
