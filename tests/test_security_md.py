"""SECURITY.md names limits and their values: every one of them is held against the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import tomli

from serverd.config import models
from serverd.config.values import parse_duration, parse_size
from tests.support.every import every

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")

TABLES = {
    "limits": models.Limits,
    "limits.http2": models.Http2Limits,
    "limits.websocket": models.WebSocketLimits,
    "listeners.NAME": models.Listener,
    "apps.NAME": models.App,
    "mounts": models.Mount,
    "server": models.Server,
}
KEYS: list[tuple[str, str]] = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", TEXT, re.MULTILINE)
FIXED: list[tuple[str, str]] = re.findall(r"^\| [^|`]+: `([\w.]+)`[^|]* \| `([^`]+)` \|", TEXT, re.MULTILINE)


@every(("key", "shown"), KEYS)
def test_a_default_is_that_of_the_model(key: str, shown: str) -> None:
    table, _, name = key.rpartition(".")
    default = TABLES[table].model_fields[name].default
    assert tomli.loads(f"value = {shown}")["value"] == (list(default) if isinstance(default, tuple) else default)


@every(("name", "shown"), FIXED)
def test_a_fixed_bound_is_that_of_the_code(name: str, shown: str) -> None:
    module, _, constant = name.rpartition(".")
    value: Any = getattr(importlib.import_module(f"serverd.{module}"), constant)
    assert value == (
        int(shown) if shown.isdigit() else parse_duration(shown) if shown[-1] == "s" else parse_size(shown)
    )


def test_every_limit_and_every_key_of_trust_is_there_once() -> None:
    trust = [name for name in models.Listener.model_fields if name.endswith(("_proxies", "_headers", "_protocol"))]
    wanted = {f"limits.{name}" for name in models.Limits.model_fields} - {"limits.http2", "limits.websocket"}
    wanted |= {f"limits.http2.{name}" for name in models.Http2Limits.model_fields}
    wanted |= {f"limits.websocket.{name}" for name in models.WebSocketLimits.model_fields}
    wanted |= {f"listeners.NAME.{name}" for name in trust}
    keys = [key for key, _ in KEYS]
    assert wanted | {"mounts.trace", "apps.NAME.request_timeout"} <= set(keys)
    assert len(trust) == 4
    assert len(keys) == len(set(keys))


def test_every_row_was_compared() -> None:
    rows = [line for line in TEXT.partition("\n## Limits\n")[2].splitlines() if line.startswith("|")]
    heads = 2 * sum(line.startswith("|---") for line in rows)
    assert len(KEYS) + len(FIXED) == len(rows) - heads > 0


def test_what_it_links_to_is_there() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", TEXT)]
    assert all((ROOT / link).exists() for link in links)
    for other in ("README.md", "CONTRIBUTING.md"):
        assert "](SECURITY.md)" in (ROOT / other).read_text("utf-8")
