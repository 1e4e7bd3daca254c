"""What the supervisor holds of the machine for a generation: listening sockets, control socket, pid file, log file.

They are opened, committed and rolled back as one, so that a generation either has all it needs or changes
nothing. Each knows how to open itself; here is only the order. `supervisor` calls it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import selectors
import sys
from collections.abc import Callable, Sequence
from functools import partial

from serverd.control.requests import Request
from serverd.control.server import ControlServer
from serverd.errors import BindError, OperatorError
from serverd.generation import Generation, Logging
from serverd.net.bindings import Bindings, Place
from serverd.observe import logs
from serverd.observe.lines import open_unblocking
from serverd.observe.logs import LogFile
from serverd.supervisor import banner
from serverd.supervisor.pid_file import PidFile

__all__ = ["Holdings"]

log = logging.getLogger("serverd.supervisor")

_STANDARD_OUTPUT = 1
_NO_LOG_FILE = "there is no log file to reopen: neither logging.file nor access_log.file is set"


class Holdings:
    """Everything that is open, and what is to become of it with the generation that is prepared."""

    def __init__(self, selector: selectors.BaseSelector, on_request: Callable[[int, Request], None]) -> None:
        self.bindings = Bindings()
        self.control = ControlServer(selector, on_request)
        self._is_new = True  # nothing has been committed yet
        self._takes_over = False  # the files are another supervisor's until the first commit
        self._prepared: Generation | None = None
        self._pid_file: PidFile | None = None
        self._next_pid_file: PidFile | None = None
        self._log_files: list[LogFile] = []
        self._next_log_files: list[LogFile] = []
        self._paths = ("", "")  # of the committed generation: logging.file and access_log.file
        self._standard_output = io.FileIO(open_unblocking(_STANDARD_OUTPUT), "w")
        self._undo = contextlib.ExitStack()
        self._umask = os.umask(0)  # the one that we were started with, for a generation that asks for none
        os.umask(self._umask)

    def take_over(self, text: str, descriptors: list[int]) -> None:
        """Begin with the sockets of the supervisor that this one is to replace.

        Raises BindError when they cannot be understood.
        """
        self.bindings.take_over(text, descriptors)
        self._takes_over = True

    def prepare(self, generation: Generation, slots: int) -> None:
        """Open what `generation` needs beside what is open.

        Raises BindError that lists everything that cannot be had, with nothing left open.
        """
        umask = generation.server.umask
        self._undo.callback(os.umask, os.umask(self._umask if umask is None else umask))
        problems: list[str] = []
        for part in (self._prepare_sockets, self._prepare_control, self._prepare_log_files):
            try:
                part(generation, slots)
            except OperatorError as error:
                problems.append(str(error))
        try:
            if not problems:  # it replaces that of a server that runs already, which is in the way of the sockets
                self._prepare_pid_file(generation)
        except OperatorError as error:
            problems.append(str(error))
        if problems:
            self.rollback()
            raise BindError("\n".join(problems))
        self._prepared = generation

    def _prepare_sockets(self, generation: Generation, slots: int) -> None:
        self.bindings.prepare(generation, slots)
        self._undo.callback(self.bindings.rollback)

    def _prepare_control(self, generation: Generation, _: int) -> None:
        if not self._takes_over and generation.control_socket:
            self._undo.callback(self._restore_control, self.control.path)
            self.control.open(generation.control_socket)

    def _restore_control(self, path: str) -> None:
        if path:
            _attempt(partial(self.control.open, path))
        else:
            self.control.withdraw()

    def _prepare_pid_file(self, generation: Generation) -> None:
        path = generation.server.pid_file
        self._next_pid_file = self._pid_file if self._pid_file and self._pid_file.path == path else None
        if path and self._next_pid_file is None:
            self._next_pid_file = PidFile(path)
            if not self._takes_over:
                self._next_pid_file.write()
                self._undo.callback(self._next_pid_file.remove)

    def _prepare_log_files(self, generation: Generation, _: int) -> None:
        open_files = {file.path: file for file in self._log_files}
        self._next_log_files = []
        for path in _paths_of(generation):
            if path in open_files:
                self._next_log_files.append(open_files[path])
            elif path:
                self._next_log_files.append(LogFile(path))
                self._undo.callback(self._next_log_files[-1].close)

    def commit(self) -> bool:
        """Close what the prepared generation no longer needs, and log what is new and what is closed.

        Return whether running workers have to be given the descriptors to log to anew.
        """
        generation, self._prepared = self._prepared, None
        assert generation is not None
        self._undo.pop_all()
        before, self._log_files = self._log_files, self._next_log_files
        paths, self._paths = self._paths, _paths_of(generation)
        self.configure_logging(generation.logging)
        for file in before:
            if file not in self._log_files:
                file.close()
        opened, closed = self.bindings.commit()
        if not self._is_new or self._takes_over or not banner.is_for_a_terminal(generation):
            self._log_opened(opened)
        else:
            self._welcome(generation, opened)
        self._is_new = False
        for place in closed:
            log.info("listener %s: closed %s", place.listener, place.url)
        if self._pid_file is not None and self._pid_file is not self._next_pid_file:
            self._pid_file.remove()
        self._pid_file = self._next_pid_file
        if not generation.control_socket:
            self.control.withdraw()
        if self._takes_over:
            self._take_files(generation)
        return paths != self._paths

    def _welcome(self, generation: Generation, opened: Sequence[Place]) -> None:
        with contextlib.suppress(OSError):  # the terminal has gone
            print(banner.banner(generation, opened), end="", file=sys.stderr, flush=True)
        if generation.logging.file:
            self._log_opened(opened)

    def _log_opened(self, opened: Sequence[Place]) -> None:
        for place in opened:
            log.info("listener %s: listening on %s", place.listener, place.url)

    def _take_files(self, generation: Generation) -> None:
        """Put ours in the place of the files of the supervisor before, which serves no longer."""
        self._takes_over = False
        if self._pid_file is not None:
            _attempt(self._pid_file.write)
        if generation.control_socket:
            _attempt(partial(self.control.open, generation.control_socket, replace=True))

    def rollback(self) -> None:
        """Close what the last `prepare` opened, and nothing else."""
        self._prepared = None
        self._undo.close()

    def close(self, *, kept: bool = False) -> None:
        """Close the listening sockets and remove their files; `kept` leaves the files to a successor.

        The control socket stays until `leave`, unless a successor has it: the drain can be watched there, and its end.
        """
        self.rollback()
        self.bindings.close(keep_files=kept)
        if kept:
            self.control.withdraw(keep=True)

    def leave(self) -> None:
        """Close everything; the last thing a supervisor does."""
        self.close()
        self._standard_output.close()
        self.control.close()
        if self._pid_file is not None:
            self._pid_file.remove()  # without effect when a successor has written its own

    # Logs

    def configure_logging(self, settings: Logging) -> None:
        """Log as `settings` say from here on, to the log file if there is one."""
        logs.configure(settings, _file_of(self._paths[0], self._log_files) or sys.stderr)

    def reopen_logs(self) -> list[str]:
        """Open the log files anew, prepared ones, too; return why not, for each of which the old one goes on."""
        prepared = self._next_log_files if self._prepared else ()
        files = dict.fromkeys([*self._log_files, *prepared])
        if not files:
            log.info(_NO_LOG_FILE)
            return [_NO_LOG_FILE]
        failures = []
        for file in files:
            try:
                file.reopen()
            except OperatorError as error:
                failures.append(str(error))
                log.error("%s", error)
        if not failures:
            log.info("log files reopened")
        return failures

    def log_descriptors(self, generation: Generation | None = None) -> list[int]:
        """Return what a worker of `generation`, None: the committed one, has for standard error and access log."""
        paths, files = self._paths, self._log_files
        if generation is not None and generation is self._prepared:
            paths, files = _paths_of(generation), self._next_log_files
        error, access = (_file_of(path, files) for path in paths)
        return [(error or sys.stderr).fileno(), access.fileno() if access else self._standard_output.fileno()]


def _paths_of(generation: Generation) -> tuple[str, str]:
    return generation.logging.file, generation.access_log.file


def _file_of(path: str, files: list[LogFile]) -> LogFile | None:
    return next((file for file in files if file.path == path), None)


def _attempt(step: Callable[[], None]) -> bool:
    """Take a step that nothing can be done about when it fails, but tell; return whether it succeeded."""
    try:
        step()
    except OperatorError as error:
        log.error("%s", error)
        return False
    return True
