"""Children as the supervisor waits on them, with small programs in their place, some of which mean harm."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serverd.generation import Generation, Logging, Server
from serverd.messages import Drain, Loaded, LoadFailed
from serverd.parent import PR_SET_CHILD_SUBREAPER, take_in_orphans
from serverd.supervisor import children as children_module
from serverd.supervisor import events, handle, spawn
from serverd.supervisor import preloader as preloader_module
from serverd.supervisor.children import Children
from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands, Surroundings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has preloaders, and /proc to look into")

GENERATION = Generation("/etc/server.toml", Server(preload=True), (), (), (), Logging(), number=1)
PATIENCE = 20.0  # seconds for what takes one

# What every stand-in of a preloader begins with; its argument is --channel FD.
PRELUDE = """
import os, signal, socket, sys, time
from serverd.messages import Failed, Fork, Forked, Preload, Preloaded, decode, encode
channel = socket.socket(fileno=int(sys.argv[2]))
def hear():
    line, descriptors = b"", []
    while not line.endswith(b"\\n"):
        data, more, _, _ = socket.recv_fds(channel, 65536, 10)
        if not data:
            sys.exit()
        line += data
        descriptors += more
    return decode(line), descriptors
def say(message):
    channel.sendall(encode(message))
def fork():
    readable, writable = os.pipe()
    if os.fork() == 0:
        pid = os.fork()
        if pid:
            os.write(writable, b"%d" % pid)
            os._exit(0)
        channel.close()
        signal.pause()
    os.wait()
    return int(os.read(readable, 32))
assert isinstance(hear()[0], Preload)
"""
IMPORTS = "say(Preloaded())\n"
FORKS = f"""{IMPORTS}
while True:
    fork_message, descriptors = hear()
    assert isinstance(fork_message, Fork) and len(descriptors) == 3
    os.write(descriptors[1], os.readlink(f"/proc/self/fd/{{descriptors[2]}}").encode())
    say(Forked(fork()))
"""
WAITS = "signal.pause()\n"


class Stage:
    """Children of this process, and what is heard of them."""

    def __init__(self, preloader: str = "", **commands: tuple[str, ...]) -> None:
        self.selector = selectors.DefaultSelector()
        self.events: list[events.Event] = []
        python = (sys.executable, "-c")
        commands = {"worker": (*python, "import signal; signal.pause()"), **commands}
        self.children = Children(
            self.selector, self.events.append, Commands(preloader=(*python, PRELUDE + preloader), **commands)
        )

    def preload(self, number: int = 1) -> None:
        self.children.start_preloader(replace(GENERATION, number=number), Surroundings())

    def spawn(self, number: int, preloader: int = 1, stderr: int | None = None) -> events.Event:
        """Start a worker and return what has come of it."""
        self.children.spawn(number, preloader, "serverd: worker", Surroundings(stderr=stderr))
        return self.events.pop()

    def turn(self, seconds: float = 0.0) -> None:
        """Wait once, as the supervisor does."""
        for key, mask in self.selector.select(seconds):
            key.data(mask)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, self.events
            self.turn(0.1)

    def next(self) -> events.Event:
        """Wait for an event and return it."""
        self.until(lambda: bool(self.events))
        return self.events.pop(0)

    def ends(self, number: int) -> None:
        """Kill a worker and wait until it is reaped."""
        self.children.kill(number)
        self.until(lambda: number not in self.children._workers)

    def close(self) -> None:
        for number in list(self.children._workers):
            self.ends(number)
        self.children.close()
        assert dict(self.selector.get_map()) == {}
        self.selector.close()


@pytest.fixture(autouse=True)
def takes_in_orphans() -> Iterator[None]:
    assert take_in_orphans()
    yield
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    with pytest.raises(ChildProcessError):  # nobody is left
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


@pytest.fixture
def stage(takes_in_orphans: None) -> Iterator[Callable[..., Stage]]:
    """Return what sets a stage; at the end nothing of it is left open."""
    before = os.listdir("/proc/self/fd")
    stages: list[Stage] = []

    def stage(*arguments: str, **commands: tuple[str, ...]) -> Stage:
        stages.append(Stage(*arguments, **commands))
        return stages[-1]

    yield stage
    for one in stages:
        one.close()
    assert os.listdir("/proc/self/fd") == before


SetStage = Callable[..., Stage]


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


# Preloaders that do as they should


def test_a_worker_that_is_forked_is_a_child_like_any_other(stage: SetStage) -> None:
    one = stage(FORKS)
    one.preload()
    assert one.next() == events.Preloaded()
    for number in (1, 2):
        spawned = one.spawn(number)
        assert isinstance(spawned, events.WorkerSpawned)
        assert parent(spawned.pid) == os.getpid()
    one.children.kill(1)
    one.until(lambda: events.WorkerExited(1, -signal.SIGKILL) in one.events)


def test_it_is_given_what_becomes_its_standard_error(stage: SetStage) -> None:
    one = stage(FORKS)
    one.preload()
    one.next()
    with open("/dev/zero") as file:
        assert isinstance(one.spawn(1, stderr=file.fileno()), events.WorkerSpawned)
    assert one.children.take_stacks(1) == "/dev/zero"


def test_only_workers_that_it_is_for_are_forked_from_it(stage: SetStage) -> None:
    one = stage(FORKS)
    one.preload()
    one.next()
    one.spawn(1, preloader=0)
    one.spawn(2, preloader=2)
    assert one.children.take_stacks(1) == one.children.take_stacks(2) == ""


def test_a_failure_is_told_with_its_traceback_and_once(stage: SetStage) -> None:
    one = stage('say(Failed("no module", "Traceback")); sys.exit(3)')
    one.preload()
    assert one.next() == events.PreloadFailed("no module", "Traceback")
    one.until(lambda: not one.selector.get_map())
    assert one.events == []


@pytest.mark.parametrize("is_seen_by_select", [True, False])
def test_one_that_has_been_stopped_tells_nothing_more(stage: SetStage, is_seen_by_select: bool) -> None:
    one = stage(IMPORTS + WAITS)
    one.preload()
    one.next()
    one.children.stop_preloader(1)
    one.children.stop_preloader(7)
    if not is_seen_by_select:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        one.children.reap(set())
        assert dict(one.selector.get_map()) == {}
    one.until(lambda: not one.selector.get_map())
    assert one.events == []


def test_the_end_leaves_no_zombie(stage: SetStage) -> None:
    one = stage(WAITS)
    one.preload()
    one.preload(2)
    one.children.close()
    assert one.events == []
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


# Those that end


def test_one_that_ends_before_it_has_imported_has_failed(stage: SetStage) -> None:
    one = stage("os.kill(os.getpid(), signal.SIGKILL)")
    one.preload()
    reason = "the preloader was killed by SIGKILL, the applications are not imported"
    assert one.next() == events.PreloadFailed(reason)


def test_one_that_ends_later_is_done_without(stage: SetStage, caplog: pytest.LogCaptureFixture) -> None:
    one = stage(IMPORTS)
    one.preload()
    assert one.next() == events.Preloaded()
    one.until(lambda: not one.selector.get_map())
    assert caplog.messages == ["the preloader exited with status 0, new workers import the applications themselves"]
    assert isinstance(one.spawn(1), events.WorkerSpawned)
    one.ends(1)


def test_one_that_ends_while_it_forks_leaves_nothing_in_the_selector(stage: SetStage) -> None:
    one = stage(IMPORTS + "hear()")
    one.preload()
    one.next()
    assert one.spawn(1) == events.SpawnFailed(1, "the preloader does not answer")
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    one.children.reap(set())  # SIGCHLD is looked at before what select has found
    assert dict(one.selector.get_map()) == {}
    assert isinstance(one.spawn(1), events.WorkerSpawned)  # gets the same numbers of descriptors
    one.turn()


def test_a_program_that_is_not_there_is_named(stage: SetStage) -> None:
    one = stage(worker=("/nonexistent/python",), loader=("/nonexistent/python",))
    one.children = Children(
        one.selector, one.events.append, Commands(("/nonexistent/python",), ("/nonexistent/python",))
    )
    one.preload()
    missing = "no such file or directory: /nonexistent/python"
    assert one.next() == events.PreloadFailed(f"no process for the preloader: {missing}")
    assert one.spawn(1) == events.SpawnFailed(1, missing)


def test_elsewhere_there_are_no_preloaders(stage: SetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children_module, "take_in_orphans", lambda: False)
    one = stage(FORKS)
    one.preload()
    assert one.next() == events.PreloadFailed("server.preload needs Linux: workers would not be our children")


# Those that mean harm: the applications' code runs in them


@pytest.mark.parametrize(
    "says",
    [
        "channel.sendall(b'nonsense\\n')",
        "channel.sendall(b'[' * 100_000 + b'\\n')",
        "channel.sendall(b'x' * 2**22)",
        "say(Forked(1))",
        "say(Fork('title'))",
    ],
    ids=["nonsense", "nested", "endless", "an answer", "a request"],
)
def test_what_makes_no_sense_ends_it_before_the_import(stage: SetStage, says: str) -> None:
    one = stage(f"{says}\n{WAITS}")
    one.preload()
    reason = "the preloader was killed by SIGKILL, the applications are not imported"
    assert one.next() == events.PreloadFailed(reason)


@pytest.mark.parametrize(
    "says",
    ["say(Preloaded())", "say(Failed('no'))", "say(Forked(1))", "channel.sendall(b'nonsense\\n')"],
)
def test_what_it_says_unasked_ends_it_afterwards(stage: SetStage, caplog: pytest.LogCaptureFixture, says: str) -> None:
    one = stage(f"{IMPORTS}{says}\n{WAITS}")
    one.preload()
    assert one.next() == events.Preloaded()
    # It may have come together with the word before, which no select tells of.
    spawned = one.spawn(1)
    assert isinstance(spawned, events.WorkerSpawned | events.SpawnFailed)
    one.until(lambda: 1 not in one.children._preloaders)
    assert [one for one in caplog.messages if "killed by SIGKILL" in one]
    assert not any(isinstance(event, events.Preloaded | events.PreloadFailed) for event in one.events)


def test_an_answer_that_nobody_asked_for_is_not_the_next_one(stage: SetStage) -> None:
    one = stage(f"pid = fork()\nchannel.sendall(encode(Preloaded()) + encode(Forked(pid)))\nhear()\n{WAITS}")
    one.preload()
    one.next()
    assert one.spawn(1) == events.SpawnFailed(1, "the preloader does not answer")
    one.until(lambda: 1 not in one.children._preloaders)
    [orphan] = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    os.kill(int(orphan), signal.SIGKILL)
    os.waitpid(int(orphan), 0)


def test_it_can_say_only_once_that_it_has_imported(stage: SetStage) -> None:
    waits = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
    one = stage(f"{waits}{IMPORTS}signal.sigwait({{signal.SIGUSR1}})\nsay(Preloaded())\n{WAITS}")
    one.preload()
    assert one.next() == events.Preloaded()
    one.children._preloaders[1].process.signal(signal.SIGUSR1)
    one.until(lambda: 1 not in one.children._preloaders)
    assert one.events == []


@pytest.mark.parametrize("pid", ["-1", "1", "os.getppid()", "os.getpid()", "10**30", "BYSTANDER", "ANOTHER"])
def test_a_process_that_is_not_a_new_child_is_never_taken_for_a_worker(
    stage: SetStage, monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    another = stage()
    another.spawn(9, preloader=0)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        try:
            known = {"ANOTHER": str(another.children._workers[9].process.pid), "BYSTANDER": str(bystander.pid)}
            one = stage(f"{IMPORTS}hear()\nsay(Forked({known.get(pid, pid)}))\n{WAITS}")
            if pid == "ANOTHER":
                one.children._workers.update(another.children._workers)
            one.preload()
            one.next()
            # A handle for it could be the end of this machine.
            monkeypatch.setattr(spawn, "Process", lambda pid: pytest.fail(f"took {pid} for a worker"))
            failed = one.spawn(1)
            assert isinstance(failed, events.SpawnFailed)
            assert failed.reason.startswith("the preloader names a process that is ")
            one.children._workers.clear()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_machine_that_refuses_a_process_is_told_of(stage: SetStage) -> None:
    one = stage(f"{IMPORTS}\nwhile True:\n    hear()\n    say(Forked(0, 'cannot allocate memory'))")
    one.preload()
    one.next()
    for number in (1, 2):
        assert one.spawn(number) == events.SpawnFailed(number, "cannot allocate memory")


@pytest.mark.parametrize(
    "does",
    [WAITS, "while True:\n    channel.sendall(b'x')\n    time.sleep(0.01)"],
    ids=["hangs", "babbles"],
)
def test_one_that_does_not_answer_holds_the_supervisor_for_a_bounded_time(
    stage: SetStage, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr(preloader_module, "FORK_PATIENCE", 0.2)
    one = stage(f"{IMPORTS}hear()\n{does}")
    one.preload()
    one.next()
    begun = time.monotonic()
    assert one.spawn(1) == events.SpawnFailed(1, "the preloader does not answer")
    assert time.monotonic() - begun < 5
    assert isinstance(one.spawn(2), events.WorkerSpawned)  # without it
    one.until(lambda: 1 not in one.children._preloaders)


# Loaders


def test_a_loader_without_a_process_has_failed_at_once(stage: SetStage) -> None:
    one = stage(loader=("/nonexistent/python",))
    outcomes: list[Loaded | LoadFailed] = []
    assert one.children.start_loader(Source.of_file("server.toml"), outcomes.append) is None
    assert isinstance(outcomes[0], LoadFailed)
    assert "no process for the loader" in outcomes[0].report


def test_a_loader_that_has_been_stopped_tells_nothing(stage: SetStage) -> None:
    one = stage(loader=(sys.executable, "-c", "import signal; signal.pause()"))
    outcomes: list[Loaded | LoadFailed] = []
    loader = one.children.start_loader(Source.of_file("server.toml"), outcomes.append)
    assert loader is not None
    one.children.stop_loader(loader)
    one.until(lambda: not one.selector.get_map())
    assert outcomes == []


def test_a_loader_that_hangs_is_given_up_at_its_deadline_and_told_once(stage: SetStage) -> None:
    one = stage(loader=(sys.executable, "-c", "import signal; signal.pause()"))
    outcomes: list[Loaded | LoadFailed] = []
    one.children.start_loader(Source.of_file("server.toml"), outcomes.append, 100.0)
    assert one.children.deadline() == 100.0
    one.children.expire(99.9)
    assert outcomes == []
    one.children.expire(100.0)
    assert one.children.deadline() is None
    one.until(lambda: not one.selector.get_map())
    assert outcomes == [LoadFailed("the configuration could not be read in time")]


def test_a_loader_that_says_too_much_is_ended(stage: SetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "LOADER_LIMIT", 2**20)
    one = stage(loader=(sys.executable, "-c", "import os\nwhile True: os.write(1, b'x' * 2**16)"))
    outcomes: list[Loaded | LoadFailed] = []
    one.children.start_loader(Source.of_file("server.toml"), outcomes.append)
    one.until(lambda: bool(outcomes))
    assert isinstance(outcomes[0], LoadFailed)
    assert "was killed by SIGKILL" in outcomes[0].report


# Workers and orphans


def test_what_is_for_a_worker_that_has_gone_is_dropped(stage: SetStage) -> None:
    one = stage()
    one.spawn(1, preloader=0)
    one.ends(1)
    one.children.send(1, Drain(1.0))
    one.children.kill(1)
    one.children.request_stacks(1)
    assert one.children.take_stacks(1) == ""


def test_a_worker_of_which_there_can_be_no_descriptor_is_none(stage: SetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(24, "Too many open files")

    one = stage(FORKS)
    one.preload()
    one.next()
    with monkeypatch.context() as context:
        context.setattr(os, "pidfd_open", refuse)
        for preloader in (0, 1):
            assert one.spawn(1, preloader) == events.SpawnFailed(1, "too many open files")


def test_orphans_are_reaped_and_the_children_of_others_are_not(stage: SetStage) -> None:
    one = stage()
    one.spawn(1, preloader=0)
    with subprocess.Popen(["true"]) as known:
        os.waitid(os.P_PID, known.pid, os.WEXITED | os.WNOWAIT)
        one.children.reap({known.pid})
        assert known.wait() == 0
    # Its child becomes ours.
    program = "import os\npid = os.fork()\nprint(pid, flush=True) if pid else os._exit(0)"
    orphan = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    end = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{orphan}"):
        assert time.monotonic() < end
        one.children.reap(set())
    one.ends(1)
