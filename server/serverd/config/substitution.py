"""`${NAME}` and `${NAME:-default}` in string values, taken from the environment.

One pass over the values as tomli read them: what a variable holds is never looked at again, and keys are
left alone. `$${` stands for a plain `${`. As in a shell, `:-` also answers for an empty variable. Called
by `load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serverd.config.locate import Path
from serverd.config.values import Substituted

__all__ = ["substitute"]

MOST_CHARACTERS = 4 * 1024 * 1024  # of all strings with references: a short file can name a long variable often

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\{")


def substitute(values: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
    """Return a copy of `values` with every reference replaced, and what could not be as (key path, message)."""
    failures: list[tuple[Path, str]] = []
    room = MOST_CHARACTERS

    def visit(value: Any, path: Path) -> Any:
        nonlocal room
        if isinstance(value, dict):
            return {key: visit(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [visit(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            try:
                expanded = _expand(value, environ, room)
                room -= len(expanded)
                return expanded
            except ValueError as error:
                failures.append((path, str(error)))
        return value

    expanded: dict[str, Any] = visit(values, ())
    return expanded, failures


def _expand(text: str, environ: Mapping[str, str], room: int) -> str:
    """Return `text` with its references replaced; a ValueError tells what is wrong with the first that fails."""
    longest = len(text)

    def replace(found: re.Match[str]) -> str:
        nonlocal longest
        if found[0] == "$${":
            return "${"
        if found["name"] is None:
            raise ValueError(
                'holds "${" that begins no reference (expected ${NAME} or ${NAME:-default}; $${ is a plain one)'
            )
        value = environ.get(found["name"])
        if found["default"] is not None and not value:
            return found["default"].removeprefix(":-")
        if value is None:
            name = found["name"]
            raise ValueError(f"needs the environment variable {name}, which is not set (a default is ${{{name}:-...}})")
        longest += len(value)
        if longest > room:
            raise ValueError(f"makes the values of this file longer than {MOST_CHARACTERS} characters")
        return value

    return Substituted(_REFERENCE.sub(replace, text))
