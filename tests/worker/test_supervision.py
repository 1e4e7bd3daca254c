"""A worker process and what its supervisor asks of it while it serves: beats, stacks, sockets, settings."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serverd.generation import AppTarget, Generation, Logging, Mount, RespondTarget
from serverd.messages import (
    Accepted,
    Adopt,
    Adopted,
    AppDown,
    AppUp,
    Beat,
    Blocked,
    Cover,
    Declined,
    Drain,
    Draining,
    Failed,
    Inspect,
    Message,
    Propose,
    Ready,
    Reopen,
    SocketGrant,
    Sockets,
    encode,
)
from tests.support import processes
from tests.worker.test_process import TIMEOUT, Worker, read_all

SOURCE = """
import asyncio, re, time
def hold_the_gil():
    re.fullmatch("(a*)*b", "a" * 60)
async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/fail":
        raise RuntimeError("as asked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if path == "/sleep":
        time.sleep(0.5)
    if path == "/block":
        time.sleep(60)
    if path == "/hold":
        hold_the_gil()
    if path == "/wait":
        await receive()
        await receive()
    await send({"type": "http.response.body", "body": b"done"})
"""
LONG = bool(os.environ.get("SERVERD_LONG"))
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
# For what happens while the loop stands still, whichever it is.
EITHER_LOOP = pytest.mark.parametrize("loop", ["uvloop", "asyncio"] if LONG else ["uvloop"])


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers for SOURCE that end with the test."""
    workers: list[Worker] = []
    (tmp_path / "own_app.py").write_text(SOURCE)

    def start(loop: str = "auto", target: str = "own_app:app", **options: Any) -> Worker:
        workers.append(Worker(tmp_path, target, loop, "auto", **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


def ready(worker: Worker) -> Worker:
    assert isinstance(worker.hear(), Ready)
    return worker


def begun(worker: Worker, path: str) -> socket.socket:
    """Return a client whose request has begun to be answered."""
    client = worker.connect(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    while b"begun" not in client.recv(1000):
        pass
    return client


def beat_until(worker: Worker, wanted: Callable[[Beat], bool]) -> Beat:
    while True:
        message = worker.hear(Beat)
        if isinstance(message, Beat) and wanted(message):
            return message


# Beats


@LOOPS
def test_it_beats_and_tells_what_is_in_flight(spawn: Callable[..., Worker], loop: str) -> None:
    begin = time.monotonic()
    worker = ready(spawn(loop, start_timeout=2.0))
    with begun(worker, "/wait"):
        beat = beat_until(worker, lambda beat: beat.in_flight == 1)
        assert (beat.requests, beat.connections) == (1, 1)
        assert beat.rss == pytest.approx(processes.resident_bytes(worker.process.pid), rel=0.2)
        aged = beat_until(worker, lambda beat: not beat.oldest[0].endswith(" 0.0 s)"))
        age = re.fullmatch(r"GET /wait \(app shop, (\d+\.\d) s\)", aged.oldest[0])
        assert age is not None
        assert 0.5 <= float(age[1]) <= time.monotonic() - begin
    beat = beat_until(worker, lambda beat: not beat.connections)
    assert (beat.requests, beat.in_flight, beat.oldest) == (1, 0, ())
    # Beyond the 1.5 s after which the stack of a start-up of 2 s is shown that is not complete.
    beat_until(worker, lambda _: time.monotonic() - begin > 1.6)
    worker.tell(Drain(1.0))
    code, _, err = worker.wait()
    assert (code, "most recent call first" in err) == (0, False)


def test_it_beats_while_it_drains(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    with begun(worker, "/wait"):
        worker.tell(Drain(TIMEOUT))
        assert worker.hear() == Draining()
        assert beat_until(worker, lambda beat: beat.in_flight == 1)
        assert beat_until(worker, lambda beat: beat.in_flight == 1)
    assert worker.wait()[0] == 0


# A loop that stands still


@LOOPS
def test_a_loop_that_blocks_is_explained(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop, lag_threshold=0.1))
    with begun(worker, "/sleep"):
        blocked = worker.hear()
        assert isinstance(blocked, Blocked)
        assert blocked.seconds >= 0.1
        assert [request.partition(",")[0] for request in blocked.requests] == ["GET /sleep (app shop"]
        beat_until(worker, lambda beat: beat.lag > 0.2)
    err = ""
    assert worker.process.stderr is not None
    while "event loop turns again after 0." not in err:  # a thread says so, which the end would not wait for
        line = worker.process.stderr.readline()
        assert line, err
        err += line
    worker.tell(Drain(1.0))
    assert worker.wait()[0] == 0
    assert "s by app shop on GET /sleep" in err
    assert "own_app.py" in err
    assert "time.sleep(0.5)" in err
    assert "asyncio" not in err  # the stack begins with the application


@EITHER_LOOP
def test_stacks_are_had_of_a_loop_that_holds_the_gil(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop))
    with begun(worker, "/hold"):
        stacks, end = b"", time.monotonic() + TIMEOUT
        while b"in hold_the_gil" not in stacks:
            assert time.monotonic() < end, stacks
            # Again and again, because the application may not have got there; what is written by C tells nobody.
            worker.process.send_signal(signal.SIGUSR2)
            select.select([], [], [], 0.05)
            stacks = os.pread(worker.dump.fileno(), 100_000, 0)  # the position is shared with the worker
    assert b"own_app.py" in stacks


def test_a_signal_for_stacks_does_not_disturb(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    worker.process.send_signal(signal.SIGUSR2)
    assert b"begun" in worker.get()
    worker.tell(Drain(1.0))
    assert worker.wait()[0] == 0


# The death of the supervisor


@EITHER_LOOP
def test_a_worker_that_nobody_can_kill_any_more_ends_itself(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop, graceful_timeout=0.1))
    with begun(worker, "/block"):
        worker.channel.shutdown(socket.SHUT_RDWR)
        code, _, err = worker.wait()
    assert code == -signal.SIGKILL
    assert "the supervisor has gone and the event loop does not turn, ending" in err


def test_so_does_one_that_computes_with_the_gil_held(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn(graceful_timeout=0.1, hang_timeout=0.1))
    with begun(worker, "/hold"):
        worker.channel.shutdown(socket.SHUT_RDWR)
        code, _, err = worker.wait()
    assert code == -signal.SIGVTALRM
    assert "in hold_the_gil" in err


LAUNCHER = """
import subprocess, sys
subprocess.Popen(sys.argv[3:], pass_fds=[int(fd) for fd in sys.argv[1:3]]).wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of the death of a parent")
def test_a_worker_drains_when_its_parent_dies_although_the_channel_stays_open(
    spawn: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = launch_with_a_parent(spawn, monkeypatch)
    pid = parent.hear()
    assert isinstance(pid, Ready)
    parent.process.kill()
    assert parent.hear() == Draining()
    processes.wait_for_end(pid.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of the death of a parent")
def test_a_start_up_ends_at_once_when_the_parent_dies(
    spawn: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "blocking_app.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    worker = launch_with_a_parent(spawn, monkeypatch, target="blocking_app:app")
    assert worker.process.stdout is not None
    pid = int(worker.process.stdout.readline())
    worker.process.kill()
    processes.wait_for_end(pid)


def launch_with_a_parent(
    spawn: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, target: str = "own_app:app"
) -> Worker:
    """Return a worker whose `process` is not itself but a process that has started it."""
    popen = subprocess.Popen

    def start(command: list[str], pass_fds: list[int], **options: Any) -> Any:
        launcher = [sys.executable, "-c", LAUNCHER, *map(str, pass_fds)]
        return popen([*launcher, *command], pass_fds=pass_fds, **options)

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", start)
        return spawn(target=target)


# Sockets


@LOOPS
def test_it_covers_another_slot_while_it_is_told_to(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop))
    grants = (SocketGrant("web", 0), SocketGrant("web", 1))
    with socket.create_server(("127.0.0.1", 0)) as other:
        worker.tell(Sockets(grants), [worker.listening, other])
        with socket.create_connection(other.getsockname(), TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"begun" in worker.get()  # on its own, meanwhile
            worker.tell(Cover((1,)))
            assert b"begun" in read_all(client)
        worker.tell(Cover(()))
        worker.tell(Propose(worker.generation, grants), [worker.listening, other])
        assert worker.hear() == Accepted(1)  # so it has heard of the end of the cover
        socket.create_connection(other.getsockname(), TIMEOUT).close()
        other.settimeout(TIMEOUT)
        other.accept()[0].close()  # nobody else took it


def test_what_comes_without_its_descriptors_is_the_end_of_the_channel(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    worker.channel.sendall(encode(Sockets((SocketGrant("web", 0),))))
    assert worker.hear() == Draining()
    code, _, err = worker.wait()
    assert code == 0
    assert "Sockets came with 0 of 1 descriptors" in err


# Another generation


def changed(worker: Worker, number: int = 2, **more: Any) -> Generation:
    return replace(
        worker.generation,
        number=number,
        mounts=(Mount("/", (), ("web",), RespondTarget(200, f"generation {number}", ())),),
        **more,
    )


@LOOPS
def test_a_generation_is_adopted_in_place(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop))
    grants = (SocketGrant("web", 0),)
    with worker.connect(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        while not client.recv(1000).endswith(b"done\r\n0\r\n\r\n"):
            pass
        new = changed(worker, logging=Logging(format="json"))
        worker.tell(Propose(new, grants), [worker.listening])
        assert worker.hear() == Accepted(2)
        worker.tell(Adopt(2))
        assert worker.hear() == Adopted(2)
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(b"generation 2")
    assert processes.command_line(worker.process.pid) == "serverd: worker 0 (generation 2) (ready)"
    worker.tell(
        Propose(replace(worker.generation, logging=Logging(format="json"), number=3), grants), [worker.listening]
    )
    assert worker.hear() == Accepted(3)
    worker.tell(Adopt(3))
    assert worker.hear() == Adopted(3)
    worker.get("/fail")
    worker.tell(Drain(1.0))
    _, _, err = worker.wait()
    assert json.loads(err.splitlines()[-1])["message"] == "app shop failed on GET /fail"


def test_a_later_proposal_takes_the_place_of_an_earlier_one_and_no_descriptor_stays(
    spawn: Callable[..., Worker],
) -> None:
    worker = ready(spawn())
    grants = (SocketGrant("web", 0),)
    before = len(processes.descriptors(worker.process.pid))
    for number in range(2, 12):
        worker.tell(Propose(changed(worker, number), grants), [worker.listening])
        assert worker.hear() == Accepted(number)
    worker.tell(Adopt(11))
    assert worker.hear() == Adopted(11)
    assert worker.get().endswith(b"generation 11")
    beat_until(worker, lambda beat: not beat.connections)
    assert len(processes.descriptors(worker.process.pid)) == before


def test_a_proposal_that_is_taken_back_leaves_no_socket_open(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    before = len(processes.descriptors(worker.process.pid))
    site = socket.create_server(("127.0.0.1", 0))
    new = changed(
        worker, listeners=(*worker.generation.listeners, replace(worker.generation.listeners[0], name="site"))
    )
    with site:
        worker.tell(Propose(new, (SocketGrant("web", 0), SocketGrant("site", 0))), [worker.listening, site])
    assert worker.hear() == Accepted(2)
    assert len(processes.descriptors(worker.process.pid)) == before + 2
    worker.tell(Sockets((SocketGrant("web", 0),)), [worker.listening])
    for _ in range(2):
        beat_until(worker, lambda beat: True)  # half a second apart: the list has been heard of
    assert len(processes.descriptors(worker.process.pid)) == before


def test_settings_that_are_adopted_are_gone_by(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn(lag_threshold=0.0))
    server = replace(worker.generation.server, lag_threshold=0.1, graceful_timeout=0.2)
    worker.tell(
        Propose(replace(worker.generation, server=server, number=2), (SocketGrant("web", 0),)), [worker.listening]
    )
    assert worker.hear() == Accepted(2)
    worker.tell(Adopt(2))
    assert worker.hear() == Adopted(2)
    beat_until(worker, lambda beat: True)  # by then the watchdog has asked with the new threshold
    beat_until(worker, lambda beat: True)
    with begun(worker, "/sleep"):
        assert isinstance(worker.hear(), Blocked)
    with begun(worker, "/wait") as client:
        worker.process.send_signal(signal.SIGTERM)
        read_all(client)
    assert "cut after draining for 0.2 s: GET /wait (app shop, " in worker.wait()[2]


def test_new_settings_are_declined_when_the_code_has_changed(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    worker = ready(spawn())
    before = len(processes.descriptors(worker.process.pid))
    (tmp_path / "own_app.py").write_text(SOURCE + "# new\n")
    worker.tell(Propose(changed(worker), (SocketGrant("web", 0),)), [worker.listening])
    assert worker.hear() == Declined(2, "own_app.py has changed since it was imported")
    assert b"begun" in worker.get()
    beat_until(worker, lambda beat: not beat.connections)
    assert len(processes.descriptors(worker.process.pid)) == before


def test_a_generation_with_another_application_is_declined(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    apps = (replace(worker.generation.apps[0], name="other"),)
    worker.tell(Propose(changed(worker, apps=apps), (SocketGrant("web", 0),)), [worker.listening])
    assert worker.hear() == Declined(2, "it has other applications")


def test_a_generation_whose_mounts_cannot_be_counted_any_more_is_declined(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    mounts = tuple(Mount(f"/{number}", (), ("web",), AppTarget("shop", "")) for number in range(100))
    generation = replace(changed(worker), mounts=mounts)
    worker.tell(Propose(generation, (SocketGrant("web", 0),)), [worker.listening])
    reason = "there is no more room for its mounts and listeners among the counters"
    assert worker.hear() == Declined(2, reason)


def test_a_worker_tells_whether_its_code_is_what_is_on_disk(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    worker = ready(spawn())
    worker.tell(Inspect())
    worker.tell(Propose(worker.generation, (SocketGrant("web", 0),)), [worker.listening])
    assert worker.hear() == Accepted(1)  # nothing came before
    (tmp_path / "own_app.py").write_text(SOURCE + "# new\n")
    worker.tell(Inspect())
    assert worker.hear() == Declined(1, "own_app.py has changed since it was imported")


def test_to_renew_certificates_is_not_to_deploy_code(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    worker = ready(spawn())
    (tmp_path / "own_app.py").write_text(SOURCE + "# half of what is being deployed\n")
    grants = (SocketGrant("web", 0),)
    worker.tell(Propose(changed(worker), grants), [worker.listening])
    assert worker.hear() == Declined(2, "own_app.py has changed since it was imported")
    worker.tell(Propose(changed(worker, 3), grants, is_renewal=True), [worker.listening])
    assert worker.hear() == Accepted(3)


# Standard error


def test_standard_error_can_be_put_elsewhere(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    worker = ready(spawn())
    with open(tmp_path / "log", "ab") as log, open(tmp_path / "access", "ab") as access:
        worker.tell(Reopen(), [log, access])
    worker.tell(Propose(worker.generation, (SocketGrant("web", 0),)), [worker.listening])
    assert worker.hear() == Accepted(1)
    worker.get("/fail")
    worker.tell(Drain(1.0))
    _, _, err = worker.wait()
    assert "app shop failed" not in err
    assert "app shop failed on GET /fail" in (tmp_path / "log").read_text()
    assert '"target":"/fail"' in (tmp_path / "access").read_text()


# After the drain has begun


@LOOPS
def test_what_is_said_during_the_drain_disturbs_nothing(spawn: Callable[..., Worker], loop: str) -> None:
    worker = ready(spawn(loop))
    grants = (SocketGrant("web", 0),)
    client = begun(worker, "/wait")
    worker.tell(Drain(TIMEOUT))
    assert worker.hear() == Draining()
    open_before = len(processes.descriptors(worker.process.pid))
    late: list[Message] = [Sockets(grants), Propose(changed(worker), grants), Cover((1,)), Adopt(2), Drain(0.0)]
    for message in late:
        worker.tell(message, [worker.listening] if isinstance(message, Sockets | Propose) else [])
    beat_until(worker, lambda beat: beat.in_flight == 1)
    beat_until(worker, lambda beat: beat.in_flight == 1)
    assert len(processes.descriptors(worker.process.pid)) == open_before
    client.close()
    code, _, err = worker.wait()
    assert (code, "Traceback" in err) == (0, False)


def test_what_is_said_just_before_the_drain_is_done_or_dropped_but_never_late(spawn: Callable[..., Worker]) -> None:
    worker = ready(spawn())
    grants = (SocketGrant("web", 0),)
    lines = [encode(message) for message in (Sockets(grants), Propose(changed(worker), grants), Drain(1.0))]
    socket.send_fds(worker.channel, [b"".join(lines)], [worker.listening.fileno()] * 2)
    heard = [worker.hear()]
    while heard[-1] != Draining():
        heard.append(worker.hear())
    assert set(heard) <= {Accepted(2), Draining()}
    assert worker.wait()[0] == 0


# Applications that may be down


@LOOPS
def test_an_application_that_is_down_answers_503_until_it_is_up(
    spawn: Callable[..., Worker], tmp_path: Path, loop: str
) -> None:
    (tmp_path / "late_app.py").write_text("import late_settings\nfrom own_app import app\n")
    worker = spawn(loop, target="late_app:app", on_failure="unavailable")
    down = worker.hear()
    assert isinstance(down, AppDown)
    assert (down.app, down.retry) == ("shop", 1.0)
    ready(worker)
    with worker.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        (tmp_path / "late_settings.py").write_text("")
        news = worker.hear()
        while isinstance(news, AppDown):
            news = worker.hear()
        assert news == AppUp("shop")
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"begun" in read_all(client)
    worker.tell(Drain(1.0))
    assert worker.wait()[0] == 0


def test_one_that_is_down_is_given_up_with_the_worker(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    (tmp_path / "late_app.py").write_text("import late_settings\n")
    worker = spawn(target="late_app:app", on_failure="unavailable")
    assert isinstance(worker.hear(), AppDown)
    ready(worker)
    worker.tell(Drain(1.0))
    code, _, err = worker.wait()
    assert (code, err) == (0, "")


def test_one_that_must_not_fail_takes_those_that_may_along(spawn: Callable[..., Worker], tmp_path: Path) -> None:
    (tmp_path / "late_app.py").write_text("import late_settings\n")
    (tmp_path / "bad_app.py").write_text("1 / 0\n")
    worker = spawn(target="late_app:app", on_failure="unavailable", others=("bad_app:app",))
    assert isinstance(worker.hear(), AppDown)
    assert isinstance(worker.hear(), Failed)
    assert worker.wait()[:2] == (3, "")
