"""The worker's end of the line to its supervisor: messages in, messages out, and its end as a message."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from serverd.messages import Message, decode, encode

__all__ = ["Channel"]

# The supervisor reads all the time; one that has not for so long is gone or stuck, and not worth waiting for.
_SEND_TIMEOUT = 5.0
_READ_SIZE = 64 * 1024


class Channel:
    """Messages over one stream socket."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.settimeout(_SEND_TIMEOUT)
        self._buffer = b""

    def receive(self) -> Message | None:
        """Wait for a message; None when the supervisor has gone."""
        self._socket.settimeout(None)
        try:
            while b"\n" not in self._buffer:
                data = self._socket.recv(_READ_SIZE)
                if not data:
                    return None
                self._buffer += data
        finally:
            self._socket.settimeout(_SEND_TIMEOUT)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return decode(line)

    def send(self, message: Message) -> None:
        """Send a message; a supervisor that has gone is noticed when reading."""
        with contextlib.suppress(OSError):
            self._socket.sendall(encode(message))

    def watch(self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Message | None], None]) -> None:
        """Call `on_message` for each message from now on, and once with None when the supervisor has gone."""

        def on_readable() -> None:
            try:
                data = self._socket.recv(_READ_SIZE)
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(self._socket)
                on_message(None)
                return
            self._buffer += data
            deliver()

        def deliver() -> None:
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                on_message(decode(line))

        loop.add_reader(self._socket, on_readable)
        deliver()  # what came together with the message before
