"""A worker process, driven over its channel as a supervisor does, and used over a real loopback socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serverd.generation import (
    Address,
    AddressKind,
    App,
    AppTarget,
    Generation,
    Limits,
    Listener,
    Logging,
    Mount,
    Server,
)
from serverd.messages import (
    Beat,
    Drain,
    Draining,
    Failed,
    Message,
    Ready,
    SocketGrant,
    Start,
    Starting,
    decode,
    encode,
)

APPLICATION = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"], flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/hang":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.Event().wait()
    if scope["path"] == "/body":
        await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
COMMAND = (sys.executable, "-P", "-m", "serverd.worker")
TIMEOUT = 20.0  # s, for everything: a bound, far above what any of it takes


class Worker:
    """A worker process and the supervisor's end of its channel."""

    def __init__(
        self,
        directory: Path,
        target: str,
        loop: str,
        parser: str,
        others: tuple[str, ...] = (),
        start_timeout: float = 60.0,
        on_failure: str = "exit",
        **server: Any,
    ) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(TIMEOUT)
        self._lines = self.channel.makefile("rb")
        self.dump = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        fds = [theirs.fileno(), self.dump.fileno()]
        command = [*COMMAND, "--channel", str(fds[0]), "--dump", str(fds[1])]
        self.process = subprocess.Popen(
            command, pass_fds=fds, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        theirs.close()
        address = Address(AddressKind.TCP, "127.0.0.1:0", "127.0.0.1", 0)
        self.generation = Generation(
            str(directory / "server.toml"),
            Server(loop=loop, http1_parser=parser, start_timeout=start_timeout, **server),
            (Listener("web", (address,), 100, Limits()),),
            (
                App("shop", target, str(directory), on_failure=on_failure, source="server.toml:7"),
                *(App(f"other{number}", name, str(directory)) for number, name in enumerate(others, 1)),
            ),
            (Mount("/", (), ("web",), AppTarget("shop", "")),),
            Logging(format="text"),
            number=1,
        )
        self.tell(Start(self.generation, 0, (SocketGrant("web", 0),)), [self.listening])

    def tell(self, message: Message, sockets: Sequence[Any] = ()) -> None:
        """Send a message with the descriptors of `sockets`."""
        line = encode(message)
        sent = socket.send_fds(self.channel, [line], [sock.fileno() for sock in sockets]) if sockets else 0
        self.channel.sendall(line[sent:])

    def hear(self, *more: type) -> Message:
        """Return the next message that tells more than what is being started and that it lives; `more` is heard."""
        while isinstance(message := self.hear_any(), Starting | Beat) and not isinstance(message, more):
            pass
        return message

    def hear_any(self) -> Message:
        return decode(self._lines.readline())

    def connect(self, request: bytes) -> socket.socket:
        client = socket.create_connection(self.listening.getsockname(), TIMEOUT)
        client.sendall(request)
        return client

    def get(self, path: str = "/") -> bytes:
        with self.connect(f"GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n".encode()) as client:
            return read_all(client)

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._lines.close()
        self.channel.close()
        self.dump.close()
        self.listening.close()


def read_all(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65536):
        data += part
    return data


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Any]:
    workers: list[Worker] = []
    (tmp_path / "shop_app.py").write_text(APPLICATION)

    def start(target: str = "shop_app:app", loop: str = "auto", parser: str = "auto") -> Worker:
        workers.append(Worker(tmp_path, target, loop, parser))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_it_becomes_ready_serves_and_drains(spawn: Any, loop: str, parser: str) -> None:
    worker = spawn(loop=loop, parser=parser)
    assert worker.hear() == Ready(worker.process.pid)
    assert worker.get().endswith(b"\r\n\r\nok")
    worker.tell(Drain(5.0))
    assert worker.hear() == Draining()
    code, out, err = worker.wait()
    assert (code, err) == (0, "")
    assert out.split() == ["lifespan.startup", "lifespan.shutdown"]


def test_it_says_what_it_starts_before_it_starts_it(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text(APPLICATION)
    (tmp_path / "broken_app.py").write_text("1 / 0")
    worker = Worker(tmp_path, "shop_app:app", "auto", "auto", others=("broken_app:app",))
    try:
        assert worker.hear_any() == Starting("server.toml:7: apps.shop")
        assert worker.hear_any() == Starting(" broken_app:app")
        assert isinstance(worker.hear_any(), Failed)
    finally:
        worker.end()


def test_a_request_in_flight_is_finished_before_it_exits(spawn: Any) -> None:
    worker = spawn()
    worker.hear()
    client = worker.connect(b"POST /body HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
    worker.tell(Drain(TIMEOUT))
    worker.hear()
    client.sendall(b"hi")
    answer = read_all(client)
    client.close()
    assert b"connection: close" in answer
    assert answer.endswith(b"ok")
    assert worker.wait()[0] == 0


def test_what_is_left_at_the_end_of_the_drain_is_cut_and_logged(spawn: Any) -> None:
    worker = spawn()
    worker.hear()
    client = worker.connect(b"GET /hang HTTP/1.1\r\nHost: lab\r\n\r\n")
    while b"begun" not in client.recv(1000):
        pass
    worker.tell(Drain(0.2))
    answer = read_all(client)
    client.close()
    code, out, err = worker.wait()
    assert code == 0
    assert not answer.endswith(b"0\r\n\r\n")
    assert re.search(r"cut after draining for 0\.2 s: GET /hang \(app shop, (< )?\d\.\d s\)$", err, re.MULTILINE), err
    assert "lifespan.shutdown" in out


def test_the_end_of_the_channel_is_the_end_of_the_supervisor(spawn: Any) -> None:
    worker = spawn()
    worker.hear()
    worker.channel.shutdown(socket.SHUT_RDWR)
    assert worker.wait()[0] == 0


def test_a_channel_that_ends_before_anything_was_said_ends_it_quietly() -> None:
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()  # for the stacks, too: nobody asks for them
    command = [*COMMAND, "--channel", str(fd), "--dump", str(fd)]
    with subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE) as process:
        theirs.close()
        ours.close()
        assert process.communicate(timeout=TIMEOUT)[1] == b""
        assert process.returncode == 0


def test_term_drains_and_int_is_left_to_the_supervisor(spawn: Any) -> None:
    worker = spawn()
    worker.hear()
    os.kill(worker.process.pid, signal.SIGINT)
    assert worker.get().endswith(b"ok")
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.hear() == Draining()
    assert worker.wait()[0] == 0


def test_a_drain_that_comes_with_the_start_is_heard(spawn: Any) -> None:
    worker = spawn()
    worker.tell(Drain(1.0))
    assert worker.wait()[0] == 0


def test_a_broken_application_is_reported_and_ends_it_with_code_3(spawn: Any, tmp_path: Path) -> None:
    (tmp_path / "broken_app.py").write_text("import shop_app\nraise RuntimeError('no database')\n")
    worker = spawn("broken_app:app")
    failed = worker.hear()
    assert isinstance(failed, Failed)
    assert failed.summary == "server.toml:7: apps.shop: importing 'broken_app' failed: RuntimeError: no database"
    assert 'broken_app.py", line 2' in failed.detail
    assert worker.wait()[0] == 3


def test_it_holds_neither_pydantic_nor_click_nor_watchfiles(spawn: Any, tmp_path: Path) -> None:
    (tmp_path / "modules_app.py").write_text(
        "import sys\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
        "    body = ' '.join(sys.modules).encode()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    worker = spawn("modules_app:app")
    worker.hear()
    modules = set(worker.get().decode().split())
    assert "serverd.worker.serving" in modules
    assert not modules & {"pydantic", "pydantic_core", "click", "watchfiles", "tomli", "h11"}


def test_a_request_that_cannot_be_cancelled_does_not_keep_the_worker(spawn: Any, tmp_path: Path) -> None:
    (tmp_path / "stubborn_app.py").write_text(
        "import asyncio\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'begun', 'more_body': True})\n"
        "    while True:\n        try:\n            await asyncio.Event().wait()\n        except BaseException:\n"
        "            pass\n"
    )
    worker = spawn("stubborn_app:app")
    worker.hear()
    client = worker.connect(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
    while b"begun" not in client.recv(1000):
        pass
    worker.tell(Drain(0.1))
    code, _, err = worker.wait()
    client.close()
    assert code == 0
    assert "does not end when it is cancelled" in err


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("deed", ["sys.exit(7)", "asyncio.get_running_loop().stop()"])
def test_a_task_that_stops_the_loop_does_not_stop_the_worker(spawn: Any, tmp_path: Path, loop: str, deed: str) -> None:
    (tmp_path / "stopping_app.py").write_text(
        "import asyncio, sys\nasync def stops():\n    " + deed + "\n"
        "async def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
        "    if scope['path'] == '/stop':\n        task = asyncio.ensure_future(stops())\n"
        "        await asyncio.wait([task])\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})\n"
        "    await send({'type': 'http.response.body', 'body': b'ok'})\n"
    )
    worker = spawn("stopping_app:app", loop=loop)
    worker.hear()
    assert worker.get("/stop").endswith(b"ok")
    assert worker.get().endswith(b"ok")
    worker.tell(Drain(1.0))
    code, _, err = worker.wait()
    assert code == 0
    assert "an application has stopped the event loop, which goes on" in err


def test_an_application_that_hangs_at_its_shutdown_takes_nothing_from_the_others(tmp_path: Path) -> None:
    source = (
        "import asyncio\nasync def app(scope, receive, send):\n    if scope['type'] != 'lifespan': return\n"
        "    await receive()\n    await send({'type': 'lifespan.startup.complete'})\n    await receive()\n    "
    )
    (tmp_path / "hanging_app.py").write_text(source + "await asyncio.Event().wait()\n")
    (tmp_path / "tidy_app.py").write_text(source + "print('tidy', flush=True)\n")
    worker = Worker(tmp_path, "tidy_app:app", "auto", "auto", others=("hanging_app:app",))
    try:
        worker.hear()
        worker.tell(Drain(0.1))
        code, out, err = worker.wait()
        assert (code, out) == (0, "tidy\n")
        assert "app other1 did not shut down within 5 s" in err
    finally:
        worker.end()
