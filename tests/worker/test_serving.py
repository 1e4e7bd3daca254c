"""The sweep of a worker: it goes on, whatever happens to one connection."""

from __future__ import annotations

import asyncio

import pytest

from serverd.generation import Generation, Limits, Listener, Logging, Server
from serverd.worker.serving import Serving


class Broken:
    """A connection that cannot be swept."""

    def __init__(self) -> None:
        self.is_cut = False

    def sweep(self, now: float) -> None:
        raise OSError("not connected")

    def drain(self) -> None:
        """Nothing to drain."""

    def cut(self) -> None:
        self.is_cut = True


def test_a_connection_that_cannot_be_swept_is_cut_and_the_sweep_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    try:
        listener = Listener("web", (), 1, Limits())
        serving = Serving(loop, Generation("server.toml", Server(), (listener,), (), (), Logging()), {})
        broken = Broken()
        serving._services["web"].connections.add(broken)
        serving._sweep()
        assert broken.is_cut
        assert serving._sweep_handle is not None
        assert not serving._sweep_handle.cancelled()
        assert "not connected" in caplog.text
    finally:
        loop.close()
