"""The drain of the real worker as supervisor and clients see it: what is accepted, until when, and who is told.

On both event loops, because they accept differently: asyncio empties a queue at once, uvloop takes one
connection per turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.load import Load

LONG = bool(os.environ.get("SERVERD_LONG"))
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
        for _ in range(5 if LONG else 2):
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
    text = server.file.read_text().replace('"127.0.0.1:0"', f'["127.0.0.1:0", "unix:{unix}"]')
    # The umask brings new workers at once: nothing is proposed to one that does not hear.
    server.file.write_text(text.replace("[server]\n", '[server]\numask = "0022"\n'))
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
        for _ in range(3 if LONG else 2):
            load.wait_for_answers(20)
            mark, pid = server.mark(), server.workers()[0]
            os.kill(pid, signal.SIGTERM)
            server.wait_for(rf"worker \d \(pid {pid}\) leaves without having been told", since=mark)
            server.wait_for(r"worker \d \(pid \d+\) is ready", since=mark)
        load.wait_for_answers(20)
    assert load.failures == []
    assert len(server.workers()) == workers
