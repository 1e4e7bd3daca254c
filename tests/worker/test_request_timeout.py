"""request_timeout: an application that takes too long, from the beat that notices to the answer, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Generation, Limits, Listener, Logging, Server
from serverd.messages import BEAT_INTERVAL, Beat
from serverd.worker.in_flight import InFlight
from serverd.worker.pulse import Pulse
from serverd.worker.serving import Serving
from tests.support.wire import Wire

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


class Shop:
    """An application whose requests take as long as their path says, after sending what it says."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["path"] == "/begun":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"part", "more_body": True})
            elif scope["path"] == "/head":
                await send({"type": "http.response.start", "status": 200, "headers": []})
            elif scope["path"] == "/background":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body"})
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(scope["path"])
            raise


class Scene:
    """A worker with a pulse; `/` has a timeout of 5 s, `/patient` none."""

    def __init__(self) -> None:
        self.shop = Shop()
        router = Router(
            [
                Route((), "/", Endpoint(self.shop, "shop", request_timeout=5.0)),
                Route((), "/patient", Endpoint(self.shop, "patient")),
            ],
            *(Endpoint(app, "serverd") for app in (builtin.not_found, builtin.misdirected, builtin.options)),
        )
        self.wire = Wire(router)
        loop = self.wire.loop
        listener = Listener("web", (), 1, Limits())
        self.serving = Serving(loop, Generation("server.toml", Server(), (listener,), (), (), Logging()), {})
        self.serving._services["web"] = self.wire.service
        self.beats: list[Beat] = []
        self.pulse = Pulse(loop, self.serving, InFlight(self.serving.exchanges, loop.time), self.beats.append)
        self.pulse.start()

    def advance(self, seconds: float) -> bytes:
        """Let time pass, a beat at a time."""
        for _ in range(round(seconds / BEAT_INTERVAL)):
            self.wire.loop.now += BEAT_INTERVAL
            self.wire.settle()
            self.wire.settle()
        return self.wire.received()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    with scene.wire:
        yield scene
        # The next beat would be due for ever.
        for handle in scene.wire.loop._scheduled:  # type: ignore[attr-defined]
            handle.cancel()


def test_it_is_answered_504_between_the_timeout_and_two_beats_more(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.wire.send(GET % b"/slow?q=1")
    assert scene.advance(4.5) == b""
    assert scene.shop.cancelled == []
    answer = scene.advance(1.5)
    assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert b"connection: close" not in answer.lower()
    assert scene.shop.cancelled == ["/slow"]
    assert "app shop has not answered GET /slow" in caplog.text
    assert "within 5 s (request_timeout), cancelling it" in caplog.text
    assert scene.wire.send(GET % b"/slow") == b""  # the connection goes on, and the next one has its own time
    assert scene.advance(4.5) == b""
    assert scene.advance(1.5).startswith(b"HTTP/1.1 504 ")


def test_a_held_head_is_not_sent(scene: Scene) -> None:
    scene.wire.send(GET % b"/head")
    answer = scene.advance(6)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_response_under_way_is_cut_off_visibly(scene: Scene) -> None:
    assert scene.wire.send(GET % b"/begun").endswith(b"4\r\npart\r\n")
    assert scene.advance(6) == b""
    assert scene.wire.closed
    assert scene.shop.cancelled == ["/begun"]


def test_what_goes_on_after_the_response_has_all_the_time(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    assert scene.wire.send(GET % b"/background").startswith(b"HTTP/1.1 200 ")
    assert scene.advance(60) == b""
    assert scene.shop.cancelled == []
    assert caplog.text == ""


def test_an_application_without_a_timeout_has_all_the_time(scene: Scene) -> None:
    scene.wire.send(GET % b"/patient/x")
    assert scene.advance(3600) == b""
    assert scene.shop.cancelled == []


def test_each_is_told_once_and_counted_as_long_as_it_runs(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    scene.wire.service.router = Router(
        [Route((), "/", Endpoint(stubborn, "shop", request_timeout=1.0))],
        *(Endpoint(app, "serverd") for app in (builtin.not_found, builtin.misdirected, builtin.options)),
    )
    scene.wire.send(GET % b"/slow")
    assert scene.advance(10).count(b"HTTP/1.1 504 ") == 1
    assert caplog.text.count("(request_timeout)") == 1
    assert scene.beats[-1].in_flight == 1
    release.set()
    scene.advance(1)
    assert scene.beats[-1].in_flight == 0


def test_what_a_client_sends_cannot_forge_a_line(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.wire.send(GET % b"/%0a%1b[31mforged%e2%80%ae")
    scene.advance(6)
    [record] = caplog.records
    assert "/%0a%1b[31mforged%e2%80%ae" in record.getMessage()


@pytest.mark.parametrize("leave", ["lose", "send_eof"])
def test_a_client_that_has_left_is_no_reason_to_answer(scene: Scene, leave: str) -> None:
    scene.wire.send(GET % b"/slow")
    act: Callable[[], Any] = getattr(scene.wire, leave)
    act()
    scene.advance(6)
    assert scene.shop.cancelled == ["/slow"]
    assert not scene.wire.service.exchanges


def test_the_body_of_a_request_that_has_expired_is_no_next_request(scene: Scene) -> None:
    scene.wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
    assert scene.advance(6).startswith(b"HTTP/1.1 504 ")
    assert scene.wire.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".ljust(40)) == b""
    assert scene.serving.requests == 1
