"""A real serverd in processes of its own, as an operator would start it, seen through its log, signals and /proc.

For tests whose subject is processes. Everything waits for a line of the log or for the kernel, with a bound, and the
whole process group is killed by its id at the end, whatever happened.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from serverd.config.control import configured_socket
from tests.support import processes

__all__ = ["Address", "Line", "Server"]

Address = tuple[str, int] | str
"""Where to connect: host and port, or the path of a unix socket."""

TIMEOUT = 30.0  # seconds for anything a server does; on two busy cores a start with Django takes about three

# How a line of the access log begins, in JSON.
ACCESS = '{"time":"'

LISTENING = re.compile(r"listener (?P<name>[\w.-]+): listening on (?P<where>\S+)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output; what is no log record, such as a traceback or a print, is all `message`."""

    message: str
    level: str = ""
    logger: str = ""
    pid: int = 0
    exception: str = ""

    @classmethod
    def parse(cls, text: str) -> Line:
        """Return the record that `text` holds."""
        try:
            record = json.loads(text)
            return cls(
                message=record["message"],
                level=record["level"],
                logger=record["logger"],
                pid=record["pid"],
                exception=record.get("exception", ""),
            )
        except (ValueError, TypeError, KeyError):
            return cls(text)


class Server:
    """`python -m serverd -c FILE` as a context manager; entering waits until it is ready."""

    def __init__(
        self,
        file: Path,
        *,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        python: str = sys.executable,
        program: Path | None = None,
    ) -> None:
        """`program`: a file of Python to run in the place of the command."""
        self.file = file
        what = ["-m", "serverd"] if program is None else [str(program)]
        self._command = [python, *what, *(arguments or (() if program else ("-c", str(file))))]
        # What the examples take their addresses from.
        self._env = {**os.environ, "BIND": "127.0.0.1:0", "INSIDE": "127.0.0.1:0", **(env or {})}
        self._changed = threading.Condition()
        self._raw: list[str] = []
        self._lines: list[Line] = []
        self._at_end = False

    # Life

    def start(self) -> Self:
        """Start the process without waiting for anything."""
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._collect, name="server output")
        self._reader.start()
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_for("ready: generation")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"output of serverd:\n{self.output}")

    def kill(self) -> None:
        """Kill whatever is left of the process group, and take away its socket file; harmless when nothing is."""
        members = processes.group(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(TIMEOUT)
        # The pipe closes when the last process has gone; one that left the group would be a bug worth failing for.
        self._reader.join(TIMEOUT)
        assert not self._reader.is_alive(), f"a process outside the group of {self.pid} still holds the output"
        assert self._process.stdout is not None
        self._process.stdout.close()
        for pid in members:
            processes.wait_for_end(pid)
        self._remove_control_socket()

    def _remove_control_socket(self) -> None:
        """Remove the file of the control socket unless another server, of the same configuration, listens on it."""
        path = Path(configured_socket(str(self.file), self._env))
        # OSError: the path is too long, somebody's whose queue is full, or of a file that is private.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            if path.is_socket() and client.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = TIMEOUT) -> int:
        """Ask the supervisor to stop and return its exit code."""
        self.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the supervisor's end and return its exit code; all of its output is there then."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def leaves(self, timeout: float = TIMEOUT) -> int:
        """Wait for the end of the supervisor, whose successor goes on, and return its exit code."""
        return self._process.wait(timeout)

    def reload(self, timeout: float = TIMEOUT) -> Line:
        """Send HUP and return the line that tells how the reload ended."""
        mark = self.mark()
        self.send_signal(signal.SIGHUP)
        return self.wait_for(r"^(reloaded:|reload failed)", since=mark, timeout=timeout)

    # Log

    @property
    def output(self) -> str:
        """All of the output so far, as it was written."""
        with self._changed:
            return "".join(self._raw)

    def text(self, since: int = 0) -> str:
        """Return messages and tracebacks from `since` on, as an operator reads them; not the access log."""
        lines = (line for line in self.lines[since:] if not line.message.startswith(ACCESS))
        return "\n".join(part for line in lines for part in (line.message, line.exception) if part)

    @property
    def lines(self) -> list[Line]:
        """All lines so far."""
        with self._changed:
            return list(self._lines)

    def mark(self) -> int:
        """Return a place in the log, for `since`."""
        with self._changed:
            return len(self._lines)

    def wait_for(self, pattern: str, *, since: int = 0, timeout: float = TIMEOUT) -> Line:
        """Return the first line after `since` whose message has a match of the regular expression.

        Raises AssertionError with the whole output when there is none in time or the output has ended without it.
        """
        search = re.compile(pattern).search
        found: list[Line] = []

        def is_there() -> bool:
            nonlocal since
            fresh, since = self._lines[since:], len(self._lines)
            found.extend(line for line in fresh if search(line.message))
            return bool(found) or self._at_end

        with self._changed:
            self._changed.wait_for(is_there, timeout)
            if not found:
                reason = "the output ended" if self._at_end else f"{timeout} s passed"
                raise AssertionError(f"{reason} without a line matching {pattern!r}:\n{''.join(self._raw)}")
        return found[0]

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            with self._changed:
                self._raw.append(text)
                self._lines.append(Line.parse(text.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._at_end = True
            self._changed.notify_all()

    # Addresses

    def addresses(self, listener: str = "web") -> list[Address]:
        """Return where the listener listens, in the order of the log."""
        matches = (LISTENING.search(line.message) for line in self.lines)
        return [_address(match["where"]) for match in matches if match and match["name"] == listener]

    def address(self, listener: str = "web") -> Address:
        """Return the listener's first address."""
        return self.addresses(listener)[0]

    @property
    def port(self) -> int:
        """The port of the listener `web`."""
        return int(self.address()[1])

    def url(self, path: str = "/") -> str:
        """Return the URL of `path` on the listener `web`."""
        return f"http://127.0.0.1:{self.port}{path}"

    # Processes

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the pids of the living workers, oldest first."""
        return [pid for pid in processes.children(self.pid) if "worker" in processes.command_line(pid)]


def _address(where: str) -> Address:
    scheme, _, rest = where.partition("://")
    if scheme in ("http", "https"):
        host, _, port = rest.rpartition(":")
        return host.strip("[]"), int(port)
    return where.removeprefix("unix:")
