"""What an operator does to a running server: the commands as processes, and the control socket without one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serverd.config.control import configured_socket
from serverd.control.client import ControlClient, ControlError
from tests.support.server import Server

__all__ = ["Command", "Poll", "ask", "ask_at", "command", "control_socket", "status", "wait_until"]

TIMEOUT = 30.0  # seconds for a command
# Seconds between two looks at what nobody tells. A look takes the supervisor, or whoever lists all processes, 5 ms.
INTERVAL = 0.03
# Seconds between two questions of a Poll: whoever answers one has as much to do as for a request, and shall do more.
PACE = 0.002 if os.environ.get("SERVERD_LONG") else 0.02


def control_socket(server: Server) -> str:
    """Return the path of the server's control socket, found as the commands find it."""
    return configured_socket(str(server.file))


def ask(server: Server, request: str, **arguments: Any) -> dict[str, Any]:
    """Ask over the control socket and return the last reply."""
    return ask_at(control_socket(server), request, **arguments)


def ask_at(path: str | Path, request: str, **arguments: Any) -> dict[str, Any]:
    """Ask over the control socket at `path` and return the last reply."""
    with ControlClient(str(path)) as client:
        return client.ask({"command": request, **arguments}, TIMEOUT)


def status(server: Server) -> dict[str, Any]:
    """Return the status document."""
    return ask(server, "status")


def wait_until(holds: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    """Wait until something holds that can only be looked at, such as a part of the status."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(INTERVAL)


class Command:
    """`serverd NAME -c FILE` as a process of its own; `wait` for its end."""

    def __init__(self, server: Server, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serverd", *arguments, "-c", str(server.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.code = -1
        self.out = self.err = ""

    def wait(self, timeout: float = TIMEOUT) -> Self:
        """Wait for the end, and take the exit code and what was written; past the timeout it is killed."""
        try:
            self.out, self.err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.out, self.err = self._process.communicate()
            raise
        self.code = self._process.returncode
        return self

    @property
    def outcome(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        return self.code, self.out, self.err


def command(server: Server, *arguments: str, timeout: float = TIMEOUT) -> Command:
    """Run a command to its end."""
    return Command(server, *arguments).wait(timeout)


class Poll:
    """Asks for the status again and again, over a new connection each time, until the block ends."""

    def __init__(self, server: Server) -> None:
        self.failures: list[str] = []
        self.pids: list[int] = []  # of the supervisors that answered, each once in a row
        self.phases: list[tuple[str, bool]] = []  # phase and readiness, each pair once in a row
        self.answers = 0
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PACE):
            try:
                answer = status(self._server)
            except ControlError as error:
                self.failures.append(str(error))
                continue
            self.answers += 1
            pair = (answer["phase"], answer["ready"])
            if self.pids[-1:] != [answer["pid"]]:
                self.pids.append(answer["pid"])
            if self.phases[-1:] != [pair]:
                self.phases.append(pair)
