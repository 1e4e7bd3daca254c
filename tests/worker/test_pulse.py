"""The heartbeat, in virtual time."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from serverd.asgi import builtin
from serverd.connection.http1 import Http1Connection
from serverd.generation import Generation, Limits, Listener, Logging, Server
from serverd.messages import Beat
from serverd.worker.in_flight import InFlight
from serverd.worker.pulse import Pulse, ResidentMemory
from serverd.worker.serving import Serving
from tests.support.processes import resident_bytes
from tests.support.wire import StillLoop, Wire


class Scene:
    """A pulse and what it has told."""

    def __init__(self) -> None:
        self.loop = StillLoop()
        self.beats: list[Beat] = []
        self.serving = Serving(
            self.loop, Generation("server.toml", Server(), (Listener("web", (), 1, Limits()),), (), (), Logging()), {}
        )
        self.service = self.serving._services["web"]
        in_flight = InFlight(self.serving.exchanges, self.loop.time)
        self.pulse = Pulse(self.loop, self.serving, in_flight, self.on_beat)
        self.pulse.start()

    def on_beat(self, beat: Beat) -> None:
        self.beats.append(beat)

    def advance(self, seconds: float) -> None:
        self.loop.now += seconds
        for _ in range(3):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.loop.close()


def test_it_beats_twice_a_second(scene: Scene) -> None:
    for _ in range(40):
        scene.advance(0.125)
    assert len(scene.beats) == 10
    assert {beat.lag for beat in scene.beats} == {0.0}


def test_it_tells_what_there_is(scene: Scene) -> None:
    scene.service.requests = 7
    scene.service.connections.update(Http1Connection(scene.service) for _ in range(2))
    scene.advance(0.5)
    [beat] = scene.beats
    assert (beat.requests, beat.in_flight, beat.connections, beat.oldest) == (7, 0, 2, ())
    assert beat.rss == pytest.approx(resident_bytes(os.getpid()), rel=0.1)


def test_it_tells_the_longest_delay_since_the_last_beat(scene: Scene) -> None:
    scene.advance(0.75)
    scene.pulse.note_lag(0.125)
    scene.pulse.note_lag(0.0625)
    scene.advance(0.5)
    scene.advance(0.5)
    assert [beat.lag for beat in scene.beats] == [0.25, 0.125, 0.0]


def test_a_beat_that_fails_is_told_and_the_next_one_comes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Serving, "requests", property(lambda self: 1 // 0))
        scene.advance(0.5)
    assert scene.beats == []
    assert "no heartbeat: this is a bug of serverd" in caplog.text
    scene.advance(0.5)
    assert len(scene.beats) == 1


def test_memory_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ResidentMemory().read()

    def nowhere(*args: object) -> None:
        raise FileNotFoundError("/proc/self/statm")

    monkeypatch.setattr("os.open", nowhere)
    assert ResidentMemory().read() >= known * 0.9  # the peak is never less


def test_memory_is_read_when_there_is_no_descriptor_left() -> None:
    memory = ResidentMemory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        assert memory.read() > 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_requests_are_counted_as_they_begin() -> None:
    with Wire(builtin.respond(200, b"ok", [])) as wire:
        for _ in range(3):
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.service.requests == 3
