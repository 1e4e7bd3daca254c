"""Entry point of a worker: `python -m serverd.worker --channel FD --dump FD [--title TEXT]`.

Only `supervisor.spawn` calls it.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys

from serverd.parent import die_with_parent


def main() -> int:
    """Run one worker and return its exit code."""
    parser = argparse.ArgumentParser(prog="serverd.worker")
    parser.add_argument("--channel", type=int, required=True, help="stream socket to the supervisor")
    parser.add_argument("--dump", type=int, required=True, help="file for the stacks of all threads, upon SIGUSR2")
    parser.add_argument("--title", help="what the process list shows before the worker knows its generation")
    arguments = parser.parse_args()
    # Nothing is in flight before it is ready; from then on `process` has it drain instead.
    die_with_parent(signal.SIGKILL)
    gc.disable()  # importing leaves no garbage, and looking for it takes a tenth of the time
    from serverd.worker.entry import run_worker

    gc.enable()
    return run_worker(arguments.channel, arguments.dump)


if __name__ == "__main__":
    sys.exit(main())
