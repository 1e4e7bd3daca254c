"""What an exchange may ask of the wire: one request's end of it, whatever the protocol.

HTTP/1 is one stream at a time, HTTP/2 owns many. The stream's owner in turn calls the exchange's
`deliver_body(data, end)` and `deliver_disconnect()`; nothing else crosses. `send_file` is there for
`http.response.pathsend`: only the wire knows whether the kernel can do it.
"""

from __future__ import annotations

from typing import Protocol

from serverd.protocol.head import Fields

__all__ = ["ByteStream", "Stream"]


class ByteStream(Protocol):
    """A stream of bytes both ways: what a WebSocket asks of the wire, and the part of every stream that is."""

    @property
    def closed(self) -> bool:
        """Whether the peer is gone: nothing that is sent arrives."""

    @property
    def blocked(self) -> bool:
        """Whether the peer reads too slowly: await `writable` before sending more."""

    def send_body(self, data: bytes, end: bool) -> None:
        """Send a part of the body; with `end` it is complete."""

    def resume_reading(self) -> None:
        """Say that somebody waits for the peer: for more of what it sends, or for its disconnect."""

    def abort(self) -> None:
        """End what is incomplete so that the peer notices that it is incomplete."""

    async def writable(self) -> None:
        """Wait until the peer has read enough for more to be sent, or has gone."""


class Stream(ByteStream, Protocol):
    """One request's end of the wire."""

    @property
    def takes_trailers(self) -> bool:
        """After send_headers: whether send_trailers can carry anything."""

    def send_informational(self, status: int, headers: Fields) -> None:
        """Send an interim response, 100 or 103."""

    def send_headers(self, status: int, headers: Fields, end: bool) -> None:
        """Send the head of the final response; held back until the first body bytes unless `end`."""

    def send_response(self, status: int, headers: Fields, body: bytes) -> None:
        """Send a whole final response, of which `headers` announce the length."""

    def send_trailers(self, headers: Fields) -> None:
        """Send the trailer section; the response is complete."""

    async def send_file(self, fd: int, count: int) -> None:
        """Send `count` bytes from the current position of the open file `fd` as a part of the body.

        Raises ClientDisconnected, or OSError from reading the file.
        """

    def send_upgrade(self, headers: Fields) -> ByteStream:
        """Send the head of a response that makes this a stream of bytes both ways, and return that.

        101 in HTTP/1.1 (RFC 6455 §4.2.2), 200 in HTTP/2 (RFC 8441 §5).
        """
