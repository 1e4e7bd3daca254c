"""The opening handshake over a connection (RFC 6455 §4.2, RFC 9110 §7.8): bytes in, bytes out, over both parsers.

What each field means is shown in tests/protocol/test_websocket_handshake.py; here it is what a connection makes of it,
and that nothing which follows a refused handshake is ever taken for a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Limits, Listener, WebSocketLimits
from tests.support.applications import respond
from tests.support.every import every
from tests.support.frames import TEXT, close, frame
from tests.support.wire import ACCEPT, DATE, PARSERS, SessionWire, Wire, frames_of, handshake

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
ANY_FIELDS = b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"


def status_of(answer: bytes) -> int:
    """Return the status of the one response that there is."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    return int(answer[9:12])


def fields_of(answer: bytes) -> dict[bytes, bytes]:
    head = answer.partition(b"\r\n\r\n")[0]
    return dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])


def without(name: bytes, *instead: bytes) -> bytes:
    """Return the handshake without a field, and with these lines in its place."""
    lines = handshake().split(b"\r\n")
    [place] = [number for number, line in enumerate(lines) if line.startswith(name + b":")]
    lines[place : place + 1] = instead
    return b"\r\n".join(lines)


@EVERY_PARSER
class TestAccepted:
    """RFC 6455 §4.2.2."""

    def test_the_answer_is_a_101_with_the_accept_value_of_the_rfc(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            answer = wire.accept()
            assert fields_of(answer) == {
                b"upgrade": b"websocket",
                b"connection": b"upgrade",
                b"sec-websocket-accept": ACCEPT,
                b"date": DATE,
                b"server": b"serverd",
            }
            assert answer.endswith(b"\r\n\r\n")

    def test_a_client_that_asks_for_the_end_of_the_connection_is_not_told_of_it(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake().replace(b"Connection: Upgrade", b"Connection: close, Upgrade"))
            assert fields_of(wire.tell("accept"))[b"connection"] == b"upgrade"
            assert not wire.closed

    def test_it_may_come_byte_by_byte(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            assert wire.send_slowly(handshake()) == b""
            assert wire.tell("accept").startswith(b"HTTP/1.1 101 ")
            assert wire.send_slowly(frame(TEXT, b"hi")) == b""
            wire.receive()
            assert wire.receive() == {"type": "websocket.receive", "text": "hi"}

    def test_the_same_handshake_is_as_good_on_a_connection_that_has_had_requests(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            for _ in range(3):  # read, recalled, recalled
                wire.send(GET)
                wire.run(wire.call.respond())
                assert wire.received().startswith(b"HTTP/1.1 200 ")
            wire.accept()
            assert wire.service.requests == 4

    def test_frames_that_come_with_the_head_are_not_lost(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            frames = [frame(TEXT, b"%d" % number) for number in range(5)]
            assert wire.send(handshake() + frames[0] + frames[1] + frames[2][:3]) == b""
            assert wire.transport.deliver(frames[2][3:] + frames[3]) is None
            wire.receive()
            wire.tell("accept")
            wire.send(frames[4])
            assert [wire.receive()["text"] for _ in range(5)] == ["0", "1", "2", "3", "4"]

    def test_a_close_that_comes_with_the_head_is_answered(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake() + frame(TEXT, b"hi") + close(1000))
            wire.receive()
            answer = wire.tell("accept")
            assert frames_of(answer.partition(b"\r\n\r\n")[2]) == []
            assert wire.receive()["text"] == "hi"
            assert frames_of(wire.tell("send", text="hi, too")) == [(0x81, b"hi, too")]
            assert wire.receive() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
            assert frames_of(wire.received()) == [(0x88, b"\x03\xe8")]

    def test_it_waits_for_the_response_to_the_request_before_it(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            assert wire.send(GET + handshake() + frame(TEXT, b"hi")) == b""
            [first] = wire.manual.calls
            wire.run(first.respond(b"first"))
            assert wire.received().endswith(b"first")
            assert len(wire.manual.calls) == 2
            assert wire.receive() == {"type": "websocket.connect"}
            assert wire.tell("accept").startswith(b"HTTP/1.1 101 ")
            assert wire.receive()["text"] == "hi"
            first.finish()

    def test_who_still_waits_for_the_response_before_it_to_be_read_is_not_forgotten(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.transport.room = 0
            wire.send(GET + handshake())
            [first] = wire.manual.calls
            sending = wire.run(first.respond(bytes(200_000)))
            assert not sending.done()
            assert len(wire.manual.calls) == 2
            accepting = wire.run(wire.call.send({"type": "websocket.accept"}))
            wire.take()
            assert sending.done()
            assert accepting.done()
            first.finish()
            wire.settle()
            assert not wire.service.exchanges

    def test_the_loss_of_the_connection_ends_that_waiting_too(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.transport.room = 0
            wire.send(GET + handshake())
            [first] = wire.manual.calls
            sending = wire.run(first.respond(bytes(200_000)))
            accepting = wire.run(wire.call.send({"type": "websocket.accept"}))
            wire.lose()
            assert sending.done()
            assert accepting.done()


@EVERY_PARSER
class TestOrdinary:
    """RFC 9110 §7.8: a request that does not ask for a session, as far as this server knows, is answered as it is."""

    @every(
        "request_bytes",
        [
            pytest.param(without(b"Connection"), id="no Connection"),
            pytest.param(without(b"Connection", b"Connection: keep-alive"), id="Upgrade is no option"),
            pytest.param(without(b"Upgrade"), id="no Upgrade"),
            pytest.param(without(b"Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), id="h2c"),
            pytest.param(without(b"Upgrade", b"Upgrade: TLS/1.0, IRC/6.9"), id="unknown protocols"),
            pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", id="CONNECT"),
        ],
    )
    def test_it_is_answered_in_http_and_never_by_a_tunnel(self, parser: str, request_bytes: bytes) -> None:
        with SessionWire(parser) as wire:
            answer = wire.send(request_bytes)
            if wire.manual.calls:
                assert wire.call.scope["type"] == "http"
                wire.run(wire.call.respond())
                assert wire.received().startswith(b"HTTP/1.1 200 OK\r\n")
                # And what follows is a request.
                assert wire.send(GET) == b""
                assert [call.scope["path"] for call in wire.manual.calls] == ["/chat", "/next"]
            else:
                assert status_of(answer) in (400, 405, 501)
                assert wire.closed

    def test_in_http_1_0_it_is_an_ordinary_request(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake().replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (wire.call.scope["type"], wire.call.scope["http_version"]) == ("http", "1.0")

    def test_an_application_cannot_make_a_tunnel_of_an_ordinary_request(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(without(b"Connection"))
            task = wire.run(wire.call.send({"type": "websocket.accept"}))
            assert "unexpected message" in str(task.exception())
            assert wire.received() == b""


MALFORMED = [
    pytest.param(400, without(b"Sec-WebSocket-Key"), id="no key"),
    pytest.param(400, handshake(key=b"short"), id="a key that is none"),
    pytest.param(400, handshake(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), id="two keys"),
    pytest.param(400, without(b"Sec-WebSocket-Version"), id="no version"),
    pytest.param(426, without(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 8"), id="another version"),
    pytest.param(400, handshake().replace(b"GET", b"POST"), id="another method"),
    pytest.param(400, handshake(b"Sec-WebSocket-Protocol: a, a"), id="a subprotocol twice"),
    pytest.param(400, handshake(b"Sec-WebSocket-Extensions: a;;b"), id="malformed extensions"),
    pytest.param(400, handshake(b"Content-Length: 5"), id="a body"),
    pytest.param(400, handshake(b"Transfer-Encoding: chunked"), id="a body in chunks"),
]


@EVERY_PARSER
class TestMalformed:
    """RFC 6455 §4.2.1, §4.4: refused before any application sees it."""

    @every(("status", "request_bytes"), MALFORMED)
    def test_it_is_refused_and_the_connection_ends(self, parser: str, status: int, request_bytes: bytes) -> None:
        with SessionWire(parser) as wire:
            answer = wire.send(request_bytes)
            assert status_of(answer) == status
            fields = [line for line in answer.split(b"\r\n") if line.startswith(b"connection: ")]
            assert fields == [b"connection: upgrade, close" if status == 426 else b"connection: close"]
            assert wire.closed
            assert wire.manual.calls == []

    @every(("status", "request_bytes"), MALFORMED)
    @every("follows", ["at once", "later"])
    def test_what_follows_is_never_a_request(
        self, parser: str, status: int, request_bytes: bytes, follows: str
    ) -> None:
        # A proxy may take the connection for a tunnel and pass on whatever its client says.
        with SessionWire(parser) as wire:
            if follows == "at once":
                answer = wire.send(request_bytes + GET)
            else:
                answer = wire.send(request_bytes) + wire.send(GET)
            assert status_of(answer) == status
            assert wire.manual.calls == []

    def test_another_version_is_told_which_one_is_spoken(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            answer = wire.send(without(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 25"))
            assert b"\r\nsec-websocket-version: 13\r\n" in answer
            assert b"\r\nupgrade: websocket\r\n" in answer  # RFC 9110 §15.5.22
            assert b"\r\nconnection: upgrade, close\r\n" in answer

    def test_a_malformed_one_behind_another_request_is_refused_after_its_response(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(GET + handshake(key=b"short"))
            wire.run(wire.call.respond(b"first"))
            first, _, second = wire.received().partition(b"first")
            assert (status_of(first), status_of(second)) == (200, 400)
            assert wire.closed


Refuse = Callable[[SessionWire], bytes]


def forbid(wire: SessionWire) -> bytes:
    return wire.tell("close")


def deny(wire: SessionWire) -> bytes:
    start = wire.tell("http.response.start", status=401, headers=[(b"content-length", b"2")])
    return start + wire.tell("http.response.body", body=b"no")


def return_early(wire: SessionWire) -> bytes:
    return wire.finish()


def fail(wire: SessionWire) -> bytes:
    return wire.finish(ValueError("of the test"))


@EVERY_PARSER
@pytest.mark.parametrize(
    ("refuse", "status"),
    [(forbid, 403), (deny, 401), (return_early, 500), (fail, 500)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
class TestRefused:
    """A client that takes a refusal for granted may have sent frames already."""

    def test_the_connection_ends_with_the_answer(self, parser: str, refuse: Refuse, status: int) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake())
            answer = refuse(wire)
            assert status_of(answer) == status
            assert b"\r\nconnection: close\r\n" in answer
            assert wire.closed

    @pytest.mark.parametrize("follows", [GET, frame(TEXT, GET, mask=bytes(4)), b"\r\n" + GET])
    @pytest.mark.parametrize("when", ["with the head", "before the refusal", "after it"])
    def test_what_was_sent_for_a_session_is_no_request(
        self, parser: str, refuse: Refuse, status: int, follows: bytes, when: str
    ) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake() + (follows if when == "with the head" else b""))
            if when == "before the refusal":
                wire.send(follows)
            answer = refuse(wire)
            if when == "after it":
                answer += wire.send(follows)
            assert status_of(answer + wire.advance(5)) == status
            assert len(wire.manual.calls) == 1
            assert not wire.service.connections


async def not_websocket(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await respond(send, scope["type"].encode())


@EVERY_PARSER
class TestBuiltin:
    """What the server answers itself is answered in HTTP."""

    def answer(self, parser: str, endpoint: Endpoint | None, *fields: bytes) -> bytes:
        routes = [] if endpoint is None else [Route(("a",), "/chat", endpoint)]
        router = Router(
            routes,
            *(
                Endpoint(app, "serverd", is_ours=True)
                for app in (builtin.not_found, builtin.misdirected, builtin.options)
            ),
        )
        with Wire(router, parser) as wire:
            return wire.send(handshake(*fields))

    @pytest.mark.parametrize(
        ("application", "status"),
        [
            pytest.param(None, 421, id="no mount for the host"),
            pytest.param(builtin.not_found, 404, id="no mount for the path"),
            pytest.param(builtin.respond(200, b"pong", []), 200, id="respond"),
            pytest.param(builtin.redirect(lambda scope: scope["scheme"].encode()), 307, id="redirect"),
            pytest.param(builtin.unavailable(lambda: 1.0), 503, id="an application that is down"),
        ],
    )
    def test_it_is_a_response(self, parser: str, application: Any, status: int) -> None:
        endpoint = None if application is None else Endpoint(application, "serverd", is_ours=True)
        assert status_of(self.answer(parser, endpoint)) == status

    def test_a_redirect_sees_the_scheme_of_http(self, parser: str) -> None:
        redirect = Endpoint(builtin.redirect(lambda scope: scope["scheme"].encode() + b"://b"), "serverd", is_ours=True)
        assert fields_of(self.answer(parser, redirect))[b"location"] == b"http://b"

    def test_a_mount_that_takes_none_gets_a_malformed_handshake_as_a_request(self, parser: str) -> None:
        endpoint = Endpoint(not_websocket, "test", is_ours=True)
        assert status_of(self.answer(parser, endpoint, b"Sec-WebSocket-Key: x")) == 200


@EVERY_PARSER
class TestCrowding:
    """Until it is accepted a session is a request in flight, afterwards one of the connections."""

    def test_concurrency_counts_handshakes(self, parser: str) -> None:
        with SessionWire(parser, Limits(concurrency=1)) as wire:
            wire.send(handshake())
            first = wire.call
            wire.connect()
            answer = wire.send(handshake())
            assert status_of(answer) == 503
            assert b"\r\nretry-after: 1\r\n" in answer
            assert wire.call is first

    def test_concurrency_does_not_count_sessions(self, parser: str) -> None:
        with SessionWire(parser, Limits(concurrency=1)) as wire:
            for _ in range(3):
                wire.accept()
                wire.connect()
            assert len(wire.service.sessions.open) == 3
            assert not wire.service.exchanges
            wire.send(GET)
            assert wire.call.scope["type"] == "http"

    @pytest.mark.parametrize("refuse", [forbid, deny])
    def test_a_refused_one_counts_as_long_as_its_application_runs(self, parser: str, refuse: Refuse) -> None:
        with SessionWire(parser, Limits(concurrency=1)) as wire:
            wire.send(handshake())
            refuse(wire)
            assert len(wire.service.exchanges) == 1
            wire.finish()
            assert not wire.service.exchanges

    def test_connections_counts_sessions(self, parser: str) -> None:
        with SessionWire(parser, Limits(connections=1)) as wire:
            wire.accept()
            first = wire.transport
            wire.connect()
            assert status_of(wire.send(b"")) == 503
            first.abort()
            wire.connect()
            wire.accept()
            assert len(wire.service.connections) == 2  # that one, and the one that was turned away

    def test_a_session_has_the_limits_that_held_when_it_began(self, parser: str) -> None:
        with SessionWire(parser, Limits(websocket=WebSocketLimits(message_size=125))) as wire:
            wire.accept()
            first, call = wire.transport, wire.call
            listener = Listener("web", (), 1, Limits(websocket=WebSocketLimits(message_size=200)))
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            wire.connect()
            wire.accept()
            assert wire.send(frame(TEXT, bytes(200))) == b""
            assert len(wire.receive()["text"]) == 200
            waiting = wire.run(call.receive())
            first.deliver(frame(TEXT, bytes(200)))
            wire.settle()
            assert frames_of(bytes(first.written))[0][1][:2] == (1009).to_bytes(2, "big")
            assert waiting.result()["code"] == 1009


@EVERY_PARSER
class TestHeadTimeout:
    """limits.header_timeout ends with the head; what the application takes is request_timeout's."""

    def test_a_handshake_that_does_not_come_to_its_end_is_refused(self, parser: str) -> None:
        with SessionWire(parser) as wire:
            wire.send(handshake()[:-2])
            assert status_of(wire.advance(11)) == 408

    def test_neither_a_slow_application_nor_an_idle_session_is_ended_by_it(self, parser: str) -> None:
        limits = Limits(keep_alive_timeout=1.0, body_timeout=1.0, websocket=WebSocketLimits(ping_interval=0))
        with SessionWire(parser, limits) as wire:
            wire.send(handshake())
            assert wire.advance(100) == b""
            wire.tell("accept")
            assert wire.advance(10_000) == b""
            assert not wire.closed
