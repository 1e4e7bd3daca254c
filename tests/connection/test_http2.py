"""An HTTP/2 connection as a client sees it: how it begins, requests and responses, what becomes of errors."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from serverd.asgi.scope import Endpoint
from serverd.connection.http1 import Http1Connection
from serverd.connection.http2 import Http2Connection
from serverd.protocol.http2 import ErrorCode
from serverd.protocol.trust import Trust
from tests.protocol.http2_peer import PREFACE, frame, frames_of
from tests.support.applications import Recorder, Script, echo, hello, read_body, respond
from tests.support.every import every
from tests.support.http2 import Http2Wire, ManualWire
from tests.support.wire import TCP_ENDS, Wire, pieces_of

GOAWAY, SETTINGS = 7, 4
GREETING = PREFACE + frame(SETTINGS)
START = {"type": "http.response.start", "status": 200, "headers": []}


class TestStart:
    """RFC 9113 §3.3, §3.4: prior knowledge."""

    @every("cut", range(1, len(GREETING)))
    def test_the_preface_is_known_wherever_it_is_cut(self, cut: int) -> None:
        with Wire(hello) as wire:
            for piece in pieces_of(GREETING, [cut]):
                wire.send(piece)
            assert isinstance(wire.transport.get_protocol(), Http2Connection)
            assert not wire.closed

    def test_it_is_known_byte_by_byte(self) -> None:
        with Wire(hello) as wire:
            sent = frames_of(wire.send_slowly(GREETING))
            assert [one.kind for one in sent if one.kind == SETTINGS] == [SETTINGS, SETTINGS]  # ours, and the answer

    def test_a_request_that_comes_with_it_is_answered(self) -> None:
        with Http2Wire(hello) as wire:
            wire.greet = lambda: None  # type: ignore[method-assign]
            wire.connect()
            assert isinstance(wire.transport.get_protocol(), Http1Connection)
            assert wire.request().outcome == (200, b"ok", True)

    def test_one_connection_is_counted_as_one(self) -> None:
        with Http2Wire(hello) as wire:
            assert wire.service.connections == {wire.server}

    def test_it_is_none_behind_a_request(self) -> None:
        with Wire(hello) as wire:
            answer = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + GREETING)
            assert b"HTTP/1.1 200 " in answer
            assert b"HTTP/1.1 505 " in answer
            assert wire.closed

    @pytest.mark.parametrize("before", [b"\r\n", b" "])
    def test_it_is_none_behind_anything(self, before: bytes) -> None:
        with Wire(hello) as wire:
            assert wire.send(before + GREETING).startswith(b"HTTP/1.1 ")
            assert wire.closed

    def test_a_listener_of_http_1_answers_505(self) -> None:
        with Wire(hello) as wire:
            wire.service.speaks_http2 = False
            answer = wire.send(GREETING)
            assert answer.startswith(b"HTTP/1.1 505 ")
            assert b"HTTP/2 is not spoken here" in answer
            assert wire.closed

    @pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
    def test_a_listener_of_http_2_answers_505(self, request_line: bytes) -> None:
        recorder = Recorder()
        with Http2Wire(recorder) as wire:
            wire.service.speaks_http1 = False
            wire.connect()
            assert wire.request().status == 200
            Wire.connect(wire)
            answer = wire.send_raw(request_line + b"\r\nHost: a\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 505 ")
            assert b"only HTTP/2 is spoken here" in answer
            assert wire.closed
        assert len(recorder.scopes) == 1

    def test_what_does_not_go_on_as_a_preface_ends_the_connection(self) -> None:
        with Wire(hello) as wire:
            sent = frames_of(wire.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"))
            assert (sent[-1].kind, sent[-1].code) == (GOAWAY, ErrorCode.PROTOCOL_ERROR)
            assert wire.closed

    @pytest.mark.parametrize("upgrade", ["h2c", "h2c, HTTP/2.0"])
    def test_an_upgrade_to_h2c_is_ignored(self, upgrade: str) -> None:
        """RFC 9113 §3.1: the token is obsolete; the request is served as it came."""
        with Wire(hello) as wire:
            answer = wire.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                b"Upgrade: %b\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" % upgrade.encode()
            )
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"ok")
            assert not wire.closed
            assert wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")

    def test_a_connection_made_for_http_2_refuses_http_1(self) -> None:
        with Wire(hello) as wire:
            wire.transport.abort()
            wire.connection = Http2Connection(wire.service)  # type: ignore[assignment]
            wire.transport = type(wire.transport)(wire.connection, wire.loop, wire.ends)
            wire.connection.connection_made(wire.transport)
            sent = frames_of(wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            assert (sent[-1].kind, sent[-1].code) == (GOAWAY, ErrorCode.PROTOCOL_ERROR)
            assert wire.closed


class TestRequest:
    """RFC 9113 §8.3, and what the application gets (ASGI HTTP specification)."""

    def test_the_scope_says_what_was_asked(self) -> None:
        recorder = Recorder()
        with Http2Wire(recorder) as wire:
            wire.request("POST", "/a%20b?c=d", [(b"x-one", b"1")], b"body")
        [scope] = recorder.scopes
        assert recorder.bodies == [b"body"]
        assert scope["type"] == "http"
        assert scope["http_version"] == "2"
        assert (scope["method"], scope["scheme"]) == ("POST", "http")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
        assert scope["headers"] == [(b"host", b"a"), (b"x-one", b"1")]
        assert scope["client"] == TCP_ENDS["peername"]
        assert scope["server"] == TCP_ENDS["sockname"]

    def test_the_scheme_is_what_the_connection_is(self) -> None:
        """:scheme is what the client says, and it is not believed."""
        recorder = Recorder()
        with Http2Wire(recorder) as wire:
            wire.client.send_headers(
                1, [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")], True
            )
            wire.exchange()
        assert recorder.scopes[0]["scheme"] == "http"

    def test_a_trusted_proxy_is_believed_and_nobody_else(self) -> None:
        recorder = Recorder()
        says = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https")]
        with Http2Wire(recorder) as wire:
            wire.request(fields=says)
            wire.service.trust = Trust(("127.0.0.1",))
            wire.connect()
            wire.request(fields=says)
        told = [(scope["client"], scope["scheme"]) for scope in recorder.scopes]
        assert told == [(TCP_ENDS["peername"], "http"), (("203.0.113.9", 0), "https")]
        assert not any(name.startswith(b"x-forwarded") for name, _ in recorder.scopes[0]["headers"])

    @pytest.mark.parametrize(
        ("rule", "status", "seen"), [("drop", 200, False), ("pass", 200, True), ("refuse", 400, False)]
    )
    def test_ambiguous_names_are_treated_as_the_listener_says(self, rule: str, status: int, seen: bool) -> None:
        recorder = Recorder()
        with Http2Wire(recorder) as wire:
            wire.service.ambiguous_names = rule
            wire.service._set_bounds()
            wire.connect()
            assert wire.request(fields=[(b"x_user", b"evil")]).status == status
        assert any(b"x_user" in dict(scope["headers"]) for scope in recorder.scopes) is seen

    def test_trace_is_not_the_applications_unless_the_mount_says_so(self) -> None:
        with Http2Wire(hello) as wire:
            assert wire.request("TRACE").status == 405
        with Http2Wire(Endpoint(hello, "test", takes_trace=True)) as wire:
            assert wire.request("TRACE").status == 200

    def test_options_of_the_server_are_answered(self) -> None:
        with Http2Wire(hello) as wire:
            assert wire.request("OPTIONS", "*").status == 204

    def test_what_is_refused_is_answered_and_the_connection_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "serverd")
        with Http2Wire(hello) as wire:
            answer = wire.request("BREW")
            assert answer.outcome == (501, b"Not Implemented: unknown method\n", True)
            assert answer.header[b"content-type"] == b"text/plain; charset=utf-8"
            assert "refused a request of 127.0.0.1:54321: 501 unknown method" in caplog.text
            assert wire.request("GET", "/" + "a" * 9000).status == 414
            assert wire.request(fields=[(b"x", b"y" * 70_000)]).status == 431
            assert wire.request().outcome == (200, b"ok", True)

    @pytest.mark.parametrize(("path", "value", "status"), [("/" + "a" * 9000, b"", 414), ("/", b"y" * 70_000, 431)])
    def test_the_answer_to_a_head_that_is_refused_has_no_body(self, path: str, value: bytes, status: int) -> None:
        """RFC 9110 §9.3.2; clients take one for an error of the stream."""
        with Http2Wire(hello) as wire:
            assert wire.request("HEAD", path, [(b"x", value)]).outcome == (status, b"", True)
            assert wire.request("HEAD").outcome == (200, b"", True)

    def test_many_at_a_time_are_answered_in_the_order_of_the_application(self) -> None:
        with ManualWire() as wire:
            answers = [wire.request() for _ in range(5)]
            for number in (3, 0, 4, 1, 2):
                wire.run(wire.manual.calls[number].respond(b"%d" % number))
            assert [answer.body for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]
            for call in wire.manual.calls:
                wire.finish(call)


class TestResponse:
    """RFC 9113 §8.1, and the ASGI HTTP specification."""

    def test_its_fields_are_those_of_the_application_and_the_servers(self) -> None:
        fields = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
        with Http2Wire(Script({**START, "status": 404, "headers": fields}, {"type": "http.response.body"})) as wire:
            answer = wire.request()
            assert answer.outcome == (404, b"", True)
            server = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"serverd")]
            assert sorted(answer.fields) == sorted([*fields, *server])
            assert wire.ping()

    def test_head_and_body_and_end_leave_in_one_write(self) -> None:
        with Http2Wire(hello) as wire:
            before = wire.transport.writes
            wire.request()
            assert wire.transport.writes == before + 1

    def test_what_several_applications_send_in_one_turn_leaves_in_one_write(self) -> None:
        with Http2Wire(hello) as wire:
            for _ in range(20):
                wire.open()
            before = wire.transport.writes
            wire.exchange()
            assert wire.transport.writes == before + 1
            assert all(answer.ended for answer in wire.answers.values())

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_some_have_no_body_whatever_the_application_sends(self, method: str, status: int) -> None:
        with Http2Wire(Script({**START, "status": status}, {"type": "http.response.body", "body": b"never"})) as wire:
            answer = wire.request(method)
            assert answer.outcome == (status, b"", True)
            assert answer.parts == 0

    def test_it_comes_in_the_parts_that_the_application_sends(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.run(wire.call.start())
            assert not answer.status
            for part in (b"one", b"two"):
                wire.run(wire.call.body(part, True))
                assert answer.status == 200
                assert answer.take() == part
            wire.run(wire.call.body())
            assert answer.ended
            wire.finish()

    def test_trailers_follow_the_body(self) -> None:
        script = Script(
            {**START, "trailers": True},
            {"type": "http.response.body", "body": b"body"},
            {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]},
        )
        with Http2Wire(script) as wire:
            answer = wire.request()
            assert answer.outcome == (200, b"body", True)
            assert answer.trailers == [(b"x-sum", b"1")]

    def test_an_early_hint_comes_before_it(self) -> None:
        script = Script(
            {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
            START,
            {"type": "http.response.body", "body": b"body"},
        )
        with Http2Wire(script) as wire:
            answer = wire.request()
            assert answer.informational == [(103, [(b"link", b"</a.css>; rel=preload")])]
            assert answer.outcome == (200, b"body", True)

    @pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\0b"])
    def test_no_field_can_smuggle_another(self, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
        with Http2Wire(Script({**START, "headers": [(b"x-user", value)]}, {"type": "http.response.body"})) as wire:
            assert wire.request().status == 500
            assert wire.ping()
        assert "app test failed" in caplog.text

    def test_fields_of_a_connection_are_left_out(self) -> None:
        fields = [(b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"keep-alive", b"timeout=5")]
        with Http2Wire(Script({**START, "headers": fields}, {"type": "http.response.body", "body": b"b"})) as wire:
            assert wire.request().outcome == (200, b"b", True)
            assert not {b"connection", b"transfer-encoding", b"keep-alive"} & set(wire.answers[1].header)

    @pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
    def test_a_file_is_sent_as_the_windows_allow(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * (size // 256 + 1))
        with Http2Wire(Script(START, {"type": "http.response.pathsend", "path": str(path)})) as wire:
            answer = wire.request()
            assert answer.outcome == (200, path.read_bytes(), True)
            assert answer.header[b"content-length"] == b"%d" % path.stat().st_size

    def test_a_file_is_not_read_ahead_of_the_windows(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(10_000_000))
        with Http2Wire(Script(START, {"type": "http.response.pathsend", "path": str(path)}), reads=False) as wire:
            answer = wire.request()
            assert len(answer.body) == 65_535
            [stream] = wire.server.core.streams.values()
            assert stream.backlog is not None
            assert 0 < stream.backlog.size < 200_000
            wire.reset(answer)

    def test_a_client_that_goes_while_a_file_is_sent_ends_that(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(10_000_000))
        script = Script(START, {"type": "http.response.pathsend", "path": str(path)})
        with Http2Wire(script, reads=False) as wire:
            wire.reset(wire.request())
            assert script.error is None
            assert not wire.service.exchanges

    def test_background_work_goes_on_behind_it(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.run(wire.call.respond(b"done"))
            assert answer.ended
            assert not wire.streams
            assert wire.service.exchanges
            assert wire.run(wire.call.receive()).result() == {"type": "http.disconnect"}
            assert wire.request() is not None
            wire.finish(wire.manual.calls[0])
            wire.run(wire.call.respond())
            wire.finish()


class TestBody:
    """Request bodies (RFC 9113 §8.1)."""

    def test_it_comes_whole_whatever_its_size(self) -> None:
        body = bytes(range(256)) * 4000
        with Http2Wire(echo) as wire:
            assert wire.request("POST", body=body).outcome == (200, body, True)

    def test_several_come_side_by_side(self) -> None:
        with Http2Wire(echo) as wire:
            answers = [wire.open("POST", end=False) for _ in range(10)]
            for part in range(3):
                for answer in answers:
                    wire.upload(answer, b"%d" % answer.id * 1000, end=part == 2)
            for answer in answers:
                assert answer.outcome == (200, b"%d" % answer.id * 3000, True)

    def test_the_end_may_come_alone(self) -> None:
        with Http2Wire(echo) as wire:
            answer = wire.request("POST", body=b"body", end=False)
            assert not answer.status
            wire.upload(answer, b"")
            assert answer.outcome == (200, b"body", True)

    def test_trailers_end_it(self) -> None:
        with Http2Wire(echo) as wire:
            answer = wire.request("POST", body=b"body", end=False)
            wire.client.send_headers(answer.id, [(b"x-sum", b"1")], end_stream=True)
            wire.exchange()
            assert answer.outcome == (200, b"body", True)

    def test_a_client_that_waits_is_told_to_go_on_when_the_application_asks(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", fields=[(b"expect", b"100-continue")], end=False)
            assert not answer.informational
            asking = wire.run(wire.call.receive())
            assert answer.informational == [(100, [])]
            wire.upload(answer, b"body")
            assert asking.result()["body"] == b"body"
            wire.run(wire.call.respond())
            assert answer.outcome == (200, b"ok", True)
            wire.finish()

    def test_a_client_that_waits_is_not_told_to_go_on_when_it_is_refused(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", fields=[(b"expect", b"100-continue")], end=False)
            wire.run(wire.call.respond(b"no", 417))
            assert (answer.status, answer.informational) == (417, [])
            wire.finish()
            wire.advance(5)
            assert not wire.streams

    def test_one_that_nobody_reads_holds_its_own_stream_alone(self) -> None:
        async def selective(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/held":
                await asyncio.get_running_loop().create_future()
            await respond(send, await read_body(receive) or b"")

        body = bytes(1_000_000)
        with Http2Wire(selective) as wire:
            held = [wire.request("POST", "/held", body=body) for _ in range(20)]
            assert all(answer.granted == 0 for answer in held)
            assert wire.request("POST", "/read", body=body).outcome == (200, body, True)

    def test_a_body_that_is_not_read_is_thrown_away_behind_the_response(self) -> None:
        with Http2Wire(hello) as wire:
            before = wire.client.outbound_flow_control_window
            for _ in range(200):
                answer = wire.open("POST", end=False)
                wire.client.send_data(answer.id, bytes(10_000), end_stream=True)
                wire.exchange()
                assert answer.outcome == (200, b"ok", True)
            assert wire.client.outbound_flow_control_window > before - 300_000  # what was thrown away is given back

    def test_a_client_that_goes_on_sending_behind_the_response_is_stopped(self) -> None:
        with Http2Wire(hello) as wire:
            answer = wire.request("POST", end=False)
            assert answer.outcome == (200, b"ok", True)
            assert answer.reset is None
            wire.hear(wire.send_raw(frame(0, 0, answer.id, bytes(10_000)) * 100))  # the library sends none
            wire.advance(5)
            assert answer.reset == ErrorCode.NO_ERROR
            assert wire.request().ended

    def test_what_the_application_has_left_unread_does_not_shut_the_window(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", end=False)
            wire.hear(wire.send_raw(frame(0, 0, answer.id, bytes(16_000)) * 4))
            assert answer.granted == 0
            wire.run(wire.call.respond())
            assert answer.granted == 64_000
            wire.finish()


class TestErrors:
    """What becomes of a request when somebody fails: its stream ends, and nothing else does (RFC 9113 §5.4)."""

    def test_an_application_that_fails_before_the_head_is_answered_500(self, caplog: pytest.LogCaptureFixture) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.finish(error=ValueError("broken"))
            assert answer.outcome == (500, b"Internal Server Error\n", True)
            assert wire.ping()
        assert "app test failed on GET /" in caplog.text
        assert "ValueError: broken" in caplog.text

    def test_one_that_fails_behind_the_head_has_its_stream_reset(self, caplog: pytest.LogCaptureFixture) -> None:
        with ManualWire() as wire:
            answer, other = wire.request(), wire.request()
            call = wire.manual.calls[0]
            wire.run(call.start())
            wire.run(call.body(b"half", True))
            wire.finish(call, ValueError("broken"))
            assert answer.outcome == (200, b"half", False)
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            wire.run(wire.call.respond())
            assert other.outcome == (200, b"ok", True)
            wire.finish()

    @pytest.mark.parametrize("size", [1, 5])
    def test_a_body_that_is_not_as_long_as_announced_is_reset(
        self, size: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        start = {**START, "headers": [(b"content-length", b"3")]}
        script = Script(
            start,
            {"type": "http.response.body", "body": b"x", "more_body": True},
            {"type": "http.response.body", "body": b"x" * (size - 1)},
        )
        with Http2Wire(script) as wire:
            answer = wire.request()
            assert not answer.ended
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            assert wire.ping()
        assert "content-length" in caplog.text.lower()

    def test_one_that_returns_too_early_is_answered_500(self, caplog: pytest.LogCaptureFixture) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.finish()
            assert answer.status == 500
        assert "returned too early" in caplog.text

    def test_whatever_it_has_left_waiting_hears_of_the_reset(self) -> None:
        heard: list[Any] = []

        async def careless(scope: Any, receive: Any, send: Any) -> None:
            await receive()

            async def listen() -> None:
                heard.append(await receive())

            asyncio.get_running_loop().create_task(listen())
            await send(START)
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await asyncio.sleep(0)
            raise ValueError("broken")

        with Http2Wire(careless) as wire:
            assert wire.request().reset == ErrorCode.INTERNAL_ERROR
            assert heard == [{"type": "http.disconnect"}]

    def test_a_request_that_takes_too_long_is_answered_504(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            [exchange] = wire.service.exchanges
            wire.loop.call_soon(exchange.expire)
            wire.exchange()
            assert answer.outcome == (504, b"Gateway Timeout\n", True)
            assert not wire.service.exchanges

    def test_one_that_takes_too_long_behind_the_head_is_reset(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.run(wire.call.start())
            wire.run(wire.call.body(b"half", True))
            [exchange] = wire.service.exchanges
            wire.loop.call_soon(exchange.expire)
            wire.exchange()
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            assert wire.ping()

    def test_a_request_that_breaks_the_protocol_ends_its_stream(self) -> None:
        with ManualWire() as wire:
            good = wire.request()
            wire.client.config.validate_outbound_headers = False
            wire.client.config.normalize_outbound_headers = False
            assert wire.request(fields=[(b"X-Upper", b"1")]).reset == ErrorCode.PROTOCOL_ERROR
            wire.run(wire.call.respond())
            assert good.ended
            wire.finish()

    def test_a_connection_that_breaks_it_ends_with_goaway(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "serverd")
        with ManualWire() as wire:
            wire.request()
            waiting = wire.run(wire.call.receive())
            assert waiting.result()["type"] == "http.request"
            waiting = wire.run(wire.call.receive())
            wire.hear(wire.send_raw(frame(0, 0, 0)))
            assert wire.goaways == [(1, ErrorCode.PROTOCOL_ERROR)]
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.closed
            assert "ended a connection of 127.0.0.1:54321: DATA on stream 0" in caplog.text
            wire.finish()
            wire.advance(5)
            assert not wire.service.connections


class TestReset:
    """RFC 9113 §5.4.2: the client gives a request up."""

    def test_who_waits_for_it_is_told(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", body=b"half", end=False)
            assert wire.run(wire.call.receive()).result()["body"] == b"half"
            waiting = wire.run(wire.call.receive())
            wire.reset(answer)
            assert waiting.result() == {"type": "http.disconnect"}
            wire.finish()
            assert not wire.server.core._streams.held

    def test_what_is_sent_to_it_is_lost_without_a_word(self) -> None:
        with ManualWire() as wire:
            answer = wire.request()
            wire.run(wire.call.start())
            wire.run(wire.call.body(b"half", True))
            wire.reset(answer)
            assert wire.run(wire.call.body(b"more", True)).exception() is None
            wire.finish()
            assert answer.body == b"half"

    def test_who_waits_for_the_client_to_read_is_let_go(self) -> None:
        with ManualWire(reads=False) as wire:
            answer = wire.request()
            wire.run(wire.call.start())
            sending = wire.run(wire.call.body(bytes(300_000), True))
            assert not sending.done()
            wire.reset(answer)
            assert sending.done()
            assert wire.run(wire.call.body(b"more", True)).exception() is None
            wire.finish()

    def test_one_that_has_its_answer_has_not_failed(self, caplog: pytest.LogCaptureFixture) -> None:
        with ManualWire(reads=False) as wire:
            answer = wire.request()
            wire.run(wire.call.respond(bytes(300_000)))
            wire.finish()
            wire.reset(answer)
            assert not wire.streams
        assert caplog.text == ""

    def test_a_response_cut_off_leaves_the_others_whole(self) -> None:
        with ManualWire() as wire:
            answers = [wire.request() for _ in range(3)]
            wire.reset(answers[1])
            for call in wire.manual.calls:
                assert wire.run(call.respond(bytes(200_000))).exception() is None
                wire.finish(call)
            assert [len(answer.body) for answer in answers] == [200_000, 0, 200_000]


class TestEnd:
    """A connection ends for one side, or both."""

    def test_a_client_that_has_sent_all_is_still_answered(self) -> None:
        with Http2Wire(hello) as wire:
            wire.open()
            wire.open()
            data = wire.client.data_to_send()
            wire.loop.call_soon(wire.transport.deliver, data)
            wire.loop.call_soon(wire.transport.deliver_eof)
            wire.exchange()
            assert [answer.outcome for answer in wire.answers.values()] == [(200, b"ok", True)] * 2
            assert wire.transport.closed

    def test_an_answer_that_was_about_to_leave_is_not_lost(self) -> None:
        """The response is complete, its stream has ended, and the write is one turn of the loop away."""
        with Http2Wire(hello) as wire:
            wire.open()
            data = wire.client.data_to_send()

            async def follow() -> None:
                wire.transport.deliver(data)
                while wire.server.core.streams:  # noqa: ASYNC110 - turn by turn
                    await asyncio.sleep(0)
                wire.transport.deliver_eof()

            wire.run(follow())
            assert wire.answers[1].outcome == (200, b"ok", True)
            assert wire.transport.closed

    def test_the_applications_are_told_and_may_answer(self) -> None:
        with ManualWire() as wire:
            answer = wire.request("POST", body=b"half", end=False)
            wire.run(wire.call.receive())
            waiting = wire.run(wire.call.receive())
            wire.send_eof()
            assert waiting.result() == {"type": "http.disconnect"}
            assert not wire.closed
            wire.run(wire.call.respond())
            assert answer.outcome == (200, b"ok", True)
            assert wire.transport.closed
            wire.finish()

    def test_an_idle_connection_ends_with_its_client(self) -> None:
        with Http2Wire(hello) as wire:
            wire.request()
            wire.send_eof()
            assert wire.transport.closed
            assert not wire.service.connections

    def test_a_connection_that_is_lost_disconnects_every_application(self) -> None:
        with ManualWire(reads=False) as wire:
            for _ in range(3):
                wire.request()
            first, second, third = wire.manual.calls
            wire.run(first.receive())
            waiting = wire.run(first.receive())
            wire.run(second.start())
            sending = wire.run(second.body(bytes(300_000), True))
            wire.lose()
            assert waiting.result() == {"type": "http.disconnect"}
            assert sending.done()
            assert wire.run(third.send(START)).exception() is None
            for call in wire.manual.calls:
                call.finish()
            wire.settle()
            assert not wire.service.exchanges

    def test_a_client_that_says_goaway_is_served_on(self) -> None:
        """RFC 9113 §6.8: it takes no streams of ours; what it has open goes on."""
        with ManualWire() as wire:
            answer = wire.request()
            assert wire.send_raw(frame(GOAWAY, payload=bytes(8))) == b""
            wire.run(wire.call.respond())
            assert answer.outcome == (200, b"ok", True)
            wire.finish()
