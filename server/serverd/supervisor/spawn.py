"""Making processes: the only place of serverd that does.

A worker and a loader are fresh interpreters: nothing of the supervisor's memory is in them and no
reload ever runs old code. `-P` keeps the working directory from their import path, so that an
application's `json.py` there cannot take the place of Python's; PYTHONPATH stays in force, which is
how serverd is found when it runs from a source checkout. `supervisor` calls it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

__all__ = ["Commands", "Process", "spawn_loader", "spawn_worker"]

_PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class Commands:
    """The programs that are started; tests put others in their place."""

    worker: tuple[str, ...] = (*_PYTHON, "serverd.worker")  # and --channel FD --title TITLE
    loader: tuple[str, ...] = (*_PYTHON, "serverd.config")  # and the path of the configuration


class Process:
    """A child process: when it ends, how it ended, and the way to end it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Take over a process that has just been started.

        Raises OSError when there are too many descriptors; the process is then ended and reaped.
        """
        self._popen = popen
        self.pid = popen.pid
        self.exit_descriptor: int | None = None  # readable at the end; None: poll at SIGCHLD
        if hasattr(os, "pidfd_open"):
            try:
                self.exit_descriptor = os.pidfd_open(popen.pid)
            except OSError as error:
                if error.errno != errno.ENOSYS:  # a kernel before 5.3 has none, whatever Python was built with
                    popen.kill()
                    popen.wait()
                    raise

    def reap(self) -> int | None:
        """Return how the process ended, as subprocess has it; None while it lives."""
        return self._popen.poll()

    def reap_within(self, seconds: float) -> bool:
        """Wait for the end; return whether it came."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Send SIGKILL; without effect on a process that has ended."""
        self._popen.kill()

    def close(self) -> None:
        """Close the descriptor; the process must have been reaped."""
        if self.exit_descriptor is not None:
            os.close(self.exit_descriptor)
            self.exit_descriptor = None


def spawn_worker(command: tuple[str, ...], title: str, descriptors: list[int]) -> tuple[Process, socket.socket]:
    """Start a worker that inherits `descriptors`; return its process and our end of its channel.

    Raises OSError when the machine refuses another process or descriptor.
    """
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as undo:
        undo.enter_context(ours)
        ours.setblocking(False)
        with theirs:
            channel = theirs.fileno()
            popen = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [*command, "--channel", str(channel), "--title", title],
                stdin=subprocess.DEVNULL,
                pass_fds=[channel, *descriptors],
            )
        process = Process(popen)
        undo.pop_all()
    return process, ours


def spawn_loader(command: tuple[str, ...], path: str) -> tuple[Process, int]:
    """Start the program that reads the configuration at `path`; return it and the descriptor of its stdout.

    Raises OSError when the machine refuses another process or descriptor.
    """
    ours, theirs = os.pipe()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, ours)
        os.set_blocking(ours, False)
        try:
            popen = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [*command, path], stdin=subprocess.DEVNULL, stdout=theirs
            )
        finally:
            os.close(theirs)
        process = Process(popen)
        undo.pop_all()
    return process, ours
