"""Whole lines in batches, and a reader that does not read."""

from __future__ import annotations

import os
import resource
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverd.observe.lines import BATCH_SIZE, PATIENCE_SIZE, LineWriter, open_unblocking


class Clock:
    """Keeps what is to be called a moment later."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self.due.append(function)

    def tick(self) -> None:
        due, self.due = self.due, []
        for function in due:
            function()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    os.close(ends[0])


def read(end: int) -> bytes:
    data = b""
    while select.select([end], [], [], 0)[0] and (more := os.read(end, 1 << 20)):
        data += more
    return data


def test_lines_wait_for_one_another(clock: Clock, pipe: tuple[int, int]) -> None:
    writer = LineWriter(clock, pipe[1])
    writer.write("one\n")
    writer.write("two\n")
    assert len(clock.due) == 1
    assert read(pipe[0]) == b""
    clock.tick()
    assert read(pipe[0]) == b"one\ntwo\n"
    assert not clock.due
    writer.close()


def test_many_lines_do_not_wait(clock: Clock, pipe: tuple[int, int]) -> None:
    writer = LineWriter(clock, pipe[1])
    writer.write("x" * (BATCH_SIZE - 1) + "\n")
    assert len(read(pipe[0])) > 0
    writer.close()


def test_what_is_left_is_written_at_the_end(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(clock, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    writer.write("ä\udc80\n")
    writer.close()
    assert path.read_text() == "ä\\udc80\n"


def test_before_there_is_a_descriptor_lines_are_kept(clock: Clock, pipe: tuple[int, int]) -> None:
    writer = LineWriter(clock)
    assert not writer.is_terminal
    writer.write("early\n")
    clock.tick()
    writer.reopen(pipe[1])
    clock.tick()
    assert read(pipe[0]) == b"early\n"
    writer.close()


def test_another_descriptor_takes_what_comes_from_then_on(clock: Clock, pipe: tuple[int, int], tmp_path: Path) -> None:
    writer = LineWriter(clock, pipe[1])
    writer.write("first\n")
    writer.reopen(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    writer.write("second\n")
    writer.close()
    assert read(pipe[0]) == b"first\n"
    assert (tmp_path / "log").read_text() == "second\n"


def test_a_pipe_gets_whole_lines_at_a_time(
    clock: Clock, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: pieces.append(bytes(data)) or write(fd, data))
    writer = LineWriter(clock, pipe[1])
    for number in range(500):
        writer.write(f"{number} {'x' * (number % 90)}\n")
    writer.close()
    assert len(pieces) > 1
    assert all(piece.endswith(b"\n") and len(piece) <= select.PIPE_BUF for piece in pieces)
    assert b"".join(pieces).count(b"\n") == 500


def test_a_reader_that_does_not_read_costs_lines_and_never_a_wait(
    clock: Clock, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    os.set_blocking(pipe[1], True)
    writer = LineWriter(clock, pipe[1])
    line = "x" * 999 + "\n"
    count = 3 * PATIENCE_SIZE // len(line)
    for _ in range(count):
        writer.write(line)
    writer.flush()
    assert clock.due
    received = 0
    for _ in range(1000):
        received += read(pipe[0]).count(b"\n")
        clock.tick()
        if not clock.due:
            break
    received += read(pipe[0]).count(b"\n")
    assert PATIENCE_SIZE // len(line) < received < count
    assert f"{count - received} lines of the access log were lost: nobody read them\n" in caplog.text
    writer.write("again\n")
    clock.tick()
    assert read(pipe[0]) == b"again\n"
    writer.close()


def test_a_reader_that_has_gone_is_told_of_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    writer = LineWriter(clock, theirs)
    for _ in range(3):
        writer.write("lost\n")
        clock.tick()
    assert caplog.text.count("the access log cannot be written: broken pipe") == 1
    writer.close()


def test_a_line_that_a_full_disk_has_cut_does_not_run_into_the_next(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "access.log"
    writer = LineWriter(clock, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, before[1]))
    try:
        for line in ("one\n", "second\n", "lost\n"):
            writer.write(line)
            clock.tick()
        clock.tick()
        writer.write("lost as well\n")
        clock.tick()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.write("three\n")
    writer.close()
    assert path.read_text() == "one\nse\nthree\n"
    assert caplog.text.count("the access log cannot be written: file too large") == 1
    assert "3 lines of the access log were lost: file too large\n" in caplog.text


def test_each_reason_for_which_lines_are_lost_is_told(
    clock: Clock, pipe: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.set_blocking(pipe[1], True)
    writer = LineWriter(clock, pipe[1])
    line = "x" * 999 + "\n"
    for _ in range(2 * PATIENCE_SIZE // len(line)):
        writer.write(line)
    writer.flush()
    broken = os.pipe()
    os.close(broken[0])
    writer.reopen(broken[1])
    clock.tick()
    assert "the access log cannot be written: broken pipe" in caplog.text
    writer.reopen(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    writer.write("again\n")
    writer.close()
    assert (tmp_path / "log").read_text().endswith("again\n")
    assert caplog.messages[-1].endswith(" lines of the access log were lost: nobody read them, then broken pipe")


def test_a_descriptor_that_an_application_has_closed_is_replaced(clock: Clock, tmp_path: Path) -> None:
    closed = os.open(tmp_path / "old", os.O_WRONLY | os.O_CREAT)
    writer = LineWriter(clock, closed)
    os.close(closed)
    fresh = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    if fresh == closed:  # the number is somebody else's now, whose it is nobody can tell
        fresh = os.dup(fresh)
        os.close(closed)
    writer.reopen(fresh)
    writer.write("one\n")
    writer.close()
    assert (tmp_path / "new").read_text() == "one\n"


def test_a_blocking_pipe_is_opened_anew_for_us_alone(clock: Clock, pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], True)
    other = open_unblocking(pipe[1])
    assert (os.get_blocking(other), os.get_blocking(pipe[1])) == (False, True)
    while True:  # as if another writer had been quicker since the poll
        try:
            os.write(other, b"x" * 512)
        except BlockingIOError:
            break
    writer = LineWriter(clock, other)
    writer.write("late\n")
    clock.tick()
    assert clock.due
    read(pipe[0])
    clock.tick()
    assert read(pipe[0]) == b"late\n"
    writer.close()
    os.close(pipe[1])


def test_a_file_is_shared_so_that_nobody_overwrites_another(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb", buffering=0) as file:
        other = open_unblocking(file.fileno())
        os.write(other, b"one\n")
        file.write(b"two\n")
        os.close(other)
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
