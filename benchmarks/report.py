"""The results of a comparison: kept as they were measured, shown as ratios.

Ratios are those of one round, and of them the median: rounds drift, ratios less. A ratio says how many times better
serverd is, whatever is counted, so above 1 it is ahead.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loads import Measurement
from scenarios import SCENARIOS, Scenario
from servers import SERVERS

__all__ = ["OURS", "Results", "beside", "publish", "show"]

HERE = Path(__file__).parent
OURS = "serverd"
BUSY = 0.9  # of its core; a load that takes more may be what limits the rate
BEGIN, END = "<!-- results: written by make bench -->\n", "<!-- end of results -->\n"

FEW = 4  # rounds; of fewer nothing is said of how far they lie apart
LESS = ("cpu", "p99", "memory")  # the better the less there is


def beside(scenario: Scenario) -> str:
    """Return the key of what is measured right before a variant, to compare it with."""
    return f"{scenario.key}, beside {scenario.beside}"


class Results:
    """Every measurement of a comparison."""

    def __init__(self, about: dict[str, Any], rows: Iterable[dict[str, Any]] = ()) -> None:
        self.about = about
        self.rows = list(rows)

    @classmethod
    def load(cls, file: Path) -> Results:
        """Read what a run before has kept; nothing when there was none."""
        if not file.exists():
            return cls({})
        kept = json.loads(file.read_text())
        return cls(kept["about"], kept["measurements"])

    def note(self, about: dict[str, Any], command: str) -> None:
        """Keep what describes this run, and its command below those of the runs before that it goes on with."""
        commands = self.about.get("command", "").splitlines()
        self.about = {"command": "\n".join(dict.fromkeys([*commands, command])), **about}

    def save(self, file: Path) -> None:
        """Write all of it: one line for each measurement."""
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(row) for row in self.rows)
        about = json.dumps(self.about, indent=1)
        fresh = file.with_suffix(".new")  # an interruption leaves the one before whole
        fresh.write_text(f'{{"about": {about},\n "measurements": [\n  {lines}\n]}}\n')
        fresh.replace(file)

    def add(self, number: int, scenario: str, server: str, outcome: Measurement | str) -> None:
        """Keep a measurement, or what went wrong."""
        row: dict[str, Any] = {"round": number, "scenario": scenario, "server": server}
        self.rows.append(row | ({"failed": outcome} if isinstance(outcome, str) else _rounded(asdict(outcome))))

    def has(self, number: int, scenario: str, server: str) -> bool:
        """Return whether this has been measured."""
        return any((row["round"], row["scenario"], row["server"]) == (number, scenario, server) for row in self.rows)

    def last(self) -> str:
        """Say the last measurement in a line."""
        return ", ".join(f"{name} {value}" for name, value in list(self.rows[-1].items())[3:] if value is not None)

    def of(self, scenario: str, server: str) -> dict[int, dict[str, Any]]:
        """Return the measurements of a server in a scenario, by round."""
        return {row["round"]: row for row in self.rows if (row["scenario"], row["server"]) == (scenario, server)}

    def servers(self) -> list[str]:
        """Return the servers that have been measured, in order; ours is first."""
        measured = {row["server"] for row in self.rows}
        return [server.name for server in SERVERS if server.name in measured or server.name == OURS]

    def scenarios(self) -> list[Scenario]:
        """Return the scenarios that have been measured, in order."""
        measured = {row["scenario"] for row in self.rows}
        return [scenario for scenario in SCENARIOS if scenario.key in measured]

    def ratio(self, scenario: Scenario, server: str, figure: str, ours: str = OURS, key: str = "") -> float | None:
        """Return the median of what `ratios` says; None when nothing was measured."""
        found = self.ratios(scenario, server, figure, ours, key)
        return statistics.median(found) if found else None

    def ratios(self, scenario: Scenario, server: str, figure: str, ours: str = OURS, key: str = "") -> list[float]:
        """Return how many times better `ours` is than the server (in what `key` names), by this figure, a round."""
        mine, others = self.of(scenario.key, ours), self.of(key or scenario.key, server)
        less = figure in LESS or not scenario.load.more_is_better
        found = []
        for number in mine.keys() & others.keys():
            one, other = mine[number].get(figure), others[number].get(figure)
            if one and other:
                found.append(other / one if less else one / other)
        return found

    def problem(self, scenario: str, server: str) -> str:
        """Return what went wrong with a server in a scenario, "" if nothing did."""
        rows = self.of(scenario, server).values()
        failures = {row["failed"] for row in rows if "failed" in row}
        errors = sum(row.get("errors", 0) for row in rows)
        texts = [*sorted(failures), *([f"{errors} requests or connections failed"] if errors else [])]
        return "; ".join(texts)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in values.items()}


def show(results: Results) -> str:
    """Return the tables in Markdown."""
    peers = [name for name in results.servers() if name not in (OURS, "serverd compiled")]
    parts = [
        f"{results.about['python']}, {results.about['machine']}; {_versions(results)}",
        "",
        *[f"    {command}" for command in results.about["command"].splitlines()],
        "",
        *(_beside_peers(results, peers) if peers else []),
        _beside_itself(results),
    ]
    if "serverd compiled" in results.servers():
        parts += ["serverd compiled by mypyc, against itself interpreted: by rate and (in brackets) by CPU time.", ""]
        parts += [_compiled(results)]
    problems = [
        f"- {scenario.name}, {name}: {problem}"
        for scenario in results.scenarios()
        for name in results.servers()
        if (problem := results.problem(scenario.key, name))
    ]
    parts += ["Failures:", "", *(problems or ["- none"]), "", _busy(results)]
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _beside_peers(results: Results, peers: list[str]) -> list[str]:
    return [
        "How many times better serverd is than each peer, by rate and (in brackets) by CPU time of the server for each"
        ' request; for the last rows by what they name, less being better. Above 1: serverd is ahead. "-": the peer'
        " cannot do it. *: see the failures below.",
        "",
        _table(results, peers, "value", "cpu"),
        "The same for the time that 99 of 100 requests stay below and (in brackets) for the memory of all processes:",
        "",
        _table(results, peers, "p99", "memory"),
        _spread(results, peers),
        "",
    ]


def _spread(results: Results, peers: list[str]) -> str:
    """Say how far the rounds lie apart."""
    halves, rounds = [], 0
    for scenario in results.scenarios():
        for name in peers:
            found = results.ratios(scenario, name, "value")
            rounds = max(rounds, len(found))
            if len(found) >= FEW:
                low, middle, high = statistics.quantiles(found, n=4)
                halves.append((high - low) / middle)
    if not halves:
        return f"{rounds} rounds."
    usual, worst = statistics.median(halves), max(halves)
    return (
        f"Up to {rounds} rounds. Half of the ratios by rate of a cell lie no further apart than {usual:.0%} of their"
        f" median in half of the cells, and {worst:.0%} in the worst."
    )


def _versions(results: Results) -> str:
    versions = json.loads(results.about["versions"])
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _table(results: Results, peers: list[str], figure: str, second: str) -> str:
    lines = [f"| scenario | {' | '.join(peers)} |", f"|---|{'---|' * len(peers)}"]
    for scenario in results.scenarios():
        cells = [_cell(results, scenario, name, figure, second) for name in peers]
        if any(cell.strip("-*") for cell in cells):
            lines.append(f"| {scenario.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(results: Results, scenario: Scenario, name: str, figure: str, second: str) -> str:
    if not results.of(scenario.key, name):
        return "-"
    first, other = (results.ratio(scenario, name, of) for of in (figure, second))
    mark = "*" if results.problem(scenario.key, name) else ""
    if first is None:
        return mark or "-"
    return f"{first:.2f}" + (f" ({other:.2f})" if other is not None else "") + mark


def _beside_itself(results: Results) -> str:
    lines = [
        "serverd beside itself, one thing changed: by rate and (in brackets) by CPU time.",
        "",
        "| with | beside | |",
    ]
    lines.append("|---|---|---|")
    for scenario in results.scenarios():
        if scenario.beside:
            rate, cpu = (results.ratio(scenario, OURS, of, key=beside(scenario)) for of in ("value", "cpu"))
            if rate is not None and cpu is not None:
                lines.append(f"| {scenario.name} | {scenario.beside} | {rate:.2f} ({cpu:.2f}) |")
    return "\n".join([*lines, ""]) if len(lines) > 4 else ""


def _compiled(results: Results) -> str:
    lines = ["| scenario | |", "|---|---|"]
    for scenario in results.scenarios():
        rate, cpu = (results.ratio(scenario, OURS, of, ours="serverd compiled") for of in ("value", "cpu"))
        if rate is not None:
            lines.append(f"| {scenario.name} | {rate:.2f}" + (f" ({cpu:.2f}) |" if cpu is not None else " |"))
    return "\n".join([*lines, ""])


def _busy(results: Results) -> str:
    busy = {(row["scenario"], row["server"]) for row in results.rows if (row.get("load") or 0) > BUSY}
    if not busy:
        return ""
    names = ", ".join(f"{scenario} ({server})" for scenario, server in sorted(busy))
    return f"Where the load had no time left, so that only the CPU time tells how fast the server is: {names}."


def publish(results: Results, binaries: Path) -> None:
    """Write the results beside README.md: results.json, results.png, and the tables in it."""
    results.save(HERE / "results.json")
    subprocess.run([binaries / "python", HERE / "plot.py", HERE / "results.json", HERE / "results.png"], check=True)
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{show(results)}\n![ratios](results.png)\n\n{END}{after}")
