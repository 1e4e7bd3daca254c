"""Compare serverd with its peers: the same application, one worker each, in turns, on one core.

Started by `make bench`; benchmarks/README.md says how to read and report the result. It needs wrk, h2load and two
cores, uses only the standard library itself, and keeps the servers in an environment of their own, benchmarks/.venv.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE / ".venv"
TICKS = os.sysconf("SC_CLK_TCK")  # per second, of the CPU times in /proc
BUSY = 0.9  # of its core; a load that takes more may be what limits the rate


@dataclass(frozen=True)
class Peer:
    """A server, what to install for it, how to start it with one worker and no access log, and what it can do."""

    name: str
    requirement: str
    command: str
    subjects: tuple[str, ...]

    @property
    def scheme(self) -> str:
        """What it is asked by."""
        return "https" if self.subjects == ("tls",) else "http"

    @property
    def program(self) -> str:
        """The command that the requirement installs."""
        return self.command.split()[0]


UVICORN = (
    "uvicorn --app-dir {here} --port {port} --loop uvloop --http httptools --ws %s"
    " --no-access-log --log-level warning hello:app"
)

UVICORN_TLS = "--ssl-certfile {tls}/cert.pem --ssl-keyfile {tls}/key.pem"
QUIET = "--no-access-log --log-level warning hello:app"
GRANIAN = f"granian --interface asgi --port {{port}} --workers 1 --working-dir {{here}} {QUIET}"
GRANIAN_TLS = "--ssl-certificate {tls}/cert.pem --ssl-keyfile {tls}/key.pem"

PEERS = (
    Peer("serverd", f"-e{HERE.parent}", "serverd -c {here}/serverd.toml", ("http", "http2", "websocket", "deflate")),
    Peer("uvicorn", "uvicorn[standard]", UVICORN % "none", ("http",)),
    Peer("uvicorn websockets-sansio", "websockets", UVICORN % "websockets-sansio", ("websocket", "deflate")),
    Peer("uvicorn websockets", "websockets", UVICORN % "websockets", ("websocket", "deflate")),
    Peer("uvicorn wsproto", "wsproto", UVICORN % "wsproto", ("websocket", "deflate")),
    Peer(
        "granian",
        "granian[uvloop]",
        GRANIAN,
        ("http", "http2", "websocket"),  # it does not compress messages
    ),
    Peer(
        "hypercorn",
        "hypercorn[uvloop]",
        "hypercorn --config {here}/hypercorn.toml --bind 127.0.0.1:{port} --worker-class uvloop --log-level WARNING"
        " {here}/hello:app",
        ("http", "http2"),
    ),
    Peer("serverd", f"-e{HERE.parent}", "serverd -c {here}/serverd-tls.toml", ("tls",)),
    Peer("uvicorn", "uvicorn[standard]", f"{UVICORN % 'none'} {UVICORN_TLS}", ("tls",)),
    Peer("granian", "granian[uvloop]", f"{GRANIAN} {GRANIAN_TLS}", ("tls",)),
)

NAMES = sorted({name for peer in PEERS for name in (peer.program, peer.name)})


@dataclass(frozen=True)
class Requests:
    """Requests by wrk, on connections that are kept."""

    script: str
    subject: str = "http"
    connections: int = 64
    path: str = "/"

    def command(self, port: int, seconds: int) -> list[str | Path]:
        """Return the command that makes the load."""
        options = ["--threads", "1", "--connections", str(self.connections), "--duration", f"{seconds}s"]
        scheme = "https" if self.subject == "tls" else "http"
        return ["wrk", *options, "--script", HERE / self.script, f"{scheme}://127.0.0.1:{port}{self.path}"]

    def read(self, output: str) -> tuple[int, float]:
        """Return how many requests the command has made, and how many per second; exit if one has failed."""
        count, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
        if count is None or rate is None or int(count[1]) == 0 or "Socket errors" in output or "Non-2xx" in output:
            sys.exit(f"requests failed:\n{output}")
        return int(count[1]), float(rate[1])


@dataclass(frozen=True)
class Streams:
    """HTTP/2 requests by h2load, so many at a time on each connection; prior knowledge instead of TLS."""

    paths: int = 1
    fields: tuple[str, ...] = ()
    subject: str = "http2"
    connections: int = 8
    streams: int = 32

    def command(self, port: int, seconds: int) -> list[str | Path]:
        """Return the command that makes the load."""
        options = [f"--clients={self.connections}", f"--max-concurrent-streams={self.streams}"]
        fields = [f"--header={field}" for field in self.fields]
        urls = [f"http://127.0.0.1:{port}/shop/items/{number}?page=2" for number in range(self.paths)]
        return ["h2load", f"--duration={seconds}", *options, *fields, *urls]

    def read(self, output: str) -> tuple[int, float]:
        """Return how many requests the command has made, and how many per second; exit if one has failed."""
        count = re.search(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout", output)
        rate = re.search(r"([\d.]+) req/s", output)
        if count is None or rate is None or int(count[1]) == 0:
            sys.exit(f"requests failed:\n{output}")
        return int(count[1]), float(rate[1])


@dataclass(frozen=True)
class Echoes:
    """WebSocket messages that come back, by websocket_load.py, which fails unless each is right."""

    size: int
    subject: str
    connections: int = 32

    def command(self, port: int, seconds: int) -> list[str | Path]:
        """Return the command that makes the load."""
        options = ["--connections", str(self.connections), "--seconds", str(seconds), "--size", str(self.size)]
        deflate = ["--deflate"] if self.subject == "deflate" else []
        return [sys.executable, HERE / "websocket_load.py", str(port), *options, *deflate]

    def read(self, output: str) -> tuple[int, float]:
        """Return how many messages came back, and how many per second; say so if the load was what had no time."""
        result = json.loads(output)
        if result["load"] > BUSY:
            print(f"the load took {result['load']:.0%} of its core: the server could do more", file=sys.stderr)
        return result["messages"], result["rate"]


@dataclass(frozen=True)
class Handshakes:
    """TLS connections for one request each, by handshake_load.py."""

    resume: bool = False
    subject: str = "tls"

    def command(self, port: int, seconds: int) -> list[str | Path]:
        """Return the command that makes the load."""
        resume = ["--resume"] if self.resume else []
        return [sys.executable, HERE / "handshake_load.py", str(port), "--seconds", str(seconds), *resume]

    def read(self, output: str) -> tuple[int, float]:
        """Return how many connections there were, and how many per second; say so if the load had no time."""
        result = json.loads(output)
        if result["load"] > BUSY:
            print(f"the load took {result['load']:.0%} of its core: compare by CPU", file=sys.stderr)
        return result["connections"], result["rate"]


Scenario = Requests | Streams | Echoes | Handshakes

# Those of browser.lua, as far as they are the same for every page.
BROWSER = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.7,de;q=0.3",
    "accept-encoding: gzip, deflate, br, zstd",
    "cookie: session=0f8fad5bd9cb469fa16570867728950e; theme=dark; consent=1",
    "upgrade-insecure-requests: 1",
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "sec-fetch-site: same-origin",
    "priority: u=0, i",
)

SCENARIOS: dict[str, Scenario] = {
    "plain GET": Requests("plain.lua"),
    "GET with 11 browser headers": Requests("browser.lua"),
    "the same, no two requests alike": Requests("varied.lua"),
    "HTTP/2, 32 GETs at a time": Streams(),
    "the same, browser headers, 500 paths": Streams(500, BROWSER),
    "WebSocket echo, 64 B": Echoes(64, "websocket"),
    "WebSocket echo, 64 KB": Echoes(65536, "websocket"),
    "WebSocket echo, 64 B, compressed": Echoes(64, "deflate"),
    "WebSocket echo, 64 KB, compressed": Echoes(65536, "deflate"),
    "TLS, plain GET": Requests("plain.lua", "tls"),
    "TLS, full handshakes": Handshakes(),
    "TLS, resumed handshakes": Handshakes(resume=True),
    "TLS, 1 MB": Requests("plain.lua", "tls", 16, "/large"),
}

SUBJECTS = ("http", "http2", "websocket", "deflate", "tls")
TOOLS = {
    "http": ("wrk", "wrk"),
    "tls": ("wrk", "wrk"),
    "http2": ("h2load", "nghttp2-client"),
}  # the program, and Debian's package


@dataclass(frozen=True)
class Result:
    """What one server did in one round."""

    rate: float  # requests or messages per second
    cpu: float  # microseconds of CPU time for each, all processes of the server


def main() -> None:
    """Run the comparison and print it."""
    options = parse_options()
    for program, package in [TOOLS[subject] for subject in options.subjects if subject in TOOLS]:
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: it generates the load (Debian: apt-get install {package})")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    peers = [peer for peer in PEERS if not {peer.program, peer.name}.isdisjoint(options.servers)]
    scenarios = {name: scenario for name, scenario in SCENARIOS.items() if scenario.subject in options.subjects}
    prepare(options.bin, peers)
    results: dict[tuple[str, str], list[Result]] = {}
    os.environ["TLS"] = str(make_certificate(options.key))
    for number in range(options.rounds):
        for name, scenario in scenarios.items():
            for peer in peers:
                if scenario.subject not in peer.subjects:
                    continue
                print(f"round {number + 1} of {options.rounds}: {name}: {peer.name}", file=sys.stderr)
                with running(peer, options.bin, cores[0]) as (pid, port):
                    measure(pid, port, scenario, options.warm_up, cores[1])
                    result = measure(pid, port, scenario, options.seconds, cores[1])
                results.setdefault((name, peer.name), []).append(result)
    report(results)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare serverd with its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before each measurement")
    parser.add_argument("--servers", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--key", default="ec", choices=("ec", "rsa"), help="of the certificate of the TLS scenarios")
    parser.add_argument("--bin", type=Path, default=VENV / "bin", help="directory that holds the servers' commands")
    return parser.parse_args()


def prepare(directory: Path, peers: list[Peer]) -> None:
    """Install the servers, unless they are there."""
    if all((directory / peer.program).exists() for peer in peers):
        return
    if directory != VENV / "bin":
        sys.exit(f"{directory} does not hold all of: {', '.join(peer.program for peer in peers)}")
    print(f"installing the servers into {VENV}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run(
        [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", *(peer.requirement for peer in PEERS)], check=True
    )


def make_certificate(key: str) -> Path:
    """Write the certificate that all servers show, with its key, P-256 or RSA of 2048 bits; return their directory."""
    directory = Path(tempfile.gettempdir()) / f"serverd-benchmarks-{os.getuid()}-{key}"
    if not directory.exists():
        directory.mkdir(mode=0o700)
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["rsa:2048"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", directory / "key.pem", "-out", directory / "cert.pem"]
        command = ["openssl", "req", "-x509", "-nodes", "-days", "3650", "-newkey", *kind, *names, *files]
        subprocess.run(command, check=True, capture_output=True)
    return directory


@contextlib.contextmanager
def running(peer: Peer, directory: Path, core: int) -> Iterator[tuple[int, int]]:
    """Run the server on one core; yield its pid and port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    name, *arguments = peer.command.format(port=port, here=HERE, tls=os.environ["TLS"]).split()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), directory / name, *arguments],
        env={**os.environ, "BIND": f"127.0.0.1:{port}"},
        start_new_session=True,
    )
    try:
        wait_until_it_answers(process, f"{peer.scheme}://127.0.0.1:{port}/")
        yield process.pid, port
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    """Ask until the answer is right. The peers share no other way to tell that they are ready."""
    unverified = ssl._create_unverified_context()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), opener.open(url, timeout=5) as response:
            if response.read() == b"Hello, world!":
                return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the server does not answer: {process.args!r}")
        time.sleep(0.05)


def measure(pid: int, port: int, scenario: Scenario, seconds: int, core: int) -> Result:
    """Load the server from another core; a failed request makes the whole comparison worthless and ends it."""
    before = cpu_time(pid)
    command = ["taskset", "--cpu-list", str(core), *scenario.command(port, seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the load failed: {done.stderr}{done.stdout}")
    used = cpu_time(pid) - before
    count, rate = scenario.read(done.stdout)
    return Result(rate, used / count * 1e6)


def cpu_time(session: int) -> float:
    """Return the CPU seconds that the processes of a session have used so far, user and system."""
    total = 0
    for fields in processes(session).values():
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def processes(session: int) -> dict[int, list[str]]:
    """Return the processes of a session, with the fields of /proc/PID/stat from the state on."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text()
            fields = text[text.rindex(")") + 2 :].split()
            if int(fields[3]) == session:
                found[int(stat.parent.name)] = fields
    return found


def report(results: dict[tuple[str, str], list[Result]]) -> None:
    """Print the medians, and of the ratios within each round the median too: rounds drift, ratios less."""
    for scenario in dict.fromkeys(scenario for scenario, _ in results):
        print(f"\n{scenario}")
        titles = ("per second", "CPU us each", "per CPU second", "serverd is", "by CPU")
        print(f"  {'server':<28}{titles[0]:>12}{titles[1]:>13}{titles[2]:>16}{titles[3]:>12}{titles[4]:>9}")
        ours = results.get((scenario, "serverd"), [])
        for name in [name for of, name in results if of == scenario]:
            rounds = results[scenario, name]
            rate = statistics.median(result.rate for result in rounds)
            cpu = statistics.median(result.cpu for result in rounds)
            line = f"  {name:<28}{rate:>12,.0f}{cpu:>13.1f}{1e6 / cpu:>16,.0f}"
            if ours and name != "serverd":
                pairs = list(zip(ours, rounds, strict=False))
                line += f"{statistics.median(mine.rate / other.rate for mine, other in pairs):>11.2f}x"
                line += f"{statistics.median(other.cpu / mine.cpu for mine, other in pairs):>8.2f}x"
            print(line)


if __name__ == "__main__":
    main()
