"""The preloader of a generation as the supervisor holds it: it has imported the applications, and forks workers.

A worker that is forked from it shares the memory of everything that was imported. It is forked twice, so that
the supervisor, which takes in orphans, becomes its parent: it lives, ends and is reaped like any other. The
other side is `worker/preloader`. `children` owns the handles.

The applications' code runs in it, as whoever the workers are, and the supervisor may be root: nothing that it
says is believed which could turn the supervisor against another process.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Sequence

from serverd.generation import Generation
from serverd.messages import Failed, Fork, Forked, Message, Preload, Preloaded, decode, encode
from serverd.supervisor.spawn import Process

__all__ = ["PreloaderHandle"]

# Seconds for a worker to be forked, during which the supervisor waits. It takes some 10 ms for each GB.
FORK_PATIENCE = 5.0
# What it may say at once: an application's whole traceback.
LINE_LIMIT = 1024 * 1024
READ_SIZE = 64 * 1024


class PreloaderHandle:
    """A preloader and the channel to it."""

    def __init__(self, generation: Generation, process: Process, channel: socket.socket) -> None:
        self.generation = generation
        self.process = process
        self.channel = channel
        self.is_open = True  # it may say more
        self.is_wanted = True
        self.has_imported = False
        self.can_fork = False  # it has imported the applications, and is there
        self._incoming = b""
        self._outgoing = encode(Preload(generation))

    @property
    def wants_write(self) -> bool:
        """Whether the generation is still being sent to it."""
        return self.is_open and bool(self._outgoing)

    def flush(self) -> None:
        """Send it the generation, as far as it takes it."""
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self.channel.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing = b""  # it has ended, which is told elsewhere

    def receive(self) -> Preloaded | Failed | None:
        """Return how the import went, once it has said so; whoever says anything else is ended."""
        message = self._read(0.0)
        if message is None:
            return None
        if self.has_imported or not isinstance(message, Preloaded | Failed):
            self._give_up()
            return None
        self.has_imported = self.can_fork = isinstance(message, Preloaded)
        return message

    def fork(self, title: str, descriptors: Sequence[int]) -> int:
        """Return the pid of a new worker, a child of ours that has what `Fork` carries.

        Waits for it. Raises OSError when there is none.
        """
        if not self.can_fork:
            raise OSError("the preloader has ended")
        answer = None
        with contextlib.suppress(OSError):
            if not self._has_spoken():
                socket.send_fds(self.channel, [encode(Fork(title))], list(descriptors))
                answer = self._read(FORK_PATIENCE)
        if not isinstance(answer, Forked):
            self._give_up()
            raise OSError("the preloader does not answer")
        if not answer.pid:
            raise OSError(answer.reason)
        if not _is_our_child(answer.pid):
            self._give_up()
            raise OSError("the preloader names a process that is no child of the supervisor")
        return answer.pid

    def _give_up(self) -> None:
        """End it, and let it fork nothing more."""
        self.can_fork = False
        self.process.kill()

    def _has_spoken(self) -> bool:
        """Return whether it has said something unasked, which would be taken for its next answer, or has ended."""
        return bool(self._incoming) or self._is_readable_within(0.0)

    def _is_readable_within(self, seconds: float) -> bool:
        readable = select.poll()
        readable.register(self.channel, select.POLLIN)
        return bool(readable.poll(max(seconds, 0.0) * 1000))

    def _read(self, patience: float) -> Message | None:
        """Return a message; None when none is complete within `patience` seconds; `is_open` tells whether one may come.

        What is no message ends it.
        """
        deadline = time.monotonic() + patience
        while b"\n" not in self._incoming:
            if not self._is_readable_within(deadline - time.monotonic()):
                return None
            data = self._receive_once()
            if not data:
                self.is_open = self.can_fork = False
                return None
            self._incoming += data
            if len(self._incoming) > LINE_LIMIT:
                self._incoming = b""
                self._give_up()
                return None
        line, _, self._incoming = self._incoming.partition(b"\n")
        try:
            return decode(line)
        except ValueError:
            self._give_up()
            return None

    def _receive_once(self) -> bytes:
        try:
            return self.channel.recv(READ_SIZE)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the descriptors; the process must have been reaped."""
        self.process.close()
        self.channel.close()


def _is_our_child(pid: int) -> bool:
    """Return whether `pid` is a child of this process, which lives or has not been reaped."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):  # ECHILD; and what cannot be a pid at all
        return False
    return True
