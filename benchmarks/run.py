"""Compare serverd with its peers: the same application, in turns, on one core. Started by `make bench`.

benchmarks/README.md says how to read and report the result. Needs wrk, h2load, openssl and two cores; uses the standard
library itself, and keeps the servers in an environment of their own, benchmarks/.venv. What is measured stands in
`scenarios`, on what in `servers`.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import compiled
from environment import KEY_KINDS, VENV, describe, make_certificate, prepare
from loads import Measure, Measurement
from place import Failure, Place
from report import OURS, Results, beside, publish, show
from scenarios import SCENARIOS, Scenario
from servers import NAMES, SERVERS, Server

HERE = Path(__file__).parent
KEYS = [scenario.key for scenario in SCENARIOS]
OUTCOME = HERE / ".scratch" / "results.json"
PATIENCE = 2  # failures in a row, after which a server is not started again in a scenario

Key = tuple[str, str]


def main() -> None:
    """Run the comparison, print it, and keep every round."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended; the same with --resume goes on from here"))
    options = parse_options()
    scenarios = [scenario for scenario in SCENARIOS if scenario.key in options.scenarios]
    servers = [server for server in SERVERS if is_chosen(server, options.servers, options.compiled)]
    check_tools(scenarios)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    prepare(options.bin, servers)
    built = compiled.build() if options.compiled else None
    results = Results.load(options.into) if options.resume else Results({})
    compared = [server for server in SERVERS if server in servers or server.name in results.servers()]
    results.note(describe(options.bin, compared), shown_command())
    os.sched_setaffinity(0, {cores[-1]})  # and with this process every load
    with tempfile.TemporaryDirectory(prefix="serverd-bench-") as scratch:
        make_certificate(Path(scratch), options.key)
        for scenario in scenarios:
            with Stage(Path(scratch), options, cores[0], built) as stage:
                for number, key, measured, server in turns(options.rounds, scenario, servers):
                    if results.has(number, key, server.name):
                        continue
                    results.add(number, key, server.name, stage.measure(measured, server))
                    print(f"round {number + 1}: {key}: {server.name}: {results.last()}", file=sys.stderr)
                    results.save(options.into)
    print(show(results))
    if options.publish:
        publish(results, options.bin)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare serverd with its peers.")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement (wrk and h2load: whole ones)")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds of load before the first of each server")
    servers = f"{', '.join(NAMES)}; {OURS} is measured in any case"
    parser.add_argument("--servers", nargs="+", default=NAMES, choices=NAMES, metavar="NAME", help=servers)
    parser.add_argument("--scenarios", nargs="+", default=KEYS, choices=KEYS, metavar="NAME", help=", ".join(KEYS))
    parser.add_argument("--key", default="ec", choices=KEY_KINDS, help="of the certificate: P-256, or RSA of 2048 bits")
    parser.add_argument("--compiled", action="store_true", help="also serverd with its hot modules compiled by mypyc")
    parser.add_argument("--bin", type=Path, default=VENV / "bin", help="directory that holds the servers' commands")
    parser.add_argument("--into", type=Path, default=OUTCOME, help="the file that keeps every measurement")
    parser.add_argument("--resume", action="store_true", help="measure only what that file does not have yet")
    parser.add_argument("--publish", action="store_true", help="write table, plot and rounds beside README.md")
    return parser.parse_args()


def positive(text: str) -> int:
    """Return the number of rounds that an option says."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds: expected 1 or more")
    return int(text)


def shown_command() -> str:
    """Return the command of this run as README shows it: without files of this machine, and what measures nothing."""
    arguments = iter(sys.argv[1:])
    shown = []
    for argument in arguments:
        if argument in ("--bin", "--into"):
            next(arguments)
        elif argument not in ("--resume", "--publish") and not argument.startswith(("--bin=", "--into=")):
            shown.append(argument)
    return f'make bench ARGS="{shlex.join(shown)}"' if shown else "make bench"


def is_chosen(server: Server, names: list[str], with_compiled: bool) -> bool:
    """Return whether the options name this server."""
    if server.is_extra:
        return with_compiled
    return server.name in names or server.program in (OURS, *names)  # without ours there is nothing to compare


def check_tools(scenarios: list[Scenario]) -> None:
    """Exit when a program is missing that the scenarios need."""
    tools = {scenario.load.tool for scenario in scenarios if scenario.load.tool is not None}
    missing = [tool for tool in sorted({*tools, ("openssl", "openssl")}) if shutil.which(tool[0]) is None]
    if missing:
        names, packages = zip(*missing, strict=True)
        sys.exit(
            f"not installed, but needed to make the load: {', '.join(names)} (apt-get install {' '.join(packages)})"
        )


def turns(rounds: int, scenario: Scenario, servers: list[Server]) -> Iterator[tuple[int, str, Scenario, Server]]:
    """Yield what is measured when, and its key: the servers in turns, in every round in another order.

    A variant, with which ours is compared to itself, stands beside the scenario that it is a variant of: what is
    told of them is a few percent, and a machine's mood changes more within a minute. They take turns in being first.
    """
    by_key = {scenario.key: scenario for scenario in SCENARIOS}
    able = [server for server in servers if scenario.setting in server.settings]
    for number in range(rounds):
        order = random.Random(f"{scenario.key}, {number}").sample(able, len(able))  # the same when it is resumed
        for server in order:
            pair = [(scenario.key, scenario)]
            if scenario.beside and server.name == OURS:
                pair.insert(number % 2, (beside(scenario), by_key[scenario.beside]))
            for key, measured in pair:
                yield number, key, measured, server


class Stage:
    """The servers of one scenario, which run side by side until all its rounds are over; use it in `with`."""

    def __init__(self, scratch: Path, options: argparse.Namespace, core: int, built: Path | None) -> None:
        self._scratch = scratch
        self._options = options
        self._core = core
        self._built = built
        # By scenario and server: what measures it and what ends it, and how it failed since it last did not.
        self._running: dict[Key, tuple[Measure, ExitStack]] = {}
        self._failures: defaultdict[Key, list[str]] = defaultdict(list)
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, scenario: Scenario, server: Server) -> Measurement | str:
        """Return what came of it, or what went wrong: that is a result, too.

        A server that has failed is started again; one that has failed PATIENCE times in a row is not.
        """
        key = scenario.key, server.name
        failures = self._failures[key]
        if len(failures) >= PATIENCE:
            return failures[-1]
        try:
            if key not in self._running:
                self._running[key] = self._start(scenario, server)
            measured = self._running[key][0](self._options.seconds)
        except Failure as error:
            failures.append(str(error))
        except subprocess.TimeoutExpired:
            failures.append("the load does not come to an end")
        else:
            failures.clear()
            return measured
        if key in self._running:
            self._running.pop(key)[1].close()
        return failures[-1]

    def _start(self, scenario: Scenario, server: Server) -> tuple[Measure, ExitStack]:
        own = self._stack.enter_context(ExitStack())
        name = f"{scenario.key} {server.name}".replace(" ", "-")
        directory = Path(own.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix=f"{name}-")))
        environment = {"PYTHONPATH": f"{self._built}:{HERE}"} if self._built and server.is_extra else {}
        cores = (self._core,)
        binaries = self._options.bin
        place = Place(server, scenario.setting, scenario.app, binaries, directory, self._scratch, cores, environment)
        place.write_version("old")
        return own.enter_context(scenario.load.prepared(place, self._options.warm_up)), own


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same with --resume goes on from here")
