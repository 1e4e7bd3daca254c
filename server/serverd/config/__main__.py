"""The loader process: `python -m serverd.config FILE` prints one message, `Loaded` or `LoadFailed`.

With --renew in the place of FILE it reads a `Loaded` from standard input, and again what its certificates are made of.

The supervisor runs it as a short-lived child, so that it never holds pydantic in memory itself. Exit codes
are 0 for a generation, 3 for a report, 2 for wrong usage.
"""

from __future__ import annotations

import os
import signal
import sys

from serverd.generation import Generation
from serverd.parent import die_with_parent, leave_group_signals

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Load what `arguments` name, print the outcome on stdout, and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m serverd.config FILE | --renew", file=sys.stderr)
        return 2
    leave_group_signals()  # a HUP to the process group is a word to the supervisor, and no failure to load
    die_with_parent(signal.SIGKILL)  # a supervisor that is killed leaves nobody who wants the outcome
    # Imported now, because it takes a while, pydantic above all, in which the supervisor may die or a signal come.
    from serverd.config.load import load
    from serverd.errors import ConfigError
    from serverd.messages import Loaded, LoadFailed, encode

    try:
        message: Loaded | LoadFailed = Loaded(
            _renewed() if arguments == ["--renew"] else load(arguments[0], os.environ)
        )
        code = 0
    except ConfigError as error:
        message, code = LoadFailed(str(error)), error.exit_code
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()
    return code


def _renewed() -> Generation:
    from serverd.config.renewal import renew
    from serverd.messages import Loaded, decode

    message = decode(sys.stdin.buffer.readline())
    assert isinstance(message, Loaded)  # the supervisor says nothing else
    return renew(message.generation)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
