"""docs/coming-from.md names keys and options that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import tomli

from serverd.cli import main

ROOT = Path(__file__).parents[2]


def keys(table: Any, above: str = "") -> set[str]:
    """Return every key path of a table; of arrays of tables that of their elements."""
    if isinstance(table, list):
        return set().union(*(keys(item, above) for item in table if isinstance(item, dict)))
    found = set()
    for key, value in table.items():
        path = f"{above}.{key}" if above else key
        found |= {path} | (keys(value, path) if isinstance(value, dict | list) else set())
    return found


def reference() -> set[str]:
    """Return the keys of config/reference.toml, also those that are commented out, with NAME for names."""
    text = (ROOT / "config" / "reference.toml").read_text()
    text = re.sub(r"(?m)^# (\[|[a-z_]+ = )", r"\1", text)
    found = keys(tomli.loads(text))
    return {re.sub(r"^(listeners|apps|tls)\.\w+", r"\1.NAME", key) for key in found}


def options() -> set[str]:
    run = main.commands["run"]
    params = [*main.params, *run.get_params(click.Context(run))]
    return {name for param in params if isinstance(param, click.Option) for name in param.opts}


def test_every_key_and_option_that_the_page_names_exists() -> None:
    known = reference() | options()
    rows = [line.split("|") for line in (ROOT / "docs" / "coming-from.md").read_text().splitlines() if "|" in line]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    assert len(named) > 200
    assert [name for name in named if name not in known] == []
