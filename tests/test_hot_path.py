"""Whoever reads a line that is ugly for speed finds what it is worth: its comment names a benchmark that there is."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARK = "Hot path:"


def scenarios() -> set[str]:
    """Return the names of the rows in benchmarks/scenarios.py."""
    tree = ast.parse((ROOT / "benchmarks" / "scenarios.py").read_text())
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    return {ast.literal_eval(call.args[1]) for call in calls if call.func.id == "Scenario"}  # type: ignore[attr-defined]


def counted() -> set[str]:
    """Return the kinds of requests in tests/counts.json."""
    return {kind for kinds in json.loads((ROOT / "tests" / "counts.json").read_text()).values() for kind in kinds}


NAMES = {"benchmarks/": scenarios(), "tests/counts.json": counted()}


def comments(source: str) -> list[str]:
    """Return the comments of a module; those of lines that follow each other are one."""
    found: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if token.start[0] == last + 1:
                found[-1] += f" {text}"
            else:
                found.append(text)
            last = token.start[0]
    return found


def unjustified(comment: str) -> str:
    """Return what is wrong with a comment that has the mark; "" if nothing is."""
    named = 0
    for place, rest in re.findall(r'(benchmarks/|tests/counts\.json)((?:,? "[^"]+")+)', comment):
        for name in re.findall(r'"([^"]+)"', rest):
            if not any(name in one for one in NAMES[place]):
                return f"{place} has no {name!r}"
            named += 1
    return "" if named else "names no benchmark"


def marked() -> list[tuple[str, str]]:
    """Return module and text of every such comment."""
    return [
        (str(file.relative_to(ROOT)), comment)
        for file in sorted((ROOT / "server").rglob("*.py"))
        for comment in comments(file.read_text())
        if MARK in comment
    ]


def test_every_line_that_is_ugly_for_speed_names_a_benchmark_that_there_is() -> None:
    found = marked()
    assert len(found) > 40  # the search works
    wrong = [f"{file}: {problem}: {text}" for file, text in found if (problem := unjustified(text))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "comment", ["Hot path: faster", 'Hot path: it is; benchmarks/ "gopher"', 'benchmarks/ "plain GET", "gopher"']
)
def test_one_that_names_none_is_noticed(comment: str) -> None:
    assert unjustified(comment)
