"""A coverage-guided fuzz target for the HTTP/1 decoder, run by hand (README.md): two parsers, two cuts, one result."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris

with atheris.instrument_imports(include=["serverd"]):
    from tests.fuzz.test_differential import outcome


class Finding(Exception):
    """Two readings of the same bytes differ."""


def check(data: bytes) -> None:
    """Raise Finding when parsers or cuts disagree about `data`."""
    if len(data) < 2:
        return  # nothing to cut, and a decoder is never fed nothing
    whole = outcome(data, "httptools")
    others = {
        "h11": outcome(data, "h11"),
        "two halves": outcome(data, "httptools", [len(data) // 2]),
        "byte by byte": outcome(data, "h11", range(len(data))),
    }
    for name, other in others.items():
        if other != whole:
            raise Finding(f"{name}: {other} is not {whole}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
