"""Workers that crash, hang, leak or cannot start, and a supervisor that dies: what clients and the operator see.

SERVERD_LONG=1 runs the variants that take minutes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import APPS, Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import command, status, wait_until
from tests.support.load import Load
from tests.support.server import Line, Server

LONG = bool(os.environ.get("SERVERD_LONG"))
TAKES_LONG = pytest.mark.skipif(not LONG, reason="takes long: SERVERD_LONG=1")
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"] if LONG else ["uvloop"])

SLOW = "/slow" if LONG else "/slow?seconds=1"
REPLACED_WITHIN = 1.0 if LONG else 5.0  # seconds: what is promised, and what a busy machine makes of it

CONFIGURATION = f"""\
[server]
{{server}}

[logging]
level = "debug"  # tells who is late and who has gone

[listeners.web]
bind = "127.0.0.1:{{port}}"

[apps.troubled]
app = "troubled:app"
directory = "{APPS}"

[[mounts]]
app = "troubled"
path = "/"
"""


def configuration(port: int = 0, **settings: Any) -> str:
    """Return the configuration of the application that gets into trouble, with these settings of the server."""
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else value!r}" for key, value in settings.items()]
    return CONFIGURATION.format(server="\n".join(lines), port=port)


@contextmanager
def connections_to_each(server: Server) -> Iterator[dict[int, Client]]:
    """Connect until there is a connection to each worker; yield them by its pid."""
    found: dict[int, Client] = {}
    try:
        while len(found) < len(server.workers()):
            client = Client(server.address())
            pid = int(client.request("GET", "/pid").body)
            if pid in found:
                client.close()
            else:
                found[pid] = client
        yield found
    finally:
        for client in found.values():
            client.close()


def begin(client: Client, path: str) -> None:
    """Send a request and wait until the application works on it."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert client.head().status == 200
    assert client.read(10) == b"5\r\nbegun\r\n"


def finish(client: Client) -> None:
    """Read the end of the response that `begin` has begun."""
    assert client.read(14) == b"4\r\ndone\r\n0\r\n\r\n"


def beats(server: Server) -> bool:
    """Tell whether every worker is ready and has beaten."""
    return all(worker["state"] == "ready" and worker["rss"] for worker in status(server)["workers"])


def following(server: Server, line: Line) -> list[Line]:
    """Return the lines that come after one."""
    lines = server.lines
    return lines[lines.index(line) + 1 :]


# Crash


@pytest.mark.timeout(90)
def test_kill_loses_only_what_was_in_flight_on_that_worker(serve: Serve) -> None:
    server = serve(configuration(workers=2))
    chance = random.Random(1)  # a test that fails does so again
    lost: set[int] = set()
    with Load(server.address(), "/pid", fresh=2, keep_alive=2, slow=4) as load:
        for _ in range(20 if LONG else 4):
            threading.Event().wait(1.0 if LONG else 0.5)  # the pace of the attack
            pid = chance.choice(server.workers())
            mark = server.mark()
            # It is stopped first, so that what it holds is what it loses.
            processes.stop(pid)
            held = processes.peer_ports(pid, server.port)
            assert len(held) <= 8  # a connection for each client at most
            lost |= held
            os.kill(pid, signal.SIGKILL)
            line = server.wait_for(rf"^worker \d \(pid {pid}\) was killed by SIGKILL", since=mark)
            assert re.search(
                r"SIGKILL( \(out of memory\?( \d+ MiB resident at its last beat)?\)), starting another", line.message
            )
            slot = line.message[: len("worker 0")]
            ready = server.wait_for(rf"^{slot} \(pid \d+\) is ready", since=mark, timeout=REPLACED_WITHIN)
            assert get(server.address(), "/pid").status == 200
            assert ready in following(server, line)
        load.wait_for_answers(50)
    assert load.failures, "nothing was in flight: the test shows nothing"
    assert set(load.failed_ports) <= lost
    assert len(load.failed_ports) == len(load.failures), load.failures  # connections are never refused
    assert server.stop() == 0


def test_the_death_of_a_worker_is_explained(serve: Serve) -> None:
    server = serve(configuration(workers=1))
    wait_until(lambda: beats(server))
    [pid] = server.workers()
    os.kill(pid, signal.SIGKILL)
    line = server.wait_for(r"was killed by SIGKILL")
    explained = re.fullmatch(
        rf"worker 0 \(pid {pid}\) (was killed by SIGKILL \(out of memory\? \d\d MiB resident at its last beat\)), "
        "starting another",
        line.message,
    )
    assert explained, line
    assert line.level == "error"
    [slot] = status(server)["slots"]
    assert (slot["restarts"], slot["last_exit"]) == (1, f"worker 0 (pid {pid}) {explained[1]}")
    wait_until(lambda: beats(server))
    [other] = server.workers()
    os.kill(other, signal.SIGSEGV)
    server.wait_for(rf"^worker 0 \(pid {other}\) was killed by SIGSEGV, starting another")


# The death of the supervisor


@LOOPS
def test_no_worker_outlives_the_supervisor_whatever_it_does(serve: Serve, tmp_path: Path, loop: str) -> None:
    times = {"graceful_timeout": 2, "hang_timeout": 2}
    server = serve(configuration(workers=4, loop=loop, **times))
    pids = server.workers()
    with connections_to_each(server) as clients:
        blocked, matching, working, idle = clients
        begin(clients[blocked], "/block")
        begin(clients[matching], "/match")
        begin(clients[working], "/slow?seconds=1")
        mark = server.mark()
        server.send_signal(signal.SIGKILL)
        processes.wait_for_end(idle, timeout=2)  # an idle connection is given a second
        finish(clients[working])
        processes.wait_for_end(working, timeout=2)
        processes.wait_for_end(blocked, timeout=5)
        # No Python code runs in it. After its last beat it has hang_timeout, graceful_timeout and two seconds, of the
        # processor's, which others want, too.
        processes.wait_for_end(matching, timeout=8 if LONG else 60)
    assert server.wait() == -signal.SIGKILL
    assert "the supervisor has gone and the event loop does not turn, ending" in server.text(mark)
    assert f'File "{APPS}/troubled.py", line' in server.text(mark)  # faulthandler says where
    assert processes.group(server.pid) == []
    assert {pid for pid in pids if not processes.has_ended(pid)} == set()
    other = serve(configuration(server.port, workers=1))
    assert get(other.address(), "/pid").body == str(other.workers()[0]).encode()


WAITING_APP = """\
import time
print("importing", flush=True)
time.sleep(60)
"""


def write_app(directory: Path, text: str, **settings: Any) -> Path:
    """Write a configuration whose application is `text`; return the file."""
    (directory / "own.py").write_text(text)
    file = directory / "server.toml"
    own = configuration(**settings).replace(f'directory = "{APPS}"\n', "").replace("troubled:app", "own:app")
    file.write_text(own)
    return file


def test_a_worker_that_hangs_in_an_import_does_not_outlive_the_supervisor(tmp_path: Path) -> None:
    server = Server(write_app(tmp_path, WAITING_APP, workers=2)).start()
    try:
        server.wait_for("^importing")
        server.send_signal(signal.SIGKILL)
        server.wait()
        for pid in processes.group(server.pid):
            processes.wait_for_end(pid, timeout=2)
        assert processes.group(server.pid) == []
    finally:
        server.kill()


def test_the_loader_does_not_outlive_the_supervisor(serve: Serve) -> None:
    server = serve(configuration(workers=1))
    # Enough for it to be busy for a second or two: as long may we look elsewhere.
    mounts = "".join(f'\n[[mounts]]\npath = "/{number}"\nrespond.status = 204\n' for number in range(5000))
    server.file.write_text(server.file.read_text() + mounts)
    [worker] = server.workers()
    server.send_signal(signal.SIGHUP)
    loaders: list[int] = []

    def is_busy() -> bool:
        loaders[:] = [pid for pid in processes.children(server.pid) if "serverd.config" in processes.command_line(pid)]
        # The call that asks the kernel to be killed follows the import of ctypes.
        return bool(loaders) and "_ctypes" in processes.mapped(loaders[0])

    wait_until(is_busy)
    [loader] = loaders
    used = processes.processor_seconds(loader)
    wait_until(lambda: processes.processor_seconds(loader) >= used + 0.05)
    processes.stop(loader)  # else it might end by itself
    server.send_signal(signal.SIGKILL)
    processes.wait_for_end(loader, timeout=2)
    processes.wait_for_end(worker, timeout=5)


# Hang


@LOOPS
def test_event_loops_that_stand_still_are_explained_covered_and_replaced(serve: Serve, loop: str) -> None:
    server = serve(configuration(workers=3, loop=loop, hang_timeout=4, lag_threshold=0.5))
    with connections_to_each(server) as clients, Load(server.address(), "/pid", keep_alive=0, slow=2) as load:
        blocked, matching, other = clients
        with connections_to_each(server) as others:
            begin(others[matching], "/slow?seconds=30")
            wait_until(lambda: in_flight(server, matching) > 0)
            begin(clients[blocked], "/block")
            begin(clients[matching], "/match")
            for pid in (blocked, matching):
                server.wait_for(rf"^worker \d \(pid {pid}\) is late with its beat, the others accept in its place")
            assert_others_answer(server, other)
            hang = {pid: server.wait_for(rf"^worker \d \(pid {pid}\) hangs: ") for pid in (blocked, matching)}
        for line in hang.values():
            slot = line.message[: len("worker 0")]
            server.wait_for(rf"^{slot} \(pid \d+\) is ready", since=server.lines.index(line), timeout=REPLACED_WITHIN)
        load.wait_for_answers(20)
    # What was accepted before the loops stood still, or just then, is in flight on a worker that is killed.
    assert len(load.failures) <= 4, load.failures
    assert_explained(hang[blocked], "GET /block", "time.sleep(float(seconds))")
    # While the GIL is held nobody can tell of the request that holds it; the last beat knew of the one before.
    assert_explained(hang[matching], "GET /slow", 're.fullmatch(r"(a|a)+", "a" * 60 + "b")')
    [warning] = [line for line in server.lines if line.message.startswith("event loop blocked")]
    assert re.fullmatch(r"event loop blocked for \d\.\d s by app troubled on GET /block", warning.message)
    assert (warning.level, warning.pid) == ("warning", blocked)
    assert "    time.sleep(float(seconds))" in warning.exception
    assert re.search(r"^  GET /block \(app troubled, (< )?\d\.\d s\)$", warning.exception, re.MULTILINE)
    wait_until(lambda: not any(worker["late"] or worker["covers"] for worker in status(server)["workers"]))
    assert sorted(slot["restarts"] for slot in status(server)["slots"]) == [0, 1, 1]


def in_flight(server: Server, pid: int) -> int:
    """Return how many requests the worker had in flight at its last beat."""
    return next(worker["in_flight"] for worker in status(server)["workers"] if worker["pid"] == pid)


def assert_others_answer(server: Server, pid: int) -> None:
    """Open 200 connections and see each answered by that worker, before anybody else has been killed."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: get(server.address(), "/pid"), range(200)))
    assert {(answer.status, int(answer.body)) for answer in answers} == {(200, pid)}
    assert " hangs: " not in server.text()


def assert_explained(hangs: Line, request: str, code: str) -> None:
    """Check the line about a worker that hangs: the request is named, and the line of code that is to blame."""
    assert hangs.level == "error"
    assert re.search(r"its event loop has not turned for \d(\.\d)? s \(hang_timeout\), killing it$", hangs.message)
    assert re.search(rf"^  {request} \(app troubled, (< )?\d+\.\d s\)$", hangs.exception, re.MULTILINE)
    source = (APPS / "troubled.py").read_text().splitlines()
    frames = re.findall(rf'File "{APPS}/troubled.py", line (\d+) in \w+', hangs.exception)
    assert frames, hangs.exception
    assert source[int(frames[0]) - 1].partition("#")[0].strip() == code


def test_lag_is_told_once_per_episode_and_when_it_is_over(serve: Serve) -> None:
    server = serve(configuration(workers=1, lag_threshold=0.1))
    [pid] = server.workers()
    for _ in range(2):
        mark = server.mark()
        assert get(server.address(), "/block?seconds=0.4").status == 200
        server.wait_for(r"^event loop turns again after (0\.[3-9]|[1-9]\.\d) s", since=mark)
        told = [line.message for line in server.lines[mark:] if line.message.startswith("event loop blocked")]
        assert len(told) == 1
    wait_until(lambda: status(server)["workers"][0]["requests"] == 2)
    assert server.workers() == [pid]


SLOW_APP = """\
import time
print("importing", flush=True)
time.sleep(SECONDS)

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def test_a_slow_import_is_no_hang(serve: Serve, tmp_path: Path) -> None:
    server = serve(write_app(tmp_path, SLOW_APP.replace("SECONDS", "2.7"), workers=1, hang_timeout=2))
    assert get(server.address()).body == b"ok"
    assert "hang" not in server.text()
    assert status(server)["slots"][0]["restarts"] == 0


def test_a_start_that_takes_too_long_is_ended_and_explained(tmp_path: Path) -> None:
    server = Server(write_app(tmp_path, SLOW_APP.replace("SECONDS", "60"), workers=2, start_timeout=4)).start()
    try:
        assert server.wait() == 3
        assert re.search(r"server\.toml:\d+: apps\.troubled: not up within 4 s \(start_timeout\)", server.output)
        assert processes.group(server.pid) == []
    finally:
        server.kill()


# Workers that cannot start

SICK_APP = """\
import os
CAUSE = os.path.join(os.path.dirname(__file__), "cause")
def fail_if_sick():
    if not os.path.exists(CAUSE):
        raise LookupError("the cause is not there")
fail_if_sick()

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


def test_a_worker_that_cannot_start_waits_longer_and_longer_and_the_others_serve(serve: Serve, tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    server = serve(write_app(tmp_path, SICK_APP, workers=2))
    victim, other = server.workers()
    cause.unlink()
    with Load(server.address(), fresh=2, keep_alive=0) as load:
        os.kill(victim, signal.SIGKILL)
        victim_slot = server.wait_for(rf"\(pid {victim}\) was killed by SIGKILL").message[: len("worker 0")]
        waits = [
            float(server.wait_for(rf"^{victim_slot} .* starting another in {wait} s", timeout=10).message.split()[-2])
            for wait in (r"0\.1", r"0\.2", r"0\.4", r"0\.8")
        ]
        load.wait_for_answers(50)
        now = status(server)
        cause.touch()
        server.wait_for(rf"^{victim_slot} \(pid \d+\) is ready", since=len(server.lines), timeout=10)
    assert waits == sorted(waits)
    [slot] = [slot for slot in now["slots"] if slot["slot"] == int(victim_slot[-1])]
    assert slot["restarts"] == 5
    assert 0 < slot["waits"] <= 0.8
    assert re.fullmatch(rf"{victim_slot} \(pid \d+\) exited with status 3", slot["last_exit"])
    assert [worker["pid"] for worker in now["workers"]] == [other]
    assert now["ready"]
    tracebacks = [line for line in server.lines if "LookupError: the cause is not there" in line.exception]
    assert len(tracebacks) == 4
    assert tracebacks[0].message.endswith("apps.troubled: importing 'own' failed: LookupError: the cause is not there")
    assert len(load.failures) <= 2, load.failures  # what the victim was working on
    assert {int(pid) for pid in list(load.bodies)} >= {other}
    wait_until(lambda: len(server.workers()) == 2)


# Applications that may be down

ILL_APP = """\
import os
CAUSE = os.path.join(os.path.dirname(__file__), "cause")
def fail_if_ill():
    if not os.path.exists(CAUSE):
        raise LookupError("the cause is not there")
WHERE

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        fail_if_ill()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"well"})
"""

ILL = """

[apps.ill]
app = "ill:app"
on_failure = "unavailable"

[[mounts]]
app = "ill"
path = "/ill"
"""


@pytest.mark.parametrize("where", ["", "fail_if_ill()"], ids=["lifespan", "import"])
def test_an_application_that_may_be_down_comes_up_by_itself(serve: Serve, tmp_path: Path, where: str) -> None:
    (tmp_path / "ill.py").write_text(ILL_APP.replace("WHERE", where))
    server = serve(configuration(workers=2) + ILL)
    pids = server.workers()
    with Load(server.address(), "/pid", fresh=1, keep_alive=1) as load:
        answer = get(server.address(), "/ill")
        assert answer.status == 503
        assert 1 <= int(answer.header("retry-after") or "") <= 4  # it doubles with every try
        line = next(line for line in server.lines if "answering 503" in line.message)
        assert re.search(r"server\.toml:\d+: apps\.ill: .*answering 503, next try in (1|0\.7) s$", line.message)
        assert "LookupError: the cause is not there" in line.exception
        apps = {app["name"]: app for app in status(server)["apps"]}
        assert (apps["troubled"]["state"], apps["troubled"]["failure"]) == ("up", None)
        assert apps["ill"]["state"] == "unavailable"
        assert (apps["ill"]["requests"], apps["ill"]["errors"], apps["troubled"]["errors"]) == (1, 1, 0)
        assert apps["ill"]["failure"]["detail"].rstrip().endswith("LookupError: the cause is not there")
        assert "    | LookupError: the cause is not there\n" in command(server, "status").out
        (tmp_path / "cause").touch()
        server.wait_for("^app ill is up again", timeout=10)
        assert {get(server.address(), "/ill").body for _ in range(10)} == {b"well"}
        load.wait_for_answers(10)
    assert load.failures == []
    assert server.workers() == pids
    assert {app["state"] for app in status(server)["apps"]} == {"up"}


# Stopped and continued


def test_a_worker_that_is_stopped_for_a_while_is_covered_and_comes_back(serve: Serve) -> None:
    server = serve(configuration(workers=2, hang_timeout=10))
    pids = stopped, _ = server.workers()
    with connections_to_each(server) as clients:
        processes.stop(stopped)
        server.wait_for(rf"^worker \d \(pid {stopped}\) is late")
        assert {int(get(server.address(), "/pid").body) for _ in range(50)} == {pids[1]}
        [late] = [worker for worker in status(server)["workers"] if worker["late"]]
        [other] = [worker for worker in status(server)["workers"] if not worker["late"]]
        assert (late["pid"], other["covers"]) == (stopped, [late["slot"]])
        threading.Event().wait(1.5 if LONG else 0.1)  # late is not hung
        os.kill(stopped, signal.SIGCONT)
        server.wait_for(rf"^worker \d \(pid {stopped}\) beats again")
        assert clients[stopped].request("GET", "/pid").body == str(stopped).encode()
    wait_until(lambda: not any(worker["covers"] for worker in status(server)["workers"]))
    assert server.workers() == pids
    assert " hangs: " not in server.text()


def test_a_supervisor_that_is_stopped_for_a_while_kills_nobody_when_it_goes_on(serve: Serve) -> None:
    server = serve(configuration(workers=2, hang_timeout=2))
    pids = server.workers()
    with Load(server.address(), "/pid", fresh=2, keep_alive=2, slow=1, slow_target=SLOW) as load:
        processes.stop(server.pid)
        threading.Event().wait(5.0 if LONG else 2.5)  # beyond hang_timeout
        mark = server.mark()
        os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: beats(server))
        load.wait_for_answers(50)
    assert load.failures == []
    assert server.workers() == pids
    assert [slot["restarts"] for slot in status(server)["slots"]] == [0, 0]
    # Their beats have waited for it, and are heard before anybody is judged.
    assert server.text(mark) == ""


# Recycling


def recycled(server: Server, mark: int) -> list[str]:
    """Return, in the order of the log, which workers became "ready" and which "exited"."""
    found = (re.match(r"worker \d \(pid \d+\) (is ready|exited)", line.message) for line in server.lines[mark:])
    return [match[1] for match in found if match]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("recycle", "target", "count", "reason"),
    [
        ("{ requests = 50, jitter = 10 }", "/pid", 40 if LONG else 3, r"it has had \d+ requests"),
        pytest.param('{ lifetime = "1s" }', "/pid", 10, r"it has served for 1 s", marks=TAKES_LONG),
        pytest.param(
            '{ memory = "40MiB" }',
            "/leak",
            6,
            r"it holds \d+ MiB, more than 40 MiB",
            marks=TAKES_LONG,
        ),
    ],
    ids=["requests", "lifetime", "memory"],
)
def test_workers_are_recycled_one_after_the_other_and_nobody_notices(
    serve: Serve, recycle: str, target: str, count: int, reason: str
) -> None:
    server = serve(configuration(workers=2).replace("[logging]", f"recycle = {recycle}\n\n[logging]"))
    mark = server.mark()
    with Load(server.address(), target, fresh=2, keep_alive=2, slow=1, http2=1, slow_target=SLOW) as load:
        for _ in range(count):
            place = server.mark()
            server.wait_for(rf"^worker \d \(pid \d+\) is recycled: {reason}", since=mark)
            server.wait_for(r"^worker \d \(pid \d+\) is ready", since=place)
            server.wait_for(r"^worker \d \(pid \d+\) exited with status 0", since=place)
        events = recycled(server, mark)
    assert load.failures == []
    # One successor, then one end: never more than one worker leaves, and only when another serves in its place.
    assert len(events) >= 2 * count
    assert events[::2] == ["is ready"] * len(events[::2])
    assert events[1::2] == ["exited"] * len(events[1::2])
    assert [slot["restarts"] for slot in status(server)["slots"]] == [0, 0]
    assert server.stop() == 0
