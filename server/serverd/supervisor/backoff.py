"""How long a slot waits before its dead worker is replaced: pure arithmetic, no clock.

The first death is replaced at once. From then on the wait doubles with every death up to a ceiling,
while every second of service forgives one death: a worker that crashes now and then is always
replaced at once, one that cannot start never loops hot. `fleet` holds one per slot; `staffing` counts the deaths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CEILING", "FIRST_WAIT", "Backoff"]

# Seconds. A tenth is about what an interpreter needs to start: shorter would not be seen.
FIRST_WAIT = 0.1
# Seconds. Long enough to cost nothing, short enough that an operator who has mended the cause sees it
# work without a reload; supervisors elsewhere end between 10 s and 60 s.
CEILING = 30.0
# The service time, in seconds, that makes up for one death.
FORGIVEN_AFTER = 1.0
# Deaths beyond the one that reaches the ceiling are not counted, so that a few seconds of service
# bring any slot back to the start.
MOST = 2.0 + math.log2(CEILING / FIRST_WAIT)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The recent deaths in a slot; fractions come from partly forgiven ones."""

    deaths: float = 0.0

    def after_death(self, served: float) -> Backoff:
        """Return the backoff after the death of a worker that had been ready for `served` seconds."""
        return Backoff(min(MOST, max(0.0, self.deaths - served / FORGIVEN_AFTER) + 1.0))

    @property
    def wait(self) -> float:
        """Seconds to wait before the next worker is spawned."""
        if self.deaths <= 1.0:
            return 0.0
        return min(CEILING, FIRST_WAIT * math.exp2(self.deaths - 2.0))
