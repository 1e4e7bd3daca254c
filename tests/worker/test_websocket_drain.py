"""WebSockets at the end of a worker: they stay until graceful_timeout, then both sides are told, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.asgi.router import Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Generation, Limits, Listener, Logging, Server, WebSocketLimits
from serverd.messages import Drain, decode, encode
from serverd.worker.serving import Serving
from tests.support.applications import Call
from tests.support.frames import TEXT, close, frame
from tests.support.wire import MemoryTransport, SessionWire, frames_of, handshake

PATIENCE = 10.0  # s: graceful_timeout
GOING_AWAY, SERVICE_RESTART = (0x88, (1001).to_bytes(2, "big")), (0x88, (1012).to_bytes(2, "big"))
LIMITS = Limits(websocket=WebSocketLimits(ping_interval=0))


class Scene:
    """A worker with one listener, whose connections are in memory."""

    def __init__(self) -> None:
        self.wire = SessionWire(limits=LIMITS)
        listener = Listener("web", (), 1, LIMITS)
        generation = Generation("server.toml", Server(), (listener,), (), (), Logging())
        self.serving = Serving(self.wire.loop, generation, {})
        self.serving._services["web"] = self.wire.service
        self.draining: asyncio.Task[None] | None = None

    def enter(self) -> tuple[Call, MemoryTransport]:
        """Open another session."""
        self.wire.connect()
        self.wire.accept()
        return self.wire.call, self.wire.transport

    def drain(self, replaced: bool = False) -> None:
        self.draining = self.wire.run(self.serving.drain(PATIENCE, replaced))

    def advance(self, seconds: float) -> None:
        """Let time pass, a sweep of the drain at a time."""
        for _ in range(round(seconds / 0.05)):
            self.wire.loop.now += 0.0501
            self.wire.settle()

    @property
    def is_drained(self) -> bool:
        assert self.draining is not None
        return self.draining.done()


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    caplog.set_level(logging.INFO)
    scene = Scene()
    with scene.wire:
        scene.wire.lose()  # what the wire has opened by itself
        yield scene
        if scene.draining is not None:
            scene.advance(PATIENCE + 5)
            assert scene.is_drained
            scene.draining.result()


def said_to(transport: MemoryTransport) -> list[tuple[int, bytes]]:
    """Return the frames that have been written since the last look."""
    data = bytes(transport.written)
    transport.written.clear()
    return frames_of(data)


def received(scene: Scene, call: Call) -> dict[str, Any]:
    task = scene.wire.run(call.receive())
    assert task.done(), "nothing to receive"
    message: dict[str, Any] = task.result()
    return message


def test_without_sessions_a_drain_waits_for_nothing(scene: Scene) -> None:
    scene.drain()
    scene.advance(0.1)
    assert scene.is_drained


@pytest.mark.parametrize(("replaced", "code"), [(True, SERVICE_RESTART), (False, GOING_AWAY)])
def test_sessions_stay_until_the_end_of_the_drain_and_are_closed_with_its_code(
    scene: Scene, replaced: bool, code: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    sessions = [scene.enter() for _ in range(3)]
    scene.drain(replaced)
    scene.advance(PATIENCE - 0.5)
    for call, transport in sessions:
        assert said_to(transport) == []
        assert scene.wire.run(call.send({"type": "websocket.send", "text": "on"})).exception() is None
        assert said_to(transport) == [(0x81, b"on")]
        transport.deliver(frame(TEXT, b"in"))
        assert received(scene, call)["text"] == "in"
    scene.advance(0.6)
    for call, transport in sessions:
        assert said_to(transport) == [code]
        assert received(scene, call) == {
            "type": "websocket.disconnect",
            "code": int.from_bytes(code[1], "big"),
            "reason": "",
        }
        assert not transport.eof
        transport.deliver(close(1000))
        assert transport.eof
        call.finish()
    scene.advance(0.2)
    for _, transport in sessions:
        transport.deliver_eof()
    scene.advance(0.2)
    assert scene.is_drained
    number = int.from_bytes(code[1], "big")
    assert caplog.messages == [f"closing 3 WebSockets with {number}"]


def test_a_drain_ends_with_its_last_session(scene: Scene) -> None:
    call, transport = scene.enter()
    scene.drain()
    scene.advance(1)
    transport.deliver(close(1000))
    transport.deliver_eof()
    scene.advance(0.5)
    assert not scene.is_drained  # its application still runs
    call.finish()
    scene.advance(0.1)
    assert scene.is_drained


def test_an_application_that_does_not_return_is_cut_and_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    call, transport = scene.enter()
    scene.drain()
    scene.advance(PATIENCE + 0.5)
    assert said_to(transport) == [GOING_AWAY]
    assert not call.end.done()
    scene.advance(0.7)
    assert call.end.cancelled()
    assert transport.closed
    assert scene.is_drained
    assert caplog.messages[0] == "closing 1 WebSocket with 1001"
    assert "cut after draining for 10 s: WebSocket GET /chat" in caplog.messages[1]
    assert "Traceback" not in caplog.text


def test_a_peer_that_does_not_answer_is_cut_after_a_second(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    call, transport = scene.enter()
    scene.drain()
    scene.advance(PATIENCE + 0.2)
    assert received(scene, call)["code"] == 1001
    call.finish()
    scene.advance(0.5)
    assert not transport.closed
    scene.advance(1)
    assert transport.closed
    assert scene.is_drained
    assert len(caplog.messages) == 1


def test_an_application_that_says_goodbye_itself_has_the_last_word(scene: Scene) -> None:
    call, transport = scene.enter()
    scene.drain()
    scene.advance(1)
    scene.wire.run(call.send({"type": "websocket.close", "code": 4000, "reason": "come back"}))
    assert said_to(transport) == [(0x88, b"\x0f\xa0come back")]
    call.finish()
    scene.advance(PATIENCE)
    assert said_to(transport) == []


@pytest.mark.parametrize("begun", [False, True], ids=["nothing sent", "a refusal under way"])
def test_a_handshake_that_is_not_answered_is_cut_like_any_request(
    scene: Scene, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scene.wire.connect()
    scene.wire.send(handshake())
    if begun:
        scene.wire.tell("http.response.start", status=403, headers=[])
        scene.wire.tell("http.response.body", body=b"x", more_body=True)
    scene.drain()
    scene.advance(PATIENCE + 2)
    assert scene.wire.call.end.cancelled()
    assert scene.wire.transport.closed
    assert scene.wire.received() == b""
    [line] = caplog.messages
    assert line.startswith("cut after draining for 10 s: GET /chat (app test, ")


def test_a_session_that_begins_during_the_drain_is_closed_at_its_end_too(scene: Scene) -> None:
    scene.wire.connect()
    scene.wire.send(handshake())
    scene.drain(replaced=True)
    scene.advance(1)
    scene.wire.tell("accept")
    scene.advance(PATIENCE - 0.5)
    assert said_to(scene.wire.transport) == [SERVICE_RESTART]


def test_sessions_are_seen_beside_the_requests_in_flight(scene: Scene) -> None:
    scene.enter()
    [session] = scene.serving.sessions()
    assert scene.serving.exchanges() == []
    assert scene.serving.in_flight.look() == 0  # a session is not in flight
    assert scene.serving.in_flight.of_task(session.task) is session  # but may be what blocks the loop
    assert scene.serving.connections == 1
    assert scene.serving.requests == 1


def test_a_listener_that_goes_keeps_its_sessions(scene: Scene) -> None:
    call, transport = scene.enter()

    async def adopt() -> None:
        other = Listener("other", (), 1, LIMITS)
        await scene.serving.adopt(Generation("server.toml", Server(), (other,), (), (), Logging(), number=2), (), ())

    for number in range(3):  # and goes on keeping them at every further reload
        assert scene.wire.run(adopt()).exception() is None
        scene.advance(5)
        assert scene.wire.run(call.send({"type": "websocket.send", "text": str(number)})).exception() is None
        assert said_to(transport) == [(0x81, b"%d" % number)]
    assert scene.serving.connections == 1
    scene.drain(replaced=True)
    scene.advance(PATIENCE + 0.2)
    assert said_to(transport) == [SERVICE_RESTART]


def test_a_reload_that_adopts_in_place_touches_no_session(scene: Scene) -> None:
    call, transport = scene.enter()
    nobody = Endpoint(scene.wire.manual, "other")
    listener = Listener("web", (), 1, Limits(websocket=WebSocketLimits(queue=1, message_size=125)))
    service = scene.wire.service
    service.adopt(Router([], nobody, nobody, nobody), listener, service.parser)
    transport.deliver(frame(TEXT, bytes(1000)))
    assert len(received(scene, call)["text"]) == 1000
    assert said_to(transport) == []


@pytest.mark.parametrize("replaced", [True, False])
def test_what_the_supervisor_says_survives_the_channel(replaced: bool) -> None:
    assert decode(encode(Drain(3.0, replaced)).rstrip(b"\n")) == Drain(3.0, replaced)
