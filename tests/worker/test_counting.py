"""What a worker counts of requests and sessions, over connections in memory."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.asgi.refusal import Refusal
from serverd.asgi.scope import Endpoint
from serverd.generation import Generation, Limits, Listener, Logging, Mount, RespondTarget, Server
from serverd.observe import counters
from serverd.observe.counters import BOUNDS, CLASSES, ELSEWHERE, FIRST_REFUSAL, REFUSALS, Chart, Key, class_at
from serverd.protocol.partial_head import NOTHING_READ
from serverd.worker.counting import Counters
from serverd.worker.inside import Inside
from serverd.worker.serving import Serving
from tests.support.frames import TEXT, close, frame
from tests.support.wire import SessionWire

SHOP: Key = ("shop", "/shop")
FIXED: Key = ("", "/fixed")
GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


class Scene:
    """A worker with one listener and its counters; the application answers as the path says."""

    def __init__(self) -> None:
        from serverd.generation import App, AppTarget

        self.wire = SessionWire()
        self.listener = Listener("web", (), 1, Limits(body_size=5))
        mounts = (
            Mount("/shop", (), ("web",), AppTarget("shop", "/shop")),
            Mount("/fixed", (), ("web",), RespondTarget(404, "gone", ())),
        )
        apps = (App("shop", "shop:app", "/"),)
        generation = Generation("server.toml", Server(), (self.listener,), apps, mounts, Logging())
        self.inside = Inside(generation)
        endpoints = {"shop": Endpoint(self.application, "shop")}
        self.serving = Serving(self.wire.loop, generation, endpoints, inside=self.inside)
        self.wire.service = self.serving._services["web"]
        self.wire.connect()

    async def application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.wire.manual(scope, receive, send)
            return
        if scope["path"] == "/shop/fail":
            raise RuntimeError("boom")
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/shop/wait":
            await receive()
            return
        status = int(scope["query_string"] or 200)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    def row(self, key: Key = SHOP) -> list[int]:
        counted = self.inside.counters
        return counted._chart.read(bytes(counted._memory)).mounts.get(key, [0] * counters.MOUNT_WIDTH)

    def requests(self, key: Key = SHOP) -> dict[str, int]:
        """Return how many requests ended with which class of status."""
        row = self.row(key)
        found = {name: sum(row[(at := class_at(n)) : at + len(BOUNDS) + 1]) for n, name in enumerate(CLASSES)}
        return {name: count for name, count in found.items() if count}

    def listener_row(self) -> list[int]:
        return list(self.inside.counters.row_of("web"))


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    caplog.set_level(logging.CRITICAL)
    scene = Scene()
    with scene.wire:
        yield scene


def test_a_request_is_counted_by_mount_and_class_with_its_bytes(scene: Scene) -> None:
    scene.wire.send(GET % b"/shop")
    scene.wire.send(GET % b"/shop?503")
    scene.wire.send(b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    assert scene.requests() == {"2xx": 2, "5xx": 1}
    assert scene.row()[class_at(2) + counters.SENT] == 12
    assert scene.row()[class_at(2) + counters.RECEIVED] == 4


@pytest.mark.parametrize(
    ("target", "key", "expected"),
    [
        (b"/shop/fail", SHOP, {"5xx": 1}),
        (b"/fixed", FIXED, {"4xx": 1}),
        (b"/elsewhere", ELSEWHERE, {"4xx": 1}),
        (b"/fixed/x", FIXED, {"4xx": 1}),
    ],
)
def test_what_fails_and_what_the_server_answers_is_counted_as_well(
    scene: Scene, target: bytes, key: Key, expected: dict[str, int]
) -> None:
    scene.wire.send(GET % target)
    assert scene.requests(key) == expected


def test_a_response_is_counted_before_its_last_byte_leaves(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[dict[str, int]] = []
    write = scene.wire.transport.write
    monkeypatch.setattr(scene.wire.transport, "write", lambda data: (counted.append(scene.requests()), write(data)))
    scene.wire.send(GET % b"/shop")
    assert counted == [{"2xx": 1}]


def test_a_client_that_has_gone_before_there_was_a_status_is_counted_apart(scene: Scene) -> None:
    scene.wire.send(GET % b"/shop/wait")
    scene.wire.lose()
    assert scene.requests() == {"none": 1}


def test_how_long_it_took_is_added_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.003, 20.0, 21.5])
    monkeypatch.setattr("serverd.asgi.cycle.perf_counter", lambda: next(moments))
    monkeypatch.setattr("serverd.asgi.exchange.perf_counter", lambda: next(moments))
    scene.wire.send(GET % b"/fixed")
    scene.wire.send(GET % b"/fixed")
    row = scene.row(FIXED)[class_at(4) :]
    assert row[BOUNDS.index(0.005)] == row[BOUNDS.index(2.5)] == 1
    assert row[counters.MICROSECONDS] == pytest.approx(1_503_000, abs=2)


def test_what_is_refused_before_it_is_a_request_is_counted_by_its_status(scene: Scene) -> None:
    scene.wire.send(b"NO HTTP AT ALL\r\n\r\n")
    scene.wire.connect()
    scene.wire.send(b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nlarger")
    refused = dict(zip(REFUSALS, scene.listener_row()[FIRST_REFUSAL:], strict=True))
    assert {status: count for status, count in refused.items() if count} == {400: 1, 413: 1}
    assert scene.requests() == scene.requests(ELSEWHERE) == {}


def test_a_status_that_nobody_has_thought_of_counts_as_another(scene: Scene) -> None:
    scene.wire.service.observer.on_refusal(Refusal(418, NOTHING_READ, None))
    assert scene.listener_row()[FIRST_REFUSAL + REFUSALS.index(0)] == 1


def test_what_is_open_and_in_flight_is_written_with_a_beat(scene: Scene) -> None:
    scene.wire.send(GET % b"/shop/wait")
    scene.serving.count()
    assert scene.row()[counters.IN_FLIGHT] == 1
    assert scene.listener_row()[counters.HTTP1] == 1
    scene.wire.lose()
    scene.serving.count()
    assert scene.row()[counters.IN_FLIGHT] == scene.listener_row()[counters.HTTP1] == 0


def test_messages_of_a_session_are_counted_while_it_is_open_and_once(scene: Scene) -> None:
    def found() -> tuple[int, ...]:
        row = scene.row()
        return tuple(row[n] for n in (counters.SESSIONS, counters.MESSAGES_RECEIVED, counters.MESSAGES_SENT))

    scene.wire.send(
        b"GET /shop/chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    scene.wire.receive()
    scene.wire.tell("accept")
    for text in (b"a", b"b"):
        scene.wire.send(frame(TEXT, text))
        scene.wire.receive()
    scene.wire.tell("send", text="c")
    scene.serving.count()
    scene.serving.count()
    assert found() == (1, 2, 1)
    assert scene.row()[counters.SESSIONS_OPEN] == scene.listener_row()[counters.WEBSOCKET] == 1
    scene.wire.tell("send", text="d")
    scene.wire.send(close(1000))
    scene.wire.finish()
    assert found() == (1, 2, 2)
    scene.serving.count()
    assert found() == (1, 2, 2)
    assert scene.row()[counters.SESSIONS_OPEN] == 0
    assert scene.requests() == {}, "an accepted session is no request"


def test_the_file_of_the_counters_is_closed_when_it_is_mapped(tmp_path: Any) -> None:
    import os

    from serverd.observe.counters import Chart

    generation = Generation("server.toml", Server(), (Listener("web", (), 1, Limits()),), (), (), Logging())
    (tmp_path / "counters").write_bytes(bytes(Chart(generation).size))
    descriptor = os.open(tmp_path / "counters", os.O_RDWR)
    counted = Counters(generation, descriptor)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    counted.row_of("web")[counters.ACCEPTED] += 1
    assert (tmp_path / "counters").read_bytes()[counters.ACCEPTED * 8] == 1


def test_whoever_follows_is_told_after_it_was_counted(scene: Scene) -> None:
    told: list[tuple[str, dict[str, int]]] = []

    class Following:
        def on_exchange(self, cycle: Any) -> None:
            told.append((cycle.description, scene.requests()))

        on_session = on_exchange

    counts = scene.inside.counters.mount(SHOP, Following())
    scene.wire.send(GET % b"/shop/wait")
    (cycle,) = scene.wire.service.exchanges
    cycle.ended = cycle.began
    counts.on_exchange(cycle)
    assert told == [("GET /shop/wait", {"none": 1})]


def test_counters_take_memory_for_what_has_counted_only() -> None:
    mounts = tuple(Mount(f"/{number}", (), ("web",), RespondTarget(404, "gone", ())) for number in range(500))
    generation = Generation("server.toml", Server(), (Listener("web", (), 1, Limits()),), (), mounts, Logging())
    with os.fdopen(os.memfd_create("counters"), "r+b") as file:
        file.truncate(Chart(generation).size)
        counted = Counters(generation, os.dup(file.fileno()))
        for _ in range(2):
            counted.look([])
        assert os.fstat(file.fileno()).st_blocks * 512 <= 2 * mmap.PAGESIZE, "the rows of listeners come first"
