"""What an observer is told of the end of exchanges and sessions: once each, with status and sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from serverd.asgi.cycle import Cycle
from serverd.asgi.scope import Endpoint, Peer
from serverd.asgi.session import Session
from serverd.generation import Limits
from serverd.protocol.head import RequestHead
from tests.support.applications import Manual, echo, hello
from tests.support.frames import TEXT, close, frame
from tests.support.http2 import Http2Wire
from tests.support.wire import Wire, handshake

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Notes:
    """An observer that keeps what it is told."""

    exchanges: list[Cycle] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    refused: RequestHead | None = None

    def on_exchange(self, cycle: Cycle) -> None:
        self.exchanges.append(cycle)

    def on_session(self, session: Session) -> None:
        self.sessions.append(session)

    def on_refusal(self, peer: Peer, status: int, reason: str, head: RequestHead | None) -> None:
        self.refused = head
        assert peer.client is not None
        assert reason
        self.refusals.append(status)

    @property
    def only(self) -> Cycle:
        (cycle,) = self.exchanges
        return cycle


def observed(application: Any, notes: Notes, limits: Limits | None = None) -> Wire:
    wire = Wire(Endpoint(application, "test", observer=notes), limits=limits)
    wire.service.observer = notes
    return wire


class TestExchange:
    def test_a_response_in_one_message_is_told_when_it_is_sent(self) -> None:
        notes = Notes()
        with observed(echo, notes) as wire:
            wire.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            cycle = notes.only
            assert (cycle.status, cycle.sent, cycle.received, cycle.given_up) == (200, 5, 5, False)
            assert cycle.client == ("127.0.0.1", 54321)
            assert cycle.first_byte == 0.0
            assert cycle.began > 0
            assert (cycle.head.method, cycle.head.raw_path) == ("POST", b"/a")

    def test_a_response_in_parts_tells_when_its_first_byte_left(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"one", more_body=True))
            assert not notes.exchanges
            wire.run(manual.call.body(b"three"))
            cycle = notes.only
            assert (cycle.status, cycle.sent, cycle.given_up) == (200, 8, False)
            assert cycle.began <= cycle.first_byte
            manual.call.finish()
            wire.settle()
        assert notes.only is cycle

    def test_it_is_told_before_the_application_returns(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            wire.run(manual.call.respond(b""))
            assert notes.only.status == 200
            manual.call.finish()
            wire.settle()
            assert len(notes.exchanges) == 1

    @pytest.mark.parametrize("begun", [False, True], ids=["before the head", "amid the body"])
    def test_an_application_that_fails_is_told_once(self, begun: bool) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            if begun:
                wire.run(manual.call.start())
                wire.run(manual.call.body(b"one", more_body=True))
            manual.call.finish(RuntimeError("broken"))
            wire.settle()
            cycle = notes.only
            assert (cycle.status, cycle.sent, cycle.given_up) == ((200, 3, True) if begun else (500, 22, False))

    def test_a_failure_that_answers_a_head_request_sends_no_body(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            manual.call.finish(RuntimeError("broken"))
            wire.settle()
            assert (notes.only.status, notes.only.sent) == (500, 0)

    def test_a_client_that_leaves_gets_no_whole_response(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            wire.run(manual.call.start())
            wire.lose()
            assert not notes.exchanges
            manual.call.finish()
            wire.settle()
            cycle = notes.only
            assert (cycle.given_up, cycle.first_byte, cycle.sent) == (True, 0.0, 0)

    def test_one_that_fails_after_its_client_has_left_answers_nobody(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            wire.lose()
            manual.call.finish(RuntimeError("broken"))
            wire.settle()
            assert (notes.only.status, notes.only.given_up) == (0, True)

    @pytest.mark.parametrize("begun", [False, True])
    def test_one_that_takes_too_long_is_a_504_or_cut(self, begun: bool) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes) as wire:
            wire.send(GET)
            if begun:
                wire.run(manual.call.start())
                wire.run(manual.call.body(b"one", more_body=True))
            (cycle,) = wire.service.exchanges
            cycle.expire()
            wire.settle()
            cycle = notes.only
            assert (cycle.status, cycle.sent, cycle.given_up) == ((200, 3, True) if begun else (504, 16, False))

    def test_what_the_connection_answers_in_its_place_is_its_status(self) -> None:
        notes, manual = Notes(), Manual()
        with observed(manual, notes, Limits(body_timeout=5.0)) as wire:
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            asked = wire.run(manual.call.receive())
            wire.advance(7)
            assert asked.done()
            manual.call.finish()
            wire.settle()
            assert (notes.only.status, notes.only.given_up) == (408, True)
            assert not notes.refusals

    def test_over_http_2_it_is_the_same(self) -> None:
        notes = Notes()
        with Http2Wire(Endpoint(echo, "test", observer=notes)) as wire:
            wire.request("POST", "/a", body=b"hello")
            assert (notes.only.status, notes.only.sent, notes.only.received) == (200, 5, 5)
            assert notes.only.head.version == "2"


class TestRefusal:
    def test_what_is_no_request_is_told_to_the_listener_s(self) -> None:
        notes = Notes()
        with observed(hello, notes) as wire:
            wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (notes.refusals, notes.exchanges, notes.refused) == ([400], [], None)

    def test_a_handshake_that_is_none_is_told_with_its_head(self, notes: Notes) -> None:
        with observed(hello, notes) as wire:
            wire.send(handshake().replace(b"Version: 13", b"Version: 12"))
        assert (notes.refusals, notes.exchanges) == ([426], [])
        assert notes.refused is not None
        assert (notes.refused.method, notes.refused.raw_path) == ("GET", b"/chat")

    def test_as_is_one_connection_too_many(self) -> None:
        notes = Notes()
        with observed(hello, notes, Limits(connections=1)) as wire:
            first = wire.connection
            wire.connect()
            wire.settle()
            assert notes.refusals == [503]
            first.cut()

    def test_over_http_2_it_is_the_same(self) -> None:
        notes = Notes()
        with Http2Wire(Endpoint(hello, "test", observer=notes), Limits(body_size=3)) as wire:
            wire.service.observer = notes
            assert wire.request("POST", fields=[(b"content-length", b"9")], end=False).status == 413
        assert (notes.refusals, notes.exchanges) == ([413], [])

    def test_over_http_2_a_tunnel_of_an_unknown_protocol_is_told_with_its_head(self, notes: Notes) -> None:
        fields = [(b":protocol", b"other")]
        with Http2Wire(Endpoint(hello, "test", observer=notes)) as wire:
            wire.service.observer = notes
            assert wire.request("CONNECT", "/tunnel", fields=fields, end=False).status == 501
        assert notes.refused is not None
        assert notes.refused.raw_path == b"/tunnel"


@pytest.fixture
def notes() -> Notes:
    return Notes()


class TestSession:
    @staticmethod
    def application(*messages: dict[str, Any]) -> Callable[..., Any]:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            for message in messages:
                await send(message)
            while (await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": "ä"})

        return run

    def test_an_accepted_one_is_told_at_its_end_with_messages_and_bytes(self, notes: Notes) -> None:
        with observed(self.application({"type": "websocket.accept"}), notes) as wire:
            wire.send(handshake())
            wire.send(frame(TEXT, "äö".encode()))
            wire.send(frame(TEXT, b"a"))
            assert not notes.sessions
            wire.send(close(4001, b""))
        (session,) = notes.sessions
        assert not notes.exchanges
        assert (session.status, session.close_code, session.given_up) == (101, 4001, False)
        assert (session.messages_received, session.received) == (2, 5)
        assert (session.messages_sent, session.sent) == (2, 4)

    def test_a_refused_one_is_a_response(self, notes: Notes) -> None:
        with observed(self.application({"type": "websocket.close"}), notes) as wire:
            wire.send(handshake())
        assert (notes.only.status, notes.only.sent, notes.only.given_up, notes.sessions) == (403, 10, False, [])

    def test_with_a_response_of_its_own_it_is_told_once(self, notes: Notes) -> None:
        start = {"type": "websocket.http.response.start", "status": 401, "headers": []}
        body = {"type": "websocket.http.response.body", "body": b"who are you?"}
        with observed(self.application(start, body), notes) as wire:
            wire.send(handshake())
        assert (notes.only.status, notes.only.sent, notes.only.given_up) == (401, 12, False)

    def test_one_that_nobody_answers_is_given_up(self, notes: Notes) -> None:
        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        with observed(wait, notes) as wire:
            wire.send(handshake())
            wire.lose()
            for cycle in [*wire.service.exchanges]:
                cycle.cancel()
            wire.settle()
        assert (notes.only.status, notes.only.given_up) == (0, True)
