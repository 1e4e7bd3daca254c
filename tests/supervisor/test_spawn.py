"""What a started process finds, and what the supervisor sees of its end; with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd.generation import Account
from serverd.net.bindings import Bindings
from serverd.supervisor import spawn
from serverd.supervisor.spawn import (
    UNKNOWN_STATUS,
    Process,
    Surroundings,
    spawn_program,
    spawn_supervisor,
    spawn_worker,
)
from tests.net.test_sockets import generation, listener, tcp

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

# Says over its channel what it finds, then waits for the other end to be closed.
REPORT = """
import json, os, socket, sys
descriptors = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
channel = socket.socket(fileno=int(arguments.get("--channel") or arguments["--take-over"]))
umask = os.umask(0)
channel.sendall(json.dumps({
    "arguments": arguments,
    "descriptors": sorted(map(int, descriptors)),
    "inodes": {fd: os.fstat(int(fd)).st_ino for fd in descriptors},
    "user": [os.getresuid(), os.getresgid(), os.getgroups()],
    "umask": umask,
    "environment": dict(os.environ),
}).encode() + b"\\n")
sys.stderr.write("said to standard error")
sys.stderr.flush()
channel.recv(1)
"""
REPORTS = (sys.executable, "-c", REPORT)
SLEEPS = "import signal; signal.pause()"


class Started:
    """A worker that has said what it found."""

    def __init__(self, command: tuple[str, ...] = REPORTS, surroundings: Surroundings | None = None) -> None:
        surroundings = surroundings or Surroundings()
        self.process, self.channel, self.stacks = spawn_worker(command, "serverd: worker 0", surroundings)

    def found(self) -> Any:
        """Return what the worker found."""
        return read_report(self.channel)

    def end(self) -> None:
        """Let the worker end, and reap it."""
        self.channel.close()
        if not self.process.reap_within(10):
            self.process.kill()
        self.process.reap_within(None)
        self.process.close()
        os.close(self.stacks)


def read_report(channel: socket.socket) -> Any:
    channel.settimeout(10)
    with channel.makefile("rb") as lines:
        return json.loads(lines.readline())


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: Any) -> Started:
            started = Started(*arguments)
            stack.callback(started.end)
            return started

        yield start


@pytest.fixture
def child() -> Iterator[Callable[[str], Process]]:
    """Return what starts a program in Python, held as the supervisor does."""
    with contextlib.ExitStack() as stack:

        def child(program: str) -> Process:
            process, output = spawn_program((sys.executable, "-c", program), ())
            stack.callback(os.close, output)
            stack.callback(process.close)
            stack.callback(process.reap_within, 10)
            stack.callback(process.kill)
            return process

        yield child


@pytest.fixture(params=[True, False], ids=["pidfd", "no pidfd"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with and without the kernel telling of the end of a process."""
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)


Child = Callable[[str], Process]
Start = Callable[..., Started]


@pytest.mark.usefixtures("either_way")
class TestProcess:
    @pytest.mark.parametrize(
        ("program", "status"),
        [("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)],
        ids=["success", "status", "signal"],
    )
    def test_its_status_is_told_again_and_again(self, child: Child, program: str, status: int) -> None:
        process = child(program)
        assert process.reap_within(10)
        assert [process.reap(), process.reap()] == [status, status]

    def test_while_it_lives_there_is_no_status(self, child: Child) -> None:
        process = child(SLEEPS)
        assert process.reap() is None
        assert not process.reap_within(0.01)

    def test_a_signal_reaches_it(self, child: Child) -> None:
        process = child(SLEEPS)
        process.signal(signal.SIGTERM)
        assert process.reap_within(10)
        assert process.reap() == -signal.SIGTERM

    def test_a_signal_to_what_has_ended_does_nothing(self, child: Child) -> None:
        process = child("")
        if process.exit_descriptor is not None:
            assert spawn._is_readable(process.exit_descriptor, 10)
        process.kill()  # a zombie, or not even that yet
        assert process.reap_within(10)
        process.kill()

    def test_a_signal_that_is_not_permitted_is_told_and_ends_nobody(
        self, child: Child, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        process = child(SLEEPS)
        with monkeypatch.context() as patched:
            patched.setattr(signal, "pidfd_send_signal", refuse, raising=False)
            patched.setattr(os, "kill", refuse)
            process.kill()
        assert f"cannot send SIGKILL to process {process.pid}: not permitted" in caplog.text
        assert process.reap() is None

    def test_another_process_that_is_started_does_not_take_its_status(self, child: Child) -> None:
        process = child("raise SystemExit(3)")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        subprocess.run([sys.executable, "-c", ""], check=True)  # reaps what Popen objects have left behind
        assert process.reap() == 3

    def test_the_child_of_another_process_lives_until_it_is_gone(self) -> None:
        program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}])
print(child.pid, flush=True)
sys.exit(child.wait() and 0)
"""
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            process = Process(int(parent.stdout.readline()))
            assert process.reap() is None
            process.kill()
            parent.wait(10)  # it has reaped the child
            assert process.reap() == UNKNOWN_STATUS
            process.close()


def test_without_a_descriptor_to_spare_the_process_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def refuse(pid: int) -> int:
        seen.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    before = descriptors()
    with pytest.raises(OSError, match="Too many open files"):
        spawn_worker((sys.executable, "-c", SLEEPS), "", Surroundings())
    with pytest.raises(ChildProcessError):
        os.waitpid(seen[0], os.WNOHANG)
    assert descriptors() == before


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


@linux_only
class TestWorker:
    def test_it_inherits_its_channel_and_the_file_for_its_stacks_and_nothing_else(self, start: Start) -> None:
        with socket.create_server(("127.0.0.1", 0)):
            found = start().found()
        arguments = found["arguments"]
        assert list(arguments) == ["--channel", "--dump", "--title"]
        assert found["descriptors"] == sorted({0, 1, 2, int(arguments["--channel"]), int(arguments["--dump"])})
        assert arguments["--title"] == "serverd: worker 0"

    def test_without_being_asked_it_is_what_we_are(self, start: Start) -> None:
        found = start().found()
        umask = os.umask(0)
        os.umask(umask)
        assert found["user"] == [list(os.getresuid()), list(os.getresgid()), os.getgroups()]
        assert found["umask"] == umask

    def test_the_umask_is_the_one_asked_for_and_ours_stays(self, start: Start) -> None:
        umask = os.umask(0o022)
        try:
            assert start(REPORTS, Surroundings(umask=0o027)).found()["umask"] == 0o027
            assert os.umask(0o022) == 0o022
        finally:
            os.umask(umask)

    @as_root
    @pytest.mark.parametrize(
        ("account", "uid", "gid", "groups"),
        [
            (Account(12, 34, (34, 56)), 12, 34, [34, 56]),
            (Account(12, 34), 12, 34, []),
            (Account(gid=34), 0, 34, os.getgroups()),
        ],
        ids=["user and groups", "no supplementary groups", "group alone"],
    )
    def test_root_makes_it_another_account_for_good(
        self, start: Start, account: Account, uid: int, gid: int, groups: list[int]
    ) -> None:
        # Not Python, which may be installed where another account cannot go.
        command = ("/bin/sh", "-c", "grep -E '^(Uid|Gid|Groups):' /proc/self/status >&2")
        with tempfile.TemporaryFile() as file:
            started = start(command, Surroundings(account=account, stderr=file.fileno()))
            assert started.process.reap_within(10)
            file.seek(0)
            said = {key: [int(number) for number in numbers] for key, *numbers in map(bytes.split, file)}
        assert said == {b"Uid:": [uid] * 4, b"Gid:": [gid] * 4, b"Groups:": sorted(groups)}

    def test_standard_error_is_the_one_asked_for(self, start: Start) -> None:
        with tempfile.TemporaryFile() as file:
            started = start(REPORTS, Surroundings(stderr=file.fileno()))
            found = started.found()
            assert found["inodes"]["2"] == os.fstat(file.fileno()).st_ino
            assert found["inodes"]["1"] == os.fstat(1).st_ino

    def test_a_command_that_does_not_exist_leaves_nothing_open(self) -> None:
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            spawn_worker(("/does/not/exist",), "", Surroundings())
        assert descriptors() == before


@pytest.mark.parametrize("has_memory_files", [True, False], ids=["in memory", "on disk"])
def test_stacks_that_were_emptied_are_written_from_the_start_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_memory_files: bool
) -> None:
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptor = spawn._open_nameless_file()
    try:
        assert stat.S_ISREG(os.fstat(descriptor).st_mode)
        assert not os.get_inheritable(descriptor)
        assert list(tmp_path.iterdir()) == []
        os.write(descriptor, b"the first time")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"once more")
        assert os.pread(descriptor, 100, 0) == b"once more"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("account", "options"),
    [
        (Account(), {}),
        (Account(1000, 1000, (1000,)), {}),
        (Account(gid=1000), {}),
        (Account(12, 34, (34,)), {"user": 12, "group": 34, "extra_groups": (34,)}),
        (Account(1000, 34, ()), {"user": 1000, "group": 34, "extra_groups": ()}),
    ],
    ids=["nobody in particular", "ourselves", "our group", "somebody else", "another group"],
)
def test_who_is_not_root_tries_to_change_only_what_differs(
    monkeypatch: pytest.MonkeyPatch, account: Account, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    assert spawn._identity(account) == options


def test_a_worker_of_another_user_leaves_the_session_of_our_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert spawn._options(Surroundings(Account(12, 34, ())))["start_new_session"]
    assert not spawn._options(Surroundings())["start_new_session"]


@linux_only
def test_another_supervisor_inherits_the_descriptors_under_their_numbers_and_our_surroundings() -> None:
    with contextlib.ExitStack() as stack:
        given = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        kept = [sock.fileno() for sock in given]
        process, channel = spawn_supervisor((*REPORTS, "-c", "/etc/server.toml"), {"NOTIFY_SOCKET": "/run/n"}, kept[1:])
        stack.callback(process.close)
        stack.callback(process.reap_within, 10)
        with channel:
            assert not channel.getblocking()
            found = read_report(channel)
        assert list(found["arguments"]) == ["-c", "--take-over"]
        assert found["arguments"]["-c"] == "/etc/server.toml"
        number = int(found["arguments"]["--take-over"])
        assert found["descriptors"] == sorted({0, 1, 2, number, *kept[1:]})
        assert all(found["inodes"][str(fd)] == os.fstat(fd).st_ino for fd in kept[1:])
        assert found["inodes"]["0"] == os.fstat(0).st_ino
        assert found["environment"]["NOTIFY_SOCKET"] == "/run/n"
        assert found["environment"]["PATH"] == os.environ["PATH"]
        assert not os.get_inheritable(kept[1])
    assert "NOTIFY_SOCKET" not in os.environ


# Takes over what it is sent, says so, and answers the one connection that was made before it started.
SUCCESSOR = """
import json, socket, sys
from tests.net.test_sockets import generation, listener, tcp
from serverd.net.bindings import Bindings
channel = socket.socket(fileno=int(sys.argv[-1]))
with channel.makefile("rw") as lines:
    text, descriptors = json.loads(lines.readline())
    bindings = Bindings()
    bindings.take_over(text, descriptors)
    bindings.prepare(generation(1, listener(tcp("127.0.0.1"))), 1)
    bindings.commit()
    lines.write("ready\\n")
    lines.flush()
    lines.readline()  # the old one has left
[(_, _, listening)] = bindings.grants(1)
listening.setblocking(True)
with listening.accept()[0] as accepted:
    accepted.sendall(b"hello")
bindings.close()
"""


def test_a_connection_that_waits_is_answered_by_another_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(contextlib.closing(Bindings()))
        old.prepare(generation(7, listener(tcp("127.0.0.1"))), 1)
        old.commit()
        [(_, _, sock)] = old.grants(7)
        sock.listen(16)
        client = stack.enter_context(socket.create_connection(sock.getsockname(), timeout=10))
        text, numbers = old.hand_over()
        process, channel = spawn_supervisor((sys.executable, "-c", SUCCESSOR), {}, numbers)
        stack.callback(process.close)
        stack.callback(process.reap_within, 10)
        stack.callback(process.kill)
        stack.enter_context(channel)
        channel.settimeout(10)
        channel.sendall(json.dumps([text, numbers]).encode() + b"\n")
        assert channel.recv(100) == b"ready\n"
        old.close(keep_files=True)
        channel.sendall(b"gone\n")
        assert client.recv(5) == b"hello"
        assert process.reap_within(10)
        assert process.reap() == 0


def test_the_end_of_another_supervisor_is_the_end_of_its_channel() -> None:
    process, channel = spawn_supervisor((sys.executable, "-c", "raise SystemExit(3)"), {}, [])
    with channel:
        channel.settimeout(10)
        assert channel.recv(1) == b""
    assert process.reap_within(10)
    assert process.reap() == 3
    process.close()
