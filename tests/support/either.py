"""One client for HTTP/1.1 and HTTP/2, over a socket, for tests of what a server promises whatever the protocol.

It asks, and it holds a request in the middle of its response for as long as a test wants. What only one of the
protocols has is for `client.Client` and `http2_client.Http2Client`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from tests.support.client import Client, Response
from tests.support.http2 import Answer
from tests.support.http2_client import Http2Client
from tests.support.server import Address

__all__ = ["VERSIONS", "Either", "ask", "both", "connect"]

VERSIONS = ("1.1", "2")
"""As the access log and the ASGI scope call them."""

Headers = Iterable[tuple[str, str]]


class Either:
    """One connection by one of the protocols."""

    version: str
    socket_client: Client | Http2Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket_client.socket.close()

    def request(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Response:
        """Send a request and return its whole response."""
        raise NotImplementedError

    def begin(self, target: str = "/echo") -> None:
        """Bring a request to the application `echo` into the middle of its body, and of its response."""
        raise NotImplementedError

    def more(self, data: bytes) -> None:
        """Send a part of that body and wait until it has come back."""
        raise NotImplementedError

    def end(self) -> None:
        """Send the end of that body and wait for the end of the response."""
        raise NotImplementedError

    def ended(self) -> bool:
        """Wait until the server has ended the connection; False when it sends a response instead."""
        raise NotImplementedError


class _Over1(Either):
    version = "1.1"

    def __init__(self, address: Address) -> None:
        self.socket_client = self._client = Client(address)

    def request(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Response:
        return self._client.request(method, target, headers, body)

    def begin(self, target: str = "/echo") -> None:
        self._client.send(f"POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        self._client.send(b"5\r\nfirst\r\n")
        assert self._client.head().status == 200
        assert self._client.read(10) == b"5\r\nfirst\r\n"

    def more(self, data: bytes) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        self._client.send(chunk)
        assert self._client.read(len(chunk)) == chunk

    def end(self) -> None:
        self._client.send(b"0\r\n\r\n")
        assert self._client.read(5) == b"0\r\n\r\n"

    def ended(self) -> bool:
        return self._client.ended()


class _Over2(Either):
    version = "2"
    _answer: Answer

    def __init__(self, address: Address) -> None:
        self.socket_client = self._client = Http2Client(address)

    def request(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Response:
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        answer = self._client.request(method, target, fields, body)
        assert answer.ended, f"reset with {answer.reset}"
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.fields]
        return Response(answer.status, "", "HTTP/2", texts, answer.body)

    def begin(self, target: str = "/echo") -> None:
        self._answer = self._client.open("POST", target, end=False)
        self.more(b"first")
        assert self._answer.status == 200

    def more(self, data: bytes) -> None:
        self._client.upload(self._answer, data, end=False)
        answer = self._answer
        self._client.wait(lambda: len(answer.body) >= len(data) or answer.ended or answer.reset is not None)
        assert self._answer.take() == data

    def end(self) -> None:
        self._client.upload(self._answer, b"")
        self._client.finish(self._answer)
        assert (self._answer.body, self._answer.ended) == (b"", True)

    def ended(self) -> bool:
        self._client.wait_for_end()
        return True


def connect(version: str, address: Address) -> Either:
    """Connect a client that speaks this version, by prior knowledge."""
    return {"1.1": _Over1, "2": _Over2}[version](address)


@contextmanager
def both(address: Address) -> Iterator[list[Either]]:
    """Connect a client of each version."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(version, address)) for version in VERSIONS]


def ask(version: str, address: Address, target: str = "/", headers: Headers = ()) -> Response:
    """GET `target` over a connection of its own."""
    with connect(version, address) as client:
        return client.request("GET", target, headers)
