"""serverd as a service: systemd's two sockets, privileges and umask, the pid file, the log file."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

import serverd
from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import command, control_socket, wait_until
from tests.support.load import Load
from tests.support.server import Server

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
PATIENCE = 20.0  # seconds for a notice that should come within one


# What a service manager is told


class Manager:
    """A service manager that only listens."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        self._socket.settimeout(PATIENCE)

    def hear(self) -> tuple[int, dict[str, str]]:
        """Return who says what."""
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
        [(_, _, credentials)] = ancillary
        return int.from_bytes(credentials[:4], sys.byteorder), dict(
            line.split("=", 1) for line in data.decode().split("\n")
        )

    def hear_until(self, name: str, value: str | None = None) -> list[tuple[int, dict[str, str]]]:
        """Return all that is said up to `name`, but pings of the watchdog unless they are asked for."""
        heard = []
        while True:
            pid, fields = self.hear()
            if name == "WATCHDOG" or "WATCHDOG" not in fields:
                heard.append((pid, fields))
            if name in fields and value in {None, fields[name]}:
                return heard

    def said(self) -> list[tuple[int, dict[str, str]]]:
        """Return what has been said and not been heard yet."""
        self._socket.setblocking(False)
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(self.hear())
        self._socket.settimeout(PATIENCE)
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@linux_only
def test_a_service_manager_hears_of_start_reload_and_stop(serve: Serve, probe: str, manager: Manager) -> None:
    server = serve(probe, env={"NOTIFY_SOCKET": manager.path})
    ready = [(server.pid, {"READY": "1"}), (server.pid, {"STATUS": "generation 1, 1 of 1 worker serving"})]
    assert manager.hear_until("STATUS") == ready
    before = _microseconds()
    server.reload()
    (_, reloading), *rest = manager.hear_until("READY")
    assert reloading["RELOADING"] == "1"
    assert before < int(reloading["MONOTONIC_USEC"]) < _microseconds()
    assert rest[-1] == (server.pid, {"READY": "1"})
    assert manager.hear_until("STATUS")[-1][1]["STATUS"] == "generation 2, 1 of 1 worker serving"
    server.file.write_text(f"{probe}\nworkres = 1\n")
    assert server.reload().message.startswith("reload failed")
    (_, reloading), *rest = manager.hear_until("READY")
    assert reloading["RELOADING"] == "1"
    failed = manager.hear_until("STATUS")[-1][1]["STATUS"]
    assert failed.startswith("generation 2, 1 of 1 worker serving; last reload failed, generation 2 goes on serving: ")
    assert "unknown key" in failed
    assert server.stop() == 0
    assert manager.said() == [(server.pid, {"STOPPING": "1"}), (server.pid, {"STATUS": "stopping"})]


def _microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@linux_only
def test_it_pings_while_it_is_idle_and_its_successor_does_after_an_upgrade(
    serve: Serve, probe: str, manager: Manager
) -> None:
    server = serve(probe, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"})
    for _ in range(3):
        manager.hear_until("WATCHDOG")
    with Client(server.address()) as client:  # which the old one drains for a while
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        assert client.head().status == 200
        assert client.read(6) == b"1\r\na\r\n"
        server.send_signal(signal.SIGUSR2)
        *_, (old, fields) = manager.hear_until("MAINPID")
        assert old == server.pid
        successor = int(fields["MAINPID"])
        assert successor != server.pid
        assert {manager.hear_until("WATCHDOG")[-1][0] for _ in range(3)} == {successor}
        client.send(b"b")
        assert client.read(11) == b"1\r\nb\r\n0\r\n\r\n"
    processes.wait_for_end(server.pid)
    assert {pid for pid, _ in manager.said()} <= {successor}
    os.kill(successor, signal.SIGTERM)
    assert (successor, {"STOPPING": "1"}) in manager.hear_until("STOPPING")
    processes.wait_for_end(successor)


NOSY = """
import json, os
async def app(scope, receive, send):
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    body = json.dumps({name: os.environ[name] for name in names if name in os.environ}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.parametrize("preload", ["true", "false"])
def test_no_application_finds_the_manager(serve: Serve, tmp_path: Path, manager: Manager, preload: str) -> None:
    (tmp_path / "nosy.py").write_text(NOSY)
    text = f'[server]\npreload = {preload}\n[listeners.web]\nbind = "127.0.0.1:0"\n[apps.nosy]\napp = "nosy:app"\n'
    server = serve(
        f'{text}[[mounts]]\napp = "nosy"\npath = "/"\n',
        env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "9000000", "LISTEN_PID": "1", "LISTEN_FDS": "1"},
    )
    assert json.loads(get(server.address()).body) == {}


# Sockets that systemd passes

# As systemd does it: the sockets are 3 and up, and LISTEN_PID is the program's own number.
LAUNCHER = """
import os, socket, sys
addresses = sys.argv[1].split(",")
sockets = []
for address in addresses:
    sock = socket.socket(socket.AF_UNIX if address.startswith("/") else socket.AF_INET)
    sock.bind(address if address.startswith("/") else ("127.0.0.1", int(address)))
    sock.listen(16)
    sockets.append(sock)
high = [os.dup2(sock.fileno(), 100 + number) for number, sock in enumerate(sockets)]
for number, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + number, inheritable=True)
    os.close(descriptor)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "serverd", *sys.argv[3:]])
"""


class ActivatedServer(Server):
    """A server that is started with sockets in its hands."""

    def __init__(self, file: Path, sockets: str, names: str) -> None:
        super().__init__(file)
        self._command = [sys.executable, "-c", LAUNCHER, sockets, names, "-c", str(file)]


@linux_only
def test_sockets_of_systemd_survive_whatever_happens_to_the_server(tmp_path: Path, probe: str) -> None:
    file, unix = tmp_path / "server.toml", str(tmp_path / "web.sock")
    text = "[server]\nworkers = 2\n\n" + probe.replace('"127.0.0.1:0"', '"systemd:web"')
    file.write_text(text)
    with ActivatedServer(file, f"0,{unix}", "web:web") as server:
        places = {str(place) for place in server.addresses()}
        assert unix in places
        [tcp] = [place for place in server.addresses() if not isinstance(place, str)]
        with Load(tcp, "/hello", fresh=1, keep_alive=1) as first, Load(unix, "/hello", fresh=1, keep_alive=1) as second:
            for load in (first, second):
                load.wait_for_answers(10)
            assert server.reload().message.startswith("reloaded: ")
            server.send_signal(signal.SIGTTIN)
            server.wait_for(r"^worker 2 \(pid \d+\) is ready")
            os.kill(server.workers()[0], signal.SIGTERM)
            server.send_signal(signal.SIGTTOU)
            server.send_signal(signal.SIGUSR2)
            line = server.wait_for(r"^upgraded: supervisor (\d+) serves")
            successor = int(line.message.split()[2])
            processes.wait_for_end(server.pid)
            for load in (first, second):
                load.wait_for_answers(20)
            mark = server.mark()
            os.kill(successor, signal.SIGHUP)
            server.wait_for("^reloaded: ", since=mark)
            for load in (first, second):
                load.wait_for_answers(20)
        assert (first.failures, second.failures) == ([], [])
        assert Path(unix).exists()
        os.kill(successor, signal.SIGTERM)
        processes.wait_for_end(successor)
        assert Path(unix).exists()  # it is systemd's


# Who the processes are

OWNED = """
import json, os, sys
HERE = os.path.dirname(os.path.abspath(__file__))
async def app(scope, receive, send):
    if scope["path"] == "/write":
        open(os.path.join(HERE, "made", "file"), "w").close()
        print("said by the application", file=sys.stderr, flush=True)
    umask = os.umask(0)
    os.umask(umask)
    found = {"user": os.getresuid(), "group": os.getresgid(), "groups": os.getgroups(), "umask": umask}
    body = json.dumps(found).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


# What loader, preloader and workers import, as far as it is not pure Python.
IMPORTS = "import sys; assert sys.version_info >= (3, 11); import pydantic, httptools, uvloop, serverd.worker.preloader"


def can_run_as_nobody(python: str, env: Mapping[str, str]) -> bool:
    """Tell whether nobody may run that interpreter, and it has what serverd needs."""
    command = [python, "-P", "-c", IMPORTS]
    try:
        done = subprocess.run(
            command, user="nobody", extra_groups=[], cwd="/", env={**os.environ, **env}, capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


def pythons() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield interpreters with the environment in which they find serverd: ours, and the system's with our packages."""
    yield sys.executable, {}
    other = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if other is not None:
        source = str(Path(serverd.__file__).parents[1])
        packages = dict.fromkeys([source, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        yield other, {"PYTHONPATH": os.pathsep.join(packages)}


@pytest.fixture
def python_of_nobody() -> tuple[str, dict[str, str]]:
    """Return an interpreter that nobody can run, and the environment it needs; root's own may be root's alone."""
    for python, env in pythons():
        if can_run_as_nobody(python, env):
            return python, env
    pytest.skip("there is no Python that nobody can run and that has what serverd needs")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return a directory that everybody can enter, other than pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def privileged_port() -> int:
    # Not the first that is free: tests that run beside this one look for one, too.
    for port in random.sample(range(513, 1024), 511):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    pytest.skip("no free port below 1024")


@as_root
@linux_only
@pytest.mark.parametrize("preload", ["true", "false"])
def test_root_keeps_what_only_root_may_and_workers_are_nobody(
    open_directory: Path, python_of_nobody: tuple[str, dict[str, str]], preload: str
) -> None:
    python, env = python_of_nobody
    nobody = pwd.getpwnam("nobody")
    (open_directory / "owned.py").write_text(OWNED)
    made, private = open_directory / "made", open_directory / "private"
    made.mkdir()
    os.chown(made, nobody.pw_uid, -1)
    private.mkdir(mode=0o700)
    file = open_directory / "server.toml"
    text = f"""\
[server]
user = "nobody"
umask = "0027"
preload = {preload}
[control]
socket = "{private}/control"
[listeners.web]
bind = "127.0.0.1:0"
[apps.owned]
app = "owned:app"
[[mounts]]
app = "owned"
path = "/"
"""
    file.write_text(text)
    with Server(file, python=python, env=env) as server:
        groups = os.getgrouplist("nobody", nobody.pw_gid)
        expected = {"user": [nobody.pw_uid] * 3, "group": [nobody.pw_gid] * 3, "groups": groups, "umask": 0o027}
        assert json.loads(get(server.address(), "/write").body) == expected
        found = (made / "file").stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (nobody.pw_uid, 0o640)
        control = os.stat(control_socket(server))
        assert (control.st_uid, stat.S_IMODE(control.st_mode)) == (0, 0o600)
        assert Path(f"/proc/{server.pid}").stat().st_uid == 0
        # Another port that only root may bind, and a log file that only root may open.
        port, log = privileged_port(), private / "log"
        more = (
            f'["127.0.0.1:0", "127.0.0.1:{port}"]\n[logging]\nfile = "{log}"\n[access_log]\nfile = "{private}/access"'
        )
        file.write_text(text.replace('"127.0.0.1:0"', more))
        assert command(server, "reload").code == 0
        assert json.loads(get(("127.0.0.1", port), "/write").body) == expected
        wait_until(lambda: "said by the application" in log.read_text())
        wait_until(lambda: '"target":"/write"' in (private / "access").read_text())
        mark = log.stat().st_size
        [old] = server.workers()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: "is ready" in log.read_text()[mark:])
        assert json.loads(get(("127.0.0.1", port)).body) == expected
        assert command(server, "stop").code == 0


@as_root
def test_what_a_user_may_not_run_is_named(tmp_path: Path, probe: str) -> None:
    if can_run_as_nobody(sys.executable, {}):
        pytest.skip("nobody can run this Python")
    file = tmp_path / "server.toml"
    file.write_text(f'[server]\nuser = "nobody"\n\n{probe}')
    server = Server(file).start()
    try:
        assert server.wait() == 3
        assert f"permission denied: {sys.executable}" in server.output
    finally:
        server.kill()


@linux_only
def test_the_umask_is_the_old_one_again_without_the_setting(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "owned.py").write_text(OWNED)
    ours = os.umask(0)
    os.umask(ours)
    text = """\
[server]
umask = "0077"
[listeners.web]
bind = "127.0.0.1:0"
[apps.owned]
app = "owned:app"
[[mounts]]
app = "owned"
path = "/"
"""
    server = serve(text)
    assert json.loads(get(server.address()).body)["umask"] == 0o077
    server.file.write_text(text.replace('umask = "0077"\n', ""))
    assert server.reload().message.startswith("reloaded: ")
    assert json.loads(get(server.address()).body)["umask"] == ours


@linux_only
def test_as_many_files_may_be_open_as_the_hard_limit_has_it(serve: Serve, probe: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        server = serve(probe)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for pid in (server.pid, *server.workers()):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)


# The command, with a hard limit.
FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from serverd.__main__ import main
main()
"""


@linux_only
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_worker_whose_descriptors_run_out_says_so_and_its_clients_wait(tmp_path: Path, probe: str, loop: str) -> None:
    file, program = tmp_path / "server.toml", tmp_path / "program.py"
    file.write_text(f'[server]\nloop = "{loop}"\n\n{probe}')
    program.write_text(FEW_DESCRIPTORS)
    with Server(file, program=program, arguments=("-c", str(file))) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address())) for _ in range(100)]
        server.wait_for(r"^\d+ of 64 descriptors are in use: further connections wait")
        for client in clients:
            client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        # Those that are answered make room for the others.
        assert [client.response().status for client in clients] == [200] * 100
        assert server.stop() == 0
    assert len([line for line in server.lines if line.level in {"warning", "error"}]) == 1
    assert "Traceback" not in server.output


# The pid file


def test_the_pid_file_tells_the_supervisor_and_goes_with_it(serve: Serve, probe: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "serverd.pid"
    server = serve(f'[server]\npid_file = "{path}"\n\n{probe}')
    assert path.read_text() == f"{server.pid}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    server.send_signal(signal.SIGUSR2)
    successor = int(server.wait_for(r"^upgraded: supervisor (\d+) serves").message.split()[2])
    processes.wait_for_end(server.pid)
    assert path.read_text() == f"{successor}\n"
    os.kill(successor, signal.SIGTERM)
    processes.wait_for_end(successor)
    assert not path.exists()


def test_the_pid_file_of_a_running_server_survives_another_start(serve: Serve, probe: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "serverd.pid"
    server = serve(f'[server]\npid_file = "{path}"\n\n{probe}')
    second = Server(server.file).start()
    try:
        assert second.wait() == 3
        assert "pid file" not in second.output
    finally:
        second.kill()
    assert path.read_text() == f"{server.pid}\n"


def test_no_process_is_killed_because_its_number_is_in_the_pid_file(serve: Serve, probe: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "serverd.pid"
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            path.parent.mkdir()
            path.write_text(f"{other.pid}\n")
            server = serve(f'[server]\npid_file = "{path}"\n\n{probe}')
            assert path.read_text() == f"{server.pid}\n"
            path.write_text(f"{other.pid}\n")
            assert command(server, "stop").code == 0
            assert path.read_text() == f"{other.pid}\n"
            assert other.poll() is None
        finally:
            other.kill()


# The log file

TALKER = """
import json, logging, os, sys
log = logging.getLogger("talker")
async def app(scope, receive, send):
    number = scope["query_string"].decode()
    print(f"printed {number}.", file=sys.stderr, flush=True)
    log.warning("logged %s.", number)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


class Talker:
    """A server with a log file, whose application logs and prints what it is asked to."""

    def __init__(self, directory: Path, *, preload: bool = False) -> None:
        (directory / "talker.py").write_text(TALKER)
        self.log = directory / "log"
        self.access = directory / "access"
        self._text = f"""\
[server]
workers = 2
preload = {"true" if preload else "false"}
[logging]
file = "log"
[access_log]
file = "access"
[listeners.web]
bind = "127.0.0.1:0"
[apps.talker]
app = "talker:app"
[[mounts]]
app = "talker"
path = "/"
"""
        self.file = directory / "server.toml"
        self.file.write_text(self._text)
        self.server = Server(self.file)
        self._said = 0

    def __enter__(self) -> Self:
        self.server.start()
        try:
            self.waits_for("ready: generation 1")
        except BaseException:
            self.server.kill()
            raise
        found = re.search(r"listening on http://127.0.0.1:(\d+)", self.log.read_text())
        assert found is not None
        self._address = ("127.0.0.1", int(found[1]))
        return self

    def __exit__(self, *_: object) -> None:
        self.server.kill()

    def waits_for(self, text: str) -> None:
        """Wait until something stands in the log file as it is now."""
        wait_until(lambda: self.log.exists() and text in self.log.read_text())

    def configure(self, old: str, new: str) -> None:
        """Change the configuration in one place."""
        self.file.write_text(self._text.replace(old, new))

    def talk(self) -> int:
        """Have a worker say something; return its number."""
        self._said += 1
        get(self._address, f"/?{self._said}")
        return self._said

    def kill_a_worker(self) -> None:
        """Wait for the one that takes its place to be ready."""
        mark = self.log.read_text().count("is ready")
        os.kill(self.server.workers()[0], signal.SIGKILL)
        wait_until(lambda: self.log.read_text().count("is ready") > mark)


def _targets(access_log: Path) -> list[str]:
    return [json.loads(line)["target"] for line in access_log.read_text().splitlines()]


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_nothing_is_lost_when_the_log_is_rotated(tmp_path: Path, preload: bool) -> None:
    old, old_access = tmp_path / "log.1", tmp_path / "access.1"
    with Talker(tmp_path, preload=preload) as talker:
        before = [talker.talk() for _ in range(10)]
        os.chmod(talker.log, 0o604)
        os.rename(talker.log, old)
        os.chmod(talker.access, 0o604)
        os.rename(talker.access, old_access)
        meanwhile = [talker.talk() for _ in range(10)]
        if preload:
            assert command(talker.server, "reopen").out == "log files reopened\n"
        else:
            talker.server.send_signal(signal.SIGUSR1)
        talker.waits_for("log files reopened")
        assert stat.S_IMODE(talker.log.stat().st_mode) == 0o604
        assert stat.S_IMODE(talker.access.stat().st_mode) == 0o604
        assert talker.log.stat().st_uid == old.stat().st_uid
        after = [talker.talk() for _ in range(20)]
        for number in before + meanwhile + after:
            for text in (f"printed {number}.", f"logged {number}."):
                assert (old.read_text() + talker.log.read_text()).count(text) == 1
        expected = sorted(f"/?{number}" for number in before + meanwhile + after)
        # In time: what a worker that is killed has not yet written is lost with it.
        wait_until(lambda: sorted(_targets(old_access) + _targets(talker.access)) == expected)
        assert len(_targets(old_access)) >= len(before)
        size = old.stat().st_size
        for _ in range(2):  # those that start later have never known the old one
            talker.kill_a_worker()
        for _ in range(10):
            number = talker.talk()
            assert f"printed {number}." in talker.log.read_text()
            assert f"logged {number}." in talker.log.read_text()
        assert old.stat().st_size == size
        assert command(talker.server, "stop").code == 0
    assert talker.server.output == ""


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_a_reload_moves_the_log_without_touching_a_worker(tmp_path: Path, preload: bool) -> None:
    with Talker(tmp_path, preload=preload) as talker:
        workers = talker.server.workers()
        old, talker.log = talker.log, tmp_path / "other"
        talker.configure('file = "log"', 'file = "other"')
        assert command(talker.server, "reload").code == 0
        assert talker.server.workers() == workers
        talker.kill_a_worker()
        size = old.stat().st_size
        for _ in range(10):
            number = talker.talk()
            assert f"printed {number}." in talker.log.read_text()
            assert f"logged {number}." in talker.log.read_text()
        assert old.stat().st_size == size
        assert str(old) not in processes.descriptors(talker.server.pid).values()


def test_a_log_file_that_cannot_be_opened_rolls_the_reload_back(tmp_path: Path) -> None:
    with Talker(tmp_path) as talker:
        talker.configure('file = "log"', 'file = "missing/log"')
        done = command(talker.server, "reload")
        assert done.code == 3
        assert "cannot open the log file" in done.err
        number = talker.talk()
        assert f"printed {number}." in talker.log.read_text()
        talker.log.rename(tmp_path / "log.1")
        talker.log.mkdir()
        talker.server.send_signal(signal.SIGUSR1)
        wait_until(lambda: "cannot open the log file" in (tmp_path / "log.1").read_text().rpartition("generation 1")[2])
        number = talker.talk()
        assert f"printed {number}." in (tmp_path / "log.1").read_text()
        assert "log files reopened" not in (tmp_path / "log.1").read_text()


def test_a_log_file_that_cannot_be_opened_ends_the_start(tmp_path: Path, probe: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'{probe}\n[logging]\nfile = "missing/log"\n')
    server = Server(file).start()
    try:
        assert server.wait() == 3
        assert f"cannot open the log file {tmp_path}/missing/log: its directory must exist" in server.output
    finally:
        server.kill()
