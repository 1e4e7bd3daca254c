"""`http.response.pathsend` over real socket pairs: sendfile(2) has no stand-in. Both event loops."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serverd.asgi.scope import Endpoint
from serverd.connection.http1 import Http1Connection
from serverd.connection.service import Service
from serverd.errors import ResponseError
from serverd.generation import Limits
from serverd.protocol.http1_httptools import HttptoolsParser
from serverd.protocol.http1_response import DefaultFields
from tests.support.wire import router_to

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DATA = bytes(range(256)) * 8192  # 2 MiB: more than the buffers of a socket pair

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

both_loops = pytest.mark.parametrize("loop", LOOPS)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds; `run` bounds it."""
    while not condition():  # noqa: ASYNC110 - the subject has no event for it, and must not get one for a test
        await asyncio.sleep(0)


def run(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine on this kind of loop; no descriptor is left behind, no callback has failed."""
    failures: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with asyncio.timeout(20):
            async with connected(None):
                pass  # a loop opens some of its own with its first connection
            before = len(os.listdir("/proc/self/fd"))
            await main()
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(watched())
    assert not failures


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: socket.socket, connection: Http1Connection) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.connection = connection

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, fewer at the end of the connection."""
        data = b""
        while len(data) < size:
            piece = await self.loop.sock_recv(self.sock, min(size - len(data), 1 << 16))
            if not piece:
                break
            data += piece
        return data

    async def head(self) -> bytes:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await self.read(1)
        return data


@asynccontextmanager
async def connected(application: Any, tcp: bool = False) -> AsyncIterator[tuple[Peer, Service]]:
    """Connect a client to an application over a socket pair, or over loopback."""
    loop = asyncio.get_running_loop()
    service = Service(loop, router_to(Endpoint(application, "test")), Limits(), DefaultFields(), HttptoolsParser())
    if tcp:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    else:
        client, ours = socket.socketpair()
    client.setblocking(False)
    ours.setblocking(False)
    with client:
        _, connection = await loop.connect_accepted_socket(lambda: Http1Connection(service), ours)
        yield Peer(client, connection), service
        for one in list(service.connections):
            one.cut()
        await until(lambda: not (service.connections or service.exchanges))


class Pathsend:
    """Sends a file, and keeps what that raised."""

    def __init__(self, file: Path, *headers: tuple[bytes, bytes]) -> None:
        self.path = str(file)
        self.headers = headers
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
            await send({"type": "http.response.pathsend", "path": self.path})
        except BaseException as error:
            self.error = error
            raise


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(DATA)
    return made


@both_loops
class TestSending:
    def test_the_whole_file_is_the_body(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file)) as (peer, _):
                for _ in range(2):
                    await peer.send(GET)
                    assert b"content-length: %d\r\n" % len(DATA) in await peer.head()
                    assert await peer.read(len(DATA)) == DATA

        run(loop, main)

    def test_a_pipelined_request_follows_it(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file, (b"content-length", b"%d" % len(DATA)))) as (peer, _):
                await peer.send(GET * 3)
                for _ in range(3):
                    await peer.head()
                    assert await peer.read(len(DATA)) == DATA

        run(loop, main)

    def test_it_follows_a_response_that_waits_for_its_reader(self, loop: str, file: Path) -> None:
        sender = Pathsend(file)
        filler = b"x" * 60_000

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/file":
                await sender(scope, receive, send)
                return
            headers = [(b"content-length", b"%d" % len(filler))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": filler})

        async def main() -> None:
            async with connected(application) as (peer, _):
                await peer.send(GET * 20 + GET.replace(b"/", b"/file", 1) + GET)
                for _ in range(20):
                    await peer.head()
                    assert await peer.read(len(filler)) == filler
                await peer.head()
                assert await peer.read(len(DATA)) == DATA
                await peer.head()
                assert await peer.read(len(filler)) == filler

        run(loop, main)

    def test_http_1_0_gets_it_too(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file)) as (peer, _):
                await peer.send(b"GET / HTTP/1.0\r\n\r\n")
                await peer.head()
                assert await peer.read(len(DATA) + 1) == DATA

        run(loop, main)

    def test_a_tcp_peer_gets_it(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file), tcp=True) as (peer, _):
                await peer.send(GET)
                await peer.head()
                assert await peer.read(len(DATA)) == DATA

        run(loop, main)


@both_loops
class TestTrouble:
    def test_a_peer_that_goes_away_ends_it(self, loop: str, file: Path) -> None:
        sender = Pathsend(file)

        async def main() -> None:
            async with connected(sender) as (peer, service):
                await peer.send(GET)
                await peer.head()
                peer.sock.close()
                await until(lambda: not service.exchanges)

        run(loop, main)
        assert sender.error is None

    def test_a_file_that_shrinks_meanwhile_is_noticed_by_the_peer(self, loop: str, file: Path) -> None:
        sender = Pathsend(file)

        async def main() -> None:
            async with connected(sender) as (peer, _):
                await peer.send(GET)
                await peer.head()
                await until(lambda: peer.connection.blocked)
                os.truncate(file, len(DATA) // 2)
                assert len(await peer.read(len(DATA))) < len(DATA)

        run(loop, main)
        assert isinstance(sender.error, ResponseError)

    def test_a_file_that_grows_meanwhile_is_sent_as_announced(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file)) as (peer, _):
                await peer.send(GET)
                await peer.head()
                with file.open("ab") as more:
                    more.write(b"more")
                assert await peer.read(len(DATA)) == DATA
                await peer.send(GET)
                assert (await peer.head()).startswith(b"HTTP/1.1 200 ")

        run(loop, main)

    def test_a_peer_that_does_not_read_is_cut_by_the_sweep(self, loop: str, file: Path) -> None:
        sender = Pathsend(file)

        async def main() -> None:
            async with connected(sender) as (peer, service):
                await peer.send(GET)
                await peer.head()
                await until(lambda: peer.connection.blocked)
                now = peer.loop.time()
                peer.connection.sweep(now + 20)
                assert not peer.connection.closed
                await peer.read(1_000_000)
                await until(lambda: peer.connection.blocked)
                peer.connection.sweep(now + 29)
                assert not peer.connection.closed
                peer.connection.sweep(now + 80)
                assert peer.connection.closed
                await until(lambda: not service.exchanges)

        run(loop, main)
        assert sender.error is None

    def test_an_application_that_is_cut_leaves_nothing(self, loop: str, file: Path) -> None:
        async def main() -> None:
            async with connected(Pathsend(file)) as (peer, service):
                await peer.send(GET)
                await peer.head()
                await until(lambda: peer.connection.blocked)
                for exchange in list(service.exchanges):
                    exchange.cancel()
                await until(lambda: not service.exchanges)
                assert peer.connection.closed

        run(loop, main)

    def test_another_body_message_meanwhile_is_refused(self, loop: str, file: Path) -> None:
        errors: list[BaseException] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            sending = asyncio.ensure_future(send({"type": "http.response.pathsend", "path": str(file)}))
            await until(lambda: any(connection.blocked for connection in service_of[0].connections))
            for body in (b"smuggled", b""):
                try:
                    await send({"type": "http.response.body", "body": body})
                except ResponseError as error:
                    errors.append(error)
            await sending

        service_of: list[Service] = []

        async def main() -> None:
            async with connected(application) as (peer, service):
                service_of.append(service)
                await peer.send(GET)
                await peer.head()
                assert await peer.read(len(DATA)) == DATA
                await peer.send(GET[:5])

        run(loop, main)
        assert len(errors) == 2


@both_loops
class TestEndings:
    """What only a real socket shows of the other endings."""

    def test_an_aborted_response_that_ends_with_the_connection_is_a_reset(self, loop: str) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await receive()
            await receive()

        async def main() -> None:
            async with connected(application, tcp=True) as (peer, service):
                await peer.send(b"GET / HTTP/1.0\r\n\r\n")
                await peer.head()
                assert await peer.read(4) == b"half"
                for exchange in list(service.exchanges):
                    exchange.cancel()
                with pytest.raises(ConnectionResetError):
                    await peer.read(1)

        run(loop, main)

    def test_a_refusal_reaches_a_peer_that_is_still_sending(self, loop: str) -> None:
        async def unused(scope: Any, receive: Any, send: Any) -> None: ...

        async def main() -> None:
            async with connected(unused, tcp=True) as (peer, _):
                await peer.send(b"broken\r\n\r\n" + b"x" * 500_000)
                data = await peer.read(1 << 20)
                assert data.startswith(b"HTTP/1.1 400 ")

        run(loop, main)

    def test_a_real_half_close_is_told(self, loop: str) -> None:
        seen: list[str] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            for _ in range(2):
                seen.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        async def main() -> None:
            async with connected(application, tcp=True) as (peer, _):
                await peer.send(GET)
                peer.sock.shutdown(socket.SHUT_WR)
                assert (await peer.read(10_000)).startswith(b"HTTP/1.1 204 ")

        run(loop, main)
        assert seen == ["http.request", "http.disconnect"]
