"""Making processes: the only place of serverd that does, but for the preloader, which forks workers itself.

A worker, a loader and the supervisor that takes our place are fresh interpreters: nothing of the supervisor's memory
is in them and no reload ever runs old code. `-P` keeps the working directory from their import path, so that an
application's `json.py` there cannot take the place of Python's; PYTHONPATH stays in force, which is how serverd is
found when it runs from a source checkout. `children` and `supervisor` (for an upgrade) call it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serverd.generation import Account
from serverd.parent import begin_with_group_signals_held

log = logging.getLogger("serverd.supervisor")

__all__ = [
    "UNKNOWN_STATUS",
    "Commands",
    "Process",
    "Surroundings",
    "children",
    "fork_worker",
    "reap_orphans",
    "spawn_preloader",
    "spawn_program",
    "spawn_supervisor",
    "spawn_worker",
]

_PYTHON = (sys.executable, "-P", "-m")

# What a process ended with whose status went to somebody else: a failure, for all that is known, and not one
# of the statuses that serverd's own programs end with.
UNKNOWN_STATUS = 255
# Seconds between two looks at a process where the kernel cannot tell of its end; subprocess takes up to 0.05.
LOOK_INTERVAL = 0.01


@dataclass(frozen=True, slots=True)
class Commands:
    """The programs that are started; tests put others in their place."""

    worker: tuple[str, ...] = (*_PYTHON, "serverd.worker")  # and --channel FD --dump FD --title TITLE
    preloader: tuple[str, ...] = (*_PYTHON, "serverd.worker.preloader")  # and --channel FD
    loader: tuple[str, ...] = (*_PYTHON, "serverd.config")  # and what to read
    supervisor: tuple[str, ...] = (*_PYTHON, "serverd")  # and what to serve, and --take-over FD
    watcher: tuple[str, ...] = (*_PYTHON, "serverd.dev.watcher")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker finds when it begins."""

    account: Account = field(default_factory=Account)
    umask: int | None = None  # None: ours
    stderr: int | None = None  # the descriptor that becomes its standard error; None: ours


class Process:
    """A child process: when it ends, how it ended, and the way to end it.

    It is known by its pid alone, so that it does not matter who forked it.
    """

    def __init__(self, pid: int) -> None:
        """Take over a process that has just been started.

        Raises OSError when there are too many descriptors; the process is then ended and reaped.
        """
        self.pid = pid
        self.exit_descriptor: int | None = None  # readable at the end; None: ask `reap` at SIGCHLD
        self._status: int | None = None
        if hasattr(os, "pidfd_open"):
            try:
                self.exit_descriptor = os.pidfd_open(pid)
            except OSError as error:
                if error.errno != errno.ENOSYS:  # a kernel before 5.3 has none, whatever Python was built with
                    self.kill()
                    self.reap_within(None)
                    raise

    def reap(self) -> int | None:
        """Return how the process ended, as subprocess has it; None while it lives."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Not ours to wait for: somebody else did, or the process that forked it still lives.
                self._status = None if self._is_alive() else UNKNOWN_STATUS
            else:
                self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def reap_within(self, seconds: float | None) -> bool:
        """Wait for the end, with None as long as it takes; return whether it came."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.reap() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self.exit_descriptor is None:
                time.sleep(LOOK_INTERVAL)
            else:
                _is_readable(self.exit_descriptor, left)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; without effect on a process that has ended."""
        if self._status is not None:
            return  # the pid may be another's by now
        try:
            if self.exit_descriptor is not None:
                signal.pidfd_send_signal(self.exit_descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            # Root without CAP_KILL, and a worker of another user: it cannot be helped, and must not end us.
            log.error("cannot send %s to process %d: not permitted, CAP_KILL is missing", number.name, self.pid)

    def kill(self) -> None:
        """Send SIGKILL; without effect on a process that has ended."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptor; the process must have been reaped."""
        if self.exit_descriptor is not None:
            os.close(self.exit_descriptor)
            self.exit_descriptor = None

    def _is_alive(self) -> bool:
        if self.exit_descriptor is not None:
            return not _is_readable(self.exit_descriptor, 0)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def spawn_worker(
    command: tuple[str, ...], title: str, surroundings: Surroundings
) -> tuple[Process, socket.socket, int]:
    """Start a worker; return its process, our end of its channel and the file that it writes its stacks to.

    The file is a descriptor: it has no name, and appends whatever is written. Nothing else is inherited, the
    sockets come through the channel. Raises OSError when the machine refuses another process or descriptor,
    or us the right to make it what its surroundings ask.
    """

    def start(channel: int, stacks: int) -> int:
        arguments = ["--channel", str(channel), "--dump", str(stacks), "--title", title]
        return _start([*command, *arguments], pass_fds=[channel, stacks], **_options(surroundings))

    return fork_worker(start)


def fork_worker(start: Callable[[int, int], int]) -> tuple[Process, socket.socket, int]:
    """Make a worker's channel and file for stacks, and have `start` start it with them; returns as `spawn_worker`.

    `start` gets the two descriptors and returns the pid of a child of ours, or raises OSError.
    """
    stacks = _open_nameless_file()
    try:
        return (*_with_channel(lambda channel: start(channel, stacks)), stacks)
    except BaseException:
        os.close(stacks)
        raise


def spawn_preloader(command: tuple[str, ...], surroundings: Surroundings) -> tuple[Process, socket.socket]:
    """Start a preloader; return its process and our end of its channel.

    Raises OSError when the machine refuses another process or descriptor, or us the right to make it what its
    surroundings ask.
    """

    def start(channel: int) -> int:
        return _start([*command, "--channel", str(channel)], pass_fds=[channel], **_options(surroundings))

    return _with_channel(start)


def spawn_program(
    command: tuple[str, ...], arguments: Sequence[str], told: bytes = b"", environment: Mapping[str, str] | None = None
) -> tuple[Process, int]:
    """Start a program that tells us something; return it and the descriptor of its stdout.

    `told` is what it finds in its standard input, where no other process can read it; `environment` is what it has in
    the place of ours. Raises OSError when the machine refuses another process or descriptor.
    """
    ours, theirs = os.pipe()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, ours)
        os.set_blocking(ours, False)
        try:
            with _holding(told) as stdin:
                pid = _start([*command, *arguments], stdin=stdin, stdout=theirs, env=environment)
        finally:
            os.close(theirs)
        process = Process(pid)
        undo.pop_all()
    return process, ours


def spawn_supervisor(
    command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
) -> tuple[Process, socket.socket]:
    """Start the supervisor that takes our place; return its process and our end of the channel to it.

    `command` says what it serves. It has `environment` beside ours, and inherits `descriptors` under
    their numbers. Raises OSError when the machine refuses another process or descriptor.
    """

    def start(channel: int) -> int:
        arguments = [*command, "--take-over", str(channel)]
        return _start(arguments, env={**os.environ, **environment}, pass_fds=[channel, *descriptors])

    return _with_channel(start)


def _with_channel(start: Callable[[int], int]) -> tuple[Process, socket.socket]:
    """Have `start` make a process, given the number of its end of a channel; return it and our end.

    Raises OSError, with nothing left behind.
    """
    with contextlib.ExitStack() as undo:
        ours, theirs = socket.socketpair()
        undo.enter_context(ours)
        ours.setblocking(False)
        with theirs:
            pid = start(theirs.fileno())
        process = Process(pid)
        undo.pop_all()
    return process, ours


def children() -> set[int]:
    """Return the pids of our children, whoever has made them; none where the kernel does not list them (proc(5))."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return set(map(int, file.read().split()))
    except (OSError, ValueError):
        return set()


def reap_orphans(known: set[int]) -> None:
    """Reap children that we have not made, those of dead descendants; `known` are the pids of our own."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return
    with contextlib.suppress(ChildProcessError):  # there is no child at all
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in known:
                return  # it is seen by its handle; another SIGCHLD comes for whoever is behind it
            os.waitpid(found.si_pid, os.WNOHANG)


def _start(command: list[str], **options: Any) -> int:
    """Start a program with Popen's options and return its pid, which is ours to wait for."""
    with begin_with_group_signals_held():
        popen = subprocess.Popen(command, **options)  # noqa: S603 - our own program, no shell
    # Else Popen would wait for it, too, and take its status from under us.
    popen.returncode = 0
    return popen.pid


def _options(surroundings: Surroundings) -> dict[str, Any]:
    """Return Popen's options for what a worker finds when it begins."""
    identity = _identity(surroundings.account)
    return {
        "stdin": subprocess.DEVNULL,
        "stderr": surroundings.stderr,
        # Another user's process must not have our terminal: it could type into it (TIOCSTI, ioctl_tty(2)).
        "start_new_session": bool(identity),
        "umask": -1 if surroundings.umask is None else surroundings.umask,  # -1: Popen's word for ours
        **identity,
    }


def _identity(account: Account) -> dict[str, Any]:
    """Return Popen's options for the account; none when there is nothing to change."""
    is_ours = account.uid in {None, os.geteuid()} and account.gid in {None, os.getegid()}
    if is_ours and os.geteuid() != 0:
        return {}  # only root may set supplementary groups
    options: dict[str, Any] = {}
    if account.gid is not None:
        options["group"] = account.gid
    if account.uid is not None:
        options |= {"user": account.uid, "extra_groups": account.groups}
    return options


@contextlib.contextmanager
def _holding(data: bytes) -> Iterator[int]:
    """Give a descriptor that `data` is read from; nothing at all is read from that of no data."""
    if not data:
        yield subprocess.DEVNULL
        return
    descriptor = _open_nameless_file()
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_nameless_file() -> int:
    """Return the descriptor of an empty file in memory, or where there is none in the directory for temporary ones."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("serverd-stacks")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # Whoever empties it need not know how far another has written.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor


def _is_readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until `descriptor` is readable; return whether it is. Not by `select`, which knows only small numbers."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
