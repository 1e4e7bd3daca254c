"""How long an application that could not be brought up waits for its next try: pure arithmetic, no clock."""

from __future__ import annotations

import math

__all__ = ["wait"]

# Seconds. A try blocks the worker's event loop while it imports, so not more often.
_FIRST_WAIT = 1.0
# Seconds. An operator who has mended the cause sees it work within a minute, without a reload.
_CEILING = 60.0
_DOUBLINGS = math.ceil(math.log2(_CEILING / _FIRST_WAIT))  # beyond it the exponent would only grow


def wait(failures: int) -> float:
    """Return the seconds until the next try after so many failures in a row, at least one."""
    return min(_CEILING, _FIRST_WAIT * math.exp2(min(failures - 1, _DOUBLINGS)))
