"""What tests do to classes that mypyc has compiled, and cannot (`make test-wheel`)."""

from __future__ import annotations

import pytest

from serverd.version import is_compiled

__all__ = ["skip_if_compiled"]


def skip_if_compiled(why: str) -> None:
    """End the test when the code it is about is compiled."""
    if is_compiled():
        pytest.skip(f"compiled: {why}")
