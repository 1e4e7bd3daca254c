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
import select
import signal
import socket
import sys

from serverd.messages import (
    BEAT_INTERVAL,
    EVERY_SLOT,
    Beat,
    Cover,
    Declined,
    Draining,
    Failed,
    Propose,
    Ready,
    Reopen,
    SocketGrant,
    Sockets,
    Start,
    Starting,
    decode,
    encode,
)


class StandIn:
    """One worker."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.incoming = b""
        self.descriptors: list[int] = []  # that have arrived
        self.listeners: list[tuple[int, socket.socket]] = []  # with their slots
        self.accepting: list[socket.socket] = []
        start = decode(self.read_line())
        assert isinstance(start, Start)
        self.start = start
        self.behaviour = start.generation.apps[0].target
        self.name = f"{start.generation.number} {start.slot} {os.getpid()}"

    def read_line(self) -> bytes:
        """Return the next message, or nothing when the supervisor has gone."""
        while b"\n" not in self.incoming:
            data, descriptors, _, _ = socket.recv_fds(self.channel, 65536, 253)
            self.descriptors += descriptors
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
        if self.behaviour == "stuck":
            self.channel.sendall(encode(Starting("server.toml:7: apps.shop")))
        elif self.behaviour != "silent":
            self.hold(self.start.sockets)
            self.accept_on(())
            self.channel.sendall(encode(Ready(os.getpid())))
        return self.serve()

    def hold(self, grants: tuple[SocketGrant, ...]) -> None:
        """Have the sockets that have come, and no other; what was accepted on has to be said again."""
        for _, listener in self.listeners:
            listener.close()
        descriptors, self.descriptors = self.descriptors[: len(grants)], self.descriptors[len(grants) :]
        self.listeners = [
            (grant.slot, socket.socket(fileno=descriptor))
            for grant, descriptor in zip(grants, descriptors, strict=True)
        ]

    def accept_on(self, covered: tuple[int, ...]) -> None:
        """Accept on the sockets of our own slot and of those that are covered."""
        self.accepting = [
            listener for slot, listener in self.listeners if slot in {self.start.slot, EVERY_SLOT, *covered}
        ]
        for listener in self.accepting:
            listener.listen(64)

    def serve(self) -> int:
        while True:
            if b"\n" in self.incoming and self.must_leave(self.read_line()):
                return self.leave()  # Drain came together with Start
            watched = [*self.accepting, *([self.channel] if self.channel.fileno() >= 0 else [])]
            ready, _, _ = select.select(watched, [], [], BEAT_INTERVAL)
            if not ready and self.accepting and self.channel.fileno() >= 0:
                self.channel.sendall(encode(Beat(0, 0, 0, 0, 0.0)))
            for one in ready:
                if one is not self.channel:
                    self.answer(one)
                elif self.must_leave(self.read_line()):
                    return self.leave()

    def leave(self) -> int:
        for _, listener in self.listeners:
            listener.close()
        with contextlib.suppress(OSError):  # the supervisor may have gone
            self.channel.sendall(encode(Draining()))
        return 0

    def must_leave(self, line: bytes) -> bool:
        message = decode(line) if line else None
        match message:
            case Propose():
                del self.descriptors[: len(message.sockets)]
                self.channel.sendall(encode(Declined(message.generation.number, "it is a stand-in")))
            case Sockets():
                self.hold(message.sockets)
                self.accept_on(())
            case Cover():
                self.accept_on(message.slots)
            case Reopen():
                for descriptor in self.descriptors[:2]:
                    os.close(descriptor)
                del self.descriptors[:2]
            case _:
                return not line or self.behaviour != "stubborn"
        return False

    def answer(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another worker was faster
            return
        with connection:
            connection.sendall(self.name.encode())
        if self.behaviour == "hang-up":
            self.channel.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int)
    parser.add_argument("--dump", type=int)
    parser.add_argument("--title")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return StandIn(socket.socket(fileno=arguments.channel)).run()


if __name__ == "__main__":
    sys.exit(main())
