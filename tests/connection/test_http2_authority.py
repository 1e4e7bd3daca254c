"""One connection for several hosts (RFC 9113 §9.1.1): those that the certificate is for, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.protocol.trust import Trust
from tests.support.http2 import Answer, Http2Wire

NAMES = frozenset({"shop.example", "*.blog.example", "192.0.2.1", "2001:db8::1"})


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def connect(*, tls: bool = True, proxy: str = "") -> Http2Wire:
    wire = Http2Wire(answers)
    if proxy:
        wire.service.trust = Trust((proxy,))
        wire.connect()
    if tls:
        wire.server.peer = wire.server.peer._replace(scheme="https", tls={}, names=NAMES)
    return wire


def ask(wire: Http2Wire, host: str) -> int:
    """Return the status of the answer to a request for `host`."""
    answer = Answer(wire.client.get_next_available_stream_id())
    wire.answers[answer.id] = answer
    pseudo = {":method": "GET", ":scheme": "https", ":authority": host, ":path": "/"}
    wire.client.send_headers(answer.id, list(pseudo.items()), end_stream=True)
    wire.exchange()
    return answer.outcome[0]


@pytest.mark.parametrize(
    "host",
    ["shop.example", "SHOP.example:443", "shop.example.", "a.blog.example", "192.0.2.1", "[2001:db8::1]"],
)
def test_every_host_of_the_certificate_is_served_on_one_connection(host: str) -> None:
    with connect() as wire:
        assert ask(wire, "b.blog.example") == 200
        assert ask(wire, host) == 200


@pytest.mark.parametrize("host", ["other.example", "blog.example", "a.b.blog.example", "192.0.2.2"])
def test_another_host_is_misdirected(host: str) -> None:
    """RFC 9110 §15.5.20."""
    with connect() as wire:
        assert ask(wire, "shop.example") == 200
        assert ask(wire, host) == 421
        assert ask(wire, "shop.example") == 200


def test_a_connection_serves_the_host_it_was_opened_for_whatever_the_certificate_says() -> None:
    # By an address, or with a certificate for tests: it was the client's to complain.
    with connect() as wire:
        assert ask(wire, "localhost") == 200
        assert ask(wire, "localhost:8443") == 200
        assert ask(wire, "shop.example") == 200


def test_a_trusted_proxy_passes_every_host_on_over_one_connection() -> None:
    # HAProxy and Envoy share their connections to a server among all hosts.
    with connect(proxy="127.0.0.1") as wire:
        assert ask(wire, "shop.example") == 200
        assert ask(wire, "other.example") == 200


def test_in_the_clear_there_is_nothing_to_compare_with() -> None:
    with connect(tls=False) as wire:
        assert ask(wire, "shop.example") == 200
        assert ask(wire, "other.example") == 200
