"""Where the command begins: `serverd`, and `python -m serverd`, for where it is not on the PATH.

Before anything else is imported, which takes a tenth of a second, signals are made to wait: Python would answer Ctrl-C
with a traceback, and the kernel HUP, TERM or USR1 with an end that says nothing. A server hears them once it
listens (`supervisor/signals`), any other command once it does its work (`cli/ending`).
"""

# What `signal` is made of: that makes enumerations of it first, and takes longer than all of Python until here.
import _signal as kernel  # type: ignore[import-not-found]
import sys

__all__ = ["main"]

# All that the supervisor answers, but SIGCHLD.
HELD = (
    *(kernel.SIGHUP, kernel.SIGTERM, kernel.SIGINT, kernel.SIGQUIT),
    *(kernel.SIGUSR1, kernel.SIGUSR2, kernel.SIGTTIN, kernel.SIGTTOU),
)


def main() -> None:
    """Do what the command line asks for, and end the process."""
    kernel.pthread_sigmask(kernel.SIG_BLOCK, HELD)
    from serverd.cli import main as command

    try:
        command(prog_name="serverd")
    finally:
        # It is known how this ends, and Python takes a moment for it.
        kernel.pthread_sigmask(kernel.SIG_BLOCK, HELD)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working directory, where an application may have a `logging.py`: as in our other processes (-P), it must
        # not take the place of Python's. What runpy itself has imported by now is beyond our reach.
        del sys.path[0]
    main()
