"""Entry point of a worker: `python -m serverd.worker --channel FD`; only `supervisor.spawn` calls it."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from serverd.worker.channel import Channel
from serverd.worker.process import run


def _ignore(number: int, frame: FrameType | None) -> None:
    """Leave the signal to the supervisor; a handler and not SIG_IGN, which the application's children would inherit."""


def main() -> int:
    """Run one worker and return its exit code."""
    parser = argparse.ArgumentParser(prog="serverd.worker")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--title", default="serverd: worker")
    arguments = parser.parse_args()
    # What a terminal or a session sends to the whole process group is the supervisor's to act on.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, _ignore)
    return run(Channel(arguments.channel), arguments.title)


if __name__ == "__main__":
    sys.exit(main())
