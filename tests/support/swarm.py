"""A thousand slow clients in one thread, each of which sees for itself when and how the server ends its connection."""

from __future__ import annotations

import resource
import select
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Slow", "Swarm", "allow_descriptors"]

TICK = 0.5  # s between two bytes of one that dribbles


def allow_descriptors(count: int) -> bool:
    """Let this process and its children have so many descriptors; return whether that is possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            return False
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return True


@dataclass(slots=True, eq=False)
class Slow:
    """One slow client."""

    kind: str
    begin: bytes  # sent when all are connected
    dribble: bytes = b""  # sent again and again
    reads: bool = True
    began: float = 0.0
    ended: float = 0.0  # 0: it still has its connection
    answer: bytes = b""
    socket: socket.socket | None = None

    @property
    def lasted(self) -> float:
        """How long the server has kept it, in seconds."""
        return self.ended - self.began


class Swarm:
    """Connects all of them, and from `begin` on lets them be slow until the block ends or all have gone."""

    def __init__(self, address: tuple[str, int], clients: list[Slow]) -> None:
        self.clients = clients
        self._address = address
        self._by_fd: dict[int, Slow] = {}
        self._poll = select.poll()
        self._stopped = threading.Event()
        self._all_gone = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        for client in self.clients:
            sock = socket.socket()
            if not client.reads:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            sock.connect(self._address)
            client.socket, client.began = sock, time.monotonic()
            self._by_fd[sock.fileno()] = client
        return self

    def begin(self) -> None:
        """Have every one of them send what it begins with, and let time do the rest."""
        for fd, client in self._by_fd.items():
            assert client.socket is not None
            client.socket.sendall(client.begin)
            client.socket.setblocking(False)
            # Errors and hang-ups are told in any case; RDHUP: the server has ended its half, behind what is not read.
            self._poll.register(fd, select.POLLIN if client.reads else select.POLLRDHUP)
        self._thread = threading.Thread(target=self._run, name="swarm")
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        for client in self._by_fd.values():
            assert client.socket is not None
            client.socket.close()

    @property
    def left(self) -> int:
        """How many still have their connection."""
        return len(self._by_fd)

    def wait_until_gone(self, timeout: float) -> None:
        """Wait until the server has ended all of them."""
        assert self._all_gone.wait(timeout), f"{self.left} are still there after {timeout} s: {self._kinds_left()}"

    def _kinds_left(self) -> dict[str, int]:
        kinds = [client.kind for client in list(self._by_fd.values())]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def _run(self) -> None:
        due = time.monotonic() + TICK
        while self._by_fd and not self._stopped.is_set():
            for fd, events in self._poll.poll(max(0.0, min(due - time.monotonic(), 0.1)) * 1000):
                self._on_event(fd, events)
            if time.monotonic() >= due:
                due += TICK
                for fd, client in list(self._by_fd.items()):
                    self._dribble(fd, client)
        if not self._by_fd:
            self._all_gone.set()

    def _on_event(self, fd: int, events: int) -> None:
        client = self._by_fd[fd]
        assert client.socket is not None
        if client.reads:
            try:
                data = client.socket.recv(65536)
            except OSError:
                data = b""
            client.answer += data
            if data:
                return
        self._end(fd, client)

    def _dribble(self, fd: int, client: Slow) -> None:
        assert client.socket is not None
        if client.dribble:
            try:
                client.socket.send(client.dribble)
            except OSError:
                self._end(fd, client)

    def _end(self, fd: int, client: Slow) -> None:
        assert client.socket is not None
        client.ended = time.monotonic()
        self._poll.unregister(fd)
        del self._by_fd[fd]
        client.socket.close()
