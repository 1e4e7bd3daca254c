"""What tests do to classes that mypyc has compiled, and cannot (`make test-wheel`)."""

from __future__ import annotations

from types import FunctionType

import pytest

from serverd.protocol.http2_stream import Http2Stream

__all__ = ["skip_if_compiled"]


def skip_if_compiled(why: str) -> None:
    """End the test when the code it is about is compiled."""
    if not isinstance(Http2Stream.__init__, FunctionType):
        pytest.skip(f"compiled: {why}")
