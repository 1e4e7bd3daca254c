"""Where a server runs: its files, its core, its processes, and what they use; the same for all of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from servers import Server

__all__ = ["Failure", "Place", "Site", "processes"]

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")  # per second, of the CPU times in /proc
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
REST = 0.05  # seconds without a tick of CPU time, which is a fifth of it
REST_TIMEOUT = 10.0
LOG = "server.log"

VERSIONED = '''"""Written by the benchmark: says which version of the code answers."""

from hello import START, live

BODY = b"{version}"
FIELDS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await send({{**START, "headers": FIELDS}})
    await send({{"type": "http.response.body", "body": BODY}})
'''


class Failure(Exception):
    """A server, or a load, did not do what was asked of it; the text says what."""


@dataclass(frozen=True)
class Site:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    port: int
    scratch: Path
    tls: bool = False

    @property
    def pid(self) -> int:
        """Its first process, which is also its session."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"

    def ask(self) -> bytes:
        """Return the answer to a plain request on a connection of its own; raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
            connection = _trusting().wrap_socket(plain) if self.tls else plain
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while data := connection.recv(65536):
                    answer += data
                return answer

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that its processes have used so far, user and system, ended children included."""
        return sum(sum(map(int, fields[11:15])) for fields in processes(self.pid).values()) / TICKS

    def memory(self) -> int:
        """Return the bytes that its processes have of their own, not of files; what several share counts once."""
        return sum(own_memory(pid) for pid in processes(self.pid))

    def settle(self) -> None:
        """Wait until it has no more to do; raises Failure when it goes on."""
        deadline = time.monotonic() + REST_TIMEOUT
        before = -1.0
        while (now := self.cpu_seconds()) != before:
            if time.monotonic() > deadline:
                raise Failure("goes on working when nobody asks for anything")
            before = now
            time.sleep(REST)

    def check(self) -> None:
        """Raise Failure if it has ended."""
        if self.process.poll() is not None:
            raise Failure(f"the server has ended: {_end_of(self.scratch / LOG)}")


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def processes(session: int) -> dict[int, list[str]]:
    """Return the processes of a session, with the fields of /proc/PID/stat from the state on."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = stat.read_text()
            fields = text[text.rindex(")") + 2 :].split()
            if int(fields[3]) == session:
                found[int(stat.parent.name)] = fields
    return found


def own_memory(pid: int) -> int:
    """Return the bytes of a process that are of no file, its part of what it shares with others of its server (PSS).

    Pages of files are left out: what of libpython each server has depends on how many others run beside it.
    """
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return sum(int(size) * 1024 for size in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE))
    return 0


@dataclass(frozen=True)
class Place:
    """A server in a setting, ready to be started."""

    server: Server
    setting: str
    app: str
    binaries: Path
    scratch: Path  # a directory of its own
    certificate: Path  # the directory of cert.pem and key.pem
    cores: tuple[int, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, tls: bool = False) -> Iterator[Site]:
        """Run the server; yield it once it answers. Raises Failure when it does not."""
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        command = self._prepare(port)
        log = self.scratch / LOG
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": f"{HERE.parent / 'server'}:{HERE}", **self.environment},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self.scratch,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
            )
        site = Site(process, port, self.scratch, tls)
        try:
            self._await(site)
            yield site
        finally:
            _stop(process)

    def write_version(self, version: str) -> None:
        """Write the application whose answer is this text."""
        (self.scratch / "versioned.py").write_text(VERSIONED.format(version=version))

    def _prepare(self, port: int) -> list[str]:
        """Write the configuration and return the command."""
        known = {"port": port, "here": HERE, "scratch": self.scratch}
        known |= {"cert": self.certificate / "cert.pem", "key": self.certificate / "key.pem", "app": self.app}
        values = {**self.server.default, **self.server.settings[self.setting]}
        values = {name: text.format(**known) for name, text in values.items()}
        filled = {**known, **values}
        (self.scratch / "configuration").write_text(self.server.file.format(**filled))
        name, *arguments = self.server.command.format(**filled).split()
        return [str(self.binaries / name), *arguments]

    def _await(self, site: Site) -> None:
        """Ask until the answer is right. The peers share no other way to tell that they are ready."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(OSError):
                answer = site.ask()
                if answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
                    return
                if answer:
                    raise Failure(f"the first answer is {answer[:60]!r}")
            site.check()
            if time.monotonic() > deadline:
                raise Failure(f"does not answer: {_end_of(self.scratch / LOG)}")
            time.sleep(0.01)


def _end_of(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])[-300:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
    finally:  # also when somebody presses Ctrl-C once more
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session's first group: what has not ended by itself
        for pid in processes(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
