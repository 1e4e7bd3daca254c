"""What a request costs in calls and memory is what was agreed: `tests/counts.json`, counted by `support.counting`."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serverd.version import is_compiled
from tests.support.counting import FIGURES, VERSION, Figures, deviations

ROOT = Path(__file__).parents[1]

REMEDY = (
    "if the change is worth it, or has made it better, `make count` writes the new figures to tests/counts.json: "
    "commit them with the change and say there why"
)


def known() -> Figures:
    if is_compiled():
        pytest.skip("what is compiled makes no calls that Python could count")
    figures: dict[str, Figures] = json.loads(FIGURES.read_text())
    if VERSION not in figures:
        pytest.skip(f"tests/counts.json has no figures of Python {VERSION}: `make count` adds them")
    return figures[VERSION]


def test_a_request_costs_what_it_cost_before() -> None:
    expected = known()
    command = [sys.executable, "-m", "tests.support.counting"]
    counted = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30)
    found = deviations(json.loads(counted.stdout), expected)
    assert not found, "what a request costs has changed: " + "; ".join(found) + f". {REMEDY}"


def test_a_thousand_mounts_cost_no_call_more_than_one() -> None:
    one, thousand = (known()[kind] for kind in ("HTTP/1 GET", "HTTP/1 GET, 1,000 mounts"))
    assert (thousand["python"], thousand["c"]) == (one["python"], one["c"])


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("name", ["python", "c"])
def test_one_call_more_or_less_is_noticed(name: str, step: int) -> None:
    expected = known()
    for kind in expected:
        changed = copy.deepcopy(expected)
        changed[kind][name] += step
        (sentence,) = deviations(changed, expected)
        assert sentence.startswith(f"{kind}: ")
        assert f" 1 {'more' if step > 0 else 'less'} than " in sentence


@pytest.mark.parametrize("kept", [[None], (None,), {None: None}], ids=["list", "tuple", "dictionary"])
def test_one_object_more_is_noticed(kept: object) -> None:
    expected = known()
    kind = next(iter(expected))
    changed = copy.deepcopy(expected)
    changed[kind]["bytes"] += sys.getsizeof(kept)
    (sentence,) = deviations(changed, expected)
    assert "bytes held" in sentence
    assert " more than " in sentence


def test_a_kind_without_figures_is_noticed() -> None:
    expected = known()
    kind = next(iter(expected))
    assert len(deviations({name: of for name, of in expected.items() if name != kind}, expected)) == len(expected[kind])
