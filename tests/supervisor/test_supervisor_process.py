"""The supervisor as a process, with workers and loaders that are small stand-ins: signals, deaths, reloads."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 20.0  # seconds that a test waits for what should come within one

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at processes through /proc")


class Running:
    """A supervisor that runs, seen from its terminal."""

    def __init__(self, directory: Path, *options: str, **wanted: Any) -> None:
        self.file = directory / "server.toml"
        self.log = ""
        self._looked_at = 0
        self.configure(**wanted)
        command = [sys.executable, str(Path(__file__).parent / "stand_in_command.py"), str(self.file), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def configure(self, **wanted: Any) -> None:
        """Write the file that the stand-in of the loader reads."""
        self.file.write_text(json.dumps(wanted))

    def waits_for(self, pattern: str) -> re.Match[str]:
        """Read what is logged until `pattern` has come; a later call looks only at what came after."""
        end = time.monotonic() + PATIENCE
        while True:
            found = re.compile(pattern).search(self.log, self._looked_at)
            if found:
                self._looked_at = found.end()
                return found
            assert self._reads(end), f"{pattern!r} has not come; logged is:\n{self.log}"

    def _reads(self, end: float) -> bool:
        assert self.process.stderr is not None
        descriptor = self.process.stderr.fileno()
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        data = os.read(descriptor, 65536)
        self.log += data.decode()
        return bool(data)

    def tells(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        end = time.monotonic() + PATIENCE
        while self._reads(end):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def stops(self) -> int:
        self.tells(signal.SIGTERM)
        return self.ends()

    def is_ready(self) -> None:
        found = self.waits_for(r"listener web: listening on http://127\.0\.0\.1:(\d+)")
        self.port = int(found[1])
        self.waits_for(r"ready: generation 1, \d+ workers?")

    def asks(self) -> tuple[int, int, int]:
        """Connect and return generation, slot and pid of the worker that answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client, client.makefile() as file:
            generation, slot, pid = map(int, file.read().split())
        return generation, slot, pid

    def workers(self) -> dict[int, int]:
        """Ask until every one of two workers has answered; return pids by slot."""
        found: dict[int, int] = {}
        end = time.monotonic() + PATIENCE
        while len(found) < 2:
            assert time.monotonic() < end
            _, slot, pid = self.asks()
            found[slot] = pid
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.tells(signal.SIGQUIT)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Starter:
    """Starts supervisors that are gone when the test ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[Running] = []

    def __call__(self, *options: str, **wanted: Any) -> Running:
        self.all.append(Running(self.directory, *options, **wanted))
        return self.all[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for running in starter.all:
        running.close()


EITHER_WAY = pytest.mark.parametrize("options", [(), ("without-pidfd",)], ids=["pidfd", "SIGCHLD"])


def children(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return set(map(int, text.split()))


class TestStart:
    @EITHER_WAY
    def test_it_serves_and_stops_as_asked(self, start: Starter, options: tuple[str, ...]) -> None:
        running = start(*options)
        running.is_ready()
        assert set(running.workers()) == {0, 1}
        assert running.stops() == 0
        assert "stopping: TERM received, draining up to 20 s" in running.log
        assert "stopped" in running.log
        with pytest.raises(ConnectionRefusedError):
            running.asks()

    def test_the_report_of_a_wrong_configuration_is_printed_plainly(self, start: Starter) -> None:
        running = start(report="server.toml:1: wrong\n   1 | x")
        assert running.ends() == 3
        assert running.log == "server.toml:1: wrong\n   1 | x\n"

    def test_a_loader_that_crashes_is_told_in_a_sentence(self, start: Starter) -> None:
        running = start(crash=7)
        assert running.ends() == 3
        assert "the configuration could not be read: the loader exited with status 7 without a result" in running.log

    def test_the_traceback_of_an_application_is_printed_plainly(self, start: Starter) -> None:
        running = start(behaviour="fail")
        assert running.ends() == 3
        assert "server.toml:7: app shop: boom\nTraceback\n  its own\n" in running.log

    @pytest.mark.parametrize(
        ("behaviour", "told"),
        [
            ("crash", "exited with status 1 before it was ready"),
            ("babble", "sent what is no message of its"),
            ("rant", "sent a message above 1024 KiB"),
        ],
    )
    def test_a_worker_that_misbehaves_ends_it(self, start: Starter, behaviour: str, told: str) -> None:
        running = start(behaviour=behaviour, server={"workers": 1})
        assert running.ends() == 3
        assert told in running.log

    def test_a_worker_that_is_never_ready_ends_it(self, start: Starter) -> None:
        running = start(behaviour="silent", server={"workers": 2, "start_timeout": 0.2})
        assert running.ends() == 3
        assert running.log.count("was not ready within 0.2 s (start_timeout)\n") == 1

    def test_what_never_starts_is_named_and_once(self, start: Starter) -> None:
        # 2 s: the worker must have come as far as saying what it starts, also on a busy machine.
        running = start(behaviour="stuck", server={"workers": 2, "start_timeout": 2.0})
        assert running.ends() == 3
        assert "server.toml:7: apps.shop: not up within 2 s (start_timeout)\n" in running.log
        assert running.log.count("start_timeout") == 1

    def test_a_worker_that_cannot_be_spawned_ends_it(self, start: Starter) -> None:
        running = start("without-worker")
        assert running.ends() == 3
        assert running.log.startswith("worker 0 could not be spawned: no such file or directory: /nonexistent/python\n")

    def test_a_port_that_another_serverd_holds_ends_it(self, start: Starter, tmp_path: Path) -> None:
        first = start()
        first.is_ready()
        second = start(addresses=[f"127.0.0.1:{first.port}"])
        assert second.ends() == 3
        text = f"server.toml:3: cannot bind 127.0.0.1:{first.port}: address already in use (another process holds it)"
        assert second.log == text + "\n"
        first.asks()

    def test_a_generation_larger_than_the_channel_arrives(self, start: Starter) -> None:
        running = start(padding=3_000_000)
        running.is_ready()
        assert running.stops() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_can_be_stopped_while_the_configuration_is_read(self, start: Starter, number: signal.Signals) -> None:
        running = start(hang=True)
        if os.path.isdir("/proc/self/fd"):
            while not children(running.process.pid):
                pass  # signals are handled before the loader is started
        running.tells(number)
        assert running.ends() == 0

    def test_it_can_be_stopped_while_workers_start(self, start: Starter, tmp_path: Path) -> None:
        path = tmp_path / "s"
        running = start(behaviour="silent", addresses=[f"unix:{path}"])
        end = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < end
        assert running.stops() == 0
        assert not path.exists()

    @needs_proc
    def test_the_title_names_the_configuration_and_the_generation(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        title = Path(f"/proc/{running.process.pid}/cmdline").read_text().rstrip("\0")
        assert title == f"serverd: supervisor {running.file} (generation 1)"


class TestReload:
    @EITHER_WAY
    def test_new_workers_serve_on_the_same_port(self, start: Starter, options: tuple[str, ...]) -> None:
        running = start(*options)
        running.is_ready()
        before = running.workers()
        running.tells(signal.SIGHUP)
        running.waits_for("reloaded: generation 2 is serving")
        after = running.workers()
        assert not set(before.values()) & set(after.values())
        assert running.stops() == 0

    def test_it_is_told_when_the_old_worker_accepts_no_more(self, start: Starter, tmp_path: Path) -> None:
        running = start(server={"workers": 1})
        running.is_ready()
        old = running.asks()[2]
        os.kill(old, signal.SIGSTOP)  # it does not hear of its drain
        # The padding, in the application's environment, brings new workers: nothing is proposed to one that is deaf.
        addresses = ["127.0.0.1:0", f"unix:{tmp_path / 's'}"]
        running.configure(server={"workers": 1}, addresses=addresses, padding=1)
        running.tells(signal.SIGHUP)
        running.waits_for(f"listener web: listening on unix:{tmp_path / 's'}")  # it is committed
        running.tells(signal.SIGHUP)
        running.waits_for("reload queued: HUP received before the last generation has drained")
        assert "reloaded" not in running.log
        os.kill(old, signal.SIGCONT)
        running.waits_for("reloaded: generation 2 is serving")
        assert old not in {running.asks()[2] for _ in range(20)}
        running.waits_for("reloaded: generation 3 is serving")

    def test_a_wrong_configuration_leaves_the_workers_as_they_are(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        before = running.workers()
        running.configure(report="server.toml:1: wrong\n   1 | x")
        running.tells(signal.SIGHUP)
        running.waits_for("reload failed, generation 1 goes on serving: server.toml:1: wrong\n")
        running.waits_for(r"       1 \| x\n")
        assert running.workers() == before

    @pytest.mark.parametrize("behaviour", ["fail", "fail-1"])
    def test_an_application_that_fails_leaves_the_workers_as_they_are(self, start: Starter, behaviour: str) -> None:
        running = start()
        running.is_ready()
        before = running.workers()
        running.configure(behaviour=behaviour)
        running.tells(signal.SIGHUP)
        running.waits_for("reload failed, generation 1 goes on serving: server.toml:7: app shop: boom\n")
        running.waits_for("    Traceback\n      its own\n")
        running.configure()
        running.tells(signal.SIGHUP)  # begins when what was rolled back has gone
        running.waits_for("reloaded: generation 3 is serving")
        assert not set(before.values()) & set(running.workers().values())

    def test_a_port_in_use_leaves_the_workers_as_they_are(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            taken = foreign.getsockname()[1]
            running.configure(addresses=["127.0.0.1:0", f"127.0.0.1:{taken}"])
            running.tells(signal.SIGHUP)
            running.waits_for(
                f"reload failed, generation 1 goes on serving: server.toml:3: .*:{taken}: address already"
            )
        running.asks()

    def test_an_address_may_be_added_and_removed(self, start: Starter, tmp_path: Path) -> None:
        running = start()
        running.is_ready()
        running.configure(addresses=[f"unix:{tmp_path / 's'}"])
        running.tells(signal.SIGHUP)
        running.waits_for(f"listener web: listening on unix:{tmp_path / 's'}")
        running.waits_for(f"listener web: closed http://127.0.0.1:{running.port}")
        running.waits_for("reloaded: generation 2 is serving")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(tmp_path / "s"))
            assert client.recv(100).startswith(b"2 ")
        assert running.stops() == 0
        assert not (tmp_path / "s").exists()

    def test_reloads_in_a_burst_are_not_lost(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        running.tells(signal.SIGHUP)
        running.waits_for("reloading: HUP received")
        running.tells(signal.SIGHUP)
        running.waits_for("reload queued: HUP received")
        running.waits_for("reloaded: generation 2 is serving")
        running.waits_for("reloaded: generation 3 is serving")

    @needs_proc
    def test_many_reloads_leave_neither_descriptors_nor_zombies_behind(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        before = len(os.listdir(f"/proc/{running.process.pid}/fd"))
        for number in range(2, 10):
            running.tells(signal.SIGHUP)
            running.waits_for(f"reloaded: generation {number} is serving")
            while running.log.count("exited with status 0") < 2 * (number - 1):  # one may have, before that was told
                running.waits_for("exited with status 0")
        assert running.asks()[0] == 9
        assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == before
        assert children(running.process.pid) == set(running.workers().values())


class TestDeath:
    @EITHER_WAY
    def test_a_killed_worker_is_replaced_in_its_slot(self, start: Starter, options: tuple[str, ...]) -> None:
        running = start(*options)
        running.is_ready()
        before = running.workers()
        os.kill(before[1], signal.SIGKILL)
        running.waits_for(rf"worker 1 \(pid {before[1]}\) was killed by SIGKILL \(out of memory\?\), starting another")
        running.waits_for(r"worker 1 \(pid \d+\) is ready")
        after = running.workers()
        assert after[0] == before[0]
        assert after[1] != before[1]

    def test_connections_in_the_queue_of_a_killed_worker_are_answered_by_the_next(self, start: Starter) -> None:
        running = start(server={"workers": 1})
        running.is_ready()
        pid = running.asks()[2]
        os.kill(pid, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as client:
            os.kill(pid, signal.SIGKILL)
            assert client.recv(100).startswith(b"1 0 ")

    def test_a_worker_that_hangs_up_is_replaced_when_it_ends(self, start: Starter) -> None:
        running = start(behaviour="hang-up", server={"workers": 1})
        running.is_ready()
        pid = running.asks()[2]
        os.kill(pid, signal.SIGKILL)
        running.waits_for(rf"worker 0 \(pid {pid}\) was killed by SIGKILL \(out of memory\?\), starting another")
        running.waits_for(r"worker 0 \(pid \d+\) is ready")

    def test_a_generation_whose_workers_all_die_keeps_the_supervisor_alive(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        for _ in range(3):
            for pid in running.workers().values():
                os.kill(pid, signal.SIGKILL)
            for _ in range(2):
                running.waits_for(r"is ready")
        assert running.stops() == 0


class TestStop:
    @pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_a_second_signal_kills_workers_that_do_not_leave(self, start: Starter, again: signal.Signals) -> None:
        running = start(behaviour="stubborn")
        running.is_ready()
        running.tells(signal.SIGTERM)
        running.waits_for("stopping: TERM received")
        running.tells(again)
        assert running.ends() == 0
        assert "stopping at once" in running.log

    def test_quit_kills_at_once(self, start: Starter) -> None:
        running = start(behaviour="stubborn")
        running.is_ready()
        running.tells(signal.SIGQUIT)
        assert running.ends() == 0

    def test_it_stops_in_the_middle_of_a_reload(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        running.configure(behaviour="silent")
        running.tells(signal.SIGHUP)
        running.waits_for("reloading")
        assert running.stops() == 0

    def test_a_signal_to_the_whole_process_group_replaces_nobody(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        for pid in running.workers().values():
            os.kill(pid, signal.SIGINT)
        assert running.stops() == 0
        assert "starting another" not in running.log


class TestOtherSignals:
    def test_ttin_adds_a_worker_and_ttou_takes_one_away(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        running.tells(signal.SIGTTIN)
        running.waits_for(r"scaling from 2 workers to 3")
        running.waits_for(r"worker 2 \(pid \d+\) is ready")
        running.tells(signal.SIGTTOU)
        running.waits_for("scaling from 3 workers to 2")
        running.waits_for(r"worker 2 \(pid \d+\) exited with status 0")
        assert sorted(running.workers()) == [0, 1]
        assert running.stops() == 0

    def test_usr2_without_the_python_that_it_was_started_with_names_what_is_missing(self, start: Starter) -> None:
        running = start("without-successor")
        running.is_ready()
        running.tells(signal.SIGUSR2)
        missing = "no process for it: no such file or directory: /nonexistent/python"
        running.waits_for(f"upgrade failed, this supervisor goes on serving: {missing}")
        assert running.stops() == 0

    def test_usr1_without_a_log_file_is_survived_with_a_line(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        running.tells(signal.SIGUSR1)
        running.waits_for("there is no log file to reopen: neither logging.file nor access_log.file is set")
        assert running.stops() == 0

    def test_a_closed_pipe_is_survived_without_one(self, start: Starter) -> None:
        running = start()
        running.is_ready()
        running.tells(signal.SIGPIPE)
        running.tells(signal.SIGUSR1)
        running.waits_for("no log file to reopen")
        assert running.stops() == 0
        assert "PIPE" not in running.log

    def test_a_terminal_that_wants_no_output_from_the_background_gets_it(self, tmp_path: Path) -> None:
        (tmp_path / "server.toml").write_text(json.dumps({"report": "server.toml:1: wrong"}))
        command = [sys.executable, str(Path(__file__).parent / "stand_in_command.py"), str(tmp_path / "server.toml")]
        # A session whose leader holds the terminal and puts the supervisor into the background.
        leader = (
            "import fcntl, subprocess, sys, termios\n"
            "fcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
            "mode = termios.tcgetattr(2)\n"
            "mode[3] |= termios.TOSTOP\n"
            "termios.tcsetattr(2, termios.TCSANOW, mode)\n"
            f"sys.exit(subprocess.call(sys.argv[1:], process_group=0, timeout={PATIENCE}))\n"
        )
        terminal, theirs = pty.openpty()
        try:
            with subprocess.Popen(
                [sys.executable, "-c", leader, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
                start_new_session=True,
            ) as process:
                assert process.wait(2 * PATIENCE) == 3
            assert b"server.toml:1: wrong" in os.read(terminal, 65536)
        finally:
            os.close(terminal)
            os.close(theirs)


def test_the_supervisor_knows_neither_pydantic_nor_a_workers_modules() -> None:
    program = "import sys, serverd.cli, serverd.supervisor.supervisor; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    known = set(done.stdout.split())
    strange = {"pydantic", "asyncio", "uvloop", "h11", "httptools", "tomli", "watchfiles", "serverd.asgi"}
    strange |= {"serverd.connection", "serverd.protocol", "serverd.worker", "serverd.config.load"}
    assert known & strange == set()
