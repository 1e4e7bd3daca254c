"""The first reading, which begins before the supervisor is there, and is no different from any other."""

from __future__ import annotations

import os
import resource
import selectors
import subprocess
import sys
from pathlib import Path

import pytest

from serverd.messages import Loaded, LoadFailed
from serverd.net.inheritance import VARIABLES, Inheritance
from serverd.supervisor import beginning, events, spawn
from serverd.supervisor.beginning import OURS, Begun, begin_reading
from serverd.supervisor.children import Children
from serverd.supervisor.notify import Notifier
from serverd.supervisor.reading import Reading
from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands
from tests.support import processes

RESPOND = """
[listeners.web]
bind = "127.0.0.1:0"
[[mounts]]
respond.body = "${NOTIFY_SOCKET:-none} ${LISTEN_FDS:-none} ${SAID:-none}"
"""


class Stage:
    """What reads, as the supervisor has it, and the events that come of it."""

    def __init__(self, source: Source, begun: Begun | None) -> None:
        self.events: list[events.Event] = []
        self.selector = selectors.DefaultSelector()
        self.children = Children(self.selector, self.events.append, Commands(loader=("/nonexistent",)))
        self.reading = Reading(source, self.children, self.selector, self.events.append, (), begun)

    def until_told(self) -> events.Event:
        while not self.events:
            for key, mask in self.selector.select(20.0) or pytest.fail("nothing is told"):
                key.data(mask)
        return self.events[0]


def source(directory: Path) -> Source:
    file = directory / "server.toml"
    file.write_text(RESPOND)
    return Source.of_file(str(file))


def test_it_is_taken_over_and_the_next_one_is_another(tmp_path: Path) -> None:
    begun = begin_reading(source(tmp_path))
    assert begun is not None
    stage = Stage(source(tmp_path), begun)
    stage.reading.start(None)
    assert isinstance(stage.until_told(), Loaded)
    assert processes.has_ended(begun.process.pid)
    stage.events.clear()
    stage.reading.start(None)  # there is no such program in this test: a new process is wanted
    assert isinstance(stage.until_told(), LoadFailed)


def test_one_that_has_ended_before_anybody_looks_is_not_missed(tmp_path: Path) -> None:
    begun = begin_reading(source(tmp_path))
    assert begun is not None
    processes.wait_for_end(begun.process.pid)
    stage = Stage(source(tmp_path), begun)
    stage.reading.start(None)
    assert isinstance(stage.until_told(), Loaded)


def test_one_that_is_stopped_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Commands(loader=(sys.executable, "-c", "import signal; signal.pause()"))
    monkeypatch.setattr(beginning, "Commands", lambda: patient)
    begun = begin_reading(source(tmp_path))
    assert begun is not None
    stage = Stage(source(tmp_path), begun)
    stage.reading.start(None)
    stage.reading.stop()
    while stage.selector.get_map():
        for key, mask in stage.selector.select(20.0) or pytest.fail("it does not end"):
            key.data(mask)
    assert stage.events == []


def test_one_that_nobody_has_asked_for_ends_with_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Commands(loader=(sys.executable, "-c", "import signal; signal.pause()"))
    monkeypatch.setattr(beginning, "Commands", lambda: patient)
    begun = begin_reading(source(tmp_path))
    assert begun is not None
    Stage(source(tmp_path), begun).reading.close()
    assert begun.process.reap_within(20.0)
    begun.process.close()
    os.close(begun.output)


def test_what_a_service_manager_says_to_us_is_in_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SAID", "seen")
    begun = begin_reading(source(tmp_path))
    stage = Stage(source(tmp_path), begun)
    stage.reading.start(None)
    read = stage.until_told()
    assert isinstance(read, Loaded)
    assert "none none seen" in repr(read.generation.mounts)


def test_that_is_all_that_the_supervisor_takes_out_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.setenv(name, "")
    before = set(os.environ)
    Notifier.from_environment()
    Inheritance.from_environment(os.environ)
    assert before - set(os.environ) == set(OURS) >= set(VARIABLES)


def test_where_no_process_can_be_started_the_supervisor_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "Commands", lambda: Commands(loader=("/nonexistent",)))
    assert begin_reading(source(tmp_path)) is None


def test_where_only_sigchld_tells_of_its_end_the_supervisor_begins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    before = spawn.children()
    assert begin_reading(source(tmp_path)) is None
    assert spawn.children() == before


def test_with_few_descriptors_a_start_says_what_is_wrong(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))

    command = [sys.executable, "-m", "serverd", "-c", str(tmp_path / "none.toml")]
    done = subprocess.run(command, preexec_fn=few, capture_output=True, text=True, timeout=30)
    assert done.returncode == 3, done.stderr
    assert "bug of serverd" not in done.stderr
