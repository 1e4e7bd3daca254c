"""The ASGI WebSocket cycle (ASGI HTTP and WebSocket specification 2.5) over HTTP/1.1, in memory, in virtual time.

What happens on the wire of an open session is shown in test_websocket.py, handshakes and connections in
tests/connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest

from serverd.errors import ClientDisconnected, ResponseError
from serverd.generation import Limits, Listener, WebSocketLimits
from serverd.worker.in_flight import InFlight
from tests.support.every import every
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, close, frame
from tests.support.wire import TCP_ENDS, SessionWire, frames_of, handshake

CLOSE_1000, CLOSE_1011 = (0x88, b"\x03\xe8"), (0x88, b"\x03\xf3")
CONNECT = {"type": "websocket.connect"}


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class TestScope:
    """ASGI WebSocket spec, "Websocket Connection Scope"."""

    def scope(self, *fields: bytes, target: bytes = b"/chat", proxies: tuple[str, ...] = (), **endpoint: Any) -> Any:
        with SessionWire(**endpoint) as wire:
            listener = Listener(
                "web",
                (),
                1,
                Limits(),
                trusted_proxies=proxies,
                forwarded_headers=("x-forwarded-for", "x-forwarded-proto"),
            )
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            wire.lose()
            wire.connect()
            wire.send(handshake(*fields, target=target))
            return wire.call.scope

    def test_it_is_exactly_that_of_the_specification(self) -> None:
        state = {"pool": object()}
        scope = self.scope(b"Sec-WebSocket-Protocol: a, b", target=b"/caf%C3%A9?x=1&y=%20", state=state)
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/café",
            "raw_path": b"/caf%C3%A9",
            "query_string": b"x=1&y=%20",
            "root_path": "",
            "headers": [
                (b"host", b"a"),
                (b"upgrade", b"websocket"),
                (b"connection", b"Upgrade"),
                (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
                (b"sec-websocket-version", b"13"),
                (b"sec-websocket-protocol", b"a, b"),
            ],
            "client": TCP_ENDS["peername"],
            "server": TCP_ENDS["sockname"],
            "subprotocols": ["a", "b"],
            "state": {**state, "request_id": scope["state"]["request_id"]},
            "extensions": {"websocket.http.response": {}},
        }

    def test_the_state_is_a_copy_that_shares_its_values(self) -> None:
        state = {"pool": object()}
        scope = self.scope(state=state)
        assert scope["state"] is not state
        assert scope["state"]["pool"] is state["pool"]

    def test_without_subprotocols_there_is_an_empty_list(self) -> None:
        assert self.scope()["subprotocols"] == []

    def test_a_mount_says_root_path_and_strips_its_prefix(self) -> None:
        scope = self.scope(target=b"/api/chat", root_path="/api")
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/chat", b"/api/chat")
        scope = self.scope(target=b"/api/chat", strip="/api")
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/chat", b"/api/chat")

    @pytest.mark.parametrize(("proto", "scheme"), [("https", "wss"), ("wss", "wss"), ("http", "ws"), ("ws", "ws")])
    def test_a_trusted_proxy_says_whether_it_is_wss(self, proto: str, scheme: str) -> None:
        claims = (b"X-Forwarded-Proto: " + proto.encode(), b"X-Forwarded-For: 203.0.113.9")
        assert self.scope(*claims)["scheme"] == "ws"
        scope = self.scope(*claims, proxies=("127.0.0.1",))
        assert (scope["scheme"], scope["client"][0]) == (scheme, "203.0.113.9")

    def test_what_the_application_does_to_its_scope_is_no_concern_of_the_next(self) -> None:
        with SessionWire() as wire:
            for _ in range(2):
                wire.send(handshake(b"Sec-WebSocket-Protocol: a"))
                scope = wire.call.scope
                assert (scope["headers"][0], scope["subprotocols"]) == ((b"host", b"a"), ["a"])
                assert list(scope["extensions"]) == ["websocket.http.response"]
                for key in ("headers", "subprotocols", "extensions", "state"):
                    scope[key].clear()
                wire.finish()
                wire.connect()


class TestAccept:
    """ASGI WebSocket spec, "Connect" and "Accept"."""

    def test_connect_comes_first_and_once(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            assert wire.receive() == CONNECT
            waiting = wire.run(wire.call.receive())
            assert not waiting.done()
            wire.tell("accept")
            wire.send(frame(TEXT, b"hi"))
            assert waiting.result()["text"] == "hi"

    def test_connect_comes_first_also_to_who_has_accepted_unasked(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake() + frame(TEXT, b"hi"))
            wire.tell("accept")
            assert wire.receive() == CONNECT
            assert wire.receive()["text"] == "hi"

    def test_headers_are_sent(self) -> None:
        with SessionWire() as wire:
            answer = wire.accept(headers=[(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"Server", b"mine")])
            assert answer.count(b"\r\nset-cookie: ") == 2
            assert b"\r\nserver: mine\r\n" in answer
            assert b"serverd" not in answer

    def test_the_mounts_fields_and_the_request_id_are_sent_where_the_application_has_none(self) -> None:
        fields = [(b"x-mount", b"default"), (b"x-other", b"default")]
        with SessionWire(fields=fields, request_id_name=b"x-request-id") as wire:
            answer = wire.accept(headers=[(b"X-Mount", b"mine")])
            name = wire.call.scope["state"]["request_id"].encode()
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nx-request-id: " + name + b"\r\n" in answer
            assert b"\r\nx-other: default\r\n" in answer
            assert b"\r\nx-mount: mine\r\n" in answer
            assert b"x-mount: default" not in answer

    @every(
        "header",
        [
            pytest.param((b"x", b"a\r\nb: c"), id="CR LF in a value"),
            pytest.param((b"x", b"a\nb"), id="LF in a value"),
            pytest.param((b"x", b"a\rb"), id="CR in a value"),
            pytest.param((b"x", b"a\x00"), id="NUL in a value"),
            pytest.param((b"x\r\nb", b"c"), id="CR LF in a name"),
            pytest.param((b"x y", b"c"), id="white space in a name"),
            pytest.param((b"", b"c"), id="no name"),
            pytest.param(("x", b"c"), id="a name that is str"),
            pytest.param((b"x", "c"), id="a value that is str"),
            pytest.param((b"Sec-WebSocket-Protocol", b"a"), id="subprotocol"),
            pytest.param((b"sec-websocket-accept", b"a"), id="accept"),
            pytest.param((b"Sec-WebSocket-Extensions", b"permessage-deflate"), id="extensions"),
            pytest.param((b"Upgrade", b"h2c"), id="upgrade"),
            pytest.param((b"connection", b"close"), id="connection"),
            pytest.param((b"content-length", b"0"), id="content-length"),
            pytest.param((b"transfer-encoding", b"chunked"), id="transfer-encoding"),
        ],
    )
    def test_what_must_not_be_sent_is_not(self, header: Any) -> None:
        with SessionWire() as wire:
            wire.send(handshake(b"Sec-WebSocket-Protocol: a"))
            with pytest.raises(ResponseError):
                wire.tell("accept", headers=[header])
            assert wire.received() == b""
            wire.tell("accept")  # it may think better of it

    @pytest.mark.parametrize(("offered", "chosen"), [(b"a, b", "b"), (b"chat.v2", "chat.v2")])
    def test_the_subprotocol_is_one_that_the_client_offers(self, offered: bytes, chosen: str) -> None:
        with SessionWire() as wire:
            answer = wire.accept(b"Sec-WebSocket-Protocol: " + offered, subprotocol=chosen)
            assert b"\r\nsec-websocket-protocol: %b\r\n" % chosen.encode() in answer

    def test_the_application_need_not_choose_one(self) -> None:
        with SessionWire() as wire:
            assert b"sec-websocket-protocol" not in wire.accept(b"Sec-WebSocket-Protocol: a", subprotocol=None)

    @pytest.mark.parametrize("chosen", ["c", "A", "", "a, b", "a\r\nx: y", b"a", 1])
    def test_no_other_subprotocol_can_be_chosen(self, chosen: Any) -> None:
        with SessionWire() as wire:
            wire.send(handshake(b"Sec-WebSocket-Protocol: a, b"))
            with pytest.raises(ResponseError, match="one that the client offers"):
                wire.tell("accept", subprotocol=chosen)
            assert wire.received() == b""

    def test_compression_is_agreed_on_in_the_answer(self) -> None:
        with SessionWire() as wire:
            answer = wire.accept(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
            assert b"\r\nsec-websocket-extensions: permessage-deflate; " in answer
        with SessionWire(limits=Limits(websocket=WebSocketLimits(compression=False))) as wire:
            assert b"extensions" not in wire.accept(b"Sec-WebSocket-Extensions: permessage-deflate")

    def test_it_is_no_request_in_flight_any_more(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            [session] = wire.service.exchanges
            assert not session.is_complete
            wire.tell("accept")
            assert session.is_complete
            assert not wire.service.exchanges
            assert wire.service.sessions.open == {session}
            wire.send(close(1000))
            assert wire.service.sessions.open == {session}  # until the application has returned
            wire.finish()
            assert not wire.service.sessions.open


class TestMessages:
    """ASGI WebSocket spec, "Receive" and "Send"."""

    @pytest.mark.parametrize(
        ("opcode", "payload", "message"),
        [
            (TEXT, "grüße 😀".encode(), {"type": "websocket.receive", "text": "grüße 😀"}),
            (TEXT, b"", {"type": "websocket.receive", "text": ""}),
            (BINARY, b"\x00\xff", {"type": "websocket.receive", "bytes": b"\x00\xff"}),
            (BINARY, b"", {"type": "websocket.receive", "bytes": b""}),
        ],
    )
    def test_a_message_is_text_or_bytes(self, opcode: int, payload: bytes, message: dict[str, Any]) -> None:
        with SessionWire() as wire:
            wire.accept()
            wire.send(frame(opcode, payload))
            assert wire.receive() == message
            wire.send(frame(opcode, payload[:3], fin=False) + frame(PING) + frame(CONTINUATION, payload[3:]))
            assert wire.receive() == message

    @every(
        ("message", "sent"),
        [
            ({"text": "grüße"}, (0x81, "grüße".encode())),
            ({"text": ""}, (0x81, b"")),
            ({"bytes": b"\x00\xff"}, (0x82, b"\x00\xff")),
            ({"bytes": b""}, (0x82, b"")),
            ({"bytes": bytearray(b"ab")}, (0x82, b"ab")),
            ({"bytes": memoryview(b"abcd")[1:3]}, (0x82, b"bc")),
            ({"bytes": None, "text": "t"}, (0x81, b"t")),
            ({"bytes": b"b", "text": None}, (0x82, b"b")),
            ({"bytes": b"b", "text": "t"}, (0x82, b"b")),
            ({"bytes": bytes(125)}, (0x82, bytes(125))),
            ({"bytes": bytes(126)}, (0x82, bytes(126))),
            ({"bytes": bytes(65536)}, (0x82, bytes(65536))),
        ],
    )
    def test_text_and_bytes_are_sent(self, message: dict[str, Any], sent: tuple[int, bytes]) -> None:
        with SessionWire() as wire:
            wire.accept()
            assert frames_of(wire.tell("send", **message)) == [sent]

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"bytes": None, "text": None},
            {"text": b"bytes"},
            {"bytes": "text"},
            {"text": 1},
            {"bytes": 3},
            {"bytes": [1, 2]},
            {"text": "a\ud800b"},
        ],
    )
    def test_what_is_neither_is_refused_and_nothing_of_it_sent(self, message: dict[str, Any]) -> None:
        with SessionWire() as wire:
            wire.accept()
            with pytest.raises(ResponseError):
                wire.tell("send", **message)
            assert frames_of(wire.tell("send", text="next")) == [(0x81, b"next")]

    def test_code_and_reason_of_a_close_may_be_of_kinds_of_their_own(self) -> None:
        code = IntEnum("Code", {"BUSY": 3013}).BUSY
        with SessionWire() as wire:
            wire.accept()
            sent = wire.tell("close", code=code, reason=type("Text", (str,), {})("no"))
            assert frames_of(sent) == [(0x88, (3013).to_bytes(2, "big") + b"no")]

    @pytest.mark.parametrize("code", [2**31, 2**63, 10**40, -(2**64), 1000.0, "1000"])
    def test_a_code_that_cannot_be_sent_is_refused_however_large(self, code: Any) -> None:
        with SessionWire() as wire:
            wire.accept()
            with pytest.raises(ResponseError, match="cannot be sent"):
                wire.tell("close", code=code)

    def test_what_is_sent_without_pause_leaves_the_loop_to_others(self) -> None:
        turns = 0

        async def chatters(wire: SessionWire) -> None:
            for _ in range(200):
                await wire.call.send({"type": "websocket.send", "text": "x"})

        async def others() -> None:
            nonlocal turns
            while not chattering.done():
                turns += 1
                await asyncio.sleep(0)

        with SessionWire() as wire:
            wire.accept()
            chattering = wire.loop.create_task(chatters(wire))
            other = wire.loop.create_task(others())
            wire.settle()
            assert chattering.done()
            assert other.done()
            assert turns >= 10
            assert len(frames_of(wire.received())) == 200


SENDS: dict[str, dict[str, Any]] = {
    "accept": {"type": "websocket.accept"},
    "send": {"type": "websocket.send", "text": "x"},
    "close": {"type": "websocket.close"},
    "response start": {"type": "websocket.http.response.start", "status": 404, "headers": []},
    "response body": {"type": "websocket.http.response.body", "body": b"x"},
    "http start": {"type": "http.response.start", "status": 200, "headers": []},
    "http body": {"type": "http.response.body", "body": b"x"},
    "connect": {"type": "websocket.connect"},
    "disconnect": {"type": "websocket.disconnect", "code": 1000},
    "unknown": {"type": "websocket.unknown"},
    "empty": {"type": ""},
}

MORE_BODY = {"type": "websocket.http.response.body", "body": b"x", "more_body": True}

BEFORE: dict[str, list[dict[str, Any]]] = {
    "connecting": [],
    "refusing": [SENDS["response start"]],
    "refusing, body under way": [SENDS["response start"], MORE_BODY],
    "open": [SENDS["accept"]],
    "closed": [SENDS["accept"], SENDS["close"]],
}

ALLOWED = {
    ("connecting", "accept"),
    ("connecting", "close"),
    ("connecting", "response start"),
    ("refusing", "response body"),
    ("refusing, body under way", "response body"),
    ("open", "send"),
    ("open", "close"),
}


class TestOrder:
    """Which message may follow which; everything else is an error of the application, and nothing of it is sent."""

    @every("message", SENDS)
    @every("state", BEFORE)
    def test_only_what_the_state_allows_is_taken(self, state: str, message: str) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            for sent in BEFORE[state]:
                assert wire.run(wire.call.send(sent)).exception() is None
            wire.received()
            error = wire.run(wire.call.send(SENDS[message])).exception()
            if (state, message) in ALLOWED:
                assert error is None
                assert bool(wire.received()) is (message != "response start")  # a head is held back
            else:
                assert isinstance(error, ResponseError)
                assert "expected" in str(error)
                assert wire.received() == b""

    @pytest.mark.parametrize("message", SENDS)
    def test_nothing_can_be_sent_when_it_has_been_refused(self, message: str) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            wire.tell("close")
            assert isinstance(wire.run(wire.call.send(SENDS[message])).exception(), ClientDisconnected | ResponseError)
            assert wire.received() == b""

    def test_an_application_that_does_not_know_the_order_is_told_in_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            wire.finish(wire.run(wire.call.send(SENDS["send"])).exception())
        assert "unexpected message 'websocket.send': expected websocket.accept or websocket.close or" in caplog.text


class TestRefusal:
    """ASGI WebSocket spec, "Close" before "Accept"; extension "Websocket Denial Response"."""

    @pytest.mark.parametrize("message", [{}, {"code": 4000, "reason": "no"}])
    def test_close_before_accept_is_403(self, message: dict[str, Any]) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            assert wire.receive() == CONNECT
            answer = wire.tell("close", **message)
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert answer.endswith(b"\r\n\r\nForbidden\n")
            assert wire.receive() == disconnect(1006)
            assert wire.receive() == disconnect(1006)
            assert wire.finish() == b""

    def test_a_response_of_known_length(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            headers = [(b"content-length", b"4"), (b"WWW-Authenticate", b"Basic")]
            assert wire.tell("http.response.start", status=401, headers=headers) == b""  # held back
            answer = wire.tell("http.response.body", body=b"who?")
            assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
            assert b"\r\nwww-authenticate: Basic\r\n" in answer
            assert answer.endswith(b"\r\n\r\nwho?")
            assert b"upgrade" not in answer.lower()
            assert wire.receive() == CONNECT
            assert wire.receive() == disconnect(1006)

    def test_a_response_in_parts(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            wire.tell("http.response.start", status=503, headers=[])
            assert wire.tell("http.response.body", body=b"one", more_body=True).endswith(b"\r\n\r\n3\r\none\r\n")
            assert wire.tell("http.response.body", body=b"two", more_body=True) == b"3\r\ntwo\r\n"
            assert not wire.closed
            assert wire.tell("http.response.body") == b"0\r\n\r\n"
            assert wire.closed

    @pytest.mark.parametrize(("status", "length"), [(204, b""), (304, b""), (403, b"content-length: 0\r\n")])
    def test_a_response_without_body(self, status: int, length: bytes) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            wire.tell("http.response.start", status=status, headers=[])
            answer = wire.tell("http.response.body")
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert (b"content-length" in answer) is bool(length)
            assert length in answer
            assert answer.endswith(b"\r\n\r\n")
            assert wire.closed

    @pytest.mark.parametrize("status", [100, 101, 199, 600, 0, "403", None])
    def test_a_status_that_is_none_is_refused_and_another_one_can_be_sent(self, status: Any) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            with pytest.raises(ResponseError, match="status"):
                wire.tell("http.response.start", status=status, headers=[])
            wire.tell("http.response.start", status=403, headers=[])
            assert wire.tell("http.response.body").startswith(b"HTTP/1.1 403 ")

    def test_a_header_that_would_begin_another_one_is_never_sent(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            with pytest.raises(ResponseError):
                wire.tell("http.response.start", status=403, headers=[(b"x", b"a\r\nb: c")])
            assert wire.finish(ValueError("of the test")).startswith(b"HTTP/1.1 500 ")

    def test_a_body_that_contradicts_its_length_is_never_sent(self) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            wire.tell("http.response.start", status=403, headers=[(b"content-length", b"2")])
            with pytest.raises(ResponseError):
                wire.tell("http.response.body", body=b"long")
            assert wire.finish(ValueError("of the test")).startswith(b"HTTP/1.1 500 ")

    @pytest.mark.parametrize("way", ["close", "response"])
    def test_who_waits_in_receive_is_told_that_it_is_over(self, way: str) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            assert wire.receive() == CONNECT
            waiting = wire.run(wire.call.receive())
            if way == "close":
                wire.tell("close")
            else:
                wire.tell("http.response.start", status=403, headers=[])
                assert not waiting.done()
                wire.tell("http.response.body")
            assert waiting.result() == disconnect(1006)

    def test_a_peer_that_does_not_read_makes_the_response_wait(self) -> None:
        with SessionWire() as wire:
            wire.transport.room = 0
            wire.send(handshake())
            wire.tell("http.response.start", status=403, headers=[])
            task = wire.run(wire.call.send({**MORE_BODY, "body": bytes(100_000)}))
            assert not task.done()
            wire.take()
            assert task.done()


class TestClose:
    """ASGI WebSocket spec, "Close"; RFC 6455 §7.4."""

    @every(
        ("message", "payload"),
        [
            ({}, b"\x03\xe8"),
            ({"code": 1000, "reason": None}, b"\x03\xe8"),
            ({"code": 4000, "reason": "grüße"}, b"\x0f\xa0" + "grüße".encode()),
            ({"code": 4999, "reason": "x" * 123}, b"\x13\x87" + b"x" * 123),
            *(({"code": code}, code.to_bytes(2, "big")) for code in (1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000)),
        ],
    )
    def test_code_and_reason_are_sent(self, message: dict[str, Any], payload: bytes) -> None:
        with SessionWire() as wire:
            wire.accept()
            assert frames_of(wire.tell("close", **message)) == [(0x88, payload)]
            assert not wire.closed  # the peer's Close is to come

    @every(
        "message",
        [
            *({"code": code} for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1)),
            {"code": None},
            {"code": "1000"},
            {"code": 1000.0},
            {"code": True},
            {"reason": "x" * 124},
            {"reason": "ü" * 62},
            {"reason": "\ud800"},
            {"reason": b"bytes"},
        ],
    )
    def test_what_must_not_be_sent_is_refused_and_the_session_goes_on(self, message: dict[str, Any]) -> None:
        with SessionWire() as wire:
            wire.accept()
            with pytest.raises(ResponseError):
                wire.tell("close", **message)
            assert frames_of(wire.tell("send", text="on")) == [(0x81, b"on")]

    def test_the_application_hears_its_own_code_at_once(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            wire.send(frame(TEXT, b"unread"))
            waiting = wire.run(wire.call.receive())
            assert waiting.result()["text"] == "unread"
            waiting = wire.run(wire.call.receive())
            wire.tell("close", code=4001, reason="enough")
            assert waiting.result() == disconnect(4001, "enough")
            assert wire.receive() == disconnect(4001, "enough")

    def test_what_had_not_been_read_is_thrown_away(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            wire.send(frame(TEXT, b"unread") * 3)
            wire.tell("close")
            assert wire.receive() == disconnect(1000)


class TestDisconnect:
    """ASGI WebSocket spec, "Disconnect": code and reason, whoever ends it; RFC 6455 §7.1.5, §7.1.6."""

    @every(
        ("data", "code", "reason"),
        [
            pytest.param(close(1000), 1000, "", id="an ordinary end"),
            pytest.param(close(1001, b"bye"), 1001, "bye", id="a reason"),
            pytest.param(close(4321, "grüße".encode()), 4321, "grüße", id="a code of its own"),
            pytest.param(frame(CLOSE), 1005, "", id="no code"),
            pytest.param(frame(0x3), 1002, "unknown opcode", id="an unknown opcode"),
            pytest.param(close(1006), 1002, "invalid close code", id="an invalid code"),
            pytest.param(frame(TEXT, b"\xff"), 1007, "text is not UTF-8", id="no UTF-8"),
            pytest.param(b"\x81\x05hello", 1002, "frame of a client is not masked", id="no mask"),
        ],
    )
    @every("waits", [True, False])
    def test_what_the_peer_does_is_told_after_what_it_has_said(
        self, data: bytes, code: int, reason: str, waits: bool
    ) -> None:
        with SessionWire() as wire:
            wire.accept()
            if waits:
                waiting = wire.run(wire.call.receive())
                wire.send(data)
                assert waiting.result() == disconnect(code, reason)
            else:
                wire.send(frame(TEXT, b"last") + data)
                assert wire.receive()["text"] == "last"
            for _ in range(3):  # it never hangs
                assert wire.receive() == disconnect(code, reason)

    @pytest.mark.parametrize("leave", ["lose", "send_eof"])
    @pytest.mark.parametrize("accepted", [True, False])
    def test_a_connection_that_is_lost_is_1006(self, leave: str, accepted: bool) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            if accepted:
                wire.tell("accept")
            assert wire.receive() == CONNECT
            waiting = wire.run(wire.call.receive())
            act: Callable[[], Any] = getattr(wire, leave)
            act()
            assert waiting.result() == disconnect(1006)
            assert wire.receive() == disconnect(1006)

    @every("leave", ["lose", "send_eof"])
    @every("message", ["accept", "send", "close", "response start", "unknown"])
    @every("accepted", [True, False])
    def test_to_send_after_it_raises_oserror(self, leave: str, message: str, accepted: bool) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            if accepted:
                wire.tell("accept")
            act: Callable[[], Any] = getattr(wire, leave)
            act()
            error = wire.run(wire.call.send(SENDS[message])).exception()
            assert isinstance(error, OSError)

    def test_to_send_after_the_peers_close_raises_oserror(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            assert frames_of(wire.send(close(1000))) == [CLOSE_1000]
            for message in ("send", "close"):
                assert isinstance(wire.run(wire.call.send(SENDS[message])).exception(), OSError)
            assert wire.received() == b""

    def test_an_application_that_trips_over_it_is_no_error(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        with SessionWire() as wire:
            wire.accept()
            wire.lose()
            error = wire.run(wire.call.send(SENDS["send"])).exception()
            wrapped = RuntimeError("of a framework")
            wrapped.__cause__ = error
            wire.finish(wrapped)
        assert caplog.text == ""

    @pytest.mark.parametrize("leave", ["lose", "send_eof"])
    @pytest.mark.parametrize("before", ["connecting", "refusing", "refusing, body under way"])
    def test_an_application_that_returns_because_of_it_is_no_error(
        self, leave: str, before: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with SessionWire() as wire:
            wire.send(handshake())
            for message in BEFORE[before]:
                wire.run(wire.call.send(message))
            wire.received()
            act: Callable[[], Any] = getattr(wire, leave)
            act()
            assert wire.receive() == CONNECT
            assert wire.receive() == disconnect(1006)
            assert wire.finish() == b""
            assert wire.closed
        assert caplog.text == ""


class TestEnd:
    """What becomes of a session whose application returns, or fails, at any time."""

    @pytest.mark.parametrize(
        ("state", "answer"),
        [
            ("connecting", b"HTTP/1.1 500 "),
            ("refusing", b"HTTP/1.1 500 "),
            ("refusing, body under way", b""),
            ("open", b"\x88\x02\x03\xf3"),
            ("closed", b""),
        ],
    )
    def test_one_that_fails_is_logged_and_the_peer_told(
        self, state: str, answer: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            for message in BEFORE[state]:
                wire.run(wire.call.send(message))
            wire.received()
            sent = wire.finish(ValueError("of the test"))
            assert sent.startswith(answer)
            assert bool(sent) is bool(answer)
            assert wire.closed is (state not in ("open", "closed"))
        assert "app test failed on GET /chat" in caplog.text
        assert caplog.records[0].exc_info is not None
        assert caplog.text.count("Traceback") == 1

    @pytest.mark.parametrize(
        ("state", "answer", "complaint"),
        [
            ("connecting", b"HTTP/1.1 500 ", "expected websocket.accept or websocket.close or"),
            ("refusing", b"HTTP/1.1 500 ", "returned too early"),
            ("refusing, body under way", b"", "returned too early"),
            ("open", b"\x88\x02\x03\xe8", ""),
            ("closed", b"", ""),
        ],
    )
    def test_one_that_returns_early_is_ended(
        self, state: str, answer: bytes, complaint: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SessionWire() as wire:
            wire.send(handshake())
            for message in BEFORE[state]:
                wire.run(wire.call.send(message))
            wire.received()
            sent = wire.finish()
            assert sent.startswith(answer)
            assert bool(sent) is bool(answer)
        assert complaint in caplog.text
        assert bool(caplog.text) is bool(complaint)

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
    def test_no_application_ends_the_process(self, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
        with SessionWire() as wire:
            wire.accept()
            if isinstance(error, asyncio.CancelledError):
                wire.call.end.cancel()
                wire.settle()
                sent = wire.received()
            else:
                sent = wire.finish(error)
            assert frames_of(sent) == [CLOSE_1011]
        assert "app test failed on GET /chat" in caplog.text

    def test_one_that_fails_after_the_peer_has_gone_is_still_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with SessionWire() as wire:
            wire.accept()
            wire.lose()
            wire.finish(ValueError("of the test"))
        assert "of the test" in caplog.text


class TestReceive:
    """How an application may wait."""

    def test_a_receive_that_is_given_up_loses_no_message(self) -> None:
        received: list[str] = []

        async def reads(wire: SessionWire) -> None:
            while len(received) < 20:
                try:
                    message = await asyncio.wait_for(wire.call.receive(), 0.01)
                except TimeoutError:
                    continue
                received.append(message["text"])

        with SessionWire() as wire:
            wire.accept()
            task = wire.loop.create_task(reads(wire))
            for number in range(20):
                for early in range(number % 3):  # before, when and after the time is up
                    wire.loop.now += 0.01 * (early + 1)
                    wire.loop.call_soon(wire.transport.deliver, b"")
                if number % 2:
                    wire.loop.now += 0.01
                wire.transport.deliver(frame(TEXT, b"%d" % number))
                if number % 4:
                    wire.settle()
            wire.settle()
            assert task.done()
            assert received == [str(number) for number in range(20)]

    def test_a_message_that_comes_as_the_wait_is_cancelled_is_the_next_ones(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            task = wire.run(wire.call.receive())
            wire.transport.deliver(frame(TEXT, b"hi"))  # it is woken
            task.cancel()  # and does not come to itself
            wire.settle()
            assert task.cancelled()
            assert wire.receive()["text"] == "hi"

    def test_each_of_several_that_wait_gets_a_message_of_its_own(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            tasks = [wire.run(wire.call.receive()) for _ in range(3)]
            wire.send(frame(TEXT, b"1"))
            assert [task.done() for task in tasks].count(True) == 1
            wire.send(frame(TEXT, b"2"))
            assert [task.done() for task in tasks].count(True) == 2
            wire.send(close(1000))
            results = [task.result() for task in tasks]
            assert sorted(result.get("text", "") for result in results) == ["", "1", "2"]
            assert disconnect(1000) in results

    def test_one_task_may_read_while_another_writes(self) -> None:
        with SessionWire() as wire:
            wire.accept()
            reading = wire.run(wire.call.receive())
            assert frames_of(wire.tell("send", text="a")) == [(0x81, b"a")]
            assert not reading.done()
            wire.send(frame(TEXT, b"b"))
            assert reading.result()["text"] == "b"


class Timed:
    """A handshake whose application has a request_timeout of 5 s, and who looks for that, as `worker.pulse` does."""

    def __init__(self, wire: SessionWire) -> None:
        self.wire = wire
        self.in_flight = InFlight(lambda: list(wire.service.exchanges), wire.loop.time)
        self.told = 0

    def advance(self, seconds: int) -> bytes:
        for _ in range(seconds):
            self.wire.loop.now += 1.0
            self.in_flight.look()
            for cycle in self.in_flight.overdue():
                self.told += 1
                cycle.expire()
            self.wire.settle()
        return self.wire.received()


class TestRequestTimeout:
    """request_timeout is for the answer to the handshake; a session may last."""

    def test_a_handshake_that_is_not_answered_in_time_is_504(self) -> None:
        with SessionWire(request_timeout=5.0) as wire:
            wire.send(handshake())
            timed = Timed(wire)
            assert wire.call.end.cancelled() is False
            assert timed.advance(10).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
            assert wire.closed
            assert not wire.service.exchanges
            assert timed.told == 1

    def test_a_session_is_never_ended_by_it(self) -> None:
        with SessionWire(request_timeout=5.0) as wire:
            wire.accept()
            assert Timed(wire).advance(1000) == b""
            assert frames_of(wire.tell("send", text="on")) == [(0x81, b"on")]

    @pytest.mark.parametrize(
        ("before", "answer"),
        [("connecting", b"HTTP/1.1 504 "), ("refusing", b"HTTP/1.1 504 "), ("refusing, body under way", b"")],
    )
    def test_one_that_does_not_let_itself_be_cancelled_is_told_once(self, before: str, answer: bytes) -> None:
        with SessionWire(request_timeout=5.0) as wire:
            release = asyncio.Event()

            async def stubborn(scope: Any, receive: Any, send: Any) -> None:
                for message in BEFORE[before]:
                    await send(message)
                while not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue

            endpoint = wire.service.router.find("a", "/chat")
            object.__setattr__(endpoint, "application", stubborn)
            wire.send(handshake())
            wire.received()
            timed = Timed(wire)
            sent = timed.advance(20)
            assert sent.startswith(answer)
            assert bool(sent) is bool(answer)
            assert wire.closed
            assert timed.told == 1
            release.set()
            wire.settle()
