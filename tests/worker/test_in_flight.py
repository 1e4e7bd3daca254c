"""The requests in flight as they are shown, with ages that no request has paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.asgi.scope import Endpoint
from serverd.messages import IN_FLIGHT_SHOWN
from serverd.worker.in_flight import InFlight
from tests.support.wire import Wire


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(Endpoint(hangs, "shop")) as wire:
        yield wire


@pytest.fixture
def in_flight(wire: Wire) -> InFlight:
    return InFlight(lambda: list(wire.service.exchanges), wire.loop.time)


def request(wire: Wire, path: str) -> None:
    wire.connect()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def test_a_request_ages_from_the_look_that_saw_it_first(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/one")
    assert in_flight.look() == 1
    wire.loop.now += 5.0
    request(wire, "/two?q=1")
    assert in_flight.look() == 2
    wire.loop.now += 1.25
    assert in_flight.shown() == ("GET /one (app shop, 6.2 s)", "GET /two (app shop, 1.2 s)")


@pytest.mark.parametrize(("seconds", "age"), [(0.0, "< 0.1 s"), (0.5, "< 0.5 s"), (0.53, "< 0.6 s"), (3.0, "< 3.0 s")])
def test_a_request_that_nobody_has_looked_at_yet_is_younger_than_the_last_look(
    wire: Wire, in_flight: InFlight, seconds: float, age: str
) -> None:
    request(wire, "/old")
    in_flight.look()
    request(wire, "/fresh")
    wire.loop.now += seconds
    assert in_flight.shown() == (f"GET /old (app shop, {seconds:.1f} s)", f"GET /fresh (app shop, {age})")


def test_a_request_is_described_alone_as_it_is_among_others(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/one")
    [exchange] = wire.service.exchanges
    in_flight.look()
    wire.loop.now += 2.0
    assert in_flight.describe(exchange) == "GET /one (app shop, 2.0 s)"


def test_a_request_that_has_ended_is_forgotten(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/one")
    in_flight.look()
    next(iter(wire.service.exchanges)).cancel()
    wire.settle()
    assert in_flight.shown() == ()
    assert in_flight.look() == 0


def test_only_the_oldest_are_shown(wire: Wire, in_flight: InFlight) -> None:
    for number in range(IN_FLIGHT_SHOWN + 5):
        request(wire, f"/{number}")
        in_flight.look()
        wire.loop.now += 1.0
    shown = in_flight.shown()
    assert len(shown) == IN_FLIGHT_SHOWN
    assert shown[0] == "GET /0 (app shop, 25.0 s)"
    assert shown[-1] == "GET /19 (app shop, 6.0 s)"


def test_a_long_path_is_cut_and_the_rest_is_kept(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/" + "x" * 1000)
    [shown] = in_flight.shown()
    assert len(shown) == 200
    assert shown.startswith("GET /xxxx")
    assert shown.endswith("xxx... (app shop, < 0.1 s)")


def test_nothing_in_a_request_can_forge_a_line(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/a")
    exchange = next(iter(wire.service.exchanges))
    exchange.head.raw_path = b"/a\n\x1b[31m\xff"
    assert in_flight.shown() == ("GET /a\\n\\x1b[31m\\xff (app shop, < 0.1 s)",)


def test_a_request_is_found_by_its_task(wire: Wire, in_flight: InFlight) -> None:
    request(wire, "/one")
    [exchange] = wire.service.exchanges
    assert in_flight.of_task(exchange.task) is exchange
    assert in_flight.of_task(None) is None
    assert in_flight.of_task(wire.run(asyncio.sleep(0))) is None
