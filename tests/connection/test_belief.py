"""What a listener believes of its peers, from its configuration to the scope of a request."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.generation import Limits, Listener
from serverd.protocol.http1_httptools import HttptoolsParser
from tests.support.wire import Wire

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n"
    b"Forwarded: for=203.0.113.2\r\n\r\n"
)


def seen_by(listener: Listener) -> dict[str, Any]:
    """Return the scope of a request from 127.0.0.1, after the service has adopted `listener`."""
    scopes: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    with Wire(application) as wire:
        wire.transport.abort()
        wire.service.adopt(wire.service.router, listener, HttptoolsParser())
        wire.connect()
        assert wire.send(REQUEST).startswith(b"HTTP/1.1 204 ")
    return scopes[0]


def listener_of(**values: Any) -> Listener:
    return Listener("web", (), 1, Limits(), **values)


def test_a_listener_without_proxies_believes_nobody() -> None:
    scope = seen_by(listener_of())
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    assert [name for name, _ in scope["headers"]] == [b"host"]


@pytest.mark.parametrize(
    ("believed", "client", "scheme", "left"),
    [
        (None, "203.0.113.1", "https", {b"x-forwarded-for", b"x-forwarded-proto"}),
        (("x-forwarded-proto",), "127.0.0.1", "https", {b"x-forwarded-proto"}),
        (("forwarded",), "203.0.113.2", "http", {b"forwarded"}),
        ((), "127.0.0.1", "http", set()),
    ],
)
def test_a_proxy_is_believed_in_the_headers_that_are_named(
    believed: tuple[str, ...] | None, client: str, scheme: str, left: set[bytes]
) -> None:
    named = {} if believed is None else {"forwarded_headers": believed}
    scope = seen_by(listener_of(trusted_proxies=("127.0.0.1",), **named))
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)
    assert {name for name, _ in scope["headers"]} == {b"host"} | left
