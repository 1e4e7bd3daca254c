"""What is seen of a start-up that hangs: its stack, before it is given up. `process` and `preloader` use it."""

from __future__ import annotations

import contextlib
import faulthandler
from collections.abc import Iterator

__all__ = ["stack_shown"]

# Seconds before start_timeout at which the stack is shown. The supervisor counts from the spawn, we from
# when the interpreter is up, which takes 0.2 s and on a busy machine several times that; the stack has to
# be out before the supervisor kills us.
_MARGIN = 1.0
_MARGIN_SHARE = 1 / 4  # of a shorter start_timeout
# Below so many seconds of start_timeout nothing is shown: no start is that quick, so what would be shown is no hang but
# a thread that runs, and faulthandler, which takes no lock, may crash on the frames of one that does.
_SHORTEST = 0.25


@contextlib.contextmanager
def stack_shown(start_timeout: float, lead: float = 1.0) -> Iterator[None]:
    """Write the stacks of all threads to standard error unless the context ends before `start_timeout` seconds do.

    `lead` is how many margins earlier: the text is written piece by piece, and that of two processes would be mixed.
    """
    # Plain text and no log line, as a blocked import lets no Python code run that could make one. faulthandler
    # escapes what is not printable, so that no application forges a line with it.
    margin = min(_MARGIN, start_timeout * _MARGIN_SHARE) * lead
    if start_timeout >= _SHORTEST:
        faulthandler.dump_traceback_later(start_timeout - margin)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
