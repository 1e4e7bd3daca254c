"""The worker's end of the line to its supervisor: messages in, messages out, and its end as a message.

Descriptors come beside the messages that need them (SCM_RIGHTS, unix(7)): they arrive at the latest with the
end of the line they belong to and wait in order until it is complete. The event loop reads; it and the watchdog's
thread write.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable

from serverd.messages import Message, decode, descriptors, encode
from serverd.parent import is_orphan

__all__ = ["Channel", "close_all"]

log = logging.getLogger("serverd.worker")

OnMessage = Callable[[Message | None, list[int]], None]

# The supervisor reads all the time; one that has not for so long is gone or stuck, and not worth waiting for.
_SEND_TIMEOUT = 5.0
_READ_SIZE = 64 * 1024
# Linux takes no more with one sendmsg (SCM_MAX_FD), and gives the descriptors of one with each recvmsg.
_DESCRIPTORS_AT_ONCE = 253
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # elsewhere it is set as soon as they are here


class _NoRoomError(ValueError):
    """Descriptors came that the process has no room for."""


class Channel:
    """Messages over one stream socket."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self._buffer = b""
        self._descriptors: deque[int] = deque()  # arrived, and not yet given out with their message
        self._unsent = b""
        self._sending = threading.Lock()

    @property
    def has_ended(self) -> bool:
        """Whether the supervisor has gone; any thread may ask."""
        return self._socket.fileno() < 0 or is_orphan(self._socket.fileno())

    def close(self) -> None:
        """Close the channel, and the descriptors that nobody has asked for."""
        self._socket.close()
        close_all(self._descriptors)
        self._descriptors.clear()

    # In.

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for a message and return it with its descriptors; None when the supervisor has gone.

        Raises ValueError for what is no message, or one whose descriptors are missing.
        """
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        while b"\n" not in self._buffer:
            readable.poll()
            if not self._read():
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return self._understand(line)

    def watch(self, loop: asyncio.AbstractEventLoop, on_message: OnMessage) -> None:
        """Call `on_message` for each message from now on, and once with None when the supervisor has gone.

        Whoever is called owns the descriptors that come along. A supervisor that cannot be understood any more is
        as good as gone.
        """

        def on_readable() -> None:
            try:
                if self._read():
                    deliver()
                    return
            except _NoRoomError as error:
                log.error("leaving: %s", error)
            except ValueError:
                log.exception("what the supervisor says cannot be understood: this is a bug of serverd")
            loop.remove_reader(self._socket)
            on_message(None, [])

        def deliver() -> None:
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                on_message(*self._understand(line))

        loop.add_reader(self._socket, on_readable)
        deliver()  # what came together with the message before

    def _read(self) -> bool:
        """Take in what has come; return False at the end."""
        room = socket.CMSG_SPACE(_DESCRIPTORS_AT_ONCE * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ_SIZE, room, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                self._descriptors.extend(received)
        if not _CLOSE_ON_EXEC:
            for fd in self._descriptors:
                os.set_inheritable(fd, False)
        if flags & socket.MSG_CTRUNC:
            # Which ones are lost cannot be told: what remains would be taken for something else.
            raise _NoRoomError(
                "descriptors were lost, too many files are open"
                " (expected a higher limit, LimitNOFILE= of systemd or ulimit -n)"
            )
        self._buffer += data
        return bool(data)

    def _understand(self, line: bytes) -> tuple[Message, list[int]]:
        message = decode(line)
        count = descriptors(message)
        if count > len(self._descriptors):
            raise ValueError(f"{type(message).__name__} came with {len(self._descriptors)} of {count} descriptors")
        return message, [self._descriptors.popleft() for _ in range(count)]

    # Out.

    def send(self, message: Message) -> None:
        """Send a message, waiting while the supervisor does not read; one that has gone is noticed when reading."""
        with self._sending:
            self._unsent += encode(message)
            self._flush(_SEND_TIMEOUT)

    def offer(self, message: Message) -> bool:
        """Send a message that is out of date soon; drop it and return False while older ones wait to be read.

        A supervisor that is stopped for a while must not stop its workers.
        """
        with self._sending:
            if not self._flush(0.0):
                return False
            self._unsent = encode(message)
            self._flush(0.0)
            return True

    def _flush(self, patience: float) -> bool:
        """Send what waits; return whether all of it is gone within `patience` seconds without progress."""
        writable = select.poll()
        writable.register(self._socket, select.POLLOUT)
        while self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                if not writable.poll(patience * 1000):
                    return False
            except OSError:
                self._unsent = b""  # nobody reads any more
        return True


def close_all(descriptors: list[int] | deque[int]) -> None:
    """Close descriptors that came along with a message nobody needs."""
    for fd in descriptors:
        os.close(fd)
