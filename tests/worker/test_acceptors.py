"""The listening sockets of a worker: on which it accepts, and that no connection is lost when it leaves one.

On both event loops, because they accept differently: asyncio empties a queue at once, uvloop takes one connection
per turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serverd.asgi import builtin
from serverd.asgi.scope import Endpoint
from serverd.connection.service import Service
from serverd.generation import Limits
from serverd.messages import EVERY_SLOT, SocketGrant
from serverd.protocol.http1_httptools import HttptoolsParser
from serverd.protocol.http1_response import DefaultFields
from serverd.worker import room
from serverd.worker.acceptors import Acceptors
from tests.support.wire import router_to

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
BACKLOG = 64
REQUEST = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TIMEOUT = 10.0  # s: a bound
# Of the loop, while which a connection stays in the queue if nobody accepts: a queue that is watched is empty before.
TURNS = 60


class Sockets:
    """Sockets as the supervisor has them: they stay open when the worker has closed its own."""

    def __init__(self) -> None:
        self.open: list[socket.socket] = []

    def bind(self, listening: bool = True) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen(BACKLOG)
        self.open.append(sock)
        return sock


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    for sock in sockets.open:
        sock.close()


class Scene:
    """A worker in slot 0 with the listeners `web` and `site`, each of which answers with its name."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.services = {name: self.service(name) for name in ("web", "site")}
        self.acceptors = Acceptors(loop, 0, lambda: 0, lambda: None)

    def service(self, name: str) -> Service:
        endpoint = Endpoint(builtin.respond(200, name.encode(), []), "serverd")
        service = Service(self.loop, router_to(endpoint), Limits(), DefaultFields(), HttptoolsParser())
        service.backlog = BACKLOG
        return service

    async def hold(self, *held: tuple[str, int, socket.socket]) -> None:
        grants = [SocketGrant(listener, slot) for listener, slot, _ in held]
        await self.acceptors.hold(grants, [os.dup(sock.fileno()) for _, _, sock in held], self.services)

    async def answer(self, sock: socket.socket) -> bytes:
        """Return the body of the answer on a new connection; empty when it stays in the queue."""
        data = b""
        with connect(sock) as client:
            client.setblocking(False)
            reading = asyncio.ensure_future(self.loop.sock_recv(client, 1000))
            for _ in range(TURNS):
                await asyncio.sleep(0.0005)
                if reading.done():
                    break
            if not reading.done() and is_queued(sock):
                reading.cancel()
                await asyncio.wait([reading])
                return b""
            async with asyncio.timeout(TIMEOUT):
                while part := await reading:
                    data += part
                    reading = asyncio.ensure_future(self.loop.sock_recv(client, 1000))
        return data.rpartition(b"\r\n\r\n")[2]

    async def end(self) -> None:
        await self.acceptors.close()
        for service in self.services.values():
            for connection in list(service.connections):
                connection.cut()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def play(loop_factory: LoopFactory, act: Callable[[Scene], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        scene = Scene(asyncio.get_running_loop())
        try:
            return await act(scene)
        finally:
            await scene.end()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


def connect(listening: socket.socket) -> socket.socket:
    """Return a client with a request; its connection is in the queue."""
    client = socket.create_connection(listening.getsockname(), timeout=TIMEOUT)
    client.sendall(REQUEST)
    return client


def is_answered(client: socket.socket) -> bool:
    """Tell whether the response is there, without waiting for it."""
    client.setblocking(False)
    with client, contextlib.suppress(BlockingIOError, ConnectionResetError):
        return client.recv(1000).startswith(b"HTTP/1.1 200 ")
    return False


def is_queued(listening: socket.socket) -> bool:
    """Tell whether a connection is in the queue, and leave it there."""
    return bool(select.select([listening], [], [], 0)[0])


def waiting(listening: socket.socket) -> int:
    """Return how many connections are in the queue, and take them out."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


# On which sockets


@FACTORIES
def test_it_accepts_on_its_own_slot_and_on_what_all_share_and_on_nothing_else(
    sockets: Sockets, loop_factory: LoopFactory
) -> None:
    own, other, shared = (sockets.bind() for _ in range(3))

    async def act(scene: Scene) -> None:
        await scene.hold(("web", 0, own), ("web", 1, other), ("site", EVERY_SLOT, shared))
        assert [await scene.answer(sock) for sock in (own, other, shared)] == [b"web", b"", b"site"]

    play(loop_factory, act)
    assert waiting(other) == 1


@FACTORIES
def test_it_covers_the_slots_it_is_told_to_until_it_is_told_otherwise(
    sockets: Sockets, loop_factory: LoopFactory
) -> None:
    slots = [sockets.bind() for _ in range(4)]

    async def act(scene: Scene) -> None:
        await scene.hold(*(("web", slot, sock) for slot, sock in enumerate(slots)))
        answers = []
        for covered in ((), (1, 2), (2, 3), ()):
            await scene.acceptors.cover(covered)
            answers.append([await scene.answer(sock) for sock in slots])
        assert [[bool(answer) for answer in row] for row in answers] == [
            [True, False, False, False],
            # What had waited for nobody is answered meanwhile, too.
            [True, True, True, False],
            [True, False, True, True],
            [True, False, False, False],
        ]

    play(loop_factory, act)


@FACTORIES
def test_a_queue_that_had_to_wait_is_answered_as_soon_as_it_is_covered(
    sockets: Sockets, loop_factory: LoopFactory
) -> None:
    own, late = sockets.bind(), sockets.bind()
    clients = [connect(late) for _ in range(20)]

    async def act(scene: Scene) -> list[bool]:
        await scene.hold(("web", 0, own), ("web", 1, late))
        await scene.acceptors.cover((1,))
        await scene.answer(late)
        return [is_answered(client) for client in clients]

    assert play(loop_factory, act) == [True] * 20


@FACTORIES
def test_a_covered_socket_that_never_listened_listens(sockets: Sockets, loop_factory: LoopFactory) -> None:
    own, fresh = sockets.bind(), sockets.bind(listening=False)

    async def act(scene: Scene) -> bytes:
        await scene.hold(("web", 0, own), ("web", 1, fresh))
        with pytest.raises(ConnectionRefusedError):
            connect(fresh)
        await scene.acceptors.cover((1,))
        return await scene.answer(fresh)

    assert play(loop_factory, act) == b"web"


@FACTORIES
def test_unix_sockets_are_accepted_on_and_their_path_is_left_alone(tmp_path: Path, loop_factory: LoopFactory) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as client:
        sock.bind(path)

        async def act(scene: Scene) -> bytes:
            await scene.hold(("web", EVERY_SLOT, sock))
            client.connect(path)
            client.setblocking(False)
            await scene.loop.sock_sendall(client, REQUEST)
            return await scene.loop.sock_recv(client, 12)

        assert play(loop_factory, act) == b"HTTP/1.1 200"
    assert os.path.exists(path)


# Another list


@FACTORIES
def test_a_socket_that_is_handed_over_again_is_known_and_nothing_stays_open(
    sockets: Sockets, loop_factory: LoopFactory
) -> None:
    own, other = sockets.bind(), sockets.bind()

    async def act(scene: Scene) -> None:
        await scene.hold(("web", 0, own), ("web", 1, other))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await scene.hold(("web", 1, other), ("web", 0, own))
        assert len(os.listdir("/proc/self/fd")) == before
        assert await scene.answer(own) == b"web"

    play(loop_factory, act)


@FACTORIES
def test_a_socket_that_changes_its_slot_or_listener_is_served_accordingly(
    sockets: Sockets, loop_factory: LoopFactory
) -> None:
    one, two = sockets.bind(), sockets.bind()

    async def act(scene: Scene) -> None:
        await scene.hold(("web", 0, one), ("web", 1, two))
        await scene.hold(("web", 1, one), ("site", 0, two))
        assert [await scene.answer(sock) for sock in (one, two)] == [b"", b"site"]

    play(loop_factory, act)


@FACTORIES
@pytest.mark.parametrize("count", [1, 20])
def test_what_is_queued_on_a_socket_that_goes_is_answered(
    sockets: Sockets, loop_factory: LoopFactory, count: int
) -> None:
    own, going = sockets.bind(), sockets.bind()

    async def act(scene: Scene) -> list[bool]:
        await scene.hold(("web", 0, own), ("site", 0, going))
        clients = [connect(going) for _ in range(count)]
        await scene.hold(("web", 0, own))
        assert await scene.answer(going) == b""
        await scene.answer(own)
        return [is_answered(client) for client in clients]

    assert play(loop_factory, act) == [True] * count
    assert waiting(going) == 1  # which came when it had gone


@FACTORIES
def test_the_length_of_the_queue_follows_the_listener(sockets: Sockets, loop_factory: LoopFactory) -> None:
    own, other = sockets.bind(), sockets.bind()

    async def act(scene: Scene) -> int:
        await scene.hold(("web", 0, own), ("web", 1, other))
        scene.services["web"].backlog = 7
        await scene.hold(("web", 0, own), ("web", 1, other))
        # tcp(7): of a listening socket tcpi_sacked is the length of its queue; it is the eighth 32-bit word.
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int.from_bytes(info[28:32], "little")

    assert play(loop_factory, act) == 7


def test_one_socket_that_cannot_be_accepted_on_keeps_no_other_from_it(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = sockets.bind(), sockets.bind()

    async def act(scene: Scene) -> None:
        create_server = scene.loop.create_server

        async def refusing(*args: Any, sock: socket.socket, **options: Any) -> Any:
            if sock.getsockname() == bad.getsockname():
                sock.close()
                raise OSError("too many open files")
            return await create_server(*args, sock=sock, **options)

        with monkeypatch.context() as patch:
            patch.setattr(scene.loop, "create_server", refusing)
            with pytest.raises(OSError, match="too many open files"):
                await scene.hold(("web", 0, bad), ("web", 0, good))
        assert await scene.answer(good) == b"web"
        await scene.acceptors.cover(())  # tries again
        assert await scene.answer(bad) == b"web"

    play(asyncio.new_event_loop, act)


# Leaving a socket


@FACTORIES
@pytest.mark.parametrize(("turns", "count"), [*((turns, 1) for turns in range(6)), (0, BACKLOG)])
def test_a_connection_in_the_queue_is_answered_before_the_worker_leaves(
    sockets: Sockets, loop_factory: LoopFactory, turns: int, count: int
) -> None:
    listening = sockets.bind()

    async def act(scene: Scene) -> list[bool]:
        await scene.hold(("web", 0, listening))
        clients = [connect(listening) for _ in range(count)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await scene.acceptors.close()
        await settle()
        return [is_answered(client) for client in clients]

    assert play(loop_factory, act) == [True] * count


@FACTORIES
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("leave", ["close", "uncover", "remove"])
def test_a_connection_that_comes_meanwhile_is_answered_or_left_to_the_next_worker(
    sockets: Sockets, loop_factory: LoopFactory, turns: int, count: int, leave: str
) -> None:
    own, left = sockets.bind(), sockets.bind()
    clients = []

    async def connect_meanwhile() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(count):
            clients.append(connect(left))
            await asyncio.sleep(0)

    async def act(scene: Scene) -> int:
        await scene.hold(("web", 0, own), ("web", 1, left))
        await scene.acceptors.cover((1,))
        connecting = asyncio.create_task(connect_meanwhile())
        if leave == "close":
            await scene.acceptors.close()
        elif leave == "uncover":
            await scene.acceptors.cover(())
        else:
            await scene.hold(("web", 0, own))
        await connecting
        await settle()
        return sum([is_answered(client) for client in clients])

    answered = play(loop_factory, act)
    assert answered + waiting(left) == count
    for client in clients:
        client.close()


async def settle() -> None:
    """Let the loop turn until what it has accepted is answered."""
    for _ in range(20):
        await asyncio.sleep(0.001)


# Descriptors that run out


@FACTORIES
def test_without_descriptors_connections_wait_and_are_neither_reset_nor_complained_of(
    loop_factory: LoopFactory, sockets: Sockets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listening = sockets.bind()
    used = 100
    monkeypatch.setattr(room, "_limit", lambda: 200)
    monkeypatch.setattr(room, "_count", lambda: used)

    async def act(scene: Scene) -> list[bytes]:
        nonlocal used
        scene.acceptors = Acceptors(
            scene.loop, 0, lambda: 80, lambda: settling.append(scene.loop.create_task(settle()))
        )
        settling: list[asyncio.Task[None]] = []

        async def settle() -> None:
            await scene.acceptors.settle()

        await scene.hold(("web", 0, listening))
        answers = [await scene.answer(listening)]
        used = 180
        scene.acceptors.look()
        await asyncio.gather(*settling)
        answers.append(await scene.answer(listening))
        used = 100
        scene.acceptors.look()
        await asyncio.gather(*settling)
        answers.append(await scene.answer(listening))
        return answers

    assert play(loop_factory, act) == [b"web", b"", b"web"]
    assert [record.name for record in caplog.records] == ["serverd.worker"]
