"""What a generation holds of the machine, as one: all of it or nothing, and what was there before comes back."""

from __future__ import annotations

import gc
import logging
import os
import selectors
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serverd.errors import BindError
from serverd.generation import AccessLog, Generation, Logging
from serverd.supervisor.holdings import Holdings
from tests.net.test_sockets import generation, listener, unix

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """See that nothing is left open at the end, and leave logging and the umask as they were."""
    gc.collect()  # what earlier tests have left is closed now, not amid this one
    root, own, umask, before = logging.getLogger(), logging.getLogger("serverd"), current_umask(), descriptors()
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    assert current_umask() == umask
    assert descriptors() == before


@pytest.fixture
def holdings(nothing_is_left: None) -> Iterator[Holdings]:
    with selectors.DefaultSelector() as selector:
        holdings = Holdings(selector, lambda client, request: None)
        yield holdings
        holdings.leave()
        assert dict(selector.get_map()) == {}
        for file in holdings._log_files:
            file.close()  # which a process keeps to its end
        os.umask(holdings._umask)


class Machine:
    """The places in a directory, and generations that use them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.web, self.control = directory / "web", directory / "control"
        self.pid, self.log = directory / "run" / "pid", directory / "log"
        self._number = 0

    def generation(self, number: int = 0, **changes: object) -> Generation:
        """Return a generation with everything; `changes` are paths, or "" for none, and the umask."""
        self._number = number or self._number + 1
        paths = {"web": self.web, "control": self.control, "pid": self.pid, "log": self.log, **changes}
        made = generation(self._number, listener(unix(Path(str(paths["web"])))))
        return replace(
            made,
            server=replace(made.server, pid_file=str(paths["pid"]), umask=changes.get("umask")),
            logging=Logging(file=str(paths["log"])),
            control_socket=str(paths["control"]),
        )

    def files(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if not path.is_dir()}


ALL = {"web", "control", "run/pid", "log"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tmp_path.chmod(0o755)
    return Machine(tmp_path)


def commits(holdings: Holdings, generation: Generation) -> bool:
    holdings.prepare(generation, 1)
    return holdings.commit()


def test_everything_is_there_after_the_commit_and_gone_at_the_end(holdings: Holdings, machine: Machine) -> None:
    assert commits(holdings, machine.generation())
    assert machine.files() == ALL
    assert machine.pid.read_text() == f"{os.getpid()}\n"
    logging.getLogger("test").error("told")
    assert "told" in machine.log.read_text()
    holdings.close()
    assert machine.files() == {"control", "run/pid", "log"}  # the drain can be watched
    holdings.leave()
    assert machine.files() == {"log"}


def test_a_rollback_undoes_everything(holdings: Holdings, machine: Machine) -> None:
    before = descriptors()
    holdings.prepare(machine.generation(umask=0o077), 1)
    assert current_umask() == 0o077
    assert machine.files() == ALL
    holdings.rollback()
    assert machine.files() == {"log"}
    assert descriptors() == before
    assert commits(holdings, machine.generation())


def test_a_reload_that_is_rolled_back_leaves_what_was(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation(umask=0o027))
    before = descriptors()
    changed = machine.generation(
        web=machine.directory / "web2",
        control=machine.directory / "control2",
        pid=machine.directory / "run2" / "pid",
        log=machine.directory / "log2",
        umask=0o077,
    )
    holdings.prepare(changed, 1)
    assert machine.files() == {"web", "web2", "control2", "run/pid", "run2/pid", "log", "log2"}
    holdings.rollback()
    assert machine.files() == {*ALL, "log2"}
    assert holdings.control.path == str(machine.control)
    assert current_umask() == 0o027
    assert len(descriptors()) == len(before)  # the control socket is another one, as high as there was room


def test_a_reload_moves_everything(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation())
    count = len(descriptors())
    machine.web, machine.control = machine.directory / "web2", machine.directory / "control2"
    machine.pid, machine.log = machine.directory / "run2" / "pid", machine.directory / "log2"
    assert commits(holdings, machine.generation())
    assert machine.files() == {"web2", "control2", "run2/pid", "log", "log2"}
    assert len(descriptors()) == count


def test_a_reload_takes_everything_away(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation())
    assert commits(holdings, machine.generation(pid="", log="", control=""))
    assert machine.files() == {"web", "log"}
    log, access = holdings.log_descriptors()
    assert log == sys.stderr.fileno()
    assert os.fstat(access).st_ino == os.fstat(1).st_ino


def test_what_stays_is_not_touched(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation())
    before = {name: (machine.directory / name).stat().st_ino for name in ALL}
    count = len(descriptors())
    assert not commits(holdings, machine.generation())
    assert {name: (machine.directory / name).stat().st_ino for name in ALL} == before
    assert len(descriptors()) == count


def test_all_that_cannot_be_had_is_told_at_once_and_nothing_is_kept(holdings: Holdings, machine: Machine) -> None:
    before = descriptors()
    missing = machine.directory / "missing"
    bad = machine.generation(web=missing / "web", control=missing / "a" / "control", log=missing / "log", umask=0o077)
    with pytest.raises(BindError) as failure:
        holdings.prepare(bad, 1)
    assert [line.partition(str(missing))[0] for line in str(failure.value).split("\n")] == [
        "server.toml:3: cannot bind unix:",
        "cannot open the control socket ",
        "cannot open the log file ",
    ]
    assert descriptors() == before
    assert machine.files() == set()


@pytest.mark.parametrize("refused", ["web", "control", "log"])
def test_the_pid_file_of_a_running_server_is_left_alone(holdings: Holdings, machine: Machine, refused: str) -> None:
    machine.pid.parent.mkdir()
    machine.pid.write_text("1\n")
    with pytest.raises(BindError):
        holdings.prepare(machine.generation(**{refused: machine.directory / "missing" / "a" / refused}), 1)
    assert machine.pid.read_text() == "1\n"


def test_a_pid_file_that_cannot_be_written_rolls_back_as_the_others(holdings: Holdings, machine: Machine) -> None:
    before = descriptors()
    with pytest.raises(BindError, match="cannot write the pid file"):
        holdings.prepare(machine.generation(pid=machine.directory / "a" / "b" / "pid"), 1)
    assert descriptors() == before
    assert machine.files() == {"log"}


def test_without_a_umask_the_first_one_is_in_force_again(holdings: Holdings, machine: Machine) -> None:
    first = current_umask()
    for umask in (0o027, 0o077, None):
        commits(holdings, machine.generation(umask=umask))
        assert current_umask() == (first if umask is None else umask)


# The log file


def test_what_a_worker_writes_to_is_that_of_its_own_generation(holdings: Holdings, machine: Machine) -> None:
    old = machine.generation()
    commits(holdings, old)
    machine.log = machine.directory / "log2"
    new = machine.generation()
    holdings.prepare(new, 1)
    targets = [os.readlink(f"/proc/self/fd/{holdings.log_descriptors(one)[0]}") for one in (old, new)]
    assert targets == [str(machine.directory / "log"), str(machine.directory / "log2")]
    holdings.rollback()
    assert holdings.log_descriptors(old) == holdings.log_descriptors()


def test_a_log_file_that_was_moved_is_made_anew(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation())
    number = holdings.log_descriptors()[0]
    machine.log.rename(machine.directory / "log.1")
    assert holdings.reopen_logs() == []
    assert holdings.log_descriptors()[0] == number
    assert "log files reopened" in machine.log.read_text()


def test_a_log_file_that_cannot_be_reopened_is_told_of_in_the_old_one(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation())
    moved = machine.directory / "log.1"
    machine.log.rename(moved)
    machine.log.mkdir()
    (failure,) = holdings.reopen_logs()
    assert "it is no plain file" in failure
    assert "cannot open the log file" in moved.read_text()
    assert "reopened" not in moved.read_text()


def test_a_log_file_that_is_only_prepared_is_reopened_as_well(holdings: Holdings, machine: Machine) -> None:
    new = machine.generation()
    holdings.prepare(new, 1)
    machine.log.rename(machine.directory / "log.1")
    assert holdings.reopen_logs() == []
    assert os.readlink(f"/proc/self/fd/{holdings.log_descriptors(new)[0]}") == str(machine.log)
    holdings.rollback()
    assert holdings.reopen_logs() == ["there is no log file to reopen: neither logging.file nor access_log.file is set"]


def test_without_a_log_file_there_is_nothing_to_reopen(holdings: Holdings, machine: Machine) -> None:
    commits(holdings, machine.generation(log=""))
    assert holdings.reopen_logs() == ["there is no log file to reopen: neither logging.file nor access_log.file is set"]


def test_a_file_that_changes_is_told_of_also_when_logging_was_configured_before(
    holdings: Holdings, machine: Machine
) -> None:
    commits(holdings, machine.generation())
    machine.log = machine.directory / "log2"
    new = machine.generation()
    holdings.prepare(new, 1)
    holdings.configure_logging(new.logging)
    assert holdings.commit()


def test_the_access_log_is_a_file_of_its_own(holdings: Holdings, machine: Machine) -> None:
    path = machine.directory / "access"
    commits(holdings, replace(machine.generation(), access_log=AccessLog(file=str(path))))
    log, access = holdings.log_descriptors()
    assert os.readlink(f"/proc/self/fd/{access}") == str(path)
    assert os.readlink(f"/proc/self/fd/{log}") == str(machine.log)
    path.rename(machine.directory / "access.1")
    assert holdings.reopen_logs() == []
    assert os.readlink(f"/proc/self/fd/{access}") == str(path)
    assert commits(holdings, machine.generation())
    assert holdings.log_descriptors()[0] == log
    assert os.fstat(holdings.log_descriptors()[1]).st_ino == os.fstat(1).st_ino


# In the place of another supervisor


def test_the_files_of_the_one_before_are_taken_with_the_commit_and_not_earlier(
    holdings: Holdings, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with selectors.DefaultSelector() as selector:
        old = Holdings(selector, lambda client, request: None)
        with monkeypatch.context() as another_process:
            another_process.setattr(os, "getpid", lambda: 1)
            commits(old, machine.generation(7))
        before = {name: (machine.directory / name).stat().st_ino for name in ALL}
        text, numbers = old.bindings.hand_over()
        holdings.take_over(text, [os.dup(number) for number in numbers])
        holdings.prepare(machine.generation(8), 1)
        assert {name: (machine.directory / name).stat().st_ino for name in ALL} == before
        assert machine.pid.read_text() == "1\n"
        holdings.commit()
        old.close(kept=True)
        old.leave()
        for file in old._log_files:
            file.close()
    assert machine.files() == ALL
    assert machine.pid.read_text() == f"{os.getpid()}\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(machine.control))


def test_one_that_fails_leaves_the_files_to_the_one_before(machine: Machine) -> None:
    with selectors.DefaultSelector() as selector:
        old = Holdings(selector, lambda client, request: None)
        commits(old, machine.generation(7))
        machine.pid.write_text("1\n")
        new = Holdings(selector, lambda client, request: None)
        text, numbers = old.bindings.hand_over()
        # Under their numbers they are the new process's own.
        new.take_over(text, [os.dup(number) for number in numbers])
        new.prepare(machine.generation(8), 1)
        new.rollback()
        new.leave()
        assert machine.files() == ALL
        assert machine.pid.read_text() == "1\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(machine.control))
        old.leave()
        for file in old._log_files:
            file.close()


def test_what_another_left_must_make_sense(holdings: Holdings) -> None:
    with pytest.raises(BindError):
        holdings.take_over("nonsense", [])
