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


class Request:
    """One in flight of which somebody may ask whether it has been looked at, and that fails then."""

    is_looked_at = False

    def conclude(self) -> None:
        self.is_looked_at = True
        raise ValueError("not as it should be")


def test_requests_in_flight_are_looked_at_and_one_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    try:
        listener = Listener("web", (), 1, Limits())
        serving = Serving(loop, Generation("server.toml", Server(), (listener,), (), (), Logging()), {})
        requests = [Request(), Request()]
        serving._services["web"].exchanges.add(requests[0])  # type: ignore[arg-type]
        serving._services["web"].answers.add(requests[1])  # type: ignore[arg-type]
        serving._sweep()
        assert all(request.is_looked_at for request in requests)
        assert serving._sweep_handle is not None
        assert "not as it should be" in caplog.text
    finally:
        loop.close()


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
