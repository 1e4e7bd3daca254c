"""What several tests of connections need."""

from __future__ import annotations

import pytest

from serverd.connection import burst
from tests.support.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which bursts are told, for the test to move."""
    clock = Clock()
    monkeypatch.setattr(burst, "perf_counter", clock)
    return clock
