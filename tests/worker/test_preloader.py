"""The preloader as a process, driven over its channel as a supervisor does: one import, then a fork per request."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd.generation import App, Generation, Logging, Server
from serverd.messages import (
    Beat,
    Drain,
    Failed,
    Fork,
    Forked,
    Message,
    Preload,
    Preloaded,
    Ready,
    Start,
    decode,
    encode,
)
from serverd.parent import PR_SET_CHILD_SUBREAPER, take_in_orphans
from tests.support import processes
from tests.support.control import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has preloaders")

COMMAND = (sys.executable, "-P", "-m", "serverd.worker.preloader")
TIMEOUT = 20.0  # seconds for everything: a bound, far above what any of it takes
APPLICATION = """
async def app(scope, receive, send):
    raise NotImplementedError
"""


class Talk:
    """Messages over one end of a channel."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.channel.settimeout(TIMEOUT)
        self._lines = channel.makefile("rb")

    def say(self, message: Message, *descriptors: int) -> None:
        line = encode(message)
        sent = socket.send_fds(self.channel, [line], list(descriptors)) if descriptors else 0
        self.channel.sendall(line[sent:])

    def hear(self, *kinds: type) -> Message | None:
        """Return the next message, or the next one of a kind; None at the end."""
        while line := self._lines.readline():
            message = decode(line)
            if not kinds or isinstance(message, kinds):
                return message
        return None

    def close(self) -> None:
        self._lines.close()
        self.channel.close()


class Preloader(Talk):
    """A preloader, its standard error, and the workers that were forked from it."""

    def __init__(self, directory: Path, *apps: App, **server: Any) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.error = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        with theirs:
            self.process = subprocess.Popen(
                [*COMMAND, "--channel", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.error,
                env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            )
        self.generation = Generation(
            str(directory / "server.toml"),
            Server(preload=True, **server),
            (),
            apps or (App("shop", "shop:app", str(directory), source="server.toml:7"),),
            (),
            Logging(format="text"),
            number=3,
        )
        self.workers: list[Talk] = []
        self.say(Preload(self.generation))

    def fork(self) -> tuple[int, Talk]:
        """Return a worker's pid and the channel to it."""
        ours, theirs = socket.socketpair()
        self.workers.append(Talk(ours))
        with theirs, tempfile.TemporaryFile() as stacks:
            self.say(Fork("serverd: worker 0"), theirs.fileno(), stacks.fileno(), self.error.fileno())
        forked = self.hear()
        assert isinstance(forked, Forked)
        assert forked.reason == ""
        return forked.pid, self.workers[-1]

    def said(self) -> str:
        """Return what it, and its workers, have written to standard error."""
        self.error.seek(0)
        return self.error.read().decode()

    def printed(self) -> str:
        """Return what it, and its workers, have written to standard output."""
        self.output.seek(0)
        return self.output.read().decode()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.process.kill()
        self.process.wait(TIMEOUT)
        super().close()
        self.error.close()
        self.output.close()


@pytest.fixture
def takes_in_orphans() -> Iterator[None]:
    """Be the parent of what is forked, as the supervisor is."""
    assert take_in_orphans()
    yield
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@pytest.fixture
def start(tmp_path: Path, takes_in_orphans: None) -> Iterator[Callable[..., Preloader]]:
    """Start preloaders of an application with `source`."""
    preloaders: list[Preloader] = []

    def start(source: str = "", *apps: App, **server: Any) -> Preloader:
        (tmp_path / "shop.py").write_text(APPLICATION + source)
        preloaders.append(Preloader(tmp_path, *apps, **server))
        return preloaders[-1]

    yield start
    for one in preloaders:
        one.close()


Starter = Callable[..., Preloader]


def ended(pid: int) -> int:
    """Wait for the end of a worker and return its exit code."""
    with selectors.DefaultSelector() as selector:
        descriptor = os.pidfd_open(pid)
        try:
            selector.register(descriptor, selectors.EVENT_READ)
            assert selector.select(TIMEOUT)
        finally:
            os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_fork_lives_and_ends_as_a_worker_does(start: Starter, loop: str) -> None:
    preloader = start(loop=loop)
    assert preloader.hear() == Preloaded()
    assert processes.command_line(preloader.process.pid) == "serverd: preloader (generation 3)"
    pid, worker = preloader.fork()
    worker.say(Start(preloader.generation, 0, ()))
    assert worker.hear(Ready) == Ready(pid)
    assert isinstance(worker.hear(Beat), Beat)
    assert processes.command_line(pid) == "serverd: worker 0 (generation 3) (ready)"
    worker.say(Drain(1.0))
    assert ended(pid) == 0
    assert preloader.process.poll() is None


def test_no_descriptor_goes_astray(start: Starter) -> None:
    preloader = start()
    preloader.hear()
    before = processes.descriptors(preloader.process.pid)
    pids = [preloader.fork()[0] for _ in range(10)]
    wait_until(lambda: processes.descriptors(preloader.process.pid) == before)
    # The standard streams, its channel and its file for stacks; and nothing of its sisters or of the preloader.
    wait_until(lambda: all(len(processes.descriptors(pid)) == 5 for pid in pids))


def test_a_fork_that_nobody_holds_ends(start: Starter) -> None:
    preloader = start()
    preloader.hear()
    pid, worker = preloader.fork()
    worker.close()
    assert ended(pid) == 0


def test_forks_outlive_the_preloader_and_it_ends_with_its_channel(start: Starter) -> None:
    preloader = start()
    preloader.hear()
    pid, worker = preloader.fork()
    preloader.channel.shutdown(socket.SHUT_RDWR)
    assert preloader.process.wait(TIMEOUT) == 0
    worker.say(Start(preloader.generation, 0, ()))
    assert worker.hear(Ready) == Ready(pid)
    worker.say(Drain(1.0))
    assert ended(pid) == 0


def test_standard_error_is_the_one_that_comes_along(start: Starter) -> None:
    preloader = start()
    preloader.hear()
    with tempfile.TemporaryFile() as other:
        preloader.error, before = other, preloader.error
        pid, worker = preloader.fork()
        wait_until(lambda: os.path.samestat(os.stat(f"/proc/{pid}/fd/2"), os.fstat(other.fileno())))
        preloader.error = before
    worker.close()
    assert ended(pid) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU])
def test_signals_to_the_whole_group_are_the_supervisors(start: Starter, number: signal.Signals) -> None:
    preloader = start()
    preloader.hear()
    preloader.process.send_signal(number)
    preloader.fork()
    assert preloader.said() == ""


def test_a_niceness_is_not_taken_for_threads(start: Starter) -> None:
    """As Python 3.12 does, where the name of the process holds a space."""
    preloader = start()
    preloader.hear()
    os.setpriority(os.PRIO_PROCESS, preloader.process.pid, 10)
    preloader.fork()
    assert preloader.said() == ""


@pytest.mark.parametrize(
    "source",
    ["import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)", "import subprocess\nsubprocess.Popen(['true'])"],
    ids=["children are ignored", "another child"],
)
def test_whatever_an_application_does_about_children_it_forks(start: Starter, source: str) -> None:
    preloader = start(source)
    assert preloader.hear() == Preloaded()
    for _ in range(3):
        preloader.fork()


def test_what_was_printed_at_the_import_is_printed_once(start: Starter) -> None:
    preloader = start("print('imported')")
    preloader.hear()
    assert preloader.printed() == "imported\n"
    for _ in range(2):
        pid, worker = preloader.fork()
        worker.close()
        assert ended(pid) == 0
    assert preloader.printed() == "imported\n"


def test_threads_are_named(start: Starter) -> None:
    source = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='poll\\n', daemon=True).start()"
    )
    preloader = start(source)
    preloader.hear()
    assert "importing started threads, which no worker will have (preload): poll\\n" in preloader.said()


def test_what_cannot_be_imported_is_told_with_its_traceback(start: Starter) -> None:
    preloader = start("raise RuntimeError('not today')")
    failed = preloader.hear()
    assert isinstance(failed, Failed)
    assert failed.summary == "server.toml:7: apps.shop: importing 'shop' failed: RuntimeError: not today"
    assert "shop.py" in failed.detail
    assert preloader.process.wait(TIMEOUT) == 3


def test_what_may_be_unavailable_stops_nothing(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(APPLICATION)
    broken = App("shop", "shop:app", str(tmp_path), on_failure="unavailable")
    preloader = start("raise RuntimeError('not today')", broken, App("other", "other:app", str(tmp_path)))
    assert preloader.hear() == Preloaded()
    preloader.fork()


def test_an_import_that_hangs_shows_where(start: Starter) -> None:
    preloader = start("import time\ntime.sleep(60)", start_timeout=0.4)
    wait_until(lambda: "shop.py" in preloader.said())
    assert "in <module>" in preloader.said()


def test_it_does_nothing_without_a_supervisor() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        command = [*COMMAND, "--channel", str(theirs.fileno())]
        assert subprocess.run(command, pass_fds=[theirs.fileno()], timeout=TIMEOUT, check=False).returncode == 0
