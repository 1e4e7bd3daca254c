"""What benchmarks/ says of what it has measured; that it measures is seen when it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ABOUT = {"python": "CPython", "machine": "Linux", "versions": "{}"}
SHOW = """
import json, sys
from pathlib import Path
from report import Results, show
results = Results({})
for about, command, rows in json.load(sys.stdin):
    results.note(about, command)
    results.rows += rows
    results.save(Path(sys.argv[1]))
    results = Results.load(Path(sys.argv[1]))
print(show(results))
"""


def row(server: str, rate: float, number: int = 0, scenario: str = "get") -> dict[str, Any]:
    return {"round": number, "scenario": scenario, "server": server, "value": rate, "cpu": 1e6 / rate, "errors": 0}


def shown(directory: Path, *runs: tuple[str, list[dict[str, Any]]]) -> str:
    """Return what is shown after runs of these commands, each going on with the file of the one before."""
    given = json.dumps([(ABOUT, command, rows) for command, rows in runs])
    command = [sys.executable, "-c", SHOW, str(directory / "results" / "kept.json")]
    done = subprocess.run(
        command, cwd=BENCHMARKS, input=given, env={"PYTHONPATH": "."}, capture_output=True, text=True, timeout=30
    )
    assert not done.stderr
    return done.stdout


def test_a_ratio_is_that_of_one_round_and_the_median_of_all(tmp_path: Path) -> None:
    rows = [row("serverd", 200, 0), row("uvicorn", 100, 0), row("serverd", 50, 1), row("uvicorn", 100, 1)]
    text = shown(tmp_path, ("make bench", [*rows, row("serverd", 300, 2), row("uvicorn", 100, 2)]))
    assert "| plain GET | 2.00 (2.00) |" in text


def test_how_far_the_rounds_lie_apart_is_told(tmp_path: Path) -> None:
    rates = [100, 120, 140, 160, 180]
    rows = [one for at, rate in enumerate(rates) for one in (row("serverd", rate, at), row("uvicorn", 100, at))]
    text = shown(tmp_path, ("make bench", rows))
    assert "Up to 5 rounds. Half of the ratios by rate of a cell lie no further apart than 43% of their median" in text
    assert "Up to 2 rounds." not in text
    assert "\n2 rounds.\n" in shown(tmp_path, ("make bench again", rows[:4]))


def test_a_server_that_was_measured_later_is_shown_beside_the_others(tmp_path: Path) -> None:
    first = ("make bench --servers uvicorn", [row("serverd", 200), row("uvicorn", 100)])
    text = shown(tmp_path, first, ("make bench --servers granian", [row("granian", 400)]))
    assert "| scenario | uvicorn | granian |" in text
    assert "| plain GET | 2.00 (2.00) | 0.50 (0.50) |" in text
    assert "\n    make bench --servers uvicorn\n    make bench --servers granian\n" in text


def test_a_run_that_went_on_with_the_same_command_shows_it_once(tmp_path: Path) -> None:
    text = shown(tmp_path, ("make bench", [row("serverd", 200)]), ("make bench", [row("uvicorn", 100)]))
    assert text.count("make bench") == 1


def test_a_variant_is_compared_with_what_was_measured_right_before_it(tmp_path: Path) -> None:
    rows = [row("serverd", 200, scenario="browser"), row("serverd", 100, scenario="mounts-50, beside browser")]
    text = shown(tmp_path, ("make bench", [*rows, row("serverd", 90, scenario="mounts-50")]))
    assert "| 50 mounts | browser | 0.90 (0.90) |" in text


def run(code: str) -> str:
    """Return what a program prints that has the modules of benchmarks/."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BENCHMARKS,
        env={"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not done.stderr
    return done.stdout


def test_each_is_measured_once_a_round_in_changing_order_and_a_variant_beside_what_it_is_one_of() -> None:
    said = run("""
from run import turns
from scenarios import SCENARIOS
from servers import SERVERS
[scenario] = [scenario for scenario in SCENARIOS if scenario.key == "mounts-50"]
servers = [server for server in SERVERS if server.name in ("serverd", "uvicorn", "granian", "hypercorn")]
for number, key, measured, server in turns(6, scenario, servers):
    print(number, key, measured.key, server.name, sep="; ")
""").splitlines()
    rounds = [[line[3:] for line in said if line.startswith(f"{number};")] for number in range(6)]
    variant, beside = "mounts-50; mounts-50; serverd", "mounts-50, beside browser; browser; serverd"
    peers = {f"mounts-50; mounts-50; {name}" for name in ("uvicorn", "granian", "hypercorn")}
    assert all(len(one) == 5 and set(one) == {variant, beside, *peers} for one in rounds)
    assert len({tuple(one) for one in rounds}) > 3
    assert [one.index(variant) - one.index(beside) for one in rounds] == [1, -1] * 3


STAGE = """
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from place import Failure
from run import Stage

class Load:
    def __init__(self, name, outcomes):
        self.name, self.outcomes = name, iter(outcomes)

    @contextmanager
    def prepared(self, place, warm_up):
        print("start", self.name)
        try:
            yield self.measure
        finally:
            print("stop", self.name)

    def measure(self, seconds):
        outcome = next(self.outcomes)
        if outcome == "fails":
            raise Failure(f"{self.name} fails")
        return outcome

options = Namespace(bin=Path("/nowhere"), seconds=1, warm_up=0)
"""


def test_a_server_that_fails_is_started_again_and_disturbs_no_other(tmp_path: Path) -> None:
    said = run(
        STAGE
        + f"""
with Stage(Path({str(tmp_path)!r}), options, 0, None) as stage:
    one = SimpleNamespace(key="x", setting="plain", app="", load=Load("one", ["fails", 1, "fails", "fails", 4]))
    two = SimpleNamespace(key="y", setting="plain", app="", load=Load("two", [1, 2, 3, 4, 5]))
    server = SimpleNamespace(name="s", is_extra=False)
    for number in range(5):
        print(stage.measure(one, server), stage.measure(two, server))
"""
    )
    assert said.splitlines() == [
        *("start one", "stop one", "start two", "one fails 1"),
        *("start one", "1 2"),
        *("stop one", "one fails 3"),
        *("start one", "stop one", "one fails 4"),
        "one fails 5",  # twice in a row: the end of it
        "stop two",
    ]
    assert not [*tmp_path.iterdir()]


def test_who_has_failed_is_named(tmp_path: Path) -> None:
    rows = [row("serverd", 200), {**row("uvicorn", 100), "errors": 3}]
    text = shown(tmp_path, ("make bench", rows))
    assert "| plain GET | 2.00 (2.00)* |" in text
    assert "- plain GET, uvicorn: 3 requests or connections failed" in text


def test_no_round_is_none() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--rounds", "0"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert done.stderr.endswith("argument --rounds: '0' is no number of rounds: expected 1 or more\n")
