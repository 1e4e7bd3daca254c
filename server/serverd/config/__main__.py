"""The loader process: `python -m serverd.config FILE [--reload]` prints one message, `Loaded` or `LoadFailed`.

With --renew in the place of FILE it reads a `Loaded` from standard input, and again what its certificates are made of;
with --options the options that are in the place of a file (`options.pack`). With --reload workers drain quickly.

The supervisor runs it as a short-lived child, so that it never holds pydantic in memory itself. Exit codes
are 0 for a generation, 3 for a report, 2 for wrong usage.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Mapping

from serverd.generation import Generation
from serverd.parent import die_with_parent, leave_group_signals

__all__ = ["main"]


_NO_MEMORY = (
    "the configuration could not be read: there is not enough memory for it (expected some 60 MB; see ulimit -v, and"
    " the limits of the service or container)"
)


def main(arguments: list[str]) -> int:
    """Load what `arguments` name, print the outcome on stdout, and return the exit code."""
    if len(arguments) != 1 and arguments[1:] != ["--reload"]:
        print("usage: python -m serverd.config FILE [--reload] | --options [--reload] | --renew", file=sys.stderr)
        return 2
    leave_group_signals()  # a HUP to the process group is a word to the supervisor, and no failure to load
    die_with_parent(signal.SIGKILL)  # a supervisor that is killed leaves nobody who wants the outcome
    gc.disable()  # it ends before there is much to collect; looking for it took a tenth of its time
    environ = dict(os.environ)  # what a configuration may name
    # What is installed beside us has no say in it; and to look for plugins reads the metadata of every distribution.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    from serverd.errors import ConfigError, RenewalError
    from serverd.messages import Loaded, LoadFailed, encode

    try:
        message: Loaded | LoadFailed = Loaded(_read(arguments[0], environ, reloads=len(arguments) > 1))
        code = 0
    except ConfigError as error:
        refused = error.refused if isinstance(error, RenewalError) else ()
        message, code = LoadFailed(str(error), refused), error.exit_code
    except MemoryError:
        message, code = LoadFailed(_NO_MEMORY), ConfigError.exit_code
    # A supervisor that died before we could ask to die with it is nobody to complain to.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(encode(message))
        sys.stdout.buffer.flush()
    return code


def _read(what: str, environ: Mapping[str, str], *, reloads: bool) -> Generation:
    from serverd.config.load import load, load_document
    from serverd.config.options import unpack

    if what == "--renew":
        return _renewed()
    if what == "--options":
        return load_document(unpack(sys.stdin.buffer.read()), environ, reloads=reloads)
    return load(what, environ, reloads=reloads)


def _renewed() -> Generation:
    from serverd.config.renewal import renew
    from serverd.messages import Loaded, decode
    from serverd.net.tls import objection

    message = decode(sys.stdin.buffer.readline())
    assert isinstance(message, Loaded)  # the supervisor says nothing else
    return renew(message.generation, objection)


if __name__ == "__main__":
    # At once: the supervisor waits for the end, and to take apart what pydantic has built took a tenth of the time.
    os._exit(main(sys.argv[1:]))
