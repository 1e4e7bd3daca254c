"""How each load is made and what it measures: requests, WebSocket echoes, idle connections, starts.

A load says what its figure is and whether more of it is better; everything that fails is counted and shown. `scenarios`
has the table of them, `place` starts the servers. What a load needs a server for is there for all its rounds: those of
one scenario run side by side, and are measured in turns.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from place import Failure, Place, Site

__all__ = ["Echoes", "Handshakes", "Idle", "Load", "Measurement", "Reload", "Requests", "StartUp", "Streams"]

HERE = Path(__file__).parent
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
STALL = 60.0  # seconds without progress that end a measurement


@dataclass(frozen=True)
class Measurement:
    """What one server did in one round."""

    value: float  # requests or messages per second, bytes, seconds: what the load has as its figure
    cpu: float | None = None  # microseconds of CPU time for each request, of all processes of the server
    p99: float | None = None  # seconds that 99 of 100 requests did not exceed
    memory: int | None = None  # bytes of their own that the server's processes hold after it
    errors: int = 0  # requests that failed
    load: float | None = None  # the share of its core that the load took


Measure = Callable[[float], Measurement]
"""Measures once, for about so many seconds; raises Failure."""


class Load(Protocol):
    """How a scenario is measured."""

    tool: tuple[str, str] | None  # the program it needs, and Debian's package
    more_is_better: bool

    def prepared(self, place: Place, warm_up: float) -> AbstractContextManager[Measure]:
        """Start the server, if it is to run before a measurement begins; raises Failure, as a measurement may."""


class Alone:
    """A load that starts the server each time, and has it for itself."""

    tool: tuple[str, str] | None = None
    more_is_better = False

    @contextmanager
    def prepared(self, place: Place, warm_up: float) -> Iterator[Measure]:
        """Prepare nothing."""
        del warm_up
        yield lambda seconds: self.measure(place)

    def measure(self, place: Place) -> Measurement:
        """Start the server, and return what came of it; raises Failure."""
        raise NotImplementedError


class Command:
    """A load that is a command of its own, on a server that runs."""

    tool: tuple[str, str] | None = None
    more_is_better = True
    tls = False

    @contextmanager
    def prepared(self, place: Place, warm_up: float) -> Iterator[Measure]:
        """Start the server, and load it for `warm_up` seconds that do not count."""
        with place.running(self.tls) as site:
            if warm_up:
                self._run(site, warm_up)
            yield lambda seconds: self._run(site, seconds)

    def _run(self, site: Site, seconds: float) -> Measurement:
        before, ours = site.cpu_seconds(), _children()
        started = time.perf_counter()
        done = subprocess.run(self.command(site, seconds), capture_output=True, text=True, timeout=seconds + STALL)
        busy = (_children() - ours) / (time.perf_counter() - started)
        site.check()
        if done.returncode:
            said = f"{done.stdout}\n{done.stderr}".strip().splitlines()
            raise Failure(f"the load failed: {said[-1][-300:] if said else done.returncode}")
        count, rate, p99, errors = self.read(site, done.stdout)
        if not count:
            raise Failure(f"nothing was answered, {errors} failed")
        cpu = (site.cpu_seconds() - before) / count * 1e6
        measurement = Measurement(rate, cpu, p99, site.memory(), errors, busy)
        site.settle()  # what is in flight would be worked off in the turn of the next server
        return measurement

    def command(self, site: Site, seconds: float) -> list[str | Path]:
        """Return the command that makes the load."""
        raise NotImplementedError

    def read(self, site: Site, output: str) -> tuple[int, float, float | None, int]:
        """Return how many requests there were, how many per second, their 99th percentile, and how many failed."""
        raise NotImplementedError


def _children() -> float:
    """Return the CPU seconds of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class Requests(Command):
    """Requests by wrk."""

    script: str
    connections: int = 64
    tls: bool = False
    tool: tuple[str, str] | None = ("wrk", "wrk")

    def command(self, site: Site, seconds: float) -> list[str | Path]:
        """Return the command that makes the load."""
        options = ["--threads", "1", "--connections", str(self.connections), "--duration", f"{max(1, round(seconds))}s"]
        return ["wrk", *options, "--latency", "--script", HERE / self.script, site.url]

    def read(self, site: Site, output: str) -> tuple[int, float, float | None, int]:
        """Return what wrk has printed."""
        count, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", output)
        if count is None or rate is None:
            raise Failure(f"wrk says: {output[-300:]}")
        errors = [int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", output)]
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        failed = sum(errors) + (int(refused[1]) if refused else 0)
        if int(count[1]) <= self.connections:
            raise Failure(f"stands still: {count[1]} requests were answered on {self.connections} connections")
        return int(count[1]), float(rate[1]), float(p99[1]) * SECONDS[p99[2]] if p99 else None, failed


@dataclass(frozen=True)
class Streams(Command):
    """HTTP/2 requests by h2load, so many at a time on each connection; in the clear by prior knowledge."""

    paths: int = 1
    fields: tuple[str, ...] = ()
    connections: int = 8
    streams: int = 32
    tls: bool = False
    tool: tuple[str, str] | None = ("h2load", "nghttp2-client")

    def command(self, site: Site, seconds: float) -> list[str | Path]:
        """Return the command that makes the load."""
        log = site.scratch / "h2load.log"
        log.unlink(missing_ok=True)
        options = [f"--clients={self.connections}", f"--max-concurrent-streams={self.streams}", f"--log-file={log}"]
        fields = [f"--header={field}" for field in self.fields]
        urls = [f"{site.url}shop/items/{number}?page=2" for number in range(self.paths)]
        return ["h2load", f"--duration={max(1, round(seconds))}", *options, *fields, *urls]

    def read(self, site: Site, output: str) -> tuple[int, float, float | None, int]:
        """Return what h2load has printed, and the percentile of the times it has logged."""
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        rate = re.search(r"([\d.]+) req/s", output)
        if counts is None or rate is None:
            raise Failure(f"h2load says: {output[-300:]}")
        if "protocol: h2" not in output:
            raise Failure("HTTP/2 was not spoken")
        succeeded, failed, errored, timed_out = (int(number) for number in counts.groups())
        wrong = len(re.findall(r"^\d+\t(?!2)", (site.scratch / "h2load.log").read_text(), re.MULTILINE))
        times = sorted(int(line.split()[2]) for line in (site.scratch / "h2load.log").open())
        p99 = times[len(times) * 99 // 100] / 1e6 if times else None
        return succeeded, float(rate[1]), p99, max(failed, errored) + timed_out + max(0, wrong - failed)


@dataclass(frozen=True)
class Echoes(Command):
    """WebSocket messages that come back, by websocket_load.py, which fails unless each is right."""

    size: int
    deflate: bool = False
    connections: int = 32

    def command(self, site: Site, seconds: float) -> list[str | Path]:
        """Return the command that makes the load."""
        options = ["--connections", str(self.connections), "--seconds", str(seconds), "--size", str(self.size)]
        deflate = ["--deflate"] if self.deflate else []
        return [sys.executable, HERE / "websocket_load.py", str(site.port), *options, *deflate]

    def read(self, site: Site, output: str) -> tuple[int, float, float | None, int]:
        """Return what the client has counted."""
        result = json.loads(output)
        return result["messages"], result["rate"], result["p99"], result["errors"]


@dataclass(frozen=True)
class Handshakes(Command):
    """TLS connections for one request each, by handshake_load.py, which fails unless each is right."""

    resume: bool = False
    tls: bool = True

    def command(self, site: Site, seconds: float) -> list[str | Path]:
        """Return the command that makes the load."""
        resume = ["--resume"] if self.resume else []
        return [sys.executable, HERE / "handshake_load.py", str(site.port), "--seconds", str(seconds), *resume]

    def read(self, site: Site, output: str) -> tuple[int, float, float | None, int]:
        """Return what the client has counted."""
        result = json.loads(output)
        return result["connections"], result["rate"], None, 0


SPARE = 300  # descriptors beside those of the connections
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Idle(Alone):
    """Connections that have had one answer and are kept: what each costs in memory."""

    count: int

    def measure(self, place: Place) -> Measurement:
        """Open the connections and return the bytes that the server has grown by, for each."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard not in (resource.RLIM_INFINITY,) and hard < self.count + SPARE:
            raise Failure(f"{self.count + SPARE} descriptors are needed, {hard} allowed: raise ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, self.count + SPARE), hard))
        with place.running() as site, _opened(site, 50) as first:
            before = site.memory()
            with _opened(site, self.count) as connections:
                memory = site.memory()
                poll = select.poll()
                for connection in [*first, *connections]:
                    poll.register(connection, select.POLLIN)
                closed = len(poll.poll(0))
        return Measurement((memory - before) / self.count, memory=memory, errors=closed)


@contextmanager
def _opened(site: Site, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, and have one answer on each."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", site.port), STALL)
            connections.append(connection)
            connection.sendall(GET)
            answer = b""
            while not answer.endswith(b"Hello, world!") and not answer.endswith(b"0\r\n\r\n"):
                data = connection.recv(65536)
                if not data:
                    raise Failure(f"connection {len(connections)} was closed: {answer[:80]!r}")
                answer += data
        yield connections
    except OSError as error:
        raise Failure(f"connection {len(connections)}: {error}") from None
    finally:
        for connection in connections:
            connection.close()


@dataclass(frozen=True)
class StartUp(Alone):
    """The time from the command to the first answer."""

    def measure(self, place: Place) -> Measurement:
        """Start the server."""
        started = time.perf_counter()
        with place.running() as site:
            took = time.perf_counter() - started
            return Measurement(took, cpu=site.cpu_seconds() * 1e6, memory=site.memory())


VERSIONS = 50  # answers of the new code without one of the old between: the reload is complete


@dataclass(frozen=True)
class Reload(Alone):
    """The time from SIGHUP, after the application's code has changed, until only the new code answers."""

    def measure(self, place: Place) -> Measurement:
        """Change the application, reload, and ask until the new code answers."""
        place.write_version("old")
        with place.running() as site:
            place.write_version("newer")  # of another length: modules are known by size and time
            os.kill(site.pid, signal.SIGHUP)
            started = first = time.perf_counter()
            fresh = errors = 0
            while fresh < VERSIONS:
                answer = b""
                with suppress(OSError):
                    answer = site.ask()
                if answer.endswith(b"newer"):
                    first = time.perf_counter() if not fresh else first
                    fresh += 1
                else:
                    fresh = 0
                    errors += not answer.endswith(b"old")
                if time.perf_counter() - started > STALL / 2:
                    raise Failure(f"SIGHUP did not bring the new code, {errors} requests failed meanwhile")
                time.sleep(0.002)
            return Measurement(first - started, memory=site.memory(), errors=errors)
