"""Which protocol a connection is counted for: the first that it spoke, once, and none when it ended before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverd.generation import Limits
from serverd.observe.counters import HTTP1, HTTP2, NOTHING_YET, SPOKE, WEBSOCKET
from tests.connection.test_negotiation import GET as GET_BEHIND_PROXY
from tests.connection.test_negotiation import V1, ProxyWire
from tests.net.test_tls_connection import AUTHORITY, SEVERAL, TlsWire
from tests.support.applications import hello
from tests.support.http2 import Http2Wire
from tests.support.wire import SessionWire, Wire, handshake

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def spoke(wire: Wire) -> dict[int, int]:
    """Return how many connections were counted for what."""
    counted = {protocol: wire.service.counts[SPOKE + protocol] for protocol in (NOTHING_YET, HTTP1, HTTP2)}
    return {protocol: count for protocol, count in counted.items() if count}


def speaks(wire: Wire) -> int:
    """Return what the one connection speaks."""
    (connection,) = wire.service.connections
    return connection.speaks


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(hello) as wire:
        yield wire


def test_a_connection_speaks_http_1_from_its_first_request_on_and_is_counted_once(wire: Wire) -> None:
    wire.send(GET[:20])
    assert (speaks(wire), spoke(wire)) == (NOTHING_YET, {})
    wire.send(GET[20:])
    assert (speaks(wire), spoke(wire)) == (HTTP1, {HTTP1: 1})
    wire.send(GET + GET)
    wire.lose()
    assert spoke(wire) == {HTTP1: 1}


def test_it_is_counted_before_its_first_answer_leaves(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[int, int]] = []
    write = wire.transport.write
    monkeypatch.setattr(wire.transport, "write", lambda data: (seen.append(spoke(wire)), write(data)))
    wire.send(GET)
    assert seen == [{HTTP1: 1}]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"\x16\x03\x01\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM"])
def test_one_that_ends_before_it_has_said_anything_is_counted_as_none(wire: Wire, sent: bytes) -> None:
    wire.service.speaks_http2 = False
    if sent:
        wire.send(sent)
    assert spoke(wire) == {}
    wire.lose()
    assert spoke(wire) == {NOTHING_YET: 1}


def test_one_too_many_is_counted_as_none() -> None:
    with Wire(hello, limits=Limits(connections=1)) as wire:
        first = wire.connection
        wire.connect()
        wire.lose()
        assert spoke(wire) == {NOTHING_YET: 1}
        first.cut()


def test_one_whose_request_its_connection_refuses_has_spoken_all_the_same(wire: Wire) -> None:
    wire.send(handshake().replace(b"Version: 13", b"Version: 12"))
    assert spoke(wire) == {HTTP1: 1}


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\nbad\r\n", b"BREW / HTTP/1.1\r\n\r\n"])
def test_so_has_one_that_broke_off_after_its_request_line(wire: Wire, sent: bytes) -> None:
    assert wire.send(sent).startswith(b"HTTP/1.1 ")
    assert spoke(wire) == {HTTP1: 1}
    wire.lose()
    assert spoke(wire) == {HTTP1: 1}


def test_a_client_that_begins_with_http_2_is_counted_for_it_alone() -> None:
    with Http2Wire(hello) as wire:
        wire.request()
        assert (speaks(wire), spoke(wire)) == (HTTP2, {HTTP2: 1})


def test_behind_a_request_of_http_1_nobody_begins_with_http_2(wire: Wire) -> None:
    wire.send(GET)
    assert wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    assert (speaks(wire), spoke(wire)) == (HTTP1, {HTTP1: 1})


def test_a_websocket_is_open_as_one_and_was_counted_as_what_it_began_with() -> None:
    with SessionWire() as wire:
        wire.send(handshake())
        wire.receive()
        wire.tell("accept")
        assert (speaks(wire), spoke(wire)) == (WEBSOCKET, {HTTP1: 1})
        wire.lose()
        assert spoke(wire) == {HTTP1: 1}
        wire.finish()


class TestOverTls:
    def test_before_the_first_request_nothing_is_spoken(self) -> None:
        with TlsWire(hello) as wire:
            assert speaks(wire) == NOTHING_YET
            wire.shake()
            assert (speaks(wire), spoke(wire)) == (NOTHING_YET, {})
            wire.ask(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert (speaks(wire), spoke(wire)) == (HTTP1, {HTTP1: 1})
            wire.lose()
            assert spoke(wire) == {HTTP1: 1}

    def test_what_both_sides_agree_upon_is_spoken_at_once(self) -> None:
        context = AUTHORITY.client_context()
        context.set_alpn_protocols(["h2"])
        with TlsWire(hello, identity=SEVERAL, context=context) as wire:
            wire.shake()
            assert (speaks(wire), spoke(wire)) == (HTTP2, {HTTP2: 1})

    def test_a_handshake_that_fails_is_none(self) -> None:
        with TlsWire(hello) as wire:
            wire.transport.deliver(b"\xff" * 50)
            wire.settle()
            wire.lose()
            assert spoke(wire) == {NOTHING_YET: 1}


def test_behind_a_proxy_header_it_is_counted_once() -> None:
    with ProxyWire(hello, "127.0.0.1") as wire:
        wire.send(V1)
        assert (speaks(wire), spoke(wire)) == (NOTHING_YET, {})
        wire.send(GET_BEHIND_PROXY)
        assert (speaks(wire), spoke(wire)) == (HTTP1, {HTTP1: 1})


def test_a_proxy_header_that_is_none_is_counted_as_none() -> None:
    with ProxyWire(hello, "127.0.0.1") as wire:
        wire.send(b"nonsense\r\n")
        assert spoke(wire) == {NOTHING_YET: 1}
