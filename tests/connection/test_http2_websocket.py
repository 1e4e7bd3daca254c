"""WebSockets over HTTP/2 (RFC 8441): the same sessions as over HTTP/1.1, on a stream instead of a socket."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from websockets.frames import Opcode

from serverd.asgi import builtin
from serverd.asgi.scope import Endpoint
from serverd.asgi.websocket import CLOSE_TIMEOUT, QUEUE_SIZE
from serverd.connection.base import LINGER_TIMEOUT
from serverd.generation import Limits, WebSocketLimits
from serverd.protocol.http2 import ErrorCode
from tests.asgi.test_observer import Notes
from tests.protocol.http2_peer import frame as http2_frame
from tests.support.applications import Recorder
from tests.support.frames import PING, TEXT, frame
from tests.support.http2 import Http2Wire, TunnelWire, with_http2
from tests.support.wire import TCP_ENDS, router_to

CONNECT = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]


def quiet(queue: int = 16, **limits: Any) -> Limits:
    """Return limits without pings."""
    return Limits(websocket=WebSocketLimits(ping_interval=0, queue=queue), **limits)


def texts(frames: list[Any]) -> list[str]:
    return [one.data.decode() for one in frames if one.opcode is Opcode.TEXT]


class TestHandshake:
    """RFC 8441 §4, §5."""

    def test_the_server_says_that_it_knows_extended_connect(self) -> None:
        with TunnelWire() as wire:
            assert wire.client.remote_settings.enable_connect_protocol == 1

    def test_the_scope_is_that_of_a_websocket(self) -> None:
        with TunnelWire() as wire:
            wire.ask((b"sec-websocket-protocol", b"chat, superchat"), (b"cookie", b"a=b"), path="/chat?room=1")
            scope = wire.call.scope
            assert scope["type"] == "websocket"
            assert (scope["http_version"], scope["scheme"]) == ("2", "ws")
            assert (scope["path"], scope["query_string"]) == ("/chat", b"room=1")
            assert scope["subprotocols"] == ["chat", "superchat"]
            assert scope["client"] == TCP_ENDS["peername"]
            assert (b"cookie", b"a=b") in scope["headers"]
            assert scope["headers"][0] == (b"host", b"a")
            assert "method" not in scope
            wire.finish()

    def test_the_answer_is_200_without_what_belongs_to_http_1(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept(
                (b"sec-websocket-protocol", b"chat"), subprotocol="chat", headers=[(b"set-cookie", b"a=b")]
            )
            header = tunnel.answer.header
            assert header[b"sec-websocket-protocol"] == b"chat"
            assert header[b"set-cookie"] == b"a=b"
            assert not header.keys() & {b"upgrade", b"connection", b"sec-websocket-accept", b"content-length"}
            wire.finish()

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            pytest.param([(b":protocol", b"websocket")], 400, id="no version"),
            pytest.param([(b":protocol", b"websocket"), (b"sec-websocket-version", b"8")], 426, id="another version"),
            pytest.param([*CONNECT, (b"sec-websocket-version", b"13")], 400, id="two versions"),
            pytest.param([*CONNECT, (b"sec-websocket-protocol", b"a, a")], 400, id="a protocol twice"),
            pytest.param([*CONNECT, (b"sec-websocket-extensions", b";")], 400, id="no extensions"),
            pytest.param([(b":protocol", b"connect-udp")], 501, id="an unknown protocol"),
            pytest.param([(b":protocol", b"WebSocket")], 501, id="in upper case"),
        ],
    )
    def test_what_is_none_is_refused_and_its_stream_ends(self, fields: Any, status: int) -> None:
        with TunnelWire() as wire:
            answer = wire.request("CONNECT", "/chat", fields, end=False)
            assert (answer.status, answer.ended) == (status, True)
            if status == 426:
                assert answer.header[b"sec-websocket-version"] == b"13"
            assert not wire.manual.calls
            wire.advance(LINGER_TIMEOUT + 2)
            assert not wire.streams
            assert wire.ping()

    def test_a_connect_to_another_host_is_refused(self) -> None:
        with TunnelWire() as wire:
            wire.client.send_headers(1, [(b":method", b"CONNECT"), (b":authority", b"example.com:443")])
            wire.exchange()
            assert not wire.manual.calls
            wire.advance(LINGER_TIMEOUT + 2)
            assert not wire.streams

    @pytest.mark.parametrize(
        ("application", "status"),
        [
            (builtin.not_found, 404),
            (builtin.misdirected, 421),
            (builtin.redirect(lambda scope: b"/elsewhere"), 307),
            (builtin.unavailable(lambda: 3.0), 503),
            (builtin.respond(403, b"no", []), 403),
            (builtin.respond(200, b"yes", []), 501),
            (builtin.options, 501),
        ],
    )
    def test_what_the_server_answers_itself_never_opens_a_tunnel(self, application: Any, status: int) -> None:
        notes = Notes()
        with Http2Wire(Endpoint(application, "serverd", is_ours=True, observer=notes)) as wire:
            answer = wire.request("CONNECT", "/chat", CONNECT, end=False)
            assert (answer.status, answer.ended) == (status, True)
            assert (notes.only.status, notes.only.sent) == (status, len(answer.body))
            wire.advance(LINGER_TIMEOUT + 2)
            assert not wire.streams

    def test_a_handshake_beyond_concurrency_is_answered_503(self) -> None:
        with TunnelWire(Limits(concurrency=1)) as wire:
            wire.request()
            answer = wire.ask()
            assert answer.status == 503
            assert answer.header[b"retry-after"] == b"1"
            wire.run(wire.call.respond())
            wire.finish()
            tunnel = wire.accept()
            assert wire.request().status == 0  # the session is no request in flight
            wire.run(wire.call.respond())
            wire.finish()
            tunnel.close()
            wire.finish(wire.manual.calls[1])

    def test_an_application_that_closes_instead_of_accepting_answers_403(self) -> None:
        with TunnelWire() as wire:
            answer = wire.ask()
            wire.receive()
            wire.tell("close")
            assert (answer.status, answer.ended) == (403, True)
            wire.finish()
            wire.advance(LINGER_TIMEOUT + 2)
            assert not wire.streams
            assert wire.ping()

    def test_a_response_of_its_own_may_be_the_refusal(self) -> None:
        with TunnelWire() as wire:
            answer = wire.ask()
            wire.receive()
            wire.tell("http.response.start", status=401, headers=[(b"www-authenticate", b"Basic")])
            wire.tell("http.response.body", body=b"who ", more_body=True)
            wire.client.send_data(answer.id, frame(TEXT, b"taken for granted"))
            wire.exchange()
            wire.tell("http.response.body", body=b"are you?")
            assert answer.outcome == (401, b"who are you?", True)
            assert answer.header[b"www-authenticate"] == b"Basic"
            assert wire.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            wire.finish()
            wire.advance(LINGER_TIMEOUT + 2)
            assert not wire.streams

    @pytest.mark.parametrize(
        ("headers", "parts"),
        [
            pytest.param([], [b"never"], id="a body"),
            pytest.param([(b"content-length", b"5")], [b"never"], id="of known length"),
            pytest.param([], [b"never", b"ever"], id="in parts"),
            pytest.param([], [b""], id="none"),
        ],
    )
    def test_a_refusal_of_2xx_would_open_it_and_is_none_to_the_client_and_the_log(
        self, headers: Any, parts: list[bytes], caplog: pytest.LogCaptureFixture
    ) -> None:
        notes = Notes()
        with TunnelWire() as wire:
            wire.service.router = router_to(Endpoint(wire.manual, "test", observer=notes))
            answer = wire.ask(path="/chat")
            wire.receive()
            wire.tell("http.response.start", status=200, headers=headers)
            for part in parts:
                message = {"type": "websocket.http.response.body", "body": part, "more_body": part is not parts[-1]}
                wire.run(wire.call.send(message)).exception()  # behind the first the client has gone
            assert (answer.status, answer.ended) == (501, True)
            assert b"ever" not in answer.body
            wire.finish()
            [cycle] = notes.exchanges
            assert (cycle.status, cycle.sent, cycle.given_up) == (501, len(answer.body), False)
        [record] = [one for one in caplog.records if one.levelname == "ERROR"]
        assert record.getMessage().startswith("app test refuses CONNECT /chat with 200: over HTTP/2 that would open")

    @pytest.mark.parametrize("failure", [None, ValueError("broken")])
    def test_an_application_that_ends_without_either_answers_500(
        self, failure: BaseException | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        with TunnelWire() as wire:
            answer = wire.ask()
            wire.finish(error=failure)
            assert (answer.status, answer.ended) == (500, True)
            assert "app test" in caplog.text

    def test_a_get_with_an_upgrade_is_no_http_2(self) -> None:
        """RFC 9113 §8.2.2: Upgrade is a field of HTTP/1.1."""
        with TunnelWire() as wire:
            wire.client.config.validate_outbound_headers = False
            wire.client.config.normalize_outbound_headers = False
            answer = wire.request("GET", "/chat", [(b"upgrade", b"websocket"), (b"connection", b"upgrade")])
            assert answer.reset == ErrorCode.PROTOCOL_ERROR
            assert not wire.manual.calls

    def test_an_http_application_gets_no_connect(self) -> None:
        recorder = Recorder()
        with Http2Wire(recorder) as wire:
            answer = wire.request("CONNECT", "/", [(b":protocol", b"connect-ip")], end=False)
            assert answer.status == 501
        assert recorder.scopes == []


class TestEarlyBytes:
    """What the client sends before it has an answer."""

    def test_messages_wait_for_the_session(self) -> None:
        with TunnelWire() as wire:
            answer = wire.ask()
            wire.client.send_data(answer.id, frame(TEXT, b"early") + frame(PING, b"p"))
            wire.exchange()
            assert wire.receive() == {"type": "websocket.connect"}
            accepting = wire.call.send({"type": "websocket.accept"})
            wire.client.send_data(answer.id, frame(TEXT, b"later"))
            wire.run(accepting)
            assert [wire.receive()["text"] for _ in range(2)] == ["early", "later"]
            assert answer.take() == b"\x8a\x01p"
            wire.finish()

    def test_they_are_bounded_by_the_window(self) -> None:
        with TunnelWire() as wire:
            answer = wire.ask()
            rest = wire.upload(answer, frame(TEXT, b"x" * 100_000), end=False)
            assert len(rest) > 30_000
            assert answer.granted == 0
            wire.receive()
            wire.tell("accept")
            assert answer.granted >= 65_535
            wire.upload(answer, rest, end=False)
            assert wire.receive()["text"] == "x" * 100_000
            wire.finish()

    @pytest.mark.parametrize("with_head", [True, False])
    def test_a_client_that_ends_its_half_first_has_gone(self, with_head: bool) -> None:
        with TunnelWire() as wire:
            answer = wire.request("CONNECT", "/chat", CONNECT, end=with_head)
            if not with_head:
                wire.upload(answer, b"", end=True)
            assert wire.receive() == {"type": "websocket.connect"}
            assert wire.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            error = wire.run(wire.call.send({"type": "websocket.accept"})).exception()
            assert isinstance(error, OSError)
            wire.finish(error=error)
            assert answer.reset == ErrorCode.CANCEL
            assert not wire.streams

    def test_a_client_that_resets_it_first_has_gone(self, caplog: pytest.LogCaptureFixture) -> None:
        with TunnelWire() as wire:
            wire.reset(wire.ask())
            assert wire.receive() == {"type": "websocket.connect"}
            assert wire.receive()["type"] == "websocket.disconnect"
            wire.finish()
            assert wire.ping()
        assert caplog.text == ""


class TestSession:
    """Messages both ways."""

    @pytest.mark.parametrize("deflate", [False, True])
    def test_messages_go_both_ways(self, deflate: bool) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept(deflate=deflate)
            assert (b"sec-websocket-extensions" in tunnel.answer.header) is deflate
            text = "ä" * 5000
            tunnel.say(text)
            assert wire.receive() == {"type": "websocket.receive", "text": text}
            tunnel.say(b"\0" * 5000)
            assert wire.receive() == {"type": "websocket.receive", "bytes": bytes(5000)}
            wire.tell("send", text=text)
            wire.tell("send", bytes=bytes(5000))
            first, second = tunnel.hear()
            assert (first.data, second.data) == (text.encode(), bytes(5000))
            wire.finish()

    def test_large_messages_pass_small_windows(self) -> None:
        with TunnelWire(settings={4: 1000}) as wire:
            tunnel = wire.accept()
            data = bytes(range(256)) * 2000
            tunnel.say(data)
            assert wire.receive()["bytes"] == data
            wire.run(wire.call.send({"type": "websocket.send", "bytes": data}))
            tunnel.exchange()
            assert tunnel.received[-1].data == data
            wire.finish()

    def test_a_ping_is_answered_and_ours_are(self) -> None:
        with TunnelWire(Limits(websocket=WebSocketLimits(ping_interval=5, ping_timeout=5))) as wire:
            tunnel = wire.accept()
            assert tunnel.ping()
            for _ in range(30):
                wire.advance(1)
                tunnel.exchange()
            assert [one.opcode for one in tunnel.received].count(Opcode.PING) >= 3
            assert wire.service.sessions.open
            wire.finish()

    def test_a_client_that_answers_no_ping_is_closed(self) -> None:
        with TunnelWire(Limits(websocket=WebSocketLimits(ping_interval=5, ping_timeout=5))) as wire:
            tunnel = wire.accept()
            wire.advance(13)
            assert tunnel.close_code == 1011
            assert tunnel.answer.ended
            assert wire.receive()["code"] == 1006
            wire.finish()
            assert wire.ping()

    def test_several_share_a_connection_with_requests(self) -> None:
        with TunnelWire() as wire:
            tunnels = [wire.accept() for _ in range(3)]
            calls = list(wire.manual.calls)
            for number, tunnel in enumerate(tunnels):
                tunnel.say(str(number))
            answer = wire.request()
            wire.run(wire.call.respond())
            assert answer.ended
            for number, (call, tunnel) in enumerate(zip(calls, tunnels, strict=True)):
                assert wire.receive(call)["text"] == str(number)
                wire.tell("send", call, text=f"to {number}")
                assert texts(tunnel.hear()) == [f"to {number}"]
            assert len(wire.service.sessions.open) == 3
            wire.reset(tunnels[0].answer)
            assert wire.receive(calls[0])["code"] == 1006
            assert tunnels[1].ping()
            for call in wire.manual.calls:
                wire.finish(call)

    def test_a_queue_that_is_full_gives_no_window_back(self) -> None:
        with TunnelWire(quiet(queue=1)) as wire:
            tunnel = wire.accept()
            for number in range(3):
                tunnel.say(f"{number}" * 20_000)
            before = tunnel.answer.granted
            assert before <= 16_384  # what was needed for the first message
            assert [wire.receive()["text"][0] for _ in range(3)] == ["0", "1", "2"]
            assert tunnel.answer.granted > before
            tunnel.say("x" * 200_000)
            assert len(wire.receive()["text"]) == 200_000
            wire.finish()

    def test_an_application_that_does_not_read_is_sent_a_bounded_amount(self) -> None:
        with TunnelWire(quiet()) as wire:
            tunnel = wire.accept()
            sent = 0
            data = frame(TEXT, b"x" * 10_000)
            while not wire.upload(tunnel.answer, data, end=False) and sent < 500:
                sent += 1
            assert sent * 10_000 < QUEUE_SIZE + 200_000
            other = wire.request("POST", body=bytes(50_000))
            assert len(wire.receive()["body"]) == 50_000
            wire.run(wire.call.respond())
            assert other.ended
            for call in wire.manual.calls:
                wire.finish(call)

    def test_an_application_waits_for_a_client_that_does_not_read(self) -> None:
        with TunnelWire(quiet(send_timeout=5), reads=False) as wire:
            tunnel = wire.accept()
            sending = wire.run(wire.call.send({"type": "websocket.send", "bytes": bytes(300_000)}))
            assert not sending.done()
            assert len(tunnel.answer.body) == 65_535
            wire.advance(8)
            assert tunnel.answer.reset == ErrorCode.CANCEL
            assert sending.done()
            assert wire.receive()["code"] == 1006
            wire.finish()
            assert wire.ping()

    def test_it_outlives_every_deadline_of_requests(self) -> None:
        limits = quiet(header_timeout=2, body_timeout=2, keep_alive_timeout=2, body_size=10)
        with TunnelWire(limits) as wire:
            tunnel = wire.accept()
            wire.advance(100)
            tunnel.say("x" * 100)
            assert wire.receive()["text"] == "x" * 100
            wire.finish()

    def test_a_stream_of_bytes_that_never_ends_within_a_read_is_never_late(self) -> None:
        with TunnelWire(quiet(header_timeout=2, body_timeout=2)) as wire:
            tunnel = wire.accept()
            data = http2_frame(0, 0, tunnel.answer.id, frame(TEXT, b"x" * 100))
            rest = b""
            for _ in range(20):
                pending = rest + data
                wire.send_raw(pending[:-50])
                rest = pending[-50:]
                wire.advance(1)
                wire.run(wire.call.receive()).cancel()
            assert not wire.closed
            wire.finish()


class TestClose:
    """RFC 8441 §5: the end of a stream is that of a TCP connection, and CANCEL its reset."""

    def test_the_clients_close_is_answered_and_both_halves_end(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            tunnel.close(4001, "so long")
            assert tunnel.close_code == 4001
            assert wire.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "so long"}
            assert tunnel.answer.ended
            tunnel.end()
            assert tunnel.answer.reset is None
            assert not wire.streams
            wire.finish()

    def test_the_applications_close_reaches_the_client(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            wire.tell("close", code=4002, reason="enough")
            assert tunnel.close_code == 4002
            assert not tunnel.answer.ended  # it waits for the client's
            tunnel.exchange()
            assert tunnel.answer.ended
            tunnel.end()
            assert not wire.streams
            wire.finish()

    @pytest.mark.parametrize(("failure", "code"), [(None, 1000), (ValueError("broken"), 1011)])
    def test_an_application_that_ends_closes_it(
        self, failure: BaseException | None, code: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            wire.finish(error=failure)
            assert tunnel.close_code == code
            assert ("broken" in caplog.text) is (failure is not None)

    def test_a_client_that_leaves_its_half_open_is_not_waited_for(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            wire.tell("close")
            tunnel.exchange()
            assert wire.streams
            wire.advance(LINGER_TIMEOUT + 2)
            assert tunnel.answer.reset == ErrorCode.NO_ERROR
            assert not wire.streams
            wire.finish()

    def test_a_client_that_has_not_read_all_has_the_time_that_it_has_for_a_response(self) -> None:
        with TunnelWire(quiet(send_timeout=20), reads=False) as wire:
            tunnel = wire.accept()
            sending = wire.run(wire.call.send({"type": "websocket.send", "bytes": bytes(100_000)}))
            tunnel.close()
            wire.advance(10)
            assert tunnel.answer.reset is None
            while not tunnel.answer.ended:
                wire.read(tunnel.answer, 50_000)
            assert sending.done()
            assert tunnel.close_code == 1000
            assert len(tunnel.received[0].data) == 100_000
            wire.finish()

    def test_one_that_does_not_answer_our_close_is_reset(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            wire.tell("close")
            wire.advance(CLOSE_TIMEOUT + 2)
            assert tunnel.answer.reset == ErrorCode.CANCEL
            assert not wire.streams
            wire.finish()

    def test_the_end_of_the_clients_half_is_the_end(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            tunnel.say("last")
            tunnel.end()
            assert tunnel.answer.ended
            assert wire.receive()["text"] == "last"
            assert wire.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            assert not wire.streams
            wire.finish()

    def test_one_that_waits_behind_what_is_not_read_comes_after_it(self) -> None:
        with TunnelWire(quiet(queue=1)) as wire:
            tunnel = wire.accept()
            for number in range(3):
                tunnel.say(str(number))
            tunnel.end()
            assert not tunnel.answer.ended
            assert [wire.receive().get("text") for _ in range(4)] == ["0", "1", "2", None]
            assert tunnel.answer.ended
            wire.finish()

    def test_a_reset_is_a_loss(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            tunnel.say("last")
            waiting = wire.run(wire.call.receive())
            assert waiting.result()["text"] == "last"
            wire.reset(tunnel.answer)
            assert wire.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            error = wire.run(wire.call.send({"type": "websocket.send", "text": "late"})).exception()
            assert isinstance(error, OSError)
            wire.finish()
            assert not wire.service.sessions.open

    def test_the_end_of_the_connections_half_is_that_of_each(self) -> None:
        with TunnelWire() as wire:
            tunnels = [wire.accept() for _ in range(2)]
            wire.send_eof()
            assert all(tunnel.answer.ended for tunnel in tunnels)
            assert wire.transport.closed
            for call in wire.manual.calls:
                assert wire.receive(call)["code"] == 1006
                wire.finish(call)

    def test_a_connection_that_is_lost_ends_each(self) -> None:
        with TunnelWire() as wire:
            for _ in range(2):
                wire.accept()
            wire.lose()
            for call in wire.manual.calls:
                assert wire.receive(call)["code"] == 1006
                call.finish()
            wire.settle()
            assert not wire.service.sessions.open

    def test_what_breaks_the_protocol_fails_the_session_alone(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            receiving = wire.run(wire.call.receive())
            wire.client.send_data(tunnel.answer.id, b"\x81\x02hi")  # not masked
            wire.exchange()
            assert tunnel.close_code == 1002
            assert tunnel.answer.ended
            assert receiving.result()["code"] == 1002
            wire.finish()
            assert wire.ping()

    def test_trailers_break_the_stream(self) -> None:
        with TunnelWire() as wire:
            tunnel = wire.accept()
            wire.client.send_headers(tunnel.answer.id, [(b"x", b"y")], end_stream=True)
            wire.exchange()
            assert tunnel.answer.reset == ErrorCode.PROTOCOL_ERROR
            assert wire.receive()["code"] == 1006
            wire.finish()


class TestDrain:
    """GOAWAY leaves sessions alone; the worker closes them in the end."""

    @pytest.mark.parametrize("code", [1001, 1012])
    def test_a_session_goes_on_until_it_is_closed(self, code: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        with TunnelWire(quiet()) as wire:
            tunnel = wire.accept()
            wire.drain()
            wire.advance(100)
            assert tunnel.say("still here") == []
            assert wire.receive()["text"] == "still here"
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, code)
            wire.exchange()
            assert tunnel.close_code == code
            assert wire.receive() == {"type": "websocket.disconnect", "code": code, "reason": ""}
            tunnel.exchange()
            tunnel.end()
            assert tunnel.answer.ended
            assert wire.closed
            wire.finish()
        assert caplog.text == ""

    def test_a_session_that_is_left_half_open_does_not_keep_the_connection(self) -> None:
        with TunnelWire(quiet()) as wire:
            tunnel = wire.accept()
            wire.drain()
            [session] = wire.service.sessions.open
            wire.loop.call_soon(session.leave, 1012)
            wire.exchange()
            tunnel.exchange()
            assert not wire.closed
            wire.advance(LINGER_TIMEOUT + 2)
            assert wire.closed
            wire.finish()


def test_a_session_takes_one_of_the_places_of_its_connection() -> None:
    with TunnelWire(with_http2(quiet(), concurrent_streams=1)) as wire:
        tunnel = wire.accept()
        refused = wire.send_raw(http2_frame(1, 5, 3, b"\x82\x86\x84\x01\x01a"))
        assert refused.endswith(int(ErrorCode.REFUSED_STREAM).to_bytes(4, "big"))
        tunnel.close()
        tunnel.end()
        assert wire.send_raw(http2_frame(1, 5, 5, b"\x82\x86\x84\x01\x01a")) == b""
        assert len(wire.manual.calls) == 2
        for call in wire.manual.calls:
            call.finish()
