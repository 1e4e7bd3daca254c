"""A child process as the supervisor holds it: its process, what it says, and when it has ended.

It reads and writes without blocking and understands nothing of what it carries: what a message
means is decided in `policy`. `children` owns the handles and waits on their descriptors.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from serverd.messages import FromWorker, Loaded, LoadFailed, Message, ToWorker, decode, encode
from serverd.supervisor.spawn import Process
from serverd.supervisor.wording import describe_exit, explain_exit

__all__ = ["Garbage", "LoaderHandle", "WorkerHandle"]

# What may wait of one message of a worker, which may hold an application's whole traceback.
WORKER_LINE_LIMIT = 1024 * 1024
# What the loader may say: a generation of some ten thousand mounts.
LOADER_LIMIT = 16 * 1024 * 1024
READ_SIZE = 64 * 1024
# More than a socket's buffer holds, so that what a dead worker left behind is read in one go; bounded,
# so that one that never stops talking does not keep the supervisor from its work.
READS_AT_ONCE = 32
# Descriptors that travel with one piece of a message: the kernel takes 253 (SCM_MAX_FD, unix(7)).
DESCRIPTORS_AT_ONCE = 250
# Messages that may wait for a worker to read. A reload is three and a late neighbour two; whoever lets so many wait
# has not read for minutes.
WAITING_LIMIT = 64
# Seconds until descriptors are sent once more when too many are on their way to processes of this user (ETOOMANYREFS,
# unix(7)): nothing tells when they have arrived. A worker takes its own some 0.1 s after its start.
DESCRIPTORS_WAIT = 0.01
# Bytes of stacks that are kept: some thousand frames.
STACKS_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Garbage:
    """In place of a message: the worker said what no worker says."""

    reason: str  # as "worker 1 (pid 123) ..." goes on


class _Waiting:
    """A message on its way: what is left of its bytes, and of the descriptors that go with their beginning."""

    def __init__(self, message: ToWorker, descriptors: Sequence[int]) -> None:
        self._bytes = memoryview(encode(message))
        self._descriptors = list(descriptors)
        self._are_ours = False

    def send(self, channel: socket.socket) -> None:
        """Send all that is left; raises BlockingIOError when the channel takes no more, or OSError."""
        while self._bytes:
            batch = self._descriptors[:DESCRIPTORS_AT_ONCE]
            # A piece is received with all of its descriptors or not at all. So those that do not fit beside
            # the first byte go with the next ones, and all have arrived when the line is complete.
            is_last = len(batch) == len(self._descriptors)
            piece = self._bytes if is_last else self._bytes[:1]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", batch))] if batch else []
            self._bytes = self._bytes[channel.sendmsg([piece], rights) :]
            if self._are_ours:
                _close(batch)
            del self._descriptors[: len(batch)]

    def keep(self) -> None:
        """Make the descriptors ours, so that whoever handed them in may close his; raises OSError."""
        kept: list[int] = []
        try:
            kept.extend(map(os.dup, self._descriptors))
        except OSError:
            _close(kept)
            raise
        self._descriptors, self._are_ours = kept, True

    def close(self) -> None:
        """Close the descriptors that are ours."""
        if self._are_ours:
            _close(self._descriptors)


class WorkerHandle:
    """A worker, the channel to it, and the file it writes its stacks to."""

    def __init__(self, number: int, process: Process, channel: socket.socket, stacks: int) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.is_open = True  # the worker has not hung up
        self._stacks = stacks
        self._incoming = b""
        self._waiting: deque[_Waiting] = deque()

    @property
    def wants_write(self) -> bool:
        """Whether a message waits until the worker reads."""
        return self.is_open and bool(self._waiting)

    def send(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        """Send a message and its descriptors as far as the worker takes them now; `flush` sends the rest.

        The descriptors stay the caller's, who may close them. A worker that cannot be told what it has to know,
        because it does not read or there are too many descriptors, is hung up on.
        """
        waiting = _Waiting(message, descriptors)
        self._waiting.append(waiting)
        self.flush()
        if not self._waiting:
            return
        try:
            waiting.keep()
        except OSError:
            self._hang_up()
        if len(self._waiting) > WAITING_LIMIT:
            self._hang_up()

    def flush(self) -> None:
        """Send what waits, as far as the worker takes it."""
        try:
            while self._waiting:
                self._waiting[0].send(self.channel)
                self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:
                time.sleep(DESCRIPTORS_WAIT)
            else:
                # The worker has hung up, as a rule: what there is to say about it comes with its end.
                self._hang_up()

    def receive(self) -> list[FromWorker | Garbage]:
        """Return what has come; `is_open` turns false when it was the last, as it is after Garbage."""
        said: list[FromWorker | Garbage] = []
        for _ in range(READS_AT_ONCE):
            try:
                data = self.channel.recv(READ_SIZE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.is_open = False
                break
            *lines, self._incoming = (self._incoming + data).split(b"\n")
            said += map(_understand, lines)
            if len(self._incoming) > WORKER_LINE_LIMIT:
                said.append(Garbage(f"sent a message above {WORKER_LINE_LIMIT // 1024} KiB"))
            if any(isinstance(one, Garbage) for one in said):
                self.is_open = False
                break
        return said

    def request_stacks(self) -> None:
        """Have a worker that has been ready write the stacks of its threads down; before, the signal would end it."""
        os.ftruncate(self._stacks, 0)
        self.process.signal(signal.SIGUSR2)

    def take_stacks(self) -> str:
        """Return what the worker has written down, "" when it has not, as text of several lines; it may hold anything.

        The end is kept of what is too long: the main thread, which runs the event loop, comes last.
        """
        size = os.fstat(self._stacks).st_size
        start = max(0, size - STACKS_LIMIT)
        text = os.pread(self._stacks, STACKS_LIMIT, start).decode("utf-8", "backslashreplace")
        lines = text.splitlines()[1 if start else 0 :]  # the first one is cut through
        return "\n".join([*(["..."] if start else []), *lines])

    def close(self) -> None:
        """Close the descriptors; the process must have been reaped."""
        self._forget_waiting()
        self.process.close()
        self.channel.close()
        os.close(self._stacks)

    def _forget_waiting(self) -> None:
        for waiting in self._waiting:
            waiting.close()
        self._waiting.clear()

    def _hang_up(self) -> None:
        """End the channel, for both sides to see; what has come already can still be received."""
        self._forget_waiting()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)


def _understand(line: bytes) -> FromWorker | Garbage:
    message = _decode(line)
    if isinstance(message, FromWorker):
        return message
    return Garbage(f"sent what is no message of its: {line[:80]!r}")


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _decode(line: bytes) -> Message | None:
    try:
        return decode(line)
    except ValueError:
        return None


class LoaderHandle:
    """The program that reads the configuration, and what it has said so far."""

    wants_write = False  # what it has to be told, it finds in its standard input

    def __init__(self, process: Process, output: int) -> None:
        """Hold a process, and the descriptor of its standard output."""
        self.process = process
        self.channel = output
        self.is_open = True  # it may say more
        self.deadline: float | None = None  # when it is given up
        self._said = b""

    def receive(self) -> None:
        """Take in what it has said."""
        while self.is_open:
            try:
                data = os.read(self.channel, READ_SIZE)
            except BlockingIOError:
                return
            self._said += data
            self.is_open = bool(data)
            if len(self._said) > LOADER_LIMIT:
                self.is_open = False
                self.process.kill()

    def outcome(self, status: int) -> Loaded | LoadFailed:
        """Return what it found out, now that it ended with `status`."""
        message = _decode(self._said)
        if isinstance(message, Loaded | LoadFailed):
            return message
        if status < 0 and len(self._said) <= LOADER_LIMIT:  # it was not we
            return LoadFailed(
                f"the configuration could not be read: the loader {explain_exit(status)} before it was done"
            )
        return LoadFailed(
            f"the configuration could not be read: the loader {describe_exit(status)} without a result; "
            "this is a bug of serverd, what the loader wrote to stderr may tell more"
        )

    def close(self) -> None:
        """Close the descriptors; the process must have been reaped."""
        self.process.close()
        os.close(self.channel)
