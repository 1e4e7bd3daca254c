"""Processes that an application forks from its worker: they share neither signals nor sockets with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverd.messages import Drain, Draining, Ready, SocketGrant, Sockets
from tests.support import processes
from tests.worker.test_process import Worker

SOURCE = """
import os, time
def fork():
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os._exit(0)
    return pid
children = [fork()]  # as a pool that is made when the module is imported
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/fork":
        children.append(fork())
    if scope["path"] == "/reap":
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    else:
        ends = children
    body = " ".join(map(str, ends)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    """A worker whose application forks."""
    (tmp_path / "forking_app.py").write_text(SOURCE)
    worker = Worker(tmp_path, "forking_app:app", request.param, "auto")
    yield worker
    worker.end()


def numbers(worker: Worker, path: str) -> list[int]:
    return [int(part) for part in worker.get(path).partition(b"\r\n\r\n")[2].split()]


def test_a_fork_that_is_terminated_ends_and_the_worker_does_not_drain(worker: Worker) -> None:
    assert isinstance(worker.hear(), Ready)
    children = numbers(worker, "/fork")
    assert len(children) == 2
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    assert numbers(worker, "/reap") == [-signal.SIGTERM, -signal.SIGTERM]
    worker.tell(Sockets((SocketGrant("web", 0),)), [worker.listening])
    assert worker.get("/")  # it goes on
    worker.tell(Drain(1.0))
    assert worker.hear() == Draining()  # only now
    assert worker.wait()[0] == 0


def test_a_fork_holds_no_listening_socket_and_the_worker_keeps_its_own(worker: Worker) -> None:
    assert isinstance(worker.hear(), Ready)
    children = numbers(worker, "/fork")
    try:
        listening = f"socket:[{os.fstat(worker.listening.fileno()).st_ino}]"
        assert listening in processes.descriptors(worker.process.pid).values()
        for pid in children:
            assert listening not in processes.descriptors(pid).values()
        assert numbers(worker, "/") == children  # which reads to the end of the connection
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
