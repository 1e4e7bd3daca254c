"""A whole connection under hostile input, hostile timing and moody applications: what must always hold.

Nothing crashes, nothing is left behind, no request gets two answers, and whatever happened, a silent peer is
gone within the limits.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serverd.generation import Limits
from tests.fuzz.grammar import damaged, message
from tests.support.applications import respond
from tests.support.fuzzing import examples
from tests.support.wire import PARSERS, Wire

LIMITS = Limits(
    header_timeout=5, body_timeout=6, send_timeout=7, keep_alive_timeout=8,
    request_line=200, header_size=600, header_count=6, body_size=64,
)  # fmt: skip
# With a second for each sweep and what lingering adds.
LONGEST = 5 + 6 + 7 + 8 + 10

fuzzing = examples(400)

MOODS = ["answer", "read", "read part", "stream", "stream unread", "raise", "raise late", "return", "short", "trailers"]


class Moody:
    """An application that behaves differently for each request, in the order of `moods`."""

    def __init__(self, moods: list[str]) -> None:
        self.moods = moods
        self.called = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        mood = self.moods[self.called % len(self.moods)]
        self.called += 1
        if mood in ("read", "stream"):
            while (message := await receive())["type"] == "http.request" and message["more_body"]:
                pass
        if mood == "read part":
            await receive()
        if mood == "raise":
            raise RuntimeError(mood)
        if mood == "return":
            return
        if mood in ("answer", "read", "read part"):
            await respond(send, b"A" * 3000)
            return
        headers = [(b"content-length", b"5")] if mood == "short" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": mood == "trailers"})
        await send({"type": "http.response.body", "body": b"AAAA", "more_body": mood != "trailers"})
        if mood == "raise late":
            raise RuntimeError(mood)
        if mood == "trailers":
            await send({"type": "http.response.trailers", "headers": [(b"x", b"y")]})
            return
        await send({"type": "http.response.body", "body": b"" if mood == "short" else b"B" * 100_000})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), damaged() | message),
        st.tuples(st.just("send slowly"), message),
        st.tuples(st.just("advance"), st.integers(1, 4)),
        st.tuples(st.just("take"), st.sampled_from([1, 1000, 1_000_000])),
        st.tuples(st.just("eof"), st.none()),
        st.tuples(st.just("drain"), st.none()),
    ),
    max_size=8,
)


@fuzzing
@given(st.sampled_from(sorted(PARSERS)), st.lists(st.sampled_from(MOODS), min_size=1), steps, st.booleans())
def test_a_connection_always_keeps_its_promises(
    parser: str, moods: list[str], actions: list[tuple[str, Any]], slow: bool
) -> None:
    application = Moody(moods)
    with Wire(application, parser, LIMITS) as wire:
        if slow:
            wire.transport.room = 10_000
        written = b""
        for action, value in actions:
            if action == "send":
                written += wire.send(value)
            elif action == "send slowly":
                written += wire.send_slowly(value)
            elif action == "advance":
                written += wire.advance(value)
            elif action == "take":
                written += wire.take(value)
            elif action == "eof":
                written += wire.send_eof()
            elif not wire.service.draining:
                written += wire.drain()
            assert wire.transport.unsent < 400_000, "more is kept for a peer than backpressure allows"
        written += wire.take() + wire.advance(LONGEST)
        assert not wire.service.connections, "a silent peer is still there"
        assert not wire.service.exchanges, "an application waits for a peer that has gone"
        assert wire.closed
    finals = [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", written)]
    refusals = [status for status in finals if status not in (200, 500)]
    assert len(finals) <= application.called + len(refusals) + written.count(b"\r\nallow: "), "two answers"
    assert len(refusals) <= 1 + written.count(b"\r\nallow: ")
