"""The drain of the real worker as supervisor and clients see it: what is accepted, until when, and who is told.

On both event loops, because they accept differently: asyncio empties a queue at once, uvloop takes one
connection per turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Mount, RespondTarget, Server
from serverd.messages import SocketGrant
from serverd.worker.serving import Serving
from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.load import Load

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)

REQUEST = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BACKLOG = 64

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def configuration(probe: str, loop: str, workers: int) -> str:
    return f'[server]\nloop = "{loop}"\nworkers = {workers}\n\n{probe}'


# Reload


@LOOPS
def test_after_the_line_that_tells_of_a_reload_no_connection_reaches_an_old_worker(
    serve: Serve, probe: str, loop: str
) -> None:
    server = serve(configuration(probe, loop, workers=2))
    with Load(server.address(), "/hello", fresh=2, keep_alive=0) as load:  # keeps the queues from being empty
        for _ in range(5):
            load.wait_for_answers(10)
            old = server.workers()
            assert server.reload().message.startswith("reloaded: ")
            assert {int(get(server.address(), "/pid").body) for _ in range(20)}.isdisjoint(old)
            for pid in old:
                processes.wait_for_end(pid)
    assert load.failures == []


@LOOPS
def test_the_line_waits_for_an_old_worker_that_does_not_hear_of_its_drain(
    serve: Serve, probe: str, tmp_path: Path, loop: str
) -> None:
    server = serve(configuration(probe, loop, workers=1))
    [old] = server.workers()
    mark = server.mark()
    os.kill(old, signal.SIGSTOP)
    unix = tmp_path / "s"
    server.file.write_text(server.file.read_text().replace('"127.0.0.1:0"', f'["127.0.0.1:0", "unix:{unix}"]'))
    server.send_signal(signal.SIGHUP)
    server.wait_for(f"listener web: listening on unix:{unix}", since=mark)  # it is committed
    server.send_signal(signal.SIGHUP)
    server.wait_for("reload queued: HUP received before the last generation has drained", since=mark)
    assert "reloaded" not in server.text(mark)
    os.kill(old, signal.SIGCONT)
    server.wait_for("reloaded: generation 2 is serving", since=mark)
    assert int(get(server.address(), "/pid").body) != old
    server.wait_for("reloaded: generation 3 is serving", since=mark)


def test_the_line_does_not_wait_for_what_is_in_flight(serve: Serve, probe: str) -> None:
    server = serve(probe)
    [old] = server.workers()
    with Client(server.address()) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        assert client.head().status == 200
        assert server.reload().message == "reloaded: generation 2 is serving"
        assert not processes.has_ended(old)
        client.send(b"b")
        processes.wait_for_end(old)


# SIGTERM to a worker, by somebody who does not ask the supervisor


@LOOPS
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_an_operator_terminates_is_replaced_and_no_connection_is_lost(
    serve: Serve, probe: str, loop: str, workers: int
) -> None:
    server = serve(configuration(probe, loop, workers))
    with Load(server.address(), "/hello", fresh=2, keep_alive=2) as load:
        for _ in range(3):
            load.wait_for_answers(20)
            mark, pid = server.mark(), server.workers()[0]
            os.kill(pid, signal.SIGTERM)
            server.wait_for(rf"worker \d \(pid {pid}\) exited with status 0, starting another", since=mark)
            server.wait_for(r"worker \d \(pid \d+\) is ready", since=mark)
        load.wait_for_answers(20)
    assert load.failures == []
    assert len(server.workers()) == workers


# The queue of a listening socket


LISTENER = Listener("web", (Address(AddressKind.TCP, "127.0.0.1:0", host="127.0.0.1"),), BACKLOG, Limits())
MOUNT = Mount("/", (), ("web",), RespondTarget(200, "ok", ()))
GENERATION = Generation("/server.toml", Server(), (LISTENER,), (), (MOUNT,), Logging())


def connect(listening: socket.socket) -> socket.socket:
    """Return a client with a request; its connection is in the queue."""
    client = socket.create_connection(listening.getsockname(), timeout=10)
    client.sendall(REQUEST)
    return client


def is_answered(client: socket.socket) -> bool:
    """Tell whether the response is there, without waiting for it."""
    client.setblocking(False)
    with client, contextlib.suppress(BlockingIOError, ConnectionResetError):
        return client.recv(1000).startswith(b"HTTP/1.1 200 ")
    return False


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Return a socket as the supervisor has it: it stays open when the worker has closed its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as sock:
        sock.setblocking(False)
        yield sock


async def open_serving(listening: socket.socket) -> Serving:
    serving = Serving(asyncio.get_running_loop(), GENERATION, {})
    await serving.open([SocketGrant("web", os.dup(listening.fileno()))])
    return serving


@FACTORIES
@pytest.mark.parametrize(("turns", "count"), [*((turns, 1) for turns in range(6)), (0, BACKLOG)])
def test_a_connection_in_the_queue_is_answered_before_the_worker_leaves(
    listening: socket.socket, loop_factory: LoopFactory, turns: int, count: int
) -> None:
    async def run() -> list[bool]:
        serving = await open_serving(listening)
        clients = [connect(listening) for _ in range(count)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await serving.close()
        await serving.drain(10.0)
        return [is_answered(client) for client in clients]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(run()) == [True] * count


@FACTORIES
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_comes_meanwhile_is_answered_or_left_to_the_next_worker(
    listening: socket.socket, loop_factory: LoopFactory, turns: int, count: int
) -> None:
    clients = []

    async def connect_meanwhile() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(count):
            clients.append(connect(listening))
            await asyncio.sleep(0)

    async def run() -> int:
        serving = await open_serving(listening)
        connecting = asyncio.create_task(connect_meanwhile())
        await serving.close()
        await serving.drain(10.0)
        answered = sum([is_answered(client) for client in clients])
        await connecting
        return answered

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        answered = runner.run(run())
    left = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            left += 1
    for client in clients:
        client.close()
    assert answered + left == count
