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


@contextlib.contextmanager
def stack_shown(start_timeout: float, lead: float = 1.0) -> Iterator[None]:
    """Write the stacks of all threads to standard error unless the context ends before `start_timeout` seconds do.

    `lead` is how many margins earlier: the text is written piece by piece, and that of two processes would be mixed.
    """
    # Plain text and no log line, as a blocked import lets no Python code run that could make one. faulthandler
    # escapes what is not printable, so that no application forges a line with it.
    margin = min(_MARGIN, start_timeout * _MARGIN_SHARE) * lead
    faulthandler.dump_traceback_later(max(start_timeout - margin, 0.001))  # it refuses what rounds to 0
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
