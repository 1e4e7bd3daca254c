"""How long an application that could not be brought up waits for its next try: pure arithmetic, no clock."""

from __future__ import annotations

import math

__all__ = ["wait"]

# Seconds. A try blocks the worker's event loop while it imports, so not more often.
_FIRST_WAIT = 1.0
# Seconds. An operator who has mended the cause sees it work within a minute, without a reload.
_CEILING = 60.0
# Multiples of the golden section are spread evenly however many there are.
_GOLDEN = 0.6180339887498949
_DOUBLINGS = math.ceil(math.log2(_CEILING / _FIRST_WAIT))  # beyond it the exponent would only grow


def wait(failures: int, slot: int = 0) -> float:
    """Return the seconds until the next try after so many failures in a row, at least one, for a worker in `slot`.

    It is up to half as long as in slot 0, and differs from slot to slot: workers that began together would else
    import at the same moment, again and again, and nobody would be there to serve.
    """
    share = 1.0 - slot * _GOLDEN % 1 / 2
    return share * min(_CEILING, _FIRST_WAIT * math.exp2(min(failures - 1, _DOUBLINGS)))
