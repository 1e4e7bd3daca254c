"""Start, stop and survival: exit codes, what the operator is told, signals, dead workers, memory, imports."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import get
from tests.support.either import both
from tests.support.server import Server

RESPOND = """\
[listeners.web]
bind = "127.0.0.1:0"

[[mounts]]
path = "/"
respond = { status = 200, body = "ok" }
"""

BROKEN_APP = """\
[listeners.web]
bind = "127.0.0.1:0"

[apps.shop]
app = "broken"

[[mounts]]
app = "shop"
path = "/"
"""

MIB = 1024 * 1024


def refused(file: Path, configuration: str) -> str:
    """Start with a configuration that must be refused with exit code 3; return the output."""
    file.write_text(configuration)
    server = Server(file).start()
    try:
        assert server.wait() == 3
        assert "ready:" not in server.output
        return server.text()
    finally:
        server.kill()


# Start

# The command, to which the signals that it is given come while it imports its first module.
SIGNALLED = """
import os, sys

class Sender:
    def find_spec(name, path, target=None):
        if name == "serverd.cli":
            sys.meta_path.remove(Sender)
            for number in sys.argv.pop(1).split(","):
                os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Sender)
from serverd.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_start_that_is_stopped_while_it_imports_ends_as_asked(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(SIGNALLED)
    (tmp_path / "server.toml").write_text(RESPOND)
    server = Server(
        tmp_path / "server.toml",
        program=tmp_path / "program.py",
        arguments=(str(int(number)), "-c", str(tmp_path / "server.toml")),
    ).start()
    try:
        assert server.wait() == 0
        assert {line.level for line in server.lines} <= {"info", "warning"}, server.output  # no traceback
        assert "ready:" not in server.output
    finally:
        server.kill()


def test_signals_that_ask_a_running_server_do_not_end_one_that_starts(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SIGNALLED)
    (tmp_path / "server.toml").write_text(RESPOND)
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU)
    with Server(
        tmp_path / "server.toml",
        program=tmp_path / "program.py",
        arguments=(",".join(str(int(number)) for number in numbers), "-c", str(tmp_path / "server.toml")),
    ) as server:
        assert get(server.address()).status == 200
        assert server.stop() == 0


@pytest.mark.parametrize("what", ["routes", "schema", "reload"])
def test_a_command_that_is_interrupted_while_it_imports_says_so(tmp_path: Path, what: str) -> None:
    (tmp_path / "server.toml").write_text(RESPOND)
    asked = [sys.executable, "-c", SIGNALLED, str(int(signal.SIGINT)), what]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "serverd: interrupted\n")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ('def connect():\n    raise RuntimeError("no database")\n\n\nconnect()\n', "RuntimeError: no database"),
        ("import does_not_exist\n", "ModuleNotFoundError: No module named 'does_not_exist'"),
        ("app = (\n", "SyntaxError: '(' was never closed"),
        (
            "async def app(scope, receive, send):\n"
            "    await receive()\n"
            '    raise RuntimeError("no cache at start-up")\n',
            "RuntimeError: no cache at start-up",
        ),
        (
            "from starlette.applications import Starlette\n"
            "from starlette.middleware import Middleware\n"
            "class Database:\n"
            "    def __init__(self, app):\n"
            '        raise RuntimeError("no database url")\n'
            "app = Starlette(middleware=[Middleware(Database)])\n",
            "RuntimeError: no database url",
        ),
    ],
    ids=["raises", "imports what is missing", "syntax error", "fails in its lifespan", "middleware fails before it"],
)
def test_a_broken_application_ends_the_start_with_its_own_traceback_and_its_line(
    tmp_path: Path, source: str, error: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    output = refused(tmp_path / "server.toml", BROKEN_APP)
    assert error in output
    assert re.search(r'File ".*broken\.py", line \d', output)
    line = re.search(r"server\.toml:(\d+)", output)
    assert line is not None
    assert int(line[1]) == 1 + BROKEN_APP.splitlines().index('app = "broken"')


def test_the_traceback_of_an_application_shows_no_frame_of_serverd(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    output = refused(tmp_path / "server.toml", BROKEN_APP)
    assert "ZeroDivisionError" in output
    assert "serverd/worker" not in output
    assert "importlib" not in output


def test_a_module_without_the_attribute_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("application = None\n")
    output = refused(tmp_path / "server.toml", BROKEN_APP)
    assert '"app"' in output or "'app'" in output or "broken:app" in output
    assert "server.toml:" in output


def test_a_broken_configuration_ends_the_start_with_all_of_its_errors(tmp_path: Path) -> None:
    broken = RESPOND.replace("[listeners.web]", "[server]\nworkres = 2\nloop = 3\n\n[listeners.web]\nbacklog = -1")
    output = refused(tmp_path / "server.toml", broken)
    for place in ("server.toml:2", "server.toml:3", "server.toml:6"):
        assert place in output
    assert 'did you mean "workers"?' in output


def test_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    server = Server(tmp_path / "none.toml").start()
    try:
        assert server.wait() == 3
        assert "none.toml" in server.output
    finally:
        server.kill()


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        output = refused(tmp_path / "server.toml", RESPOND.replace("127.0.0.1:0", address))
    assert f"cannot bind {address}: " in output
    assert "in use" in output


@pytest.mark.parametrize("arguments", [["--nonsense"], ["-c"], ["surplus"]], ids=" ".join)
def test_wrong_usage_ends_with_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    server = Server(tmp_path / "server.toml", arguments=arguments).start()
    try:
        assert server.wait() == 2
        assert server.output.startswith("serverd: ")
    finally:
        server.kill()


def test_the_log_tells_the_addresses_before_readiness(serve: Serve) -> None:
    server = serve(f"[server]\nworkers = 2\n\n{RESPOND}")
    messages = [line.message for line in server.lines]
    listening = f"listener web: listening on http://127.0.0.1:{server.port}"
    assert messages.index(listening) < messages.index("ready: generation 1, 2 workers")
    assert all(line.pid == server.pid for line in server.lines if line.message == listening)


def test_the_log_is_text_when_asked_for(serve: Serve) -> None:
    server = serve(f'{RESPOND}\n[logging]\nformat = "text"\n')
    assert "ready: generation 1, 1 worker" in server.output
    assert not any(line.pid for line in server.lines)


def test_processes_carry_titles(serve: Serve) -> None:
    server = serve(f"[server]\nworkers = 2\n\n{RESPOND}")
    assert processes.command_line(server.pid).startswith("serverd: supervisor")
    titles = [processes.command_line(pid) for pid in server.workers()]
    assert len(set(titles)) == 2
    assert all(title.startswith("serverd: worker") for title in titles)


# Stop


def test_an_idle_server_stops_cleanly(serve: Serve) -> None:
    server = serve(f"[server]\nworkers = 2\n\n{RESPOND}")
    workers = server.workers()
    assert server.stop() == 0
    assert server.lines[-1].message == "stopped"
    assert all(processes.has_ended(pid) for pid in workers)
    with pytest.raises(ConnectionRefusedError):
        get(server.address())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_lets_a_request_in_flight_finish(serve: Serve, probe: str, number: signal.Signals) -> None:
    server = serve(probe)
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        mark = server.mark()
        server.send_signal(number)
        server.wait_for("^stopping", since=mark)
        for client in clients:
            client.more(b"and behind")
            client.end()
            assert client.ended()
    assert server.wait() == 0
    assert server.lines[-1].message == "stopped"


def test_a_second_term_stops_at_once(serve: Serve, probe: str) -> None:
    server = serve(f'[server]\ngraceful_timeout = "1h"\n\n{probe}')
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        mark = server.mark()
        server.send_signal(signal.SIGTERM)
        server.wait_for("^stopping", since=mark)
        assert server.stop(timeout=5) == 0
        assert all(client.ended() for client in clients)
    assert server.lines[-1].message == "stopped"


def test_a_stop_waits_no_longer_than_graceful_timeout(serve: Serve, probe: str) -> None:
    server = serve(f'[server]\ngraceful_timeout = "300ms"\n\n{probe}')
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        assert server.stop(timeout=10) == 0
        assert all(client.ended() for client in clients)
    assert server.output.count("cut after draining for 0.3 s") == 2


# Survival


def test_a_dead_worker_is_replaced(serve: Serve, probe: str) -> None:
    server = serve(f"[server]\nworkers = 2\n\n{probe}")
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    processes.wait_for_end(before[0])
    # Connections to the dead worker's socket queue there until the next one has it, so each of these is answered.
    pids = {int(get(server.address(), "/pid").body) for _ in range(40)}
    assert before[0] not in pids
    server.wait_for(str(before[0]))
    after = server.workers()
    assert len(after) == 2
    assert before[1] in after
    assert pids <= set(after)
    assert server.stop() == 0


def test_workers_end_with_a_supervisor_that_is_killed(serve: Serve) -> None:
    server = serve(f"[server]\nworkers = 2\n\n{RESPOND}")
    workers = server.workers()
    os.kill(server.pid, signal.SIGKILL)
    for pid in workers:
        processes.wait_for_end(pid)


# Cost


@pytest.mark.skipif("coverage" in sys.modules, reason="coverage weighs on every process that it measures")
def test_one_worker_without_an_application_stays_below_40_mb(serve: Serve) -> None:
    server = serve(RESPOND)
    assert get(server.address()).body == b"ok"
    [worker] = server.workers()
    assert processes.resident_bytes(worker) < 40 * MIB
    # The budget for the whole server, with the pages that its two processes share counted once.
    assert processes.proportional_bytes(server.pid) + processes.proportional_bytes(worker) < 40 * MIB


def test_a_worker_imports_neither_pydantic_nor_click(serve: Serve, probe: str) -> None:
    server = serve(probe)
    modules = {name.partition(".")[0] for name in json.loads(get(server.address(), "/modules").body)}
    assert modules.isdisjoint({"pydantic", "pydantic_core", "click", "watchfiles", "tomli"})
    assert "serverd" in modules


def test_importing_the_worker_shows_neither_pydantic_nor_click() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import serverd.worker.__main__"]
    times = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in times.splitlines()}
    assert "serverd" in imported
    assert imported.isdisjoint({"pydantic", "pydantic_core", "click", "watchfiles", "tomli"})


COLLECTED = """\
import gc
{choice}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = b"%d" % gc.get_threshold()[0]
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}})
    await send({{"type": "http.response.body", "body": body}})
"""


@pytest.mark.parametrize(("choice", "threshold"), [("", b"5000"), ("gc.set_threshold(900)", b"900")])
def test_the_garbage_collector_comes_less_often_unless_the_application_has_said_how_often(
    serve: Serve, tmp_path: Path, choice: str, threshold: bytes
) -> None:
    (tmp_path / "choosy.py").write_text(COLLECTED.format(choice=choice))
    server = serve(BROKEN_APP.replace("broken", "choosy:app"))
    assert get(server.address("web"), "/").body == threshold
