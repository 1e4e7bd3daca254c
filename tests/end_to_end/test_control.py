"""What an operator does to a running server, by command and by signal, under load; and who cannot."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import Command, Poll, command, control_socket, status, wait_until
from tests.support.either import both
from tests.support.load import Load
from tests.support.server import Server

HANGING = """
import os, time
open(GATE + "." + str(os.getpid()), "w").close()
while not os.path.exists(GATE):
    time.sleep(0.01)
from probe import app
"""

FAILING = """
def configure():
    raise LookupError("no such currency: EUX")


configure()
"""


@pytest.fixture
def configuration(probe: str, tmp_path: Path) -> str:
    """Return that of a server with one worker and an application more, whose code the test writes."""
    app = f'[apps.changing]\napp = "changing:app"\ndirectory = "{tmp_path}"'
    mount = '[[mounts]]\napp = "changing"\npath = "/c"'
    (tmp_path / "changing.py").write_text("from probe import app\n")
    return f'[server]\nworkers = 1\nstart_timeout = "20s"\n\n{probe}\n{app}\n\n{mount}\n'


def two_workers(configuration: str) -> str:
    return configuration.replace("workers = 1", "workers = 2")


def change_code(directory: Path, text: str) -> Path:
    """Write the application's code; return the file that it waits for, if it does."""
    gate = directory / "gate"
    gate.unlink(missing_ok=True)
    (directory / "changing.py").write_text(text.replace("GATE", repr(str(gate))))
    return gate


# Reload


def test_a_reload_that_fails_says_why_and_the_old_generation_goes_on(
    serve: Serve, configuration: str, tmp_path: Path
) -> None:
    configuration = two_workers(configuration)
    server = serve(configuration)
    before = server.workers()
    with Load(server.address(), "/hello", slow=1) as load, socket.create_server(("127.0.0.1", 0)) as taken:
        load.wait_for_answers(10)
        port = taken.getsockname()[1]
        change_code(tmp_path, FAILING)
        app = command(server, "reload")
        server.file.write_text(configuration.replace("[server]", "[server]\nworkres = 2"))
        file = command(server, "reload")
        server.file.write_text(configuration.replace('"127.0.0.1:0"', f'["127.0.0.1:0", "127.0.0.1:{port}"]'))
        bind = command(server, "reload")
        load.wait_for_answers(10)
    for done in (app, file, bind):
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("serverd: reload failed, generation 1 goes on serving: ")
    assert "LookupError: no such currency: EUX\n" in app.err
    assert f'File "{tmp_path}/changing.py", line 3, in configure\n' in app.err
    assert 'server.toml:2: server.workres: unknown key (did you mean "workers"?)\n   2 | workres = 2\n' in file.err
    assert f"server.toml:5: cannot bind 127.0.0.1:{port}: address already in use" in bind.err
    assert load.failures == []
    wait_until(lambda: server.workers() == before)
    last = status(server)["last_reload"]
    assert last["ok"] is False
    assert "address already in use" in last["message"]
    assert processes.zombies(server.pid) == []


def test_reloads_that_are_asked_for_meanwhile_become_one_and_everybody_is_answered(
    serve: Serve, configuration: str, tmp_path: Path
) -> None:
    server = serve(configuration)
    gate = change_code(tmp_path, HANGING)
    first = Command(server, "reload")
    server.wait_for("reloading: asked for on the control socket")
    wait_until(lambda: len(server.workers()) == 2)
    later = [Command(server, "reload") for _ in range(3)]
    wait_until(lambda: server.text().count("reload queued: asked for on the control socket") == 3)
    server.send_signal(signal.SIGHUP)
    server.wait_for("reload queued: HUP received")
    assert status(server)["step"] == "preparing"
    mark = server.mark()
    gate.touch()
    assert first.wait().outcome == (0, "generation 2 is serving\n", "")
    for one in later:
        assert one.wait().outcome == (0, "generation 3 is serving\n", "")
    wait_until(lambda: status(server)["step"] == "idle")
    assert status(server)["generation"] == 3
    assert server.text(mark).count("reloaded: ") == 2


def test_a_start_up_that_hangs_fails_the_reload_in_time_and_the_next_one_begins(
    serve: Serve, configuration: str, tmp_path: Path
) -> None:
    server = serve(configuration.replace("20s", "4s"))
    before = server.workers()
    change_code(tmp_path, HANGING)
    with Load(server.address(), "/hello") as load:
        hanging = Command(server, "reload")
        wait_until(lambda: any(tmp_path.glob("gate.*")))  # one that hangs is enough
        change_code(tmp_path, "from probe import app\n")
        queued = Command(server, "reload")
        assert hanging.wait().code == 3
        assert "apps.changing: not up within 4 s (start_timeout)" in hanging.err
        assert queued.wait().outcome == (0, "generation 3 is serving\n", "")
        load.wait_for_answers(10)
    assert load.failures == []
    wait_until(lambda: not set(before) & set(server.workers()))


def test_whoever_stops_waiting_stops_nothing(serve: Serve, configuration: str, tmp_path: Path) -> None:
    server = serve(configuration)
    gate = change_code(tmp_path, HANGING)
    done = command(server, "reload", "--timeout", "1")
    assert (done.code, done.err) == (
        3,
        f"serverd: the server of {server.file} has not answered within 1 s; it goes on\n",
    )
    gate.touch()
    server.wait_for("reloaded: generation 2 is serving")


# Scale


def test_scaling_under_load_fails_no_request(serve: Serve, configuration: str) -> None:
    configuration = two_workers(configuration)
    server = serve(configuration)

    def has_settled(count: int) -> bool:
        states = [worker["state"] for worker in status(server)["workers"]]
        return states == ["ready"] * count

    with Load(server.address(), "/hello", fresh=2, keep_alive=2, slow=2, http2=2) as load, Poll(server) as poll:
        for count in (4, 1, 3):
            assert command(server, "scale", str(count)).outcome == (
                0,
                f"scaling to {count} worker{'s' if count > 1 else ''}\n",
                "",
            )
            load.wait_for_answers(30)
        wait_until(lambda: has_settled(3))
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTTIN):
            mark = server.mark()
            server.send_signal(number)
            server.wait_for("scaling from", since=mark)
            load.wait_for_answers(10)
        wait_until(lambda: has_settled(4))
        load.wait_for_answers(30)
        refused = command(server, "scale", "2000")
    assert load.failures == poll.failures == []
    assert refused.code == 2
    assert 'N: "2000" is not a whole number from 1 to 1024' in refused.err
    assert len(server.workers()) == 4
    assert command(server, "reload").code == 0
    wait_until(lambda: has_settled(4))  # the file has not changed its mind
    server.file.write_text(configuration.replace("workers = 2", "workers = 3"))
    assert command(server, "reload").code == 0
    wait_until(lambda: has_settled(3))


# Stop


def test_a_stop_waits_for_what_is_in_flight(serve: Serve, configuration: str) -> None:
    server = serve(configuration)
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        wait_until(lambda: sum(worker["in_flight"] for worker in status(server)["workers"]) == 2)
        stopping = Command(server, "stop")
        server.wait_for("stopping: asked for on the control socket")
        now = status(server)
        assert (now["phase"], now["ready"]) == ("stopping", False)
        assert command(server, "reload").outcome == (3, "", "serverd: the server is stopping\n")
        with pytest.raises(ConnectionRefusedError):
            wait_until(lambda: Client(server.address()).close() is not None)
        for client in clients:
            client.more(b"and behind")
            client.end()
    assert stopping.wait().outcome == (0, "stopped\n", "")
    assert server.wait() == 0
    assert not os.path.exists(control_socket(server))
    gone = command(server, "status")
    assert gone.code == 3
    assert gone.err.startswith(f"serverd: no serverd serves {server.file}: no control socket at ")


def test_during_the_delay_of_a_stop_everything_is_served_and_nothing_is_ready(serve: Serve, configuration: str) -> None:
    server = serve(configuration.replace("[server]", '[server]\nshutdown_delay = "1s"'))
    with Poll(server) as poll:
        stopping = Command(server, "stop")
        server.wait_for("not ready any more: asked for on the control socket, stopping in 1 s")
        for _ in range(10):
            assert get(server.address(), "/hello").status == 200
        assert status(server)["ready"] is False
        assert stopping.wait().outcome == (0, "stopped\n", "")
    assert poll.phases[:2] == [("serving", True), ("delaying", False)]
    assert server.wait() == 0


@pytest.mark.parametrize("delay", ["0s", "30s"])
def test_a_second_signal_stops_at_once(serve: Serve, configuration: str, delay: str) -> None:
    server = serve(configuration.replace("[server]", f'[server]\nshutdown_delay = "{delay}"'))
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        wait_until(lambda: sum(worker["in_flight"] for worker in status(server)["workers"]) == 2)
        server.send_signal(signal.SIGTERM)
        server.wait_for("stopping: TERM|not ready any more")
        assert server.stop() == 0
        assert all(client.ended() for client in clients)
    server.wait_for("stopping at once: TERM received again")


# The control socket


def test_the_socket_is_for_its_owner_alone(serve: Serve, configuration: str) -> None:
    server = serve(configuration)
    path = control_socket(server)
    found = os.lstat(path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


STRANGER = """\
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(10)
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b'{"command": "stop"}\\n')
        print(sock.recv(1000))
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("loosened", [False, True], ids=["as it is", "with its modes loosened"])
def test_another_user_is_refused(serve: Serve, configuration: str, tmp_path: Path, loosened: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:  # not in tmp_path, where nobody else may look
        os.chmod(directory, 0o755 if loosened else 0o700)
        server = serve(f'{configuration}\n[control]\nsocket = "{directory}/s"\n')
        if loosened:
            os.chmod(f"{directory}/s", 0o666)
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, f"{directory}/s"], capture_output=True, text=True, timeout=30, check=True
        )
        refusals = {"b''", "ConnectionResetError", "BrokenPipeError"} if loosened else {"PermissionError"}
        assert done.stdout.strip() in refusals
        if loosened:
            server.wait_for("control socket: refused a connection of user 65534")
        assert status(server)["ready"] is True
        assert server.stop() == 0


def test_a_socket_that_a_dead_server_left_is_replaced(serve: Serve, configuration: str) -> None:
    first = serve(configuration)
    first.send_signal(signal.SIGKILL)
    first.leaves()
    assert os.path.exists(control_socket(first))
    gone = command(first, "status")
    assert gone.code == 3
    assert "nobody listens" in gone.err
    second = serve(configuration)
    assert status(second)["pid"] == second.pid


def test_a_second_server_of_the_same_file_does_not_start_and_harms_nothing(serve: Serve, configuration: str) -> None:
    first = serve(configuration)
    second = Server(first.file).start()
    try:
        assert second.wait() == 3
        assert f"another server (pid {first.pid}) listens on it" in second.output
    finally:
        second.kill()
    assert status(first)["pid"] == first.pid
    assert get(first.address(), "/hello").status == 200


def test_a_socket_that_was_removed_is_back_after_a_reload(serve: Serve, configuration: str) -> None:
    server = serve(configuration)
    path = control_socket(server)
    os.unlink(path)
    assert command(server, "status").code == 3
    assert server.reload().message == "reloaded: generation 2 is serving"
    assert status(server)["pid"] == server.pid
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"not a request"),
        (b'{"command": "relaod"}\n', b"unknown command"),
        (b'{"command": "stop", "now": true}\n', b"stop does not take"),
        (b'{"command": "scale", "workers": 1e9}\n', b"scale: workers is not a whole number"),
        (b"[" * 60_000 + b"\n", b"not a request"),
        (b"x" * 100_000, b"a request has at most"),
        (b"\x00\xff\n", b"not a request"),
    ],
    ids=["HTTP", "unknown", "extra", "number", "nested", "endless", "binary"],
)
def test_garbage_is_refused_with_a_reason(control: Server, sent: bytes, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(control_socket(control))
        sock.sendall(sent)
        reply = b""
        with contextlib.suppress(ConnectionResetError):  # what it has not read is thrown away
            while data := sock.recv(65536):
                reply += data
    assert reply.startswith(b'{"ok":false,"error":')
    assert answer in reply
    assert status(control)["ready"] is True


def test_clients_that_only_sit_there_keep_nobody_out(control: Server) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for sock in idle:
            sock.connect(control_socket(control))
            sock.sendall(b'{"comm')
        assert status(control)["ready"] is True
    finally:
        for sock in idle:
            sock.close()


def test_nothing_but_the_listeners_can_be_reached(control: Server) -> None:
    pids = [control.pid, *control.workers()]
    inodes = {link for pid in pids for link in processes.descriptors(pid).values() if link.startswith("socket:")}
    listening = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and (fields[3] == "0A" or table.startswith("udp")):
                listening.add((table, int(fields[1].rpartition(":")[2], 16)))
    assert listening == {("tcp", control.port)}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Run one server for the tests that only talk to its control socket."""
    directory = tmp_path_factory.mktemp("control")
    file = directory / "server.toml"
    file.write_text('[listeners.web]\nbind = "127.0.0.1:0"\n\n[[mounts]]\npath = "/"\nrespond = { status = 204 }\n')
    with Server(file) as server:
        yield server
