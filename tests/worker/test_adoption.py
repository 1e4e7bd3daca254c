"""Another generation in the place of the one that is served: connections stay, routes and limits are the new ones."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from serverd.asgi.scope import Endpoint
from serverd.generation import (
    App,
    AppTarget,
    Generation,
    Limits,
    Listener,
    Logging,
    Mount,
    RespondTarget,
    Server,
)
from serverd.messages import SocketGrant
from serverd.worker.serving import Serving

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
TIMEOUT = 10.0  # s: a bound


def listener(name: str, **limits: Any) -> Listener:
    return Listener(name, (), 64, Limits(**limits))


def responds(body: str, path: str = "/", listeners: tuple[str, ...] = ("web",)) -> Mount:
    return Mount(path, (), listeners, RespondTarget(200, body, ()))


BASE = Generation(
    "/server.toml",
    Server(),
    (listener("web"),),
    (App("shop", "shop:app", "/"),),
    (responds("old"), Mount("/app", (), ("web",), AppTarget("shop", "/app"))),
    Logging(),
    number=1,
)


class Client:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def get(self, path: str = "/") -> tuple[bytes, bytes]:
        """Return head and body of the answer to a request."""
        self.ask(path)
        return await self.answer()

    def ask(self, path: str, more: bytes = b"") -> None:
        self.writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), more))

    async def answer(self) -> tuple[bytes, bytes]:
        async with asyncio.timeout(TIMEOUT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            return head, await self.reader.readexactly(length)

    async def at_end(self) -> bool:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read(1) == b""


class Scene:
    """A worker that serves BASE on one socket per listener; the application waits for `release`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sockets: dict[str, socket.socket] = {}
        self.clients: list[Client] = []
        self.release = asyncio.Event()
        self.begun = asyncio.Event()
        self.serving = Serving(loop, BASE, {"shop": Endpoint(self.application, "shop")})

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.set()
        await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    def handed(self, generation: Generation) -> tuple[list[SocketGrant], list[int]]:
        """Return the sockets of a generation as they come with a message."""
        names = [listener.name for listener in generation.listeners]
        for name in names:
            if name not in self.sockets:
                self.sockets[name] = socket.create_server(("127.0.0.1", 0))
        return [SocketGrant(name, 0) for name in names], [os.dup(self.sockets[name].fileno()) for name in names]

    async def adopt(self, **changes: Any) -> None:
        generation = replace(BASE, number=2, **changes)
        await self.serving.adopt(generation, *self.handed(generation))

    async def connect(self, name: str = "web") -> Client:
        self.clients.append(Client(*await asyncio.open_connection(*self.sockets[name].getsockname())))
        return self.clients[-1]

    async def end(self) -> None:
        self.release.set()
        await self.serving.close()
        await self.serving.drain(0.0)
        for client in self.clients:
            client.writer.close()
            await client.writer.wait_closed()
        for sock in self.sockets.values():
            sock.close()


def play(loop_factory: LoopFactory, act: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        scene = Scene(asyncio.get_running_loop())
        await scene.serving.open(*scene.handed(BASE))
        try:
            await act(scene)
        finally:
            await scene.end()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


@FACTORIES
def test_a_keep_alive_connection_finds_the_new_routes_at_its_next_request(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        client = await scene.connect()
        assert (await client.get())[1] == b"old"
        await scene.adopt(mounts=(responds("new"), responds("more", "/more")))
        head, body = await client.get()
        assert body == b"new"
        assert b"connection: close" not in head
        assert (await client.get("/more"))[1] == b"more"
        assert scene.serving.requests == 3

    play(loop_factory, act)


@FACTORIES
def test_a_request_in_flight_is_not_touched(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        client = await scene.connect()
        client.ask("/app")
        await scene.begun.wait()
        await scene.adopt(mounts=(responds("new"),))
        assert [exchange.endpoint.name for exchange in scene.serving.exchanges()] == ["shop"]
        scene.release.set()
        head, body = await client.answer()
        assert body == b"done"
        assert b"connection: close" not in head
        assert (await client.get("/app"))[1] == b"new"

    play(loop_factory, act)


@FACTORIES
def test_fields_of_the_server_come_and_go_on_open_connections(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        client = await scene.connect()
        for server, date in ((True, True), (False, True), (False, False), (True, False), (True, True)):
            await scene.adopt(server=Server(server_header=server, date_header=date))
            scene.serving._sweep()  # must not bring it back
            head, _ = await client.get()
            assert (b"server: serverd" in head, b"date: " in head) == (server, date)

    play(loop_factory, act)


@FACTORIES
def test_limits_are_the_new_ones_for_open_connections_in_time_and_for_new_ones_in_size(
    loop_factory: LoopFactory,
) -> None:
    async def act(scene: Scene) -> None:
        old = await scene.connect()
        await old.get()
        await scene.adopt(listeners=(listener("web", header_count=2, keep_alive_timeout=0.0),))
        more = b"A: 1\r\nB: 2\r\n"
        old.ask("/", more)
        assert (await old.answer())[0].startswith(b"HTTP/1.1 200 ")
        scene.serving._sweep()
        assert await old.at_end()  # by the new keep_alive_timeout
        new = await scene.connect()
        new.ask("/", more)
        assert (await new.answer())[0].startswith(b"HTTP/1.1 431 ")

    play(loop_factory, act)


@FACTORIES
@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_new_connections_have_the_new_parser(loop_factory: LoopFactory, parser: str) -> None:
    async def act(scene: Scene) -> None:
        await scene.adopt(server=Server(http1_parser=parser))
        service = scene.serving._services["web"]
        assert parser in type(service.parser).__module__
        assert (await (await scene.connect()).get())[1] == b"old"

    play(loop_factory, act)


@FACTORIES
def test_a_new_listener_is_served(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        await scene.adopt(
            listeners=(listener("web"), listener("site")),
            mounts=(responds("old"), responds("site", listeners=("site",))),
        )
        assert (await (await scene.connect("site")).get())[1] == b"site"
        assert (await (await scene.connect("web")).get())[1] == b"old"

    play(loop_factory, act)


SITE = {"listeners": (listener("site"),), "mounts": (responds("site", listeners=("site",)),)}


@FACTORIES
def test_the_connections_of_a_listener_that_goes_are_invited_to_leave_and_none_is_cut(
    loop_factory: LoopFactory,
) -> None:
    async def act(scene: Scene) -> None:
        busy, late, idle = [await scene.connect() for _ in range(3)]
        await late.get()
        await idle.get()
        busy.ask("/app")
        await scene.begun.wait()
        await scene.adopt(**SITE)
        head, body = await late.get()  # which was on the wire: it knew nothing
        assert body == b"old"
        assert b"connection: close" in head
        assert await idle.at_end()  # by the rule of the drain, after a second
        assert [exchange.description for exchange in scene.serving.exchanges()] == ["GET /app"]
        scene.release.set()
        head, body = await busy.answer()
        assert body == b"done"
        assert b"connection: close" in head
        assert await busy.at_end()
        assert scene.serving.requests == 4

    play(loop_factory, act)


@FACTORIES
def test_what_is_queued_on_a_listener_that_goes_is_answered(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        with socket.create_connection(scene.sockets["web"].getsockname(), TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await scene.adopt(**SITE)
            client.setblocking(False)
            async with asyncio.timeout(TIMEOUT):
                answer = await scene.loop.sock_recv(client, 1000)
        assert answer.endswith(b"old")
        assert b"connection: close" in answer

    play(loop_factory, act)


@FACTORIES
def test_a_listener_that_has_gone_is_forgotten_with_its_last_connection_and_its_requests_still_count(
    loop_factory: LoopFactory,
) -> None:
    async def act(scene: Scene) -> None:
        client = await scene.connect()
        await client.get()
        await scene.adopt(**SITE)
        await client.get()
        assert await client.at_end()
        client.writer.close()
        await client.writer.wait_closed()
        await asyncio.sleep(0)  # the connection was closed by the server: only its end is to be told
        assert scene.serving.connections == 0
        await scene.adopt(**SITE)
        assert scene.serving._leaving == []
        assert scene.serving.requests == 2

    play(loop_factory, act)


@FACTORIES
def test_a_drain_waits_for_the_connections_of_a_listener_that_went(loop_factory: LoopFactory) -> None:
    async def act(scene: Scene) -> None:
        client = await scene.connect()
        client.ask("/app")
        await scene.begun.wait()
        await scene.adopt(**SITE)
        await scene.serving.close()
        draining = asyncio.create_task(scene.serving.drain(TIMEOUT))
        await asyncio.wait({draining}, timeout=0.2)
        assert not draining.done()
        scene.release.set()
        assert (await client.answer())[1] == b"done"
        client.writer.close()
        await draining

    play(loop_factory, act)
