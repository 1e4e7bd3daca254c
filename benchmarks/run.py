"""Compare serverd with its peers: the same application, one worker each, in turns, on one core.

Started by `make bench`; benchmarks/README.md says how to read and report the result. It needs wrk and two cores, uses
only the standard library itself, and keeps the servers in an environment of their own, benchmarks/.venv.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE / ".venv"
TICKS = os.sysconf("SC_CLK_TCK")  # per second, of the CPU times in /proc


@dataclass(frozen=True)
class Peer:
    """A server, what to install for it, and how to start it with one worker and without an access log."""

    name: str
    requirement: str
    command: str


PEERS = (
    Peer("serverd", f"-e{HERE.parent}", "serverd -c {here}/serverd.toml"),
    Peer(
        "uvicorn",
        "uvicorn[standard]",
        "uvicorn --app-dir {here} --port {port} --loop uvloop --http httptools"
        " --no-access-log --log-level warning hello:app",
    ),
    Peer(
        "granian",
        "granian[uvloop]",
        "granian --interface asgi --port {port} --workers 1 --working-dir {here}"
        " --no-access-log --log-level warning hello:app",
    ),
    Peer(
        "hypercorn",
        "hypercorn[uvloop]",
        "hypercorn --bind 127.0.0.1:{port} --worker-class uvloop --log-level WARNING {here}/hello:app",
    ),
)

SCENARIOS = {
    "plain GET": "plain.lua",
    "GET with 11 browser headers": "browser.lua",
    "the same, no two requests alike": "varied.lua",
}


@dataclass(frozen=True)
class Result:
    """What one server did in one round."""

    rate: float  # requests per second
    cpu: float  # microseconds of CPU time per request, all processes of the server


def main() -> None:
    """Run the comparison and print it."""
    options = parse_options()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: it generates the load (Debian: apt-get install wrk)")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    peers = [peer for peer in PEERS if peer.name in options.servers]
    prepare(options.bin, peers)
    results: dict[tuple[str, str], list[Result]] = {}
    for number in range(options.rounds):
        for scenario, script in SCENARIOS.items():
            for peer in peers:
                print(f"round {number + 1} of {options.rounds}: {scenario}: {peer.name}", file=sys.stderr)
                with running(peer, options.bin, cores[0]) as (pid, port):
                    measure(pid, port, script, options.warm_up, options.connections, cores[1])
                    result = measure(pid, port, script, options.seconds, options.connections, cores[1])
                results.setdefault((scenario, peer.name), []).append(result)
    report(results, [peer.name for peer in peers])


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare serverd with its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--servers", nargs="+", default=[peer.name for peer in PEERS], metavar="NAME")
    parser.add_argument("--bin", type=Path, default=VENV / "bin", help="directory that holds the servers' commands")
    return parser.parse_args()


def prepare(directory: Path, peers: list[Peer]) -> None:
    """Install the servers, unless they are there."""
    if all((directory / peer.name).exists() for peer in peers):
        return
    if directory != VENV / "bin":
        sys.exit(f"{directory} does not hold all of: {', '.join(peer.name for peer in peers)}")
    print(f"installing the servers into {VENV}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run(
        [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", *(peer.requirement for peer in PEERS)], check=True
    )


@contextlib.contextmanager
def running(peer: Peer, directory: Path, core: int) -> Iterator[tuple[int, int]]:
    """Run the server on one core; yield its pid and port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    name, *arguments = peer.command.format(port=port, here=HERE).split()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), directory / name, *arguments],
        env={**os.environ, "BIND": f"127.0.0.1:{port}"},
        start_new_session=True,
    )
    try:
        wait_until_it_answers(process, port)
        yield process.pid, port
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    """Ask until the answer is right. The peers share no other way to tell that they are ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/", timeout=5) as response:
            if response.read() == b"Hello, world!":
                return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the server does not answer: {process.args!r}")
        time.sleep(0.05)


def measure(pid: int, port: int, script: str, seconds: int, connections: int, core: int) -> Result:
    """Load the server from another core; a failed request makes the whole comparison worthless and ends it."""
    before = cpu_time(pid)
    command = ["taskset", "--cpu-list", str(core), "wrk", "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds}s", "--script", str(HERE / script), f"http://127.0.0.1:{port}/"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_time(pid) - before
    count, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
    if count is None or rate is None or int(count[1]) == 0 or "Socket errors" in output or "Non-2xx" in output:
        sys.exit(f"requests failed:\n{output}")
    return Result(float(rate[1]), used / int(count[1]) * 1e6)


def cpu_time(session: int) -> float:
    """Return the CPU seconds that the processes of a session have used so far, user and system."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text()
            fields = text[text.rindex(")") + 2 :].split()
            if int(fields[3]) == session:
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


def report(results: dict[tuple[str, str], list[Result]], names: list[str]) -> None:
    """Print the medians, and of the ratios within each round the median too: rounds drift, ratios less."""
    for scenario in SCENARIOS:
        print(f"\n{scenario}")
        print(f"  {'server':<12}{'requests/s':>12}{'CPU us/request':>17}{'serverd is':>13}")
        ours = results.get((scenario, "serverd"), [])
        for name in names:
            rounds = results[scenario, name]
            rate = statistics.median(result.rate for result in rounds)
            cpu = statistics.median(result.cpu for result in rounds)
            ratios = [mine.rate / other.rate for mine, other in zip(ours, rounds, strict=False)]
            ratio = f"{statistics.median(ratios):.2f}x" if ratios and name != "serverd" else ""
            print(f"  {name:<12}{rate:>12,.0f}{cpu:>17.1f}{ratio:>13}")


if __name__ == "__main__":
    main()
