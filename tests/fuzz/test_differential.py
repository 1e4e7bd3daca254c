"""The two parsers, and every way of cutting the same bytes, must come to the same result.

What is compared: the heads with every field, the bodies, and the status of the refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serverd.protocol.http1_head import Bounds
from tests.fuzz.grammar import damaged
from tests.support.fuzzing import examples
from tests.support.wire import PARSERS, decode

BOUNDS = Bounds(request_line=200, header_size=600, header_count=6, body_size=64)


def outcome(data: bytes, parser: str, cuts: Iterable[int] = (), eof: bool = False) -> tuple[Any, ...]:
    """Return what a connection would make of these bytes, cut at these places; `eof`: no more follow.

    Of a body that is refused only that it was: how much of it was seen before depends on the cuts.
    """
    made = decode(data, parser, BOUNDS, cuts, eof)
    unfinished = made.requests[-1].body if made.requests and made.status is None else b""
    return *made.summary(), unfinished


@examples(1500)
@given(damaged(), st.booleans())
def test_httptools_and_h11_agree_on_every_input(data: bytes, eof: bool) -> None:
    assert outcome(data, "httptools", eof=eof) == outcome(data, "h11", eof=eof)


@examples(1500)
@given(damaged(), st.lists(st.integers(0, 1000), max_size=4), st.sampled_from(sorted(PARSERS)), st.booleans())
def test_the_result_does_not_depend_on_how_the_bytes_arrive(
    data: bytes, places: list[int], parser: str, eof: bool
) -> None:
    whole = outcome(data, parser, eof=eof)
    assert outcome(data, parser, [place % (len(data) + 1) for place in places], eof) == whole
    assert outcome(data, parser, range(len(data)), eof) == whole
