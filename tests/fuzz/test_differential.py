"""The two parsers, and every way of cutting the same bytes, must come to the same result.

What is compared: the heads with every field, the bodies, and the status of the refusal.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serverd.errors import PeerError
from serverd.protocol.head import RequestHead
from serverd.protocol.http1 import DONE, Http1Decoder
from serverd.protocol.http1_head import Bounds
from tests.fuzz.grammar import damaged
from tests.support.wire import PARSERS

BOUNDS = Bounds(request_line=200, header_size=600, header_count=6, body_size=64)
# The same examples every time: a finding belongs into the suite, not into one lucky run. By hand:
# pytest tests/fuzz --hypothesis-seed=random -o addopts= with a larger max_examples.
fuzzing = settings(
    max_examples=1500, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


class Sink:
    """Keeps what a decoder pushes; parts of a body are joined, as their cut means nothing."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_head(self, head: RequestHead) -> None:
        names = ("method", "version", "host", "path", "raw_path", "query", "length", "keep_alive", "expects_continue")
        self.seen.append((*(getattr(head, name) for name in names), tuple(head.fields)))

    def on_body(self, data: bytes) -> None:
        assert data
        if isinstance(self.seen[-1], bytes):
            self.seen[-1] += data
        else:
            self.seen.append(data)

    def on_end(self) -> None:
        self.seen.append("end")


def outcome(pieces: list[bytes], parser: str) -> tuple[list[Any], int | None]:
    sink = Sink()
    decoder = Http1Decoder(PARSERS[parser](), sink, BOUNDS)
    try:
        for piece in pieces:
            decoder.feed(piece)
            while decoder.state is DONE and decoder.buffered:
                decoder.next_request()
            if decoder.state is DONE:
                decoder.next_request()
    except PeerError as error:
        return sink.seen, error.status
    return sink.seen, None


def without_last_body(result: tuple[list[Any], int | None]) -> tuple[list[Any], int | None]:
    """Drop what has arrived of a body that is refused: how much of it was seen depends on the cut."""
    seen, status = result
    if status is not None and seen and isinstance(seen[-1], bytes):
        return seen[:-1], status
    return result


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *(p % (len(data) + 1) for p in places)}))]


@fuzzing
@given(damaged())
def test_httptools_and_h11_agree_on_every_input(data: bytes) -> None:
    assert outcome([data], "httptools") == outcome([data], "h11")


@fuzzing
@given(damaged(), st.lists(st.integers(0, 1000), max_size=4), st.sampled_from(sorted(PARSERS)))
def test_the_result_does_not_depend_on_how_the_bytes_arrive(data: bytes, places: list[int], parser: str) -> None:
    whole = without_last_body(outcome([data], parser))
    assert without_last_body(outcome(cut(data, places), parser)) == whole
    assert without_last_body(outcome([data[i : i + 1] for i in range(len(data))], parser)) == whole
