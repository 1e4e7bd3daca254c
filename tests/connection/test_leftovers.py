"""What has ended is gone at once: it leaves nothing in a circle, for which only the garbage collector would come.

A circle for each request is memory that comes back late, and a collector that runs for a fifth of the time.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.http2 import Http2Wire
from tests.support.wire import Wire

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"

ROUNDS = 3


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer in two parts, echo, or fail."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] == "/fail":
        raise ValueError(scope["path"])
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


def leftovers(wire: Wire, act: Callable[[Any], None]) -> Counter[str]:
    """Return of which classes of ours the collector finds something after a few rounds of `act`."""
    with wire:
        act(wire)  # what is made once
        gc.collect()
        gc.disable()
        try:
            for _ in range(ROUNDS):
                act(wire)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            return Counter(type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("serverd."))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


def reset(wire: Http2Wire) -> None:
    """Give up a request whose application waits for more."""
    answer = wire.request("POST", "/", body=b"abc", end=False)
    wire.client.reset_stream(answer.id)
    wire.exchange()


HTTP1: dict[str, Callable[[Wire], Any]] = {
    "a request": lambda wire: wire.send(GET),
    "a request with a body": lambda wire: wire.send(POST),
    "a request of which the application fails": lambda wire: wire.send(b"GET /fail HTTP/1.1\r\nhost: a\r\n\r\n"),
}


def end(wire: Wire) -> None:
    """Open a connection for one request."""
    wire.connect()
    wire.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    wire.send_eof()


def break_off(wire: Wire) -> None:
    """Open a connection that breaks in the middle of a request."""
    wire.connect()
    wire.send(GET)
    wire.send(POST[:-1])
    wire.lose()


CONNECTIONS: dict[str, Callable[[Wire], Any]] = {"one that ends": end, "one that breaks": break_off}

HTTP2: dict[str, Callable[[Http2Wire], Any]] = {
    "a request": lambda wire: wire.request("GET", "/"),
    "a request with a body": lambda wire: wire.request("POST", "/", body=b"abc"),
    "a request of which the application fails": lambda wire: wire.request("GET", "/fail"),
    "a request that is given up": reset,
}


@pytest.mark.parametrize("act", HTTP1.values(), ids=HTTP1)
def test_nothing_is_left_of_an_exchange_over_http1(act: Callable[[Wire], Any]) -> None:
    assert not leftovers(Wire(application), act)


@pytest.mark.parametrize("act", CONNECTIONS.values(), ids=CONNECTIONS)
def test_nothing_is_left_of_an_http1_connection(act: Callable[[Wire], Any]) -> None:
    assert not leftovers(Wire(application), act)


@pytest.mark.parametrize("act", HTTP2.values(), ids=HTTP2)
def test_nothing_is_left_of_an_exchange_over_http2(act: Callable[[Http2Wire], Any]) -> None:
    assert not leftovers(Http2Wire(application), act)
