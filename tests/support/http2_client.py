"""An HTTP/2 client over a socket, on the `h2` library, in bounded time; for tests that must see the wire."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tests.support.http2 import Answer, Http2Peer
from tests.support.server import Address

__all__ = ["Http2Client"]

TIMEOUT = 15.0  # seconds for anything


class Http2Client(Http2Peer):
    """One connection, by prior knowledge."""

    def __init__(
        self, address: Address, *, prefix: bytes = b"", settings: dict[int, int] | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Connect; `prefix` comes before the preface."""
        self.timeout = timeout
        self.ended = False  # the server has
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout)
        self.begin(settings)
        self.socket.sendall(prefix + self.client.data_to_send())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def wait(self, holds: Callable[[], bool]) -> None:
        """Exchange what there is until something holds; raises TimeoutError, or ConnectionError at the end."""
        deadline = time.monotonic() + self.timeout
        while True:
            data = self.client.data_to_send()
            if data:
                self.socket.settimeout(self.timeout)
                self.socket.sendall(data)
            if holds():
                return
            if self.ended:
                raise ConnectionError("the server has ended the connection")
            self._receive(deadline)

    def exchange(self) -> None:
        """Send what there is."""
        self.wait(lambda: True)

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not within {self.timeout} s")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        if data:
            self.hear(data)
            self.raw = b""

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        fields: Iterable[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
    ) -> Answer:
        """Send a request and wait for its whole response, or for a reset."""
        answer = self.open(method, path, fields, end=body is None)
        if body is not None:
            self.upload(answer, body)
        return self.finish(answer)

    def finish(self, answer: Answer) -> Answer:
        """Wait for the end of a response."""
        self.wait(lambda: answer.ended or answer.reset is not None)
        return answer

    def upload(self, answer: Answer, body: bytes, end: bool = True) -> None:
        """Send a part of a body, as the windows open, unless the response comes first."""
        while True:
            if body:
                self.wait(lambda: answer.ended or answer.reset is not None or bool(self.allowed(answer, body)))  # noqa: B023
            if answer.ended or answer.reset is not None:
                return
            size = self.allowed(answer, body)
            is_last = size == len(body)
            self.client.send_data(answer.id, body[:size], end_stream=end and is_last)
            body = body[size:]
            if is_last:
                self.wait(lambda: True)
                return

    def wait_for_end(self) -> None:
        """Wait until the server ends the connection."""
        self.wait(lambda: self.ended)
