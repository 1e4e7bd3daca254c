"""Log lines: their form, their escaping, and that each is one write."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

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
def _restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


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
    terminal = Pipe(is_terminal=True)
    logs.configure(Logging(), terminal)
    log.error("no")
    assert "\x1b[31merror   \x1b[0m serverd.test: no" in terminal.read()
    terminal.close()


def test_auto_respects_that_colours_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
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
