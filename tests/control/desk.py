"""A control server with a selector of its own, stepped by hand or turned by a thread, and raw clients for it."""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serverd.control.requests import Request
from serverd.control.server import ControlServer

TIMEOUT = 10.0  # seconds for anything that is awaited here


class Desk:
    """A control server that keeps what is asked; `step` does what the supervisor's loop does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.selector = selectors.DefaultSelector()
        self.asked: list[tuple[int, Request]] = []
        self.server = ControlServer(self.selector, self.on_request)
        self.answer: Callable[[ControlServer, int, Request], None] = lambda server, number, request: None
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self.server.open(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.close()
        assert not self.selector.get_map(), "the server left something registered"
        self.selector.close()
        for sock in self._sockets:
            sock.close()

    def on_request(self, number: int, request: Request) -> None:
        self.asked.append((number, request))
        self.answer(self.server, number, request)

    def step(self, timeout: float | None = TIMEOUT) -> bool:
        """Wait for something and do it; tell whether there was anything."""
        ready = self.selector.select(timeout)
        for key, mask in ready:
            key.data(mask)
        return bool(ready)

    def settle(self) -> None:
        """Do all there is to do; what a client of this process has sent has arrived."""
        while self.step(0):
            pass

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        self._sockets.append(sock)
        sock.settimeout(TIMEOUT)
        sock.connect(self.path)
        return sock

    def send(self, sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)
        self.settle()

    def is_watching(self) -> int:
        """Return how many sockets the selector waits for."""
        return len(self.selector.get_map())


def received(sock: socket.socket) -> list[dict[str, Any]]:
    """Return the replies that have arrived."""
    sock.setblocking(False)
    try:
        data = sock.recv(1 << 20)
    except BlockingIOError:
        return []
    finally:
        sock.settimeout(TIMEOUT)
    return [json.loads(line) for line in data.splitlines()]


def is_ended(sock: socket.socket) -> bool:
    """Tell whether the server has left the client."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:  # it left without reading everything
        return True
    finally:
        sock.settimeout(TIMEOUT)


class Service:
    """A `Desk` that a thread turns, for clients that block; leaving the block ends the server."""

    def __init__(self, path: Path, answer: Callable[[ControlServer, int, Request], None]) -> None:
        self.desk = Desk(path)
        self.desk.answer = answer
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._run, name="control server")
        self._stopped = False

    @property
    def path(self) -> str:
        return self.desk.path

    def __enter__(self) -> Self:
        self.desk.__enter__()
        self.desk.selector.register(self._stop, selectors.EVENT_READ, self._on_stop)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._stopping, b".")
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        os.close(self._stop)
        os.close(self._stopping)

    def _on_stop(self, _: int) -> None:
        self._stopped = True

    def _run(self) -> None:
        while not self._stopped:
            self.desk.step(None)
        self.desk.selector.unregister(self._stop)
        self.desk.__exit__(None, None, None)
