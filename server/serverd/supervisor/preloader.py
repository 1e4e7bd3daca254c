"""The preloader of a generation as the supervisor holds it: it has imported the applications, and forks workers.

A worker that is forked from it shares the memory of everything that was imported. It is forked twice, so that
the supervisor, which takes in orphans, becomes its parent: it lives, ends and is reaped like any other. The
other side is `worker/preloader`. `children` owns the handles.
"""

from __future__ import annotations

import select
import socket
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
        """Return how the import went, once it has said so."""
        message = self._read()
        if isinstance(message, Preloaded):
            self.has_imported = self.can_fork = True
            return message
        return message if isinstance(message, Failed) else None

    def fork(self, title: str, descriptors: Sequence[int]) -> int:
        """Return the pid of a new worker that has the channel and the file for stacks that are given.

        Waits for it. Raises OSError when there is none.
        """
        if not self.can_fork:
            raise OSError("the preloader has ended")
        try:
            socket.send_fds(self.channel, [encode(Fork(title))], list(descriptors))
            answer = self._read(FORK_PATIENCE)
        except OSError:
            answer = None
        if not isinstance(answer, Forked):
            self.can_fork = False
            self.process.kill()
            raise OSError("the preloader does not answer")
        if not answer.pid:
            raise OSError(answer.reason)
        return answer.pid

    def _read(self, patience: float = 0.0) -> Message | None:
        """Return a message; None when none comes within `patience` seconds, or it is none."""
        readable = select.poll()
        readable.register(self.channel, select.POLLIN)
        while b"\n" not in self._incoming:
            if not readable.poll(patience * 1000):
                return None
            data = self._receive_once()
            if not data or len(self._incoming) > LINE_LIMIT:
                self.is_open = self.can_fork = False
                return None
            self._incoming += data
        line, _, self._incoming = self._incoming.partition(b"\n")
        try:
            return decode(line)
        except (ValueError, RecursionError):
            self.is_open = self.can_fork = False
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
