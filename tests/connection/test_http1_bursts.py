"""When the parts of an HTTP/1 body leave: a few at once, those that follow at once together, a late one at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.connection import burst
from serverd.connection.http1_stream import JOIN_LIMIT
from tests.support.clock import Clock
from tests.support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}
FEW = burst.FEW
SOON, LATE = burst.GAP / 2, burst.GAP * 2


def part(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


Script = Callable[[Callable[[bytes], Awaitable[None]], Callable[[], bytes]], Awaitable[None]]


def run(script: Script) -> Wire:
    """Answer a request by `script(send_part, written)`, then end the response; return the wire, which is closed."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await script(lambda data: send(part(data)), lambda: bytes(wire.transport.written))
        await send(END)

    with Wire(Failing(application)) as wire:
        wire.transport.deliver(GET)
        wire.settle()
    return wire


class Failing:
    """An application whose failure is the test's, not one that the server answers."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, *arguments: Any) -> None:
        try:
            await self._application(*arguments)
        except BaseException as error:
            asyncio.get_running_loop().call_exception_handler({"message": "the script failed", "exception": error})
            raise


def body_of(data: bytes) -> bytes:
    """Return the body of a chunked response, which has to be complete."""
    _, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        body, ended, rest = body + rest[:count], rest[count : count + 2], rest[count + 2 :]
        assert ended == b"\r\n"
        if not count:
            assert not rest
            return body


async def begin(send_part: Any) -> None:
    """Send as many parts as leave each by itself."""
    for _ in range(FEW):
        await send_part(b".")


def test_the_first_part_leaves_at_once_with_the_head(clock: Clock) -> None:
    async def script(send: Any, written: Any) -> None:
        await send(b"first")
        assert written().startswith(b"HTTP/1.1 200 ")
        assert written().endswith(b"5\r\nfirst\r\n")

    assert run(script).transport.writes == 2


def test_an_event_of_a_few_parts_is_whole_at_once(clock: Clock) -> None:
    """Also when the application then keeps the loop to itself."""

    async def script(send: Any, written: Any) -> None:
        for _ in range(3):
            clock.now += LATE
            for number in range(FEW):
                await send(b"%d" % number)
                assert written().endswith(b"1\r\n%d\r\n" % number)

    assert run(script).transport.writes == 3 * FEW + 1


def test_parts_that_follow_at_once_leave_together_with_the_end(clock: Clock) -> None:
    async def script(send: Any, written: Any) -> None:
        for _ in range(40):
            clock.now += SOON
            await send(b"x" * 100)

    transport = run(script).transport
    assert transport.writes == FEW + 1
    assert body_of(bytes(transport.written)) == b"x" * 4000


def test_they_leave_at_the_end_of_the_turn_when_the_application_waits(clock: Clock) -> None:
    async def script(send: Any, written: Any) -> None:
        await begin(send)
        await send(b"first")
        await send(b"second")
        assert not written().endswith(b"second\r\n")
        await asyncio.sleep(0)
        assert written().endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n")

    assert run(script).transport.writes == FEW + 2


def test_a_late_part_leaves_at_once_with_those_before_it(clock: Clock) -> None:
    """Whoever computes between two parts keeps the loop, not what it has sent."""

    async def script(send: Any, written: Any) -> None:
        await begin(send)
        await send(b"first")
        clock.now += LATE
        await send(b"second")
        assert written().endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n")

    run(script)


def test_the_first_parts_of_the_next_response_leave_at_once(clock: Clock) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(FEW):
            await send(part(b"first"))
            assert wire.transport.written.endswith(b"first\r\n")
        await send(END)

    with Wire(Failing(application)) as wire:
        wire.send(GET)
        assert wire.send(GET).endswith(b"first\r\n0\r\n\r\n")


def test_no_more_waits_than_is_worth_joining(clock: Clock) -> None:
    async def script(send: Any, written: Any) -> None:
        await begin(send)
        await send(b"x" * JOIN_LIMIT)
        assert not written().endswith(b"x\r\n")
        await send(b"y")
        assert written().endswith(b"y\r\n")

    run(script)


@pytest.mark.parametrize(
    ("get", "end"),
    [(GET, b"4\r\nlast\r\n"), (b"GET / HTTP/1.0\r\n\r\n", b"...last")],  # the end of which is that of the connection
)
def test_what_has_been_sent_arrives_before_a_failure_ends_the_connection(clock: Clock, get: bytes, end: bytes) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await begin(lambda data: send(part(data)))
        await send(part(b"last"))
        raise RuntimeError

    with Wire(application) as wire:
        assert wire.send(get).endswith(end)
        assert wire.closed


def test_nothing_is_written_after_the_client_has_gone(clock: Clock) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await begin(lambda data: send(part(data)))
        await send(part(b"last"))
        wire.transport.abort()
        wire.transport.write = None  # type: ignore[method-assign,assignment]

    with Wire(application) as wire:
        wire.send(GET)


def test_trailers_come_behind_what_waits(clock: Clock) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await begin(lambda data: send(part(data)))
        await send(part(b"first"))
        await send({"type": "http.response.body", "body": b"second"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    with Wire(application) as wire:
        assert wire.send(GET).endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\nx-sum: 1\r\n\r\n")
        assert not wire.closed


STEPS = st.lists(
    st.tuples(
        st.integers(0, 9000),
        st.sampled_from((0.0, SOON, LATE)),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@given(STEPS)
def test_however_they_come_the_body_is_the_same(steps: list[tuple[int, float, bool]]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(burst, "perf_counter", clock)
        sent = [bytes([number % 256]) * size for number, (size, _, _) in enumerate(steps)]

        async def script(send: Any, written: Any) -> None:
            for data, (_, pause, waits) in zip(sent, steps, strict=True):
                clock.now += pause
                await send(data)
                if waits:
                    await asyncio.sleep(0)

        assert body_of(bytes(run(script).transport.written)) == b"".join(sent)
