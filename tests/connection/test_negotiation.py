"""A PROXY header at the beginning of a whole connection (haproxy's doc/proxy-protocol.txt), in memory.

The header itself is tested in tests/protocol/test_proxy.py; here it is who may send one, how long it may take, and
that the connection goes on with what it says.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

import pytest

from serverd.connection.http1 import Http1Connection
from serverd.connection.negotiation import Negotiation
from serverd.generation import Limits, Listener
from serverd.protocol.proxy import HEADER_SIZE
from tests.support.applications import Manual, Recorder
from tests.support.every import every
from tests.support.wire import PARSERS, TCP_ENDS, MemoryTransport, StillLoop, Wire

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
PEER = TCP_ENDS["peername"]
SERVER = TCP_ENDS["sockname"]
UNIX_ENDS = {"peername": "", "sockname": "/run/serverd.sock"}
CLIENT = ("203.0.113.9", 41234)
SITE = ("198.51.100.1", 443)

V1 = b"PROXY TCP4 203.0.113.9 198.51.100.1 41234 443\r\n"
V1_UNKNOWN = b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"
ADDRESSES = bytes([203, 0, 113, 9, 198, 51, 100, 1]) + struct.pack("!HH", 41234, 443)


def field(kind: int, value: bytes) -> bytes:
    """Return a type-length-value field of version 2 (§2.2)."""
    return struct.pack("!BH", kind, len(value)) + value


def v2(block: bytes = ADDRESSES, command: int = 0x21, family: int = 0x11) -> bytes:
    """Return a header of version 2."""
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(block)) + block


# PP2_TYPE_SSL: the client is connected over TLS, its certificate is not verified; sub-fields for version and SNI.
TLS = field(0x20, bytes([0x01, 0, 0, 0, 1]) + field(0x21, b"TLSv1.3"))
NO_TLS = field(0x20, bytes([0x00, 0, 0, 0, 1]))
V2 = v2()
V2_TLS = v2(ADDRESSES + TLS)
V2_LOCAL = v2(b"", command=0x20, family=0)
V2_UNSPECIFIED = v2(b"", family=0)
V2_IPV6 = v2(bytes(15) + b"\x01" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x02" + struct.pack("!HH", 5, 80), family=0x21)


class Transport(MemoryTransport):
    """One that can be handed on."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._connection = protocol


class ProxyWire(Wire):
    """A connection on a listener that demands a PROXY header, by default with its peer trusted."""

    proxies: tuple[str, ...] = ()

    def __init__(
        self,
        application: Any,
        *proxies: str,
        parser: str = "httptools",
        limits: Limits | None = None,
        ends: dict[str, Any] | None = None,
    ) -> None:
        self.proxies = proxies or ("127.0.0.1",)
        super().__init__(application, parser, limits, ends)

    def connect(self) -> None:
        service = self.service
        listener = Listener(
            "web", (), 1, service.limits, trusted_proxies=self.proxies, proxy_protocol=True,
            forwarded_headers=("x-forwarded-for", "x-forwarded-proto"),
        )  # fmt: skip
        service.adopt(service.router, listener, service.parser)
        self.transport = Transport(Negotiation(service), self.loop, self.ends)
        self.transport._connection.connection_made(self.transport)


def scope_after(header: bytes, request: bytes = GET, *proxies: str, **options: Any) -> Any:
    """Return the scope of a request behind this header."""
    recorder = Recorder()
    with ProxyWire(recorder, *proxies, **options) as wire:
        assert wire.send(header + request).startswith(OK)
        assert len(wire.service.connections) == 1
    [scope] = recorder.scopes
    return scope


@pytest.mark.parametrize("parser", sorted(PARSERS))
@pytest.mark.parametrize(
    ("header", "client", "server", "scheme"),
    [
        (V1, CLIENT, SITE, "http"),
        (V2, CLIENT, SITE, "http"),
        (V2_TLS, CLIENT, SITE, "https"),
        (v2(ADDRESSES + NO_TLS), CLIENT, SITE, "http"),
        (V2_IPV6, ("::1", 5), ("2001:db8::2", 80), "http"),
        (V1_UNKNOWN, PEER, SERVER, "http"),
        (V2_LOCAL, PEER, SERVER, "http"),
        (v2(ADDRESSES + TLS, command=0x20), PEER, SERVER, "http"),
        (V2_UNSPECIFIED, PEER, SERVER, "http"),
    ],
)
class TestWhatItSays:
    def test_it_is_what_every_request_of_the_connection_sees(
        self, header: bytes, client: Any, server: Any, scheme: str, parser: str
    ) -> None:
        recorder = Recorder()
        with ProxyWire(recorder, parser=parser) as wire:
            assert wire.send(header + GET).startswith(OK)
            wire.send(GET)
            wire.send(GET + GET)
        assert len(recorder.scopes) == 4
        for scope in recorder.scopes:
            assert (scope["client"], scope["server"], scope["scheme"]) == (client, server, scheme)

    def test_it_may_come_byte_by_byte_and_nothing_is_said_before_the_request(
        self, header: bytes, client: Any, server: Any, scheme: str, parser: str
    ) -> None:
        recorder = Recorder()
        with ProxyWire(recorder, parser=parser) as wire:
            assert wire.send_slowly(header + GET[:-1]) == b""
            assert wire.send(GET[-1:]).startswith(OK)
        [scope] = recorder.scopes
        assert (scope["client"], scope["server"], scope["scheme"]) == (client, server, scheme)


@pytest.mark.parametrize("header", [V1, V2_TLS, V2_LOCAL])
def test_every_cut_between_header_and_request_gives_the_same(header: bytes) -> None:
    data = header + GET
    for cut in range(1, len(data)):
        recorder = Recorder()
        with ProxyWire(recorder) as wire:
            assert (wire.send(data[:cut]) + wire.send(data[cut:])).startswith(OK)
        assert recorder.scopes[0]["client"] == (PEER if header == V2_LOCAL else CLIENT)


class TestForwarded:
    """What the requests behind a header say: believed if the one who speaks is a trusted proxy."""

    SAYS = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"

    @pytest.mark.parametrize("header", [V1, V2, V2_TLS])
    def test_of_a_client_nothing_is_believed(self, header: bytes) -> None:
        scope = scope_after(header, self.SAYS)
        assert (scope["client"], scope["scheme"]) == (CLIENT, "https" if header == V2_TLS else "http")
        assert scope["headers"] == [(b"host", b"a")]

    @pytest.mark.parametrize("header", [V1_UNKNOWN, V2_UNSPECIFIED, v2(bytes(216), family=0x31)])
    def test_of_somebody_unnamed_nothing_is_believed_although_the_address_is_the_proxys(self, header: bytes) -> None:
        scope = scope_after(header, self.SAYS)
        assert (scope["client"], scope["scheme"], scope["headers"]) == (PEER, "http", [(b"host", b"a")])

    def test_of_the_proxy_itself_it_is_believed(self) -> None:
        scope = scope_after(V2_LOCAL, self.SAYS)
        assert (scope["client"], scope["scheme"]) == (("192.0.2.7", 0), "https")

    def test_of_a_client_that_is_a_trusted_proxy_it_is_believed(self) -> None:
        scope = scope_after(V1, self.SAYS, "127.0.0.1", "203.0.113.0/24")
        assert (scope["client"], scope["scheme"]) == (("192.0.2.7", 0), "https")

    def test_a_header_is_taken_once(self) -> None:
        recorder = Recorder()
        with ProxyWire(recorder) as wire:
            assert wire.send(V1 + V1 + GET).startswith(b"HTTP/1.1 400 ")
            assert wire.closed
        assert not recorder.scopes


class TestWhoMaySend:
    @pytest.mark.parametrize(
        ("proxies", "ends"),
        [
            (("10.0.0.0/8",), TCP_ENDS),
            (("unix",), TCP_ENDS),
            (("127.0.0.1",), UNIX_ENDS),
            (("unix",), {**TCP_ENDS, "peername": None}),  # a reset connection on uvloop
        ],
    )
    def test_an_untrusted_peer_is_closed_before_it_can_say_anything(
        self, proxies: tuple[str, ...], ends: dict[str, Any]
    ) -> None:
        recorder = Recorder()
        with ProxyWire(recorder, *proxies, ends=ends) as wire:
            assert wire.transport.closed
            assert wire.send(V1 + GET) == b""
            assert not wire.service.connections
        assert not recorder.scopes

    def test_a_trusted_unix_peer_may(self) -> None:
        scope = scope_after(V1, GET, "unix", ends=UNIX_ENDS)
        assert (scope["client"], scope["server"]) == (CLIENT, SITE)

    def test_for_a_unix_peer_itself_the_socket_holds(self) -> None:
        scope = scope_after(V2_LOCAL, GET, "unix", ends=UNIX_ENDS)
        assert (scope["client"], scope["server"]) == (None, ("/run/serverd.sock", None))


class TestRefusal:
    @every(
        "data",
        [
            GET,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\n" + V1,
            V1.lower(),
            V1[:-2] + b"\n" + GET,
            b"PROXY TCP4 203.0.113.9\r\n" + GET,
            b"PROXY " + b"A" * 200,
            v2(command=0x22),
            v2(command=0x11),
            v2(ADDRESSES[:-1]),
            v2(ADDRESSES + b"\x20\x00\xff"),
            v2(bytes(HEADER_SIZE)),
        ],
    )
    @every("slowly", [False, True])
    def test_what_is_no_header_is_closed_without_a_word(self, data: bytes, slowly: bool) -> None:
        recorder = Recorder()
        with ProxyWire(recorder) as wire:
            assert (wire.send_slowly(data) if slowly else wire.send(data)) == b""
            assert wire.transport.closed
            assert not wire.service.connections
        assert not recorder.scopes

    @pytest.mark.parametrize("part", [b"", V1[:1], V1[:-1], V2[:5], V2[:-1]])
    def test_an_end_before_the_end_of_the_header_is_an_end(self, part: bytes) -> None:
        with ProxyWire(Recorder()) as wire:
            wire.send(part)
            assert wire.send_eof() == b""
            assert wire.transport.closed
            assert not wire.service.connections

    def test_a_health_check_that_says_nothing_more_is_closed_without_a_word(self) -> None:
        with ProxyWire(Recorder()) as wire:
            assert wire.send(V2_LOCAL) + wire.send_eof() == b""
            assert wire.transport.closed

    def test_the_log_holds_nothing_of_what_came(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "serverd")
        for data in (b"PROXY TCP4 \x1b[31m\r\n", v2(ADDRESSES + field(0x02, b"a\nforged") + b"\x02\x00\xff")):
            with ProxyWire(Recorder()) as wire:
                wire.send(data)
        assert caplog.text.count("closed a connection of 127.0.0.1:54321: ") == 2
        assert "forged" not in caplog.text
        assert "\x1b" not in caplog.text


LIMITS = Limits(header_timeout=10, keep_alive_timeout=50)


class TestDeadline:
    """One deadline from the accept to the end of the first head."""

    @pytest.mark.parametrize("part", [b"", V1[:5], V1[:-1], V2[:15]])
    def test_a_header_that_does_not_come_is_not_waited_for(self, part: bytes) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.send(part)
            assert wire.advance(9) == b""
            assert not wire.transport.closed
            assert wire.advance(1) == b""
            assert wire.transport.closed
            assert not wire.service.connections

    def test_a_header_that_dribbles_gains_no_time(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            for position in range(10):
                wire.send(V1[position : position + 1])
                wire.advance(1)
            assert wire.transport.closed

    @pytest.mark.parametrize(("part", "answer"), [(b"", b""), (GET[:8], b"HTTP/1.1 408 ")])
    def test_the_head_behind_it_gains_none_either(self, part: bytes, answer: bytes) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.advance(8)
            wire.send(V1)
            wire.advance(1)
            wire.send(part)
            assert not wire.closed
            assert wire.advance(1).startswith(answer)
            assert wire.closed

    def test_the_second_request_has_its_own_time(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.advance(8)
            wire.send(V1 + GET)
            wire.advance(49)
            assert wire.send(GET[:5]) == b""
            wire.advance(9)
            assert wire.send(GET[5:]).startswith(OK)


class TestDrain:
    def test_a_header_that_has_not_come_after_a_moment_is_not_waited_for(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.send(V1[:7])
            wire.drain()
            assert not wire.transport.closed
            wire.advance(1)
            assert wire.transport.closed

    def test_a_connection_that_is_accepted_in_the_last_moment_does_not_hold_it_up(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.drain()
            wire.connect()
            wire.advance(1)
            assert wire.transport.closed

    def test_a_request_that_was_on_its_way_is_answered_with_close(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.send(V1[:7])
            wire.drain()
            answer = wire.send(V1[7:] + GET)
            assert answer.startswith(OK)
            assert b"\r\nconnection: close\r\n" in answer
            assert wire.closed

    def test_a_header_without_a_request_leaves_soon(self) -> None:
        with ProxyWire(Recorder(), limits=LIMITS) as wire:
            wire.drain()
            wire.connect()
            wire.send(V1)
            wire.advance(1)
            assert wire.closed
            assert not wire.service.connections

    def test_a_cut_ends_it_at_once(self) -> None:
        with ProxyWire(Recorder()) as wire:
            [connection] = wire.service.connections
            assert connection.fileno() >= 0
            connection.cut()
            assert wire.transport.closed
            assert not wire.service.connections


class TestConnections:
    """limits.connections."""

    def test_a_connection_too_many_is_closed_and_a_header_takes_no_second_place(self) -> None:
        application = Manual()
        with ProxyWire(application, limits=Limits(connections=2)) as wire:
            first = wire.transport
            wire.connect()
            second = wire.transport
            wire.connect()
            assert wire.transport.closed
            assert len(wire.service.connections) == 2
            for transport in (first, second):
                transport.deliver(V1 + GET)
                wire.settle()
            assert len(application.calls) == 2
            assert len(wire.service.connections) == 2
            assert all(isinstance(connection, Http1Connection) for connection in wire.service.connections)
            first.abort()
            second.abort()
            for call in application.calls:
                call.finish()
            wire.settle()
            assert not wire.service.connections
            wire.connect()
            wire.send(V1 + GET)
            assert len(application.calls) == 3
            application.call.finish()

    def test_with_wait_the_crowd_is_told_once_and_not_again_for_each_header(self) -> None:
        told = []
        with ProxyWire(Recorder(), limits=Limits(connections=2, connections_beyond="wait")) as wire:
            wire.service.on_crowd = lambda: told.append(wire.service.is_crowded)
            first = wire.transport
            wire.connect()
            assert told == [True]
            for transport in (first, wire.transport):
                transport.deliver(V1 + GET)
                wire.settle()
            assert told == [True]
            wire.lose()
            assert told == [True, False]

    def test_untrusted_peers_leave_no_trace(self) -> None:
        with ProxyWire(Recorder(), "10.0.0.1", limits=Limits(connections=1)) as wire:
            for _ in range(5):
                wire.connect()
                assert wire.transport.closed
            assert (len(wire.service.connections), wire.service.turned_away) == (0, 0)


def test_the_loop_has_nothing_to_complain_of_when_a_peer_vanishes_at_any_moment() -> None:
    data = V2_TLS + GET
    for cut in range(len(data) + 1):
        with ProxyWire(Recorder()) as wire:
            wire.send(data[:cut])
            wire.lose()
            assert isinstance(wire.loop, StillLoop)
            assert wire.loop.failures == []
