"""The watchdog's thread over a loop that really blocks; what is due when is a table."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from serverd.asgi.scope import Endpoint
from serverd.generation import Server
from serverd.messages import Blocked, decode
from serverd.worker import watchdog
from serverd.worker.channel import Channel
from serverd.worker.in_flight import InFlight
from serverd.worker.watchdog import Step, Watchdog, steps
from tests.support.wire import Wire

FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
BLOCK = 0.4  # s: far above the thresholds of the tests


@pytest.mark.parametrize(
    ("lag_threshold", "hang_timeout", "expected"),
    [
        (1.0, 30.0, [Step(1.0, True), Step(24.0, False)]),
        (0.0, 30.0, [Step(24.0, False)]),
        (1.0, 0.0, [Step(1.0, True)]),
        (0.0, 0.0, []),
        (10.0, 10.0, [Step(8.0, False), Step(10.0, True)]),
    ],
)
def test_what_is_due_when(lag_threshold: float, hang_timeout: float, expected: list[Step]) -> None:
    assert steps(Server(lag_threshold=lag_threshold, hang_timeout=hang_timeout)) == expected


class Scene:
    """A loop with a watchdog, and the supervisor's end of the channel."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        exchanges: list[Any],
        answered: threading.Event | None = None,
    ) -> None:
        self.loop = loop
        self.supervisor, worker = socket.socketpair()
        self.channel = Channel(worker.detach())
        self.lags: list[float] = []
        self._answer = asyncio.Event()
        in_flight = InFlight(lambda: list(exchanges), loop.time)
        self.watchdog = Watchdog(loop, server, in_flight, self.channel, self.on_lag)
        if answered is not None:
            self.watchdog._answered = answered
        self.watchdog.start()

    def on_lag(self, seconds: float) -> None:
        self.lags.append(seconds)
        self._answer.set()

    async def answered(self, times: int) -> None:
        """Wait until the loop has answered so many more questions."""
        for _ in range(times):
            self._answer.clear()
            await asyncio.wait_for(self._answer.wait(), 10.0)

    def close(self) -> list[Blocked]:
        """End it all; return what the supervisor was told."""
        self.watchdog.stop()
        self.channel.close()
        with self.supervisor, self.supervisor.makefile("rb") as lines:
            told = [decode(line) for line in lines]
        assert all(isinstance(message, Blocked) for message in told)
        return told  # type: ignore[return-value]


def blocks_here(seconds: float) -> None:
    time.sleep(seconds)


def play(loop_factory: LoopFactory, server: Server, episodes: int = 1, block: float = BLOCK) -> list[Blocked]:
    async def run() -> list[Blocked]:
        scene = Scene(asyncio.get_running_loop(), server, [])
        try:
            await scene.answered(2)
            for _ in range(episodes):
                blocks_here(block)
                await scene.answered(2)
            if block and server.lag_threshold:
                assert max(scene.lags) > block / 2
        finally:
            told = scene.close()
        return told

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "serverd.worker")
    return caplog


@FACTORIES
def test_an_episode_is_logged_once_with_the_stack_and_its_end(
    log: pytest.LogCaptureFixture, loop_factory: LoopFactory
) -> None:
    told = play(loop_factory, Server(lag_threshold=0.05, hang_timeout=0.0), episodes=2)
    texts = [record.getMessage() for record in log.records]
    assert len(texts) == 4
    for warning, end in (texts[:2], texts[2:]):
        assert warning.startswith("event loop blocked for 0.")
        assert end.startswith("event loop turns again after 0.")
    detail = log.records[0].detail  # type: ignore[attr-defined]
    assert "in blocks_here" in detail
    assert "time.sleep(seconds)" in detail
    assert [record.levelname for record in log.records[:2]] == ["WARNING", "INFO"]
    assert len(told) == 2
    assert all(0.05 <= blocked.seconds < BLOCK for blocked in told)


@FACTORIES
def test_the_supervisor_has_the_last_words_before_it_kills(
    log: pytest.LogCaptureFixture, loop_factory: LoopFactory
) -> None:
    told = play(loop_factory, Server(lag_threshold=0.05, hang_timeout=0.25))
    assert len(told) == 2
    assert 0.05 <= told[0].seconds < 0.2 <= told[1].seconds
    assert len([record for record in log.records if record.levelname == "WARNING"]) == 1


def test_a_loop_that_turns_is_not_mentioned(log: pytest.LogCaptureFixture) -> None:
    assert play(asyncio.new_event_loop, Server(lag_threshold=0.2), episodes=5, block=0.0) == []
    assert log.records == []


def test_without_thresholds_nothing_is_said(log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_INTERVAL", 0.02)  # s: how often it then asks
    assert play(asyncio.new_event_loop, Server(lag_threshold=0.0, hang_timeout=0.0)) == []
    assert log.records == []


def test_a_threshold_that_changes_is_in_force_at_once(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "BEAT_INTERVAL", 0.02)  # s: how often it asks before

    async def run() -> None:
        scene = Scene(asyncio.get_running_loop(), Server(lag_threshold=0.0, hang_timeout=0.0), [])
        try:
            scene.watchdog.adopt(Server(lag_threshold=0.05, hang_timeout=0.0))
            await scene.answered(2)
            blocks_here(BLOCK)
            await scene.answered(1)
        finally:
            scene.close()

    asyncio.run(run())
    assert "event loop blocked" in log.text


def test_the_request_that_blocks_is_named(log: pytest.LogCaptureFixture) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        # The wire's loop stands still, and so does its clock; the watchdog's does not.
        blocks_here(BLOCK)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with Wire(Endpoint(application, "shop")) as wire:
        scene = Scene(wire.loop, Server(lag_threshold=0.05, hang_timeout=0.0), [])
        scene.watchdog._in_flight = InFlight(lambda: list(wire.service.exchanges), wire.loop.time)
        try:
            wire.send(b"GET /slow?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        finally:
            [told] = scene.close()
    [warning, *_] = log.records
    assert " s by app shop on GET /slow" in warning.getMessage()
    assert told.requests == ("GET /slow (app shop, < 0.1 s)",)
    assert "Requests in flight:\n  GET /slow (app shop, < 0.1 s)\n" in warning.detail  # type: ignore[attr-defined]


class Answer(threading.Event):
    """Keeps how long it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.is_awaited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.is_awaited.set()
        return super().wait(timeout)


def test_a_loop_that_is_closed_is_no_episode(log: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    answer = Answer()
    scene = Scene(loop, Server(lag_threshold=0.01, hang_timeout=0.02), [], answer)
    assert answer.is_awaited.wait(10.0)
    assert scene.close() == []
    assert answer.waits == [watchdog._LOOK_INTERVAL]  # nothing is due, only the next look for the supervisor
    assert log.records == []


def test_its_thread_keeps_no_process_from_ending() -> None:
    scene = Scene(asyncio.new_event_loop(), Server(), [])
    thread = next(thread for thread in threading.enumerate() if thread.name == "serverd watchdog")
    assert thread.daemon
    scene.close()
    assert not thread.is_alive()
    scene.loop.close()


LOOP = asyncio.base_events.__file__
OURS = watchdog.__file__


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ((OURS, LOOP, OURS, "/srv/shop.py", LOOP), ("/srv/shop.py", LOOP)),
        (("<frozen runpy>", OURS, LOOP), ("<frozen runpy>", OURS, LOOP)),
    ],
    ids=["from the application on", "all of it when there is none"],
)
def test_a_stack_is_shown(monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], shown: tuple[str, ...]) -> None:
    stack = traceback.StackSummary.from_list([traceback.FrameSummary(file, 1, "run", line="") for file in files])
    monkeypatch.setattr(traceback, "extract_stack", lambda frame: stack)
    assert tuple(entry.filename for entry in watchdog.own_stack(sys._getframe())) == shown
