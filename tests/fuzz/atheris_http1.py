"""A coverage-guided fuzz target for the HTTP/1 decoder, run by hand (README.md): two parsers, two cuts, one result."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris

with atheris.instrument_imports(include=["serverd"]):
    from tests.fuzz.test_differential import outcome, without_last_body


class Finding(Exception):
    """Two readings of the same bytes differ."""


def check(data: bytes) -> None:
    """Raise Finding when parsers or cuts disagree about `data`."""
    if len(data) < 2:
        return  # nothing to cut, and a decoder is never fed nothing
    whole = without_last_body(outcome([data], "httptools"))
    half = len(data) // 2
    others = {
        "h11": outcome([data], "h11"),
        "two halves": outcome([data[:half], data[half:]], "httptools"),
        "byte by byte": outcome([data[i : i + 1] for i in range(len(data))], "h11"),
    }
    for name, other in others.items():
        if without_last_body(other) != whole:
            raise Finding(f"{name}: {other} is not {whole}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
