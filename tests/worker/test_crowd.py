"""limits.connections with connections_beyond = "wait": how many a worker accepts, and what a reload does to it.

On both event loops, because they accept differently: asyncio empties a queue at once, uvloop takes one connection
per turn.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from serverd.asgi.scope import Endpoint
from serverd.generation import App, AppTarget, Generation, Limits, Listener, Logging, Mount, Server
from serverd.messages import SocketGrant
from serverd.worker import acceptors
from serverd.worker.serving import Serving

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
TIMEOUT = 10.0  # s: a bound
REQUEST = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
# What may be accepted beyond the limit, one in each turn of the loop until it has ceased to accept: a connection is
# seen some turns after it was accepted, and uvloop goes on for three more.
OVERSHOOT = 4


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        sock.setblocking(False)
        yield sock


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def generation(limits: Limits, **listener: Any) -> Generation:
    return Generation(
        "server.toml",
        Server(),
        (Listener("web", (), 100, limits, **listener),),
        (App("app", "m:app", "/"),),
        (Mount("/", (), ("web",), AppTarget("app", "")),),
        Logging(),
    )


class Scene:
    """A worker that serves the socket, and its clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listening: socket.socket, limits: Limits) -> None:
        self.loop = loop
        self.listening = listening
        self.clients: list[socket.socket] = []
        self.serving = Serving(loop, generation(limits), {"app": Endpoint(hello, "app")})

    async def open(self) -> None:
        await self.serving.open([SocketGrant("web", 0)], [os.dup(self.listening.fileno())])

    async def adopt(self, limits: Limits, **listener: Any) -> None:
        await self.serving.adopt(
            generation(limits, **listener), [SocketGrant("web", 0)], [os.dup(self.listening.fileno())]
        )

    async def connect(self, count: int) -> None:
        """Open connections, all of which are in the queue before the loop turns; each sends a request."""
        for _ in range(count):
            client = socket.create_connection(self.listening.getsockname(), timeout=TIMEOUT)
            client.sendall(REQUEST)
            client.setblocking(False)
            self.clients.append(client)
        await self.rest()

    async def rest(self) -> None:
        """Let the loop turn until whoever is to be answered has been."""
        for _ in range(40):
            await asyncio.sleep(0.0005)

    async def leave(self, count: int) -> None:
        """Let the oldest clients that have been answered leave."""
        for client in [client for client in self.clients if is_answered(client)][:count]:
            client.close()
            self.clients.remove(client)
        await self.rest()

    def answered(self) -> int:
        return sum(is_answered(client) for client in self.clients)

    async def end(self) -> None:
        for client in self.clients:
            client.close()
        await self.serving.close()
        await self.serving.drain(1.0)


def is_answered(client: socket.socket) -> bool:
    """Tell whether the response is there, and leave it there."""
    try:
        return client.recv(100, socket.MSG_PEEK).startswith(b"HTTP/1.1 200 ")
    except BlockingIOError:
        return False


def play(
    loop_factory: LoopFactory,
    listening: socket.socket,
    limits: Limits,
    act: Callable[[Scene], Coroutine[Any, Any, None]],
) -> None:
    async def run() -> None:
        scene = Scene(asyncio.get_running_loop(), listening, limits)
        await scene.open()
        try:
            await act(scene)
        finally:
            await scene.end()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def wait_limit(count: int) -> Limits:
    return Limits(connections=count, connections_beyond="wait")


@FACTORIES
@pytest.mark.parametrize("limit", [1, 4, 20])
def test_no_more_are_accepted_at_the_limit_and_one_that_ends_makes_room(
    loop_factory: LoopFactory, listening: socket.socket, limit: int
) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(limit + 10)
        assert limit <= scene.answered() <= limit + OVERSHOOT
        assert scene.serving.connections == scene.answered()
        left = limit + 10
        while left > limit + OVERSHOOT:
            await scene.leave(1)
            left -= 1
            assert scene.answered() <= limit + OVERSHOOT
        await scene.leave(OVERSHOOT + 1)
        await scene.leave(OVERSHOOT + 1)
        assert scene.answered() == len(scene.clients), "those that had to wait have all been served"

    play(loop_factory, listening, wait_limit(limit), act)


@FACTORIES
def test_all_come_through_in_the_end_though_one_at_a_time(loop_factory: LoopFactory, listening: socket.socket) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(30)
        async with asyncio.timeout(TIMEOUT):
            while scene.clients:
                await scene.leave(100)

    play(loop_factory, listening, wait_limit(1), act)


@FACTORIES
def test_a_limit_that_comes_with_a_reload_holds_for_an_open_socket(
    loop_factory: LoopFactory, listening: socket.socket
) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(2)
        assert scene.answered() == 2
        await scene.adopt(wait_limit(4))
        await scene.connect(20)
        assert 4 <= scene.answered() <= 4 + OVERSHOOT
        await scene.adopt(wait_limit(8))
        await scene.rest()
        assert 8 <= scene.answered() <= 8 + OVERSHOOT
        await scene.adopt(Limits())
        await scene.rest()
        assert scene.answered() == 22

    play(loop_factory, listening, Limits(), act)


@FACTORIES
def test_a_limit_that_is_lowered_cuts_nobody_and_accepts_nobody(
    loop_factory: LoopFactory, listening: socket.socket
) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(6)
        await scene.adopt(wait_limit(2))
        await scene.connect(4)
        assert scene.answered() == 6
        await scene.leave(4)
        assert scene.answered() == 2
        await scene.leave(1)
        assert scene.answered() >= 2

    play(loop_factory, listening, Limits(), act)


@FACTORIES
def test_a_reload_from_wait_to_refuse_tells_those_beyond(loop_factory: LoopFactory, listening: socket.socket) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(10)
        open_before = scene.answered()
        await scene.adopt(Limits(connections=2))
        await scene.rest()
        assert scene.answered() == open_before
        refused = [client for client in scene.clients if not is_answered(client)]
        assert len(refused) == 10 - open_before
        assert all(client.recv(100).startswith(b"HTTP/1.1 503 ") for client in refused)

    play(loop_factory, listening, wait_limit(2), act)


@FACTORIES
def test_whom_to_believe_changes_with_a_reload_for_new_connections(
    loop_factory: LoopFactory, listening: socket.socket
) -> None:
    async def act(scene: Scene) -> None:
        await scene.connect(1)
        assert scene.answered() == 1
        await scene.adopt(Limits(), trusted_proxies=("10.0.0.1",), proxy_protocol=True)
        await scene.connect(1)
        with scene.clients.pop() as client, pytest.raises(ConnectionResetError):
            client.recv(100)  # this peer may not send a header, and does not
        assert scene.answered() == 1
        await scene.adopt(Limits())
        await scene.connect(1)
        assert scene.answered() == 2

    play(loop_factory, listening, Limits(), act)


@FACTORIES
def test_a_crowd_does_not_hold_up_the_end(
    loop_factory: LoopFactory, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptors, "_QUEUE_TIMEOUT", 0.1)  # s, instead of 1: the queue does not become empty

    async def act(scene: Scene) -> None:
        await scene.connect(10)
        async with asyncio.timeout(TIMEOUT):
            await scene.serving.close()
            await scene.serving.drain(3.0)
        assert scene.serving.connections == 0

    play(loop_factory, listening, wait_limit(2), act)
