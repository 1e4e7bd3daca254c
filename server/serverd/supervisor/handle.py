"""A child process as the supervisor holds it: its process, what it says, and when it has ended.

It reads and writes without blocking and understands nothing of what it carries: what a message
means is decided in `policy`. `supervisor` owns the handles and waits on their descriptors.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from serverd.messages import Draining, Failed, Loaded, LoadFailed, Message, Ready, Starting, decode, encode
from serverd.supervisor.spawn import Process
from serverd.supervisor.wording import describe_exit

__all__ = ["Garbage", "LoaderHandle", "WorkerHandle"]

# What may wait of one message of a worker, which may hold an application's whole traceback.
WORKER_LINE_LIMIT = 1024 * 1024
# What the loader may say: a generation of some ten thousand mounts.
LOADER_LIMIT = 16 * 1024 * 1024
READ_SIZE = 64 * 1024
# More than a socket's buffer holds, so that what a dead worker left behind is read in one go; bounded,
# so that one that never stops talking does not keep the supervisor from its work.
READS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Garbage:
    """In place of a message: the worker said what no worker says."""

    reason: str  # as "worker 1 (pid 123) ..." goes on


class WorkerHandle:
    """A worker and the channel to it."""

    def __init__(self, number: int, process: Process, channel: socket.socket) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.is_open = True  # the worker has not hung up
        self._incoming = b""
        self._outgoing = b""

    @property
    def wants_write(self) -> bool:
        """Whether a message waits until the worker reads."""
        return self.is_open and bool(self._outgoing)

    def send(self, message: Message) -> None:
        """Send a message as far as the worker takes it now; `flush` sends the rest."""
        self._outgoing += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the worker takes it."""
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self.channel.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            # The worker has hung up: what there is to say about it comes with its end.
            self._outgoing = b""

    def receive(self) -> list[Starting | Ready | Draining | Failed | Garbage]:
        """Return what has come; `is_open` turns false when it was the last, as it is after Garbage."""
        said: list[Starting | Ready | Draining | Failed | Garbage] = []
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

    def close(self) -> None:
        """Close the descriptors; the process must have been reaped."""
        self.process.close()
        self.channel.close()


def _understand(line: bytes) -> Starting | Ready | Draining | Failed | Garbage:
    message = _decode(line)
    if isinstance(message, Starting | Ready | Draining | Failed):
        return message
    return Garbage(f"sent what is no message of its: {line[:80]!r}")


def _decode(line: bytes) -> Message | None:
    try:
        return decode(line)
    except (ValueError, RecursionError):  # the latter from json, which follows any nesting
        return None


class LoaderHandle:
    """The program that reads the configuration, and what it has said so far."""

    def __init__(self, process: Process, output: int) -> None:
        self.process = process
        self.output = output
        self.is_open = True  # it may say more
        self._said = b""

    def receive(self) -> None:
        """Take in what it has said."""
        while self.is_open:
            try:
                data = os.read(self.output, READ_SIZE)
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
        return LoadFailed(
            f"the configuration could not be read: the loader {describe_exit(status)} without a result; "
            "this is a bug of serverd, what the loader wrote to stderr may tell more"
        )

    def close(self) -> None:
        """Close the descriptors; the process must have been reaped."""
        self.process.close()
        os.close(self.output)
