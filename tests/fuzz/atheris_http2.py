"""A coverage-guided fuzz target for the HTTP/2 core, run by hand (README.md): two cuts, one result, bounded memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris

with atheris.instrument_imports(include=["serverd"]):
    from tests.fuzz.test_http2_differential import ours
    from tests.protocol.http2_peer import PREFACE, SETTINGS, frame


class Finding(Exception):
    """Two readings of the same bytes differ."""


def check(data: bytes) -> None:
    """Raise Finding when the cut of the bytes behind a preface makes a difference; `ours` asserts the bounds."""
    if not data:
        return
    cut = data[0] % 40 + 1
    stream = PREFACE + frame(SETTINGS) + data[1:]
    whole, one = ours(stream)
    pieces, other = ours(stream, cut)
    if (whole, one.bodies.keys(), one.complete, one.reset) != (
        pieces,
        other.bodies.keys(),
        other.complete,
        other.reset,
    ):
        raise Finding(f"{whole} is {pieces} in pieces of {cut}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
