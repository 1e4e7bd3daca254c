"""How many examples Hypothesis draws, and which: the same in every run of the suite, others in a campaign.

A finding belongs into the suite, not into one lucky run: so the suite draws the same examples every time, and twice as
many with SERVERD_LONG=1. With SERVERD_FUZZ=N in the environment each test draws N times as many as that, at random
(tests/fuzz/README.md).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["examples"]

TIMES = int(os.environ.get("SERVERD_FUZZ") or "0")
LONG = bool(os.environ.get("SERVERD_LONG"))


def examples(number: int) -> settings:
    """Return the settings of a test that draws so many examples in the long suite."""
    return settings(
        max_examples=number * (TIMES or 1) if TIMES or LONG else number // 2,
        derandomize=not TIMES,
        deadline=None,  # other processes share the processor
        suppress_health_check=[HealthCheck.too_slow],
        database=None,  # what is found is written down as a test
    )
