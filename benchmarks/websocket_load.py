"""Load for the WebSocket scenarios of `run.py`: each connection sends a message, awaits its echo, and sends the next.

Not a client for anything else: it takes every reply to be one frame. It must cost less than the servers, so frames are
made and masked before the clock starts and sockets are read from a bare epoll; its own CPU time is part of the result.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import random
import re
import select
import socket
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MESSAGES = 16  # different ones, sent in turns: more than the 4 KiB window of some servers holds at 64 KB
STALL = 10.0  # seconds without any reply that end the run
BUFFER = bytearray(1 << 18)  # of all sockets, more than any reply; to allocate it for each read would cost 15 us
TAIL = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: what a compressed message leaves out
PING, CLOSE = 0x9, 0x8  # RFC 6455 §5.2
KEY = base64.b64encode(b"0123456789abcdef").decode()  # RFC 6455 §4.1: 16 bytes

Exchange = tuple[bytes, bytes]
"""A frame to send, and the payload of the message in it."""


@dataclass(frozen=True)
class Deflate:
    """What the server agreed to (RFC 7692 §7.1)."""

    client_bits: int
    client_takeover: bool
    server_takeover: bool

    @classmethod
    def parse(cls, header: str) -> Deflate:
        """Read the field Sec-WebSocket-Extensions of the server's answer."""
        bits = re.search(r"client_max_window_bits=(\d+)", header)
        return cls(
            client_bits=int(bits[1]) if bits else 15,
            client_takeover="client_no_context_takeover" not in header,
            server_takeover="server_no_context_takeover" not in header,
        )


def main() -> None:
    """Run the load and print the result as JSON."""
    options = parse_options()
    pairs = [connect(options.port, options.deflate) for _ in range(options.connections)]
    deflate = pairs[0][1]
    exchanges = list(make_exchanges(options.size, deflate))
    sessions = [Session(connection, exchanges, deflate) for connection, _ in pairs]
    started, cpu = time.perf_counter(), time.process_time()
    run(sessions, started + options.seconds)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    messages, received = sum(session.count for session in sessions), sum(session.bytes for session in sessions)
    times = sorted(took for session in sessions for took in session.times)
    p99 = times[len(times) * 99 // 100] if times else None
    errors = close(sessions)
    result = {
        "errors": errors,
        "messages": messages,
        "rate": messages / seconds,
        "load": cpu / seconds,
        "bytes": received,
        "p99": p99,
    }
    print(json.dumps(result))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Load a WebSocket echo server.")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--deflate", action="store_true", help="with permessage-deflate")
    return parser.parse_args()


def connect(port: int, deflate: bool) -> tuple[socket.socket, Deflate | None]:
    """Open a session."""
    connection = socket.create_connection(("127.0.0.1", port), STALL)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [
        "GET / HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if deflate:  # as browsers offer it
        lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows is the session's
        byte = connection.recv(1)
        if not byte:
            sys.exit(f"the handshake failed: {head!r}")
        head += byte
    extensions = re.search(rb"(?i)\r\nsec-websocket-extensions:\s*(.*?)\r\n", head)
    if not head.startswith(b"HTTP/1.1 101 ") or deflate != bool(extensions):
        sys.exit(f"the handshake failed: {head!r}")
    connection.settimeout(None)
    return connection, Deflate.parse(extensions[1].decode()) if extensions else None


def make_exchanges(size: int, deflate: Deflate | None) -> Iterator[Exchange]:
    """Make the messages that every session sends in turns, and their frames.

    Compressed with context takeover they may still go round and round: the first refers to nothing before it.
    """
    compressor = None
    for text in make_messages(size):
        if deflate is None:
            yield frame(0x81, text), text
            continue
        if compressor is None or not deflate.client_takeover:
            compressor = zlib.compressobj(wbits=-deflate.client_bits)
        data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield frame(0xC1, data[: -len(TAIL)]), text


def make_messages(size: int) -> Iterator[bytes]:
    """Make texts as an API would send them, so that compression finds what it would find there."""
    chance = random.Random(size)  # the same for all servers
    for _ in range(MESSAGES):
        records = []
        length = 0
        while length < size:
            record = {"id": chance.randrange(10**6), "name": chance.randbytes(4).hex(), "at": chance.random()}
            records.append(json.dumps(record))
            length += len(records[-1]) + 1
        yield ",".join(records)[:size].encode()


def frame(first: int, payload: bytes | bytearray) -> bytes:
    """Make a masked frame (RFC 6455 §5.2)."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = os.urandom(4)
    stream = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + mask + masked.to_bytes(length, "big")


class Session:
    """One connection; it checks every reply."""

    __slots__ = (
        "_deflate",
        "_expected",
        "_inflate",
        "_partial",
        "_sent",
        "_turns",
        "bytes",
        "count",
        "socket",
        "times",
    )

    def __init__(self, connection: socket.socket, exchanges: list[Exchange], deflate: Deflate | None) -> None:
        self.socket = connection
        self.count = 0
        self.bytes = 0
        self.times: list[float] = []  # seconds that replies took
        self._sent = 0.0
        self._turns = itertools.cycle(exchanges)
        self._expected = b""
        self._partial = bytearray()
        self._deflate = deflate
        self._inflate = zlib.decompressobj(wbits=-15)

    def send(self) -> None:
        """Send the next message."""
        data, self._expected = next(self._turns)
        self._sent = time.perf_counter()
        self.socket.sendall(data)

    def on_readable(self) -> None:
        """Read the reply or a piece of it; when it is whole, send the next message."""
        if self.receive():
            self.send()

    def receive(self) -> bool:
        """Read the reply or a piece of it; return whether it is whole, and right."""
        size = self.socket.recv_into(BUFFER)
        if not size:
            sys.exit("the server closed the connection")
        data = self._partial + BUFFER[:size] if self._partial else BUFFER[:size]
        length, start = (data[1], 2) if len(data) > 1 else (0, 2)
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        end = start + length
        if len(data) < end:
            self._partial = data
            return False
        if data[0] & 0x0F == PING:
            self.socket.sendall(frame(0x8A, data[start:end]))
            self._partial = data[end:]
            return False
        if self._partial:
            self._partial = bytearray()
        self._check(data, start)
        self.count += 1
        self.times.append(time.perf_counter() - self._sent)
        self.bytes += len(data)
        return True

    def _check(self, data: bytearray, start: int) -> None:
        expected = self._expected
        if data[0] == 0x81:
            right = len(data) == start + len(expected) and data.startswith(expected, start)
        elif data[0] == 0xC1 and self._deflate:
            if not self._deflate.server_takeover:
                self._inflate = zlib.decompressobj(wbits=-15)
            right = self._inflate.decompress(data[start:] + TAIL) == expected
        else:
            right = False
        if not right:
            sys.exit(f"not an echo in one frame: {bytes(data[:80])!r}")

    def close(self) -> None:
        """Close the session as a browser does, and wait for the server's end of it."""
        self.socket.settimeout(STALL)
        self.socket.sendall(frame(0x80 | CLOSE, struct.pack("!H", 1000)))
        while self.socket.recv_into(BUFFER):
            pass
        self.socket.close()


def run(sessions: list[Session], deadline: float) -> None:
    """Keep every session busy until the deadline."""
    readers = {session.socket.fileno(): session.on_readable for session in sessions}
    with select.epoll(len(sessions)) as poll:
        for session in sessions:
            poll.register(session.socket, select.EPOLLIN)
            session.send()
        while time.perf_counter() < deadline:
            ready = poll.poll(STALL)
            if not ready:
                sys.exit(f"no reply for {STALL} s")
            for number, _ in ready:
                readers[number]()


def close(sessions: list[Session]) -> int:
    """Close the sessions; return how many the server has not ended in time."""
    for number, session in enumerate(sessions):
        try:
            session.close()
        except OSError:
            return len(sessions) - number  # the others would take as long
    return 0


if __name__ == "__main__":
    main()
