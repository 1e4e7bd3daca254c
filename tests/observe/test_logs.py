"""Log lines: their form, their escaping, that each is one write, and the file that they may go to."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from serverd.errors import OperatorError
from serverd.generation import Logging
from serverd.observe import logs


class Pipe:
    """A stream whose other end the test reads."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.reader, self.writer = os.pipe()
        self._is_terminal = is_terminal

    def fileno(self) -> int:
        return self.writer

    def isatty(self) -> bool:
        return self._is_terminal

    def read(self) -> str:
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _restore_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(), logging.getLogger("serverd")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


log = logging.getLogger("serverd.test")

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def parsed(text: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(text)
    return line


def fail() -> None:
    raise RuntimeError("a\nforged line")


def test_a_text_line_has_time_level_logger_and_message(pipe: Pipe) -> None:
    logs.configure(Logging(format="text"), pipe)
    log.info("listening on %s", "http://127.0.0.1:1")
    assert re.fullmatch(rf"{TIME} info     serverd\.test: listening on http://127\.0\.0\.1:1\n", pipe.read())


def test_a_json_line_has_time_level_logger_pid_and_message(pipe: Pipe) -> None:
    logs.configure(Logging(format="json"), pipe)
    log.warning("schön")
    text = pipe.read()
    assert text.count("\n") == 1
    line = parsed(text)
    assert re.fullmatch(TIME, line.pop("time"))
    assert line == {"level": "warning", "logger": "serverd.test", "pid": os.getpid(), "message": "schön"}


def test_auto_is_coloured_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Pipe(is_terminal=True)
    logs.configure(Logging(), terminal)
    log.error("no")
    assert "\x1b[31merror   \x1b[0m serverd.test: no" in terminal.read()
    terminal.close()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_auto_respects_that_colours_are_not_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    terminal = Pipe(is_terminal=True)
    logs.configure(Logging(), terminal)
    log.error("no")
    assert "\x1b" not in terminal.read()
    terminal.close()


def test_auto_is_json_elsewhere(pipe: Pipe) -> None:
    logs.configure(Logging(), pipe)
    log.info("hello")
    assert parsed(pipe.read())["message"] == "hello"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb", r"a\r\nb"),
        ("a\tb", r"a\tb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("nul\x00bell\x07", r"nul\x00bell\x07"),
        ("\x85next\x9b", r"\x85next\x9b"),
        ("line\u2028separator\u2029", r"line\u2028separator\u2029"),
        ("\u202egnirts", r"\u202egnirts"),
        ("\u200e(left\u200f(right\u061c(Arabic", r"\u200e(left\u200f(right\u061c(Arabic"),
        ("half\ud800", r"half\ud800"),
        ("plain ünïcode 🙂", "plain ünïcode 🙂"),
    ],
)
def test_nothing_that_is_logged_can_pass_for_another_line(pipe: Pipe, form: str, said: str, shown: str) -> None:
    logs.configure(Logging(format=form), pipe)
    log.info("peer said %s", said)
    text = pipe.read()
    assert text.count("\n") == 1
    message = parsed(text)["message"] if form == "json" else text.rstrip("\n").partition("serverd.test: ")[2]
    assert message == f"peer said {shown}"


def test_every_character_that_turns_the_direction_of_a_line_is_escaped() -> None:
    # Bidi_Control of Unicode: the marks ALM, LRM, RLM; LRE, RLE, PDF, LRO, RLO; the isolates LRI, RLI, FSI, PDI.
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert logs.escape(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_a_logger_name_is_escaped_too(pipe: Pipe) -> None:
    logs.configure(Logging(format="text"), pipe)
    logging.getLogger("evil\nname").warning("x")
    assert pipe.read().count("\n") == 1


def test_a_traceback_follows_as_indented_lines(pipe: Pipe) -> None:
    logs.configure(Logging(format="text"), pipe)
    try:
        fail()
    except RuntimeError:
        log.exception("it failed")
    first, *rest = pipe.read().splitlines()
    assert first.endswith("serverd.test: it failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)


def test_a_traceback_is_a_field_in_json(pipe: Pipe) -> None:
    logs.configure(Logging(format="json"), pipe)
    try:
        fail()
    except RuntimeError:
        log.exception("it failed")
    text = pipe.read()
    assert text.count("\n") == 1
    assert parsed(text)["exception"].startswith("Traceback (most recent call last):\n")


def test_a_report_is_shown_like_a_traceback(pipe: Pipe) -> None:
    logs.configure(Logging(format="text"), pipe)
    log.error("reload failed", extra={"detail": "server.toml:1: wrong\n   1 | \x1b\n"})
    assert pipe.read().splitlines()[1:] == ["    server.toml:1: wrong", "       1 | \\x1b"]
    logs.configure(Logging(format="json"), pipe)
    log.error("reload failed", extra={"detail": "one\ntwo"})
    assert parsed(pipe.read())["exception"] == "one\ntwo"


def test_a_line_is_one_write(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    logs.configure(Logging(format="text"), pipe)
    monkeypatch.setattr(os, "write", lambda _, data: written.append(bytes(data)) or len(data))
    log.error("one", extra={"detail": "two\nthree"})
    assert len(written) == 1
    assert written[0].count(b"\n") == 3


def test_a_line_longer_than_the_pipe_is_written_whole_when_somebody_reads(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    logs.configure(Logging(format="text"), pipe)
    written: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(len(pipe.read()))  # a reader that keeps up
        return real(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        log.info("x" * 300_000)
    assert sum(written) + len(pipe.read()) > 300_000


def test_a_reader_that_has_gone_is_no_error(pipe: Pipe) -> None:
    gone = Pipe()
    logs.configure(Logging(format="text"), gone)
    os.close(gone.reader)
    log.info("nobody hears")
    gone.reader = os.dup(gone.writer)
    gone.close()


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_says_what_is_shown(pipe: Pipe, level: str, shown: int) -> None:
    logs.configure(Logging(level=level, format="text"), pipe)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(number, "x")
    assert pipe.read().count("\n") == shown


@pytest.mark.parametrize("has_handler", [True, False])
def test_configuring_again_changes_the_level_of_our_own_lines(pipe: Pipe, has_handler: bool) -> None:
    logs.configure(Logging(level="info"), pipe)
    if not has_handler:
        logging.root.handlers.clear()  # as an application's `dictConfig` does
    logs.keep(Logging(level="info"), pipe)  # as a worker does when its applications are imported
    logs.configure(Logging(level="debug"), pipe)  # and at a live reload
    logging.getLogger("serverd.x").debug("said")
    assert "said" in pipe.read()
    logs.configure(Logging(level="error"), pipe)
    logging.getLogger("serverd.x").info("not said")
    assert pipe.read() == ""


def test_configuring_again_replaces_our_handler_and_leaves_others(pipe: Pipe) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    logs.configure(Logging(format="json"), pipe)
    logs.configure(Logging(format="text"), pipe)
    log.info("once")
    assert pipe.read().count("once") == 1
    assert other in logging.getLogger().handlers


def test_loggers_of_applications_are_left_alone(pipe: Pipe) -> None:
    application = logging.getLogger("shop")
    handler = logging.NullHandler()
    application.addHandler(handler)
    application.setLevel(logging.ERROR)
    application.propagate = False
    logs.configure(Logging(level="debug"), pipe)
    assert (application.handlers, application.level, application.propagate) == ([handler], logging.ERROR, False)
    application.handlers.clear()
    application.propagate = True
    application.setLevel(logging.NOTSET)


@pytest.fixture
def shop() -> Iterator[logging.Logger]:
    """The logger of an application, without handlers."""
    made = logging.getLogger("shop")
    yield made
    made.handlers.clear()


def test_what_an_application_has_written_there_itself_is_not_there_twice(pipe: Pipe, shop: logging.Logger) -> None:
    logs.configure(Logging(), pipe)
    with open(pipe.writer, "w", closefd=False) as stream:
        shop.addHandler(logging.StreamHandler(stream))
        logging.getLogger("shop.cart").warning("sold out")
        assert pipe.read() == "sold out\n"


def test_what_its_own_handlers_do_not_show_is_shown_by_ours(pipe: Pipe, shop: logging.Logger) -> None:
    logs.configure(Logging(format="json"), pipe)
    with open(pipe.writer, "w", closefd=False) as stream:
        handler = logging.StreamHandler(stream)
        shop.addHandler(handler)
        handler.setLevel(logging.ERROR)
        shop.warning("below its level")
        handler.setLevel(logging.NOTSET)
        handler.addFilter(lambda record: False)
        shop.warning("filtered")
        handler.filters.clear()
        handler.setStream(StringIO())
        shop.warning("elsewhere")
        shop.handlers[:] = [logging.NullHandler()]
        shop.warning("nowhere")
    assert [parsed(line)["message"] for line in pipe.read().splitlines()] == [
        "below its level",
        "filtered",
        "elsewhere",
        "nowhere",
    ]


def test_what_it_writes_to_standard_output_is_missing_only_where_both_are_read_together(
    pipe: Pipe, shop: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.addHandler(logging.StreamHandler())
    other = Pipe()
    with (
        open(other.writer, "w", closefd=False) as piped,
        open(tmp_path / "out", "w") as out,
        open(tmp_path / "log", "w+") as log,
    ):
        for ours, output, shown in [
            (pipe, piped, False),  # as in a container
            (pipe, out, True),
            (log, piped, True),
            (log, out, True),
            (log, open(log.fileno(), "w", closefd=False), False),  # noqa: SIM115 - nothing is to be closed
        ]:
            logs.configure(Logging(format="json"), ours)
            monkeypatch.setattr(sys, "stdout", output)
            shop.handlers[0].setStream(output)
            shop.warning("sold out")
            text = pipe.read() if ours is pipe else (tmp_path / "log").read_text()
            log.truncate(0)
            assert ('"message": "sold out"' in text) is shown
    other.close()


def test_a_reader_that_hangs_does_not_stop_the_server() -> None:
    program = (
        "import logging, sys\nfrom serverd.generation import Logging\nfrom serverd.observe import logs\n"
        "logs.configure(Logging(format='text'), sys.stderr)\n"
        "for number in range(5000):\n    logging.getLogger('serverd').warning('x' * 200)\nprint('done')\n"
    )
    reader, writer = os.pipe()  # nobody reads
    try:
        process = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, timeout=30)
    finally:
        os.close(reader)
        os.close(writer)
    assert process.stdout == b"done\n"


# The log file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serverd.log"


@pytest.fixture
def file(path: Path) -> Iterator[logs.LogFile]:
    made = logs.LogFile(str(path))
    yield made
    made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_file_is_appended_to(path: Path) -> None:
    path.write_text("before\n")
    file = logs.LogFile(str(path))
    logs.configure(Logging(format="text"), file)
    log.info("one")
    with path.open("a") as other:  # such as a worker's print
        other.write("two\n")
    log.info("three")
    file.close()
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == ["before", "one", "two", "three"]


def test_auto_in_a_file_is_json(path: Path, file: logs.LogFile) -> None:
    logs.configure(Logging(), file)
    log.info("hello")
    assert parsed(path.read_text())["message"] == "hello"


@pytest.mark.parametrize(("umask", "expected"), [(0o000, 0o640), (0o077, 0o600)])
def test_a_new_log_file_is_not_for_everybody(path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        logs.LogFile(str(path)).close()
    finally:
        os.umask(before)
    assert mode(path) == expected


def test_a_log_file_that_exists_keeps_its_mode(path: Path) -> None:
    path.write_text("")
    path.chmod(0o604)
    logs.LogFile(str(path)).close()
    assert mode(path) == 0o604


def test_a_child_gets_the_log_file_as_its_standard_error_and_not_otherwise(path: Path, file: logs.LogFile) -> None:
    program = "import os, sys; print('said', file=sys.stderr); os.fstat(int(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(file.fileno())]
    done = subprocess.run(command, stderr=file, close_fds=False, timeout=30, check=False)
    assert done.returncode == 1
    said = path.read_text().splitlines()
    assert (said[0], said[-1]) == ("said", "OSError: [Errno 9] Bad file descriptor")


def test_reopening_goes_on_in_a_new_file_under_the_same_descriptor(path: Path, file: logs.LogFile) -> None:
    logs.configure(Logging(format="text"), file)
    log.info("one")
    moved = path.rename(path.with_suffix(".log.1"))
    log.info("two")
    descriptor = file.fileno()
    file.reopen()
    log.info("three")
    assert file.fileno() == descriptor
    assert not os.get_inheritable(descriptor)
    assert [line.rpartition(" ")[2] for line in moved.read_text().splitlines()] == ["one", "two"]
    assert path.read_text().endswith("serverd.test: three\n")


def test_a_new_file_has_the_access_of_the_one_before(path: Path, file: logs.LogFile) -> None:
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65533)
    before = path.stat()
    path.rename(path.with_suffix(".log.1"))
    file.reopen()
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_file_that_somebody_else_has_made_keeps_its_access(path: Path, file: logs.LogFile) -> None:
    path.chmod(0o664)
    path.rename(path.with_suffix(".log.1"))
    path.write_text("")
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65533)
    before = path.stat()
    file.reopen()
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.parametrize("denied", ["fchown", "fchmod"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL], ids=["not permitted", "to whom there is not"])
def test_access_that_cannot_be_given_is_no_error(
    path: Path, file: logs.LogFile, monkeypatch: pytest.MonkeyPatch, denied: str, number: int
) -> None:
    def deny(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, denied, deny)
    path.rename(path.with_suffix(".log.1"))
    file.reopen()
    os.write(file.fileno(), b"x")
    assert path.read_text() == "x"


def test_when_reopening_fails_the_old_file_stays_in_use(path: Path, file: logs.LogFile) -> None:
    moved = path.rename(path.with_suffix(".log.1"))
    path.mkdir()
    with pytest.raises(OperatorError, match=r"cannot open the log file .*/serverd\.log: it is no plain file"):
        file.reopen()
    os.write(file.fileno(), b"x")
    assert moved.read_text() == "x"


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    target = path.with_name("victim")
    target.write_text("precious")
    path.symlink_to(target)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_directory, "it is no plain file"),
        (make_fifo, "it is no plain file"),
        (make_link, "it is a symbolic link, expected the file that it leads to"),
        (make_dangling_link, "it is a symbolic link, expected the file that it leads to"),
    ],
    ids=["directory", "fifo", "link", "dangling link"],
)
def test_what_is_no_plain_file_is_refused(path: Path, make: Any, reason: str) -> None:
    make(path)
    there = sorted(os.listdir(path.parent))
    with pytest.raises(OperatorError, match=f"^cannot open the log file {path}: {reason}"):
        logs.LogFile(str(path))
    assert sorted(os.listdir(path.parent)) == there  # nothing was made through the link


def test_a_fifo_that_is_read_is_refused_too_and_closed(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OperatorError, match="it is no plain file"):
        logs.LogFile(str(path))
    assert os.read(reader, 1) == b""  # nobody writes any more
    os.close(reader)


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as error:
        logs.LogFile(str(tmp_path / "missing" / "serverd.log"))
    assert str(error.value) == f"cannot open the log file {tmp_path}/missing/serverd.log: its directory must exist"


def test_what_the_kernel_refuses_is_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OperatorError) as error:
        logs.LogFile(str(path))
    assert str(error.value) == f"cannot open the log file {path}: permission denied"


def test_lines_of_several_processes_in_one_file_stay_whole(path: Path, file: logs.LogFile) -> None:
    program = (
        "import logging, sys\nfrom serverd.generation import Logging\nfrom serverd.observe import logs\n"
        "logs.configure(Logging(format='text'), sys.stderr)\n"
        "for number in range(300):\n    logging.getLogger('serverd').warning(sys.argv[1] * 5000)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, letter], stderr=file) for letter in "ab"]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert len(lines) == 600
    assert all(re.fullmatch(rf"{TIME} warning  serverd: (a{{5000}}|b{{5000}})", line) for line in lines)
