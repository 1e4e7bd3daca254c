"""What an observer is told of the end of exchanges and sessions: once each, with status and sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from serverd.asgi.cycle import Cycle
from serverd.asgi.refusal import Refusal
from serverd.asgi.scope import Endpoint
from serverd.asgi.session import Session
from serverd.connection.http2 import Http2Connection
from serverd.generation import Limits, Listener
from tests.support.applications import Manual, echo, hello
from tests.support.frames import TEXT, close, frame
from tests.support.http2 import Answer, Http2Wire
from tests.support.wire import TCP_ENDS, MemoryTransport, Wire, handshake

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Notes:
    """An observer that keeps what it is told."""

    exchanges: list[Cycle] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def on_exchange(self, cycle: Cycle) -> None:
        self.exchanges.append(cycle)

    def on_session(self, session: Session) -> None:
        self.sessions.append(session)

    def on_refusal(self, refusal: Refusal) -> None:
        assert refusal.client is not None
        self.refusals.append(refusal)

    @property
    def refused(self) -> tuple[int, str, bytes, str]:
        """Status, method, path and version of what was refused, and of nothing else."""
        (refusal,) = self.refusals
        assert not self.exchanges
        return refusal.status, refusal.head.method, refusal.head.raw_path, refusal.head.version

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
            answer = wire.advance(7)
            assert asked.done()
            assert (notes.only.status, notes.only.given_up) == (408, False), "it is told before the application is done"
            (cycle,) = wire.service.exchanges
            cycle.expire()
            wire.settle()
            assert notes.only.sent == len(answer.partition(b"\r\n\r\n")[2]) > 0
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
            wire.send(b"\x16\x03\x01 / HTTP/1.1\r\n\r\n")
        assert notes.refused == (400, "-", b"-", "1.1")

    @pytest.mark.parametrize(
        ("sent", "expected"),
        [
            pytest.param(b"GET /a?b HTTP/1.1\r\n\r\n", (400, "GET", b"/a", "1.1"), id="no host"),
            pytest.param(b"GET /a HTTP/1.0\r\nBad Name: x\r\n\r\n", (400, "GET", b"/a", "1.0"), id="bad field"),
            pytest.param(b"\r\n\r\nPUT /a HTTP/3.7\r\n\r\n", (505, "PUT", b"/a", "3.7"), id="another version"),
            pytest.param(b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", (501, "BREW", b"/pot", "1.1"), id="method"),
            pytest.param(b"GET /a%zz HTTP/1.1\r\n\r\n", (400, "GET", b"/a%zz", "1.1"), id="bad escape"),
            pytest.param(b"GET /\xff\x80 HTTP/1.1\r\n\r\n", (400, "GET", b"/\xff\x80", "1.1"), id="not ASCII"),
            pytest.param(b"GET /a\x1b[31m HTTP/1.1\r\n\r\n", (400, "GET", b"/a", "1.1"), id="a control"),
            pytest.param(b"GET /" + b"a" * 99, (414, "GET", b"/" + b"a" * 99, "1.1"), id="no end in sight"),
            pytest.param(b"GET /a HTTP/1.1\r\nA: " + b"b" * 999, (431, "GET", b"/a", "1.1"), id="too much"),
            pytest.param(
                b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", (413, "POST", b"/a", "1.1"), id="body"
            ),
            pytest.param(b"nonsense\r\n\r\n", (400, "-", b"-", "1.1"), id="no request line"),
            pytest.param(b"GET  / HTTP/1.1\r\n\r\n", (400, "-", b"-", "1.1"), id="two spaces"),
        ],
    )
    def test_what_was_read_of_the_request_line_is_told(
        self, notes: Notes, sent: bytes, expected: tuple[int, str, bytes, str]
    ) -> None:
        limits = Limits(request_line=80, header_size=500, body_size=3)
        with observed(hello, notes, limits) as wire:
            answer = wire.send(sent)
            assert notes.refused == expected
        (refusal,) = notes.refusals
        assert refusal.sent == len(answer.partition(b"\r\n\r\n")[2]) > 0

    def test_it_is_the_same_when_it_came_byte_by_byte(self, notes: Notes) -> None:
        with observed(hello, notes) as wire:
            wire.send_slowly(b"GET /a HTTP/1.1\r\nBad Name: x\r\n\r\n")
        assert notes.refused == (400, "GET", b"/a", "1.1")

    @pytest.mark.parametrize("how", ["never", "cut"])
    def test_of_a_head_that_never_ends_what_has_come_is_told(self, notes: Notes, how: str) -> None:
        with observed(hello, notes, Limits(header_timeout=5.0)) as wire:
            wire.send(GET)
            wire.send(b"GET /slow HTTP/1.1\r\nHo")
            answer = wire.advance(7) if how == "never" else wire.send_eof()
            (refusal,) = notes.refusals
        assert (refusal.status, refusal.head.raw_path) == (408 if how == "never" else 400, b"/slow")
        assert answer.endswith(b"\n")
        assert refusal.sent == len(answer.partition(b"\r\n\r\n")[2])

    @pytest.mark.parametrize("sent", [b"HEAD / HTTP/1.1\r\n\r\n", handshake().replace(b"GET", b"HEAD")])
    def test_what_answers_a_head_request_has_no_body(self, notes: Notes, sent: bytes) -> None:
        with observed(hello, notes) as wire:
            assert wire.send(sent).endswith(b"\r\n\r\n")
        assert (notes.refusals[0].status, notes.refusals[0].sent) == (400, 0)

    def test_it_has_an_id_which_the_client_is_told(self, notes: Notes) -> None:
        ids = set()
        with observed(hello, notes) as wire:
            wire.service.request_id_name = b"x-request-id"
            for sent in (b"nonsense\r\n\r\n", handshake().replace(b"Version: 13", b"Version: 12")):
                answer = wire.send(sent)
                assert b"\r\nx-request-id: %s\r\n" % notes.refusals[-1].request_id.encode() in answer
                ids.add(notes.refusals[-1].request_id)
                wire.connect()
        assert len(ids) == 2

    @pytest.mark.parametrize("trusted", [True, False])
    def test_a_proxy_s_word_for_id_and_client_is_believed_if_it_is_trusted(self, notes: Notes, trusted: bool) -> None:
        with observed(hello, notes) as wire:
            proxies = ("127.0.0.1",) if trusted else ()
            listener = Listener("web", (), 1, Limits(), trusted_proxies=proxies, forwarded_headers=("x-forwarded-for",))
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            wire.lose()
            wire.connect()
            said = [b"X-Request-ID: from-proxy", b"X-Forwarded-For: 192.0.2.7"]
            wire.send(handshake(*said).replace(b"Version: 13", b"Version: 12"))
        (refusal,) = notes.refusals
        assert (refusal.request_id == "from-proxy", refusal.client[0] == "192.0.2.7") == (trusted, trusted)

    def test_in_the_place_of_an_application_the_answer_has_the_id_of_the_request(self, notes: Notes) -> None:
        manual = Manual()
        endpoint = Endpoint(manual, "test", observer=notes, request_id_name=b"x-request-id")
        with Wire(endpoint, limits=Limits(body_size=3)) as wire:
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            answer = wire.send(b"9\r\n")
            assert answer.startswith(b"HTTP/1.1 413 ")
            manual.call.finish()
            wire.settle()
            assert b"\r\nx-request-id: %s\r\n" % notes.only.request_id.encode() in answer
            assert notes.only.sent == len(answer.partition(b"\r\n\r\n")[2]) > 0

    def test_a_handshake_that_is_none_is_told_with_its_head(self, notes: Notes) -> None:
        with observed(hello, notes) as wire:
            wire.send(handshake().replace(b"Version: 13", b"Version: 12"))
        assert notes.refused == (426, "GET", b"/chat", "1.1")
        assert notes.refusals[0].host == "a"

    def test_as_is_one_connection_too_many(self) -> None:
        notes = Notes()
        with observed(hello, notes, Limits(connections=1)) as wire:
            first = wire.connection
            wire.connect()
            wire.settle()
            assert notes.refused == (503, "-", b"-", "1.1")
            first.cut()

    @pytest.mark.parametrize(
        ("method", "path", "fields", "status"),
        [
            ("POST", "/a?b", [(b"content-length", b"9")], 413),
            ("GET", "/" + "a" * 99, [], 414),
            ("GET", "/a", [(b"big", b"b" * 600)], 431),
            ("GET", "/a", [(b"field%d" % number, b"") for number in range(9)], 431),
            ("BREW", "/pot", [], 501),
            ("GET", "/%zz", [], 400),
            ("GET", "/caf\u00e9\u0085", [], 400),
            ("CONNECT", "/tunnel", [(b":protocol", b"other")], 501),
        ],
    )
    @pytest.mark.parametrize("again", [False, True])
    def test_over_http_2_it_is_the_same(
        self, notes: Notes, method: str, path: str, fields: list[tuple[bytes, bytes]], status: int, again: bool
    ) -> None:
        limits = Limits(body_size=3, request_line=80, header_size=500, header_count=8)
        with Http2Wire(Endpoint(hello, "test", observer=notes), limits) as wire:
            wire.service.observer = notes
            wire.service.request_id_name = b"x-request-id"
            if again:  # of what is known already, the path alone is read anew
                wire.request("GET", "/known")
                wire.request("GET", "/known/as/well")
                notes.exchanges.clear()
            answer = wire.request(method, path, fields, end=False)
        assert answer.status == status
        assert notes.refused == (status, method, path.partition("?")[0].encode(), "2")
        (refusal,) = notes.refusals
        assert refusal.sent == len(answer.body) > 0
        assert answer.header[b"x-request-id"] == refusal.request_id.encode()

    def test_over_http_2_what_answers_a_head_request_has_no_body(self, notes: Notes) -> None:
        with Http2Wire(Endpoint(hello, "test", observer=notes), Limits(body_size=3)) as wire:
            wire.service.observer = notes
            wire.service.speaks_http1 = False
            answer = wire.request("HEAD", fields=[(b"content-length", b"9")], end=False)
        assert (answer.status, answer.body, notes.refusals[0].sent) == (413, b"", 0)

    def test_over_http_2_a_session_that_its_application_refuses_with_a_200_is_told_as_what_was_answered(
        self, notes: Notes
    ) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.http.response.start", "status": 200, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no session"})

        fields = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
        with Http2Wire(Endpoint(application, "test", observer=notes)) as wire:
            answer = wire.request("CONNECT", "/chat", fields, end=False)
        assert answer.status == notes.only.status == 501
        assert notes.only.sent == len(answer.body) > 0

    def test_over_http_2_what_may_be_a_head_request_is_answered_as_either_can_be(self, notes: Notes) -> None:
        with Http2Wire(Endpoint(hello, "test", observer=notes), Limits(header_size=500)) as wire:
            wire.service.observer = notes
            other = Answer(wire.client.get_next_available_stream_id())
            wire.answers[other.id] = other
            fields = [(b":path", b"/" + b"a" * 600), (b":scheme", b"http"), (b":authority", b"a"), (b":method", b"GET")]
            wire.client.send_headers(other.id, fields, end_stream=True)
            wire.exchange()
        assert (other.status, other.body, other.ended, notes.refusals[0].sent) == (431, b"", True, 0)
        assert b"content-length" not in other.header
        assert notes.refused == (431, "-", b"-", "2")

    def test_over_http_2_a_body_that_grows_too_large_is_told_with_what_was_answered(self, notes: Notes) -> None:
        manual = Manual()
        endpoint = Endpoint(manual, "test", observer=notes, request_id_name=b"x-request-id")
        with Http2Wire(endpoint, Limits(body_size=3)) as wire:
            answer = wire.request("POST", "/a", end=False)
            wire.upload(answer, b"larger")
            manual.call.finish()
            wire.settle()
        assert (answer.status, notes.only.status, notes.refusals) == (413, 413, [])
        assert notes.only.sent == len(answer.body) > 0
        assert answer.header[b"x-request-id"] == notes.only.request_id.encode()

    def test_over_http_2_one_connection_too_many_gets_no_answer_with_a_body(self, notes: Notes) -> None:
        with Http2Wire(hello, Limits(connections=1)) as wire:
            wire.service.observer = notes
            wire.settle()
            crowded = Http2Connection(wire.service)
            crowded.connection_made(MemoryTransport(crowded, wire.loop, TCP_ENDS))
            crowded.cut()
        assert notes.refused == (503, "-", b"-", "2")
        assert notes.refusals[0].sent == 0

    def test_over_http_2_a_tunnel_of_an_unknown_protocol_is_told_with_its_head(self, notes: Notes) -> None:
        fields = [(b":protocol", b"other")]
        with Http2Wire(Endpoint(hello, "test", observer=notes)) as wire:
            wire.service.observer = notes
            assert wire.request("CONNECT", "/tunnel", fields=fields, end=False).status == 501
        assert notes.refused == (501, "CONNECT", b"/tunnel", "2")


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
