"""How a command ends: what it writes, its exit code, and that a failure is a sentence and a bug asks to be reported.

The commands call it; what is written goes through `console`.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from serverd.cli.usage import LostPlaceError
from serverd.console import OutputError, say, show

if TYPE_CHECKING:
    from serverd.control.commands import Outcome
    from serverd.supervisor.source import Source

__all__ = ["EXIT_BUG", "EXIT_INTERRUPTED", "EXIT_OUTPUT", "finish", "report_bug", "serve", "write"]

EXIT_BUG = 1
# As grep and cat have it, for what could not be written.
EXIT_OUTPUT = 1
# 128 and the number of SIGINT, as shells have it.
EXIT_INTERRUPTED = 130


class _Interruption:
    """Answers Ctrl-C as Python does, and remembers it: pydantic, for one, makes another exception of it."""

    has_come = False
    is_over = False  # whoever presses it again has had the answer

    def __call__(self, *_: object) -> None:
        self.has_come = True
        if not self.is_over:
            raise KeyboardInterrupt


def finish(command: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code."""
    import signal

    from serverd.parent import release_signals

    interruption = _Interruption()
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:  # else a shell has had it ignored
            signal.signal(signal.SIGINT, interruption)
        release_signals()  # which `__main__` has made to wait
        code = _run(command, interruption)
    except KeyboardInterrupt:
        interruption.is_over = True
        say("serverd: interrupted\n")
        code = EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    sys.exit(code)


def _run(command: Callable[[], int], interruption: _Interruption) -> int:
    """Return the exit code of a command, whose failure is said."""
    from serverd.errors import ConfigError, OperatorError
    from serverd.observe.logs import escape

    try:
        return command()
    except ConfigError as error:
        say("".join(f"{escape(line)}\n" for line in str(error).split("\n")))
        return error.exit_code
    except OperatorError as error:
        say(f"serverd: {escape(str(error))}\n")
        return error.exit_code
    except (OutputError, LostPlaceError):  # the group says it
        raise
    except Exception:
        if interruption.has_come:
            raise KeyboardInterrupt from None
        return report_bug()


def serve(source: Source, take_over: int | None) -> NoReturn:
    """Serve `source` until told to stop, and end the process."""
    gc.disable()  # importing leaves no garbage, and looking for it takes a tenth of the time
    begun = None
    try:
        from serverd.supervisor.beginning import begin_reading

        begun = begin_reading(source)
        from serverd.supervisor.supervisor import Supervisor

        gc.enable()
        code = Supervisor(source, take_over=take_over, begun=begun).run()
    except Exception:
        code = report_bug()
    if begun is not None:
        begun.process.kill()  # one that no supervisor has taken over would complain that nobody hears it
    sys.exit(code)


def write(outcome: Outcome) -> int:
    """Write what a command found out; return its exit code."""
    show(outcome.out)
    say(outcome.err)
    return outcome.code


def report_bug() -> int:
    """Write the traceback of the exception that is being handled, and whose it is; return the exit code."""
    traceback.print_exc()
    say("serverd: this is a bug of serverd, please report it with the lines above\n")
    return EXIT_BUG
