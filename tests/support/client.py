"""A raw HTTP/1.1 client: sends exactly the bytes it is given and reads exactly one response, in bounded time.

For tests that must see the wire. It follows no redirect, keeps no pool and never retries.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.server import Address

__all__ = ["Client", "ConnectionEnded", "Response", "get"]

TIMEOUT = 15.0  # seconds for one response


class ConnectionEnded(Exception):
    """The server closed the connection before the response was complete; `received` is how far it got."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"connection closed after {received[-200:]!r}")
        self.received = received


@dataclass(slots=True)
class Response:
    """One response with the 1xx responses that came before it."""

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[Response] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the field's value, several joined by a comma, or None."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    @property
    def closes(self) -> bool:
        """Whether the server announced that it closes the connection after this response."""
        options = [option.strip().lower() for option in (self.header("connection") or "").split(",")]
        return "close" in options or (self.version == "HTTP/1.0" and "keep-alive" not in options)


class Client:
    """One connection."""

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.settimeout(timeout)
                self.socket.connect(address)
            except BaseException:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout)
        self._buffer = bytearray()
        self._deadline = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send the bytes as they are."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Response:
        """Send a well-formed request and read its response."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if not any(line.lower().startswith("host:") for line in lines):
            lines.insert(1, "Host: localhost")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Read one response to `method`, and not a byte more.

        Raises ConnectionEnded, or TimeoutError when it is not complete in time.
        """
        self._deadline = time.monotonic() + self.timeout
        informational = []
        while True:
            response = self._head()
            if response.status >= 200 or response.status == 101:
                break
            informational.append(response)
        response.informational = informational
        self._read_body(response, method)
        return response

    def head(self) -> Response:
        """Read the head of a final response and leave its body to `read`."""
        self._deadline = time.monotonic() + self.timeout
        return self._head()

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        self._deadline = time.monotonic() + self.timeout
        return self._exactly(size)

    def ended(self) -> bool:
        """Wait for the server's next act: True if it closes the connection, False if it sends something."""
        self._deadline = time.monotonic() + self.timeout
        if self._buffer:
            return False
        try:
            self._receive()
        except (ConnectionEnded, ConnectionResetError):
            return True
        return False

    def _read_body(self, response: Response, method: str) -> None:
        length, coding = response.header("content-length"), response.header("transfer-encoding")
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if coding is not None:
            response.body, response.trailers = self._chunks()
        elif length is not None:
            response.body = self._exactly(int(length))
        else:
            response.body = self._to_the_end()

    def _head(self) -> Response:
        version, status, reason = [*self._line().split(" ", 2), ""][:3]
        return Response(int(status), reason, version, self._fields())

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip()))
        return fields

    def _chunks(self) -> tuple[bytes, list[tuple[str, str]]]:
        parts = []
        while size := int(self._line().partition(";")[0], 16):
            parts.append(self._exactly(size))
            assert self._exactly(2) == b"\r\n", "a chunk does not end where its size says"
        return b"".join(parts), self._fields()

    def _line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line.decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _to_the_end(self) -> bytes:
        try:
            while True:
                self._receive()
        except ConnectionEnded as ended:
            self._buffer.clear()
            return ended.received

    def _receive(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"no complete response in {self.timeout} s, only {bytes(self._buffer[-200:])!r}")
        self.socket.settimeout(remaining)
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionEnded(bytes(self._buffer))
        self._buffer += data


def get(address: Address, target: str = "/", headers: Iterable[tuple[str, str]] = ()) -> Response:
    """GET `target` over a connection of its own."""
    with Client(address) as client:
        return client.request("GET", target, [*headers, ("Connection", "close")])
