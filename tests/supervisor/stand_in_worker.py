"""A worker for tests: speaks `serverd.messages` and answers every connection with who it is.

The target of the generation's application says how it behaves:

    serve       as a worker should              silent      never says anything, leaves when told
    fail        says Failed and exits           babble      says what no worker says
    fail-1      the same, in slot 1 only        rant        sends without end and without a newline
    crash       exits without a word            stubborn    serves, and does not leave when told
    stuck       the same, after it has said what it starts
    hang-up     serves, then closes its channel at the first connection, and stays
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import sys

from serverd.messages import Drain, Draining, Failed, Ready, Start, Starting, decode, encode


class StandIn:
    """One worker."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.incoming = b""
        start = decode(self.read_line())
        assert isinstance(start, Start)
        self.start = start
        self.behaviour = start.generation.apps[0].target
        self.name = f"{start.generation.number} {start.slot} {os.getpid()}"

    def read_line(self) -> bytes:
        """Return the next message, or nothing when the supervisor has gone."""
        while b"\n" not in self.incoming:
            data = self.channel.recv(65536)
            if not data:
                return b""
            self.incoming += data
        line, _, self.incoming = self.incoming.partition(b"\n")
        return line

    def run(self) -> int:
        if self.behaviour == "fail" or (self.behaviour == "fail-1" and self.start.slot == 1):
            self.channel.sendall(encode(Failed("server.toml:7: app shop: boom", "Traceback\n  its own")))
            return 3
        if self.behaviour == "crash":
            return 1
        if self.behaviour == "babble":
            self.channel.sendall(b"[" * 100_000 + b"\n")
            signal.pause()
        while self.behaviour == "rant":
            self.channel.sendall(b"x" * 65536)
        listeners = []
        if self.behaviour == "stuck":
            self.channel.sendall(encode(Starting("server.toml:7: apps.shop")))
        elif self.behaviour != "silent":
            for grant in self.start.sockets:
                listener = socket.socket(fileno=grant.fd)
                listener.listen(64)
                listeners.append(listener)
            self.channel.sendall(encode(Ready(os.getpid())))
        return self.serve(listeners)

    def serve(self, listeners: list[socket.socket]) -> int:
        with selectors.DefaultSelector() as selector:
            for listener in listeners:
                selector.register(listener, selectors.EVENT_READ)
            selector.register(self.channel, selectors.EVENT_READ)
            while True:
                if b"\n" in self.incoming and self.must_leave(self.read_line()):
                    return self.leave(listeners)  # Drain came together with Start
                for key, _ in selector.select():
                    if key.fileobj is not self.channel:
                        self.answer(key.fileobj, selector)  # type: ignore[arg-type]
                    elif self.must_leave(self.read_line()):
                        return self.leave(listeners)

    def leave(self, listeners: list[socket.socket]) -> int:
        for listener in listeners:
            listener.close()
        with contextlib.suppress(OSError):  # the supervisor may have gone
            self.channel.sendall(encode(Draining()))
        return 0

    def must_leave(self, line: bytes) -> bool:
        if line:
            assert isinstance(decode(line), Drain)
        return not line or self.behaviour != "stubborn"

    def answer(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another worker was faster
            return
        with connection:
            connection.sendall(self.name.encode())
        if self.behaviour == "hang-up":
            selector.unregister(self.channel)
            self.channel.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int)
    parser.add_argument("--title")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return StandIn(socket.socket(fileno=arguments.channel)).run()


if __name__ == "__main__":
    sys.exit(main())
