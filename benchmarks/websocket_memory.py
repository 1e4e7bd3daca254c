"""Memory of idle WebSocket sessions: how much larger a server becomes by ten thousand of them, for each.

    python benchmarks/websocket_memory.py
    python benchmarks/websocket_memory.py --sessions 2000 --deflate

Servers and environment are those of `run.py`. Each session has had one message echoed, and then nothing; with --deflate
it was a long one, so that what compression keeps is there. Counted is what the server's processes do not share with
others, from /proc; the descriptors of both ends have to be allowed (ulimit -n).
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from environment import VENV, prepare
from place import Place, processes
from servers import NAMES, SERVERS
from websocket_load import STALL, Session, connect, make_exchanges

SPARE = 200  # descriptors beside those of the sessions


def main() -> None:
    """Measure each server and print the result."""
    options = parse_options()
    allow_descriptors(options.sessions + SPARE)
    setting = "deflate" if options.deflate else "websocket"
    servers = [server for server in SERVERS if not {server.program, server.name}.isdisjoint(options.servers)]
    servers = [server for server in servers if setting in server.settings and not server.is_extra]
    prepare(options.bin, servers)
    print(f"  {'server':<28}{'MiB before':>12}{'MiB then':>12}{'KiB a session':>15}")
    with tempfile.TemporaryDirectory(prefix="serverd-bench-") as scratch:
        for server in servers:
            core = min(os.sched_getaffinity(0))
            directory = Path(scratch)
            measure(Place(server, setting, "hello:app", options.bin, directory, directory, (core,)), options)


def measure(place: Place, options: argparse.Namespace) -> None:
    """Run the server, open the sessions, and print what they cost."""
    with place.running() as site:
        first = open_sessions(site.port, 1, options.size, options.deflate)
        echo(first)  # what it loads is no session's
        before = private_bytes(site.pid)
        sessions = open_sessions(site.port, options.sessions, options.size, options.deflate)
        echo(sessions)
        after = private_bytes(site.pid)
        each = (after - before) / options.sessions
        print(
            f"  {place.server.name:<28}{before / 2**20:>12.1f}{after / 2**20:>12.1f}{each / 2**10:>15.2f}", flush=True
        )
        for session in [*first, *sessions]:
            session.socket.close()


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory of idle WebSocket sessions.")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes of the one message")
    parser.add_argument("--deflate", action="store_true", help="with permessage-deflate")
    parser.add_argument("--servers", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--bin", type=Path, default=VENV / "bin", help="directory that holds the servers' commands")
    return parser.parse_args()


def allow_descriptors(count: int) -> None:
    """Allow this process, and the servers that inherit it, so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            sys.exit(f"{count} descriptors are needed, {hard} allowed: raise ulimit -n, or take fewer --sessions")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def open_sessions(port: int, count: int, size: int, deflate: bool) -> list[Session]:
    """Open sessions, one after the other."""
    pairs = [connect(port, deflate) for _ in range(count)]
    agreed = pairs[0][1]
    exchanges = list(make_exchanges(size, agreed))
    return [Session(connection, exchanges, agreed) for connection, _ in pairs]


def echo(sessions: list[Session]) -> None:
    """Have one message of each echoed."""
    for session in sessions:
        session.socket.settimeout(STALL)
        session.send()
        while not session.receive():
            pass


def private_bytes(session: int) -> int:
    """Return the bytes that only the processes of a session hold."""
    total = 0
    for pid in processes(session):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", text)) * 1024
    return total


if __name__ == "__main__":
    main()
