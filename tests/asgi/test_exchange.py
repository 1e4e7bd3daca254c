"""The ASGI HTTP cycle (ASGI HTTP specification 2.3) over HTTP/1.1, in memory: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import re
from collections import UserDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from serverd.asgi.exchange import UNHEARD_MESSAGES, UNHEARD_TIMEOUT
from serverd.asgi.scope import Endpoint
from serverd.errors import ClientDisconnected, ResponseError
from tests.support.applications import Manual, Script, read_body
from tests.support.every import every
from tests.support.http2 import Http2Wire
from tests.support.wire import DATE, Wire

GET = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET /path HTTP/1.0\r\n\r\n"
HEAD = b"HEAD /path HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
EXPECT = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
OWN = b"date: " + DATE + b"\r\nserver: serverd\r\n"


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: Any = b"", more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


MESSAGES = {
    "start": start(200, length(2)),
    "body": body(b"ok"),
    "trailers": {"type": "http.response.trailers", "headers": [(b"x", b"y")]},
    "early hint": {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]},
    "pathsend": {"type": "http.response.pathsend", "path": "/nonexistent"},
    "debug": {"type": "http.response.debug", "info": {}},
    "push": {"type": "http.response.push", "path": "/", "headers": []},
    "websocket": {"type": "websocket.accept"},
    "lifespan": {"type": "lifespan.startup.complete"},
    "unknown": {"type": "http.response.unknown"},
    "empty": {"type": ""},
}

BEFORE: dict[str, list[Any]] = {
    "nothing is sent": [],
    "head held back": [start(200, length(2))],
    "body under way": [start(), body(b"x", True)],
    "trailers follow": [start(trailers=True), body(b"x")],
    "complete": [start(200, length(1)), body(b"x")],
}

ALLOWED = {
    ("nothing is sent", "start"),
    ("nothing is sent", "early hint"),
    ("head held back", "body"),
    ("head held back", "pathsend"),
    ("body under way", "body"),
    ("trailers follow", "trailers"),
}


class TestMessages:
    """Which message may follow which; everything else is an error of the application, and nothing of it is sent."""

    @pytest.mark.parametrize("message", MESSAGES)
    @pytest.mark.parametrize("state", BEFORE)
    def test_only_what_the_state_allows_is_taken(
        self, state: str, message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        script = Script(*BEFORE[state], MESSAGES[message])
        with Wire(script) as wire:
            data = wire.send(GET)
            if (state, message) in ALLOWED:
                assert not isinstance(script.error, ResponseError)
                return
            assert isinstance(script.error, ResponseError)
            assert repr(MESSAGES[message]["type"]) in str(script.error)
            assert "expected" in str(script.error)
            if state in ("nothing is sent", "head held back"):
                assert data.startswith(b"HTTP/1.1 500 ")
                assert not wire.closed
            elif state == "complete":
                assert data.startswith(b"HTTP/1.1 200 ")
                assert data.count(b"HTTP/") == 1
                assert not wire.closed, "the response is whole: the connection goes on"
            else:
                assert data.startswith(b"HTTP/1.1 200 ")
                assert not data.endswith(b"0\r\n\r\n")
                assert wire.closed
        assert "app test failed on GET /path" in caplog.text

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ("nothing is sent", "http.response.start or http.response.early_hint"),
            ("head held back", "http.response.body or http.response.pathsend"),
            ("body under way", "http.response.body"),
            ("trailers follow", "http.response.trailers"),
        ],
    )
    def test_an_application_that_returns_too_early_is_told_what_was_expected(
        self, state: str, expected: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Wire(Script(*BEFORE[state])) as wire:
            data = wire.send(GET)
            assert data.startswith(b"HTTP/1.1 500 ") is (state in ("nothing is sent", "head held back"))
            assert wire.closed is (state in ("body under way", "trailers follow"))
        assert f"app test returned too early on GET /path: expected {expected}" in caplog.text

    def test_a_message_without_a_type_is_an_error_of_the_application(self) -> None:
        with Wire(Script({"status": 200})) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")

    @pytest.mark.parametrize("message", [start(), {"type": "http.response.start", "status": 200}], ids=["none", "key"])
    def test_headers_may_be_left_out(self, message: dict[str, Any]) -> None:
        with Wire(Script(message, {"type": "http.response.body"})) as wire:
            assert wire.send(GET) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + OWN + b"\r\n"

    @pytest.mark.parametrize(
        "headers",
        [
            [[b"X-A", b"1"], [b"x-b", b"2"]],
            ((b"X-A", b"1"), (b"x-b", b"2")),
            iter([(b"X-A", b"1"), (b"x-b", b"2")]),
            {b"X-A": b"1", b"x-b": b"2"}.items(),
        ],
        ids=["lists", "tuples", "iterator", "items"],
    )
    def test_headers_may_be_any_iterable_of_pairs(self, headers: Any) -> None:
        with Wire(Script({"type": "http.response.start", "status": 204, "headers": headers}, body())) as wire:
            assert wire.send(GET) == b"HTTP/1.1 204 No Content\r\nx-a: 1\r\nx-b: 2\r\n" + OWN + b"\r\n"

    @pytest.mark.parametrize("data", [bytearray(b"ok"), memoryview(b"ok")], ids=["bytearray", "memoryview"])
    def test_a_body_may_be_any_bytes(self, data: Any) -> None:
        with Wire(Script(start(200, length(2)), body(data))) as wire:
            assert wire.send(GET).endswith(b"\r\n\r\nok")

    @pytest.mark.parametrize("data", ["ok", None, 2, [b"ok"]], ids=repr)
    def test_a_body_that_is_no_bytes_is_an_error(self, data: Any) -> None:
        script = Script(start(), body(data))
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    @every("status", [100, 101, 103, 199, 600, 999, 0, -1, "200", 200.0, None, True], ids=repr)
    def test_a_status_that_is_no_final_status_is_an_error(self, status: Any) -> None:
        script = Script(start(status), body())
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    @pytest.mark.parametrize("kind", [UserDict, MappingProxyType, type("Message", (dict,), {})])
    def test_a_message_may_be_any_mapping_of_any_strings(self, kind: Any) -> None:
        text = type("Text", (str,), {})
        first, second = start(200, length(2)), body(b"ok")
        messages = [kind({text(key): value for key, value in one.items()}) for one in (first, second)]
        with Wire(Script(*messages)) as wire:
            assert wire.send(GET) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + OWN + b"\r\nok"

    @pytest.mark.parametrize("status", [2**31, 2**63, 10**40, -(2**64)])
    def test_a_status_beyond_any_integer_of_c_is_an_error_like_others(self, status: int) -> None:
        script = Script(start(status), body())
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    def test_a_length_beyond_any_integer_of_c_is_counted(self) -> None:
        script = Script(start(200, length(10**30)), body(b"x"))
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert "bytes shorter than its content-length" in str(script.error)

    def test_a_status_may_be_an_enum(self) -> None:
        from http import HTTPStatus

        with Wire(Script(start(HTTPStatus.NOT_FOUND), body())) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 404 Not Found\r\n")


class TestContentLength:
    """RFC 9110 §8.6: what is announced is what is sent, to the byte, or the peer sees that it is not."""

    @pytest.mark.parametrize(
        "messages",
        [
            pytest.param([start(200, length(2)), body(b"ok")], id="one message"),
            pytest.param([start(200, length(2)), body(b"o", True), body(b"k")], id="two messages"),
            pytest.param([start(200, length(2)), body(b"", True), body(b"ok", True), body()], id="empty ones"),
        ],
    )
    def test_a_body_as_long_as_announced(self, messages: list[Any]) -> None:
        with Wire(Script(*messages)) as wire:
            data = wire.send(GET)
            assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + OWN + b"\r\nok"
            assert not wire.closed

    @pytest.mark.parametrize(
        ("messages", "started"),
        [
            pytest.param([start(200, length(2)), body(b"long")], False, id="longer"),
            pytest.param([start(200, length(2)), body(b"o")], False, id="shorter"),
            pytest.param([start(200, length(2)), body()], False, id="empty"),
            pytest.param([start(200, length(0)), body(b"x")], False, id="longer than nothing"),
            pytest.param([start(200, length(2)), body(b"o", True), body(b"ng")], True, id="longer, in parts"),
            pytest.param([start(200, length(2)), body(b"ok", True), body(b"!", True)], True, id="longer, unfinished"),
            pytest.param([start(200, length(2)), body(b"o", True), body()], True, id="shorter, in parts"),
        ],
    )
    def test_another_body_is_an_error_and_never_sent_whole(
        self, messages: list[Any], started: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        script = Script(*messages)
        with Wire(script) as wire:
            data = wire.send(GET)
            assert isinstance(script.error, ResponseError)
            assert "content-length" in str(script.error)
            if started:
                assert data.startswith(b"HTTP/1.1 200 ")
                assert len(data.partition(b"\r\n\r\n")[2]) <= 2
                assert wire.closed
            else:
                assert data.startswith(b"HTTP/1.1 500 ")
        assert "app test failed" in caplog.text

    @pytest.mark.parametrize("value", [b"-1", b"+2", b"0x2", b"two", b"", b"2 ", b"1,1", "2", 2], ids=repr)
    def test_a_malformed_length_is_an_error(self, value: Any) -> None:
        script = Script(start(200, (b"content-length", value)), body(b"ok"))
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    def test_two_lengths_are_an_error(self) -> None:
        script = Script(start(200, length(2), (b"Content-Length", b"2")), body(b"ok"))
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    def test_without_a_length_the_body_is_chunked(self) -> None:
        with Wire(Script(start(), body(b"one", True), body(b"", True), body(b"two"))) as wire:
            data = wire.send(GET)
            assert data.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
            assert b"transfer-encoding: chunked\r\n" in data

    def test_a_response_of_one_message_leaves_in_one_write(self) -> None:
        for messages in ([start(200, length(2)), body(b"ok")], [start(), body(b"ok")], [start(204), body()]):
            with Wire(Script(*messages)) as wire:
                wire.send(GET)
                assert wire.transport.writes == 1


class TestResetContent:
    """RFC 9110 §15.3.6: a 205 has no content, and says so by its framing."""

    @pytest.mark.parametrize("headers", [[], [length(2)]], ids=["no length", "length"])
    def test_its_length_is_zero(self, headers: list[Any]) -> None:
        with Wire(Script(start(205, *headers), body(b"ok"))) as wire:
            data = wire.send(GET)
            assert data.count(b"content-length: 0\r\n") == data.count(b"content-length") == 1
            assert data.endswith(b"\r\n\r\n")


class TestBodiless:
    """RFC 9110 §6.4.1: HEAD, 204 and 304 carry no body whatever the application sends."""

    @every(("request_", "status"), [(HEAD, 200), (HEAD, 404), (GET, 204), (GET, 304), (HEAD, 204)], ids=str)
    @every(
        "messages",
        [
            pytest.param([body(b"ok")], id="one message"),
            pytest.param([body(b"o", True), body(b"k")], id="two messages"),
            pytest.param([body()], id="none"),
            pytest.param([body(b"longer than announced")], id="too long"),
            pytest.param([body(b"", True), body(b"x", True), body()], id="streamed"),
        ],
    )
    @every("announced", [True, False], ids=["length", "no length"])
    def test_no_body_is_sent(self, request_: bytes, status: int, messages: list[Any], announced: bool) -> None:
        headers = [length(2)] if announced else []
        script = Script(start(status, *headers), *messages)
        with Wire(script) as wire:
            data = wire.send(request_)
            assert data.startswith(f"HTTP/1.1 {status} ".encode())
            assert data.endswith(b"\r\n\r\n")
            assert data.count(b"\r\n\r\n") == 1
            assert b"transfer-encoding" not in data
            assert (b"content-length: 2\r\n" in data) is (announced and status != 204)
            assert not wire.closed
        assert script.error is None

    def test_a_file_is_not_sent_either(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"content")
        with Wire(Script(start(200, length(7)), {"type": "http.response.pathsend", "path": str(file)})) as wire:
            assert wire.send(HEAD) == b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n" + OWN + b"\r\n"

    def test_the_server_s_own_error_has_no_body_for_head(self) -> None:
        with Wire(Script()) as wire:
            data = wire.send(HEAD)
            assert data.startswith(b"HTTP/1.1 500 ")
            assert data.endswith(b"\r\n\r\n")
            assert not wire.closed

    @pytest.mark.parametrize(("request_", "method"), [(HEAD, "GET"), (GET, "HEAD")], ids=["HEAD", "GET"])
    def test_what_middleware_makes_of_the_method_does_not_matter(self, request_: bytes, method: str) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope["method"] = method
            scope["raw_path"] = None
            raise RuntimeError("broken")

        with Wire(application) as wire:
            data = wire.send(request_)
            assert data.startswith(b"HTTP/1.1 500 ")
            assert data.endswith(b"Internal Server Error\n" if request_ == GET else b"\r\n\r\n")


PLACES = {
    "name": lambda bad: start(200, (b"x-" + bad + b"y", b"v")),
    "value": lambda bad: start(200, (b"x", b"v" + bad + b"w")),
    "value, first": lambda bad: start(200, (b"x", bad + b"w")),
    "value, last": lambda bad: start(200, (b"x", b"v" + bad)),
    "length": lambda bad: start(200, (b"content-length", b"2" + bad)),
    "known name": lambda bad: start(200, (b"content-type" + bad, b"v")),
    "second field": lambda bad: start(200, (b"x", b"y"), (b"location", b"/" + bad)),
}


class TestInjection:
    """uvicorn CVE-2020-7695: CR, LF or NUL of an application never reach the wire, wherever they stand."""

    @pytest.mark.parametrize("bad", [b"\r\n", b"\r", b"\n", b"\x00", b"\r\nset-cookie: a=b"], ids=repr)
    @pytest.mark.parametrize("place", PLACES)
    def test_in_a_header(self, place: str, bad: bytes, caplog: pytest.LogCaptureFixture) -> None:
        script = Script(PLACES[place](bad), body(b"ok"))
        with Wire(script) as wire:
            data = wire.send(GET)
        assert isinstance(script.error, ResponseError)
        assert data.startswith(b"HTTP/1.1 500 ")
        assert b"x-" not in data
        assert b"set-cookie" not in data
        assert "app test failed" in caplog.text

    @pytest.mark.parametrize("bad", [b"\r\n", b"\r", b"\n", b"\x00"], ids=repr)
    def test_in_an_early_hint(self, bad: bytes) -> None:
        script = Script({"type": "http.response.early_hint", "links": [b"</a>" + bad + b"x: y"]})
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert isinstance(script.error, ResponseError)

    @pytest.mark.parametrize("bad", [b"\r\n", b"\r", b"\n", b"\x00"], ids=repr)
    @pytest.mark.parametrize("place", ["name", "value"])
    def test_in_a_trailer(self, place: str, bad: bytes) -> None:
        field = (b"x" + bad, b"y") if place == "name" else (b"x", b"y" + bad)
        script = Script(start(trailers=True), body(b"ok"), {"type": "http.response.trailers", "headers": [field]})
        with Wire(script) as wire:
            data = wire.send(GET)
            assert data.endswith(b"2\r\nok\r\n")
            assert wire.closed
        assert isinstance(script.error, ResponseError)

    @pytest.mark.parametrize(
        "header",
        [("x", b"y"), (b"x", "y"), (b"x", None), (b"", b"y"), (b"x y", b"z"), (b"x:", b"y"), (b"\xff", b"y"), (b"x",)],
        ids=repr,
    )
    def test_a_header_of_the_wrong_shape_is_an_error(self, header: Any) -> None:
        script = Script({"type": "http.response.start", "status": 200, "headers": [header]}, body(b"ok"))
        with Wire(script) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert script.error is not None


class TestFailures:
    """An error before the head is a 500, one after it is an end that the peer can tell from the response's."""

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("broken"),
            SystemExit(0),
            KeyboardInterrupt(),
            GeneratorExit(),
            asyncio.CancelledError(),
            OSError("disk"),
            BaseExceptionGroup("group", [RuntimeError("broken")]),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("state", BEFORE)
    def test_it_ends_the_request_and_never_the_process(
        self, error: BaseException, state: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            for message in BEFORE[state]:
                await send(message)
            raise error

        with Wire(application) as wire:
            data = wire.send(GET)
            if state in ("nothing is sent", "head held back"):
                assert data == (
                    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\n"
                    b"content-length: 22\r\n" + OWN + b"\r\nInternal Server Error\n"
                )
                assert not wire.closed
            else:
                assert data.startswith(b"HTTP/1.1 200 ")
                assert not data.endswith(b"0\r\n\r\n")
                assert wire.closed is (state != "complete")
        (record,) = caplog.records
        assert record.getMessage() == "app test failed on GET /path"
        assert record.exc_info is not None
        assert record.exc_info[1] is error

    @pytest.mark.parametrize(
        "result", [lambda: None, lambda: 5, lambda: (each for each in ())], ids=["None", "5", "generator"]
    )
    def test_an_application_that_returns_nothing_to_await_is_told_so(
        self, result: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def application(scope: Any, receive: Any, send: Any) -> Any:
            return result()

        with Wire(application) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert re.search(r"TypeError: object \w+ can't be used in 'await' expression", caplog.text)

    def test_the_traceback_shows_the_call_and_every_line_of_the_application(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def inner() -> None:
            raise RuntimeError("broken")

        async def application(scope: Any, receive: Any, send: Any) -> None:
            inner()

        with Wire(application) as wire:
            wire.send(GET)
        for line in ("await cycle.endpoint.application(", "inner()", 'raise RuntimeError("broken")'):
            assert f"\n    {line}" in caplog.text

    def test_whoever_looks_at_the_tasks_sees_that_of_the_application(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            (task,) = asyncio.all_tasks(wire.loop)
            coroutine: Any = task.get_coro()
            assert inspect.iscoroutine(coroutine)
            assert coroutine.cr_await.__name__ == "__call__"
            manual.call.finish()
            wire.settle()

    def test_an_abort_under_http_1_0_is_a_reset(self) -> None:
        with Wire(Script(start(), body(b"half", True))) as wire:
            assert wire.send(GET_1_0).endswith(b"\r\n\r\nhalf")
            assert wire.transport.reset, "an ordinary end would be the end of the body"

    def test_an_abort_of_a_known_length_is_an_ordinary_end(self) -> None:
        with Wire(Script(start(200, length(10)), body(b"half", True))) as wire:
            wire.send(GET)
            assert wire.closed
            assert not wire.transport.reset

    def test_the_next_request_is_served_after_a_500(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            manual.call.finish(RuntimeError("broken"))
            wire.settle()
            assert wire.received().startswith(b"HTTP/1.1 500 ")
            wire.send(GET)
            wire.run(manual.call.respond())
            assert wire.received().startswith(b"HTTP/1.1 200 ")
            manual.call.finish()
            wire.settle()

    @pytest.mark.parametrize("state", BEFORE)
    def test_an_exchange_that_the_worker_cuts_ends_without_a_word_in_the_log_about_failure(
        self, state: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            for message in BEFORE[state]:
                wire.run(manual.call.send(message))
            (exchange,) = wire.service.exchanges
            assert exchange.description == "GET /path"
            exchange.cancel()
            wire.settle()
            assert not wire.service.exchanges
            assert wire.closed is (state != "complete")
            assert b"500" not in wire.received()
        assert "failed" not in caplog.text


class TestReceive:
    """ASGI HTTP: `http.request` until the body ends, then `http.disconnect`."""

    def test_a_request_without_a_body_has_one_empty_message(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            message = wire.run(manual.call.receive()).result()
            assert message == {"type": "http.request", "body": b"", "more_body": False}

    def test_a_body_comes_in_parts_as_it_arrives(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST + b"012")
            assert wire.run(manual.call.receive()).result() == {
                "type": "http.request", "body": b"012", "more_body": True,
            }  # fmt: skip
            waiting = wire.run(manual.call.receive())
            assert not waiting.done()
            wire.send(b"345")
            assert waiting.result() == {"type": "http.request", "body": b"345", "more_body": True}
            wire.send(b"67")
            wire.send(b"89")
            assert wire.run(manual.call.receive()).result() == {
                "type": "http.request", "body": b"6789", "more_body": False,
            }  # fmt: skip

    @pytest.mark.parametrize("how", ["lose", "send_eof"])
    def test_a_disconnect_is_told_after_the_body(self, how: str) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.call.receive())
            waiting = wire.run(manual.call.receive())
            assert not waiting.done()
            getattr(wire, how)()
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.run(manual.call.receive()).result() == {"type": "http.disconnect"}

    def test_what_arrived_before_a_disconnect_is_not_lost(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST + b"0123")
            wire.lose()
            assert wire.run(manual.call.receive()).result()["body"] == b"0123"
            assert wire.run(manual.call.receive()).result() == {"type": "http.disconnect"}

    def test_a_disconnect_is_told_without_a_wait(self) -> None:
        """As frameworks ask whether the client is there: in a scope that is cancelled already (Starlette, anyio)."""
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.call.receive())
            wire.lose()
            for _ in range(3):
                asked = manual.call.receive()
                with pytest.raises(StopIteration) as told:
                    asked.send(None)
                assert told.value.value == {"type": "http.disconnect"}

    def test_it_is_a_disconnect_once_the_response_is_complete(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST + b"0123")
            early = wire.run(manual.call.receive())
            waiting = wire.run(manual.call.receive())
            wire.run(manual.call.respond())
            assert early.result()["body"] == b"0123"
            assert waiting.result() == {"type": "http.disconnect"}
            assert wire.run(manual.call.receive()).result() == {"type": "http.disconnect"}

    def test_several_may_wait_and_each_event_goes_to_one_of_them(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST)
            waiting = [wire.run(manual.call.receive()) for _ in range(3)]
            wire.send(b"01234")
            wire.send(b"56789")
            done = [task.result() for task in waiting if task.done()]
            assert [message["body"] for message in done] == [b"01234", b"56789"]
            wire.lose()
            assert [task.result()["type"] for task in waiting].count("http.disconnect") == 1

    def test_a_wait_may_be_given_up(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(POST)
            first, second = wire.run(manual.call.receive()), wire.run(manual.call.receive())
            first.cancel()
            wire.settle()
            assert not second.done()
            wire.send(b"0123")
            assert second.result()["body"] == b"0123"
            assert first.cancelled()
            wire.send(b"456789")
            assert wire.run(manual.call.receive()).result()["body"] == b"456789"

    def test_a_disconnect_is_told_while_a_large_body_was_the_last_thing_read(self) -> None:
        """Reading pauses above 64 KiB: it has to go on for the disconnect to be noticed."""
        manual = Manual()
        data = b"x" * 200_000
        with Wire(manual) as wire:
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + data)
            assert wire.run(read_body(manual.call.receive)).result() == data
            waiting = wire.run(manual.call.receive())
            assert not waiting.done()
            wire.send_eof()
            assert waiting.done(), "a long poll would never learn that its client has gone"
            assert waiting.result() == {"type": "http.disconnect"}


class TestContinue:
    """RFC 9110 §10.1.1: 100 is sent when the application first asks for the body, not before, and only if asked for."""

    def test_it_is_sent_at_the_first_receive(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            assert wire.send(EXPECT) == b""
            waiting = wire.run(manual.call.receive())
            assert wire.received() == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert wire.send(b"0123456789") == b""
            assert waiting.result()["body"] == b"0123456789"
            wire.run(manual.call.respond())
            assert b"connection: close" not in wire.received()
            assert not wire.closed

    def test_it_is_sent_once(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT)
            for _ in range(3):
                wire.run(manual.call.receive())
            assert wire.received().count(b"100 Continue") == 1

    def test_it_is_not_sent_when_it_was_not_asked_for(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            assert wire.send(POST) == b""
            wire.run(manual.call.receive())
            assert wire.received() == b""

    @pytest.mark.parametrize("part", [b"0123456789", b"0123"], ids=["the whole body", "a part of it"])
    def test_it_is_not_sent_when_the_body_has_begun_to_arrive(self, part: bytes) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT + part)
            wire.run(manual.call.receive())
            wire.run(manual.call.receive())
            assert wire.received() == b""

    def test_it_is_not_sent_to_http_1_0(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT.replace(b"1.1", b"1.0"))
            wire.run(manual.call.receive())
            assert wire.received() == b""

    def test_an_answer_without_it_ends_the_connection(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT)
            wire.run(manual.call.respond(b"no", 413))
            data = wire.received()
            assert data.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close\r\n" in data
            assert wire.closed

    def test_it_may_come_after_the_head_was_held_back(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT)
            wire.run(manual.call.start(200, [length(2)]))
            wire.run(manual.call.receive())
            wire.run(manual.call.body(b"ok"))
            assert wire.received().startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")

    def test_it_is_never_sent_after_the_head(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(EXPECT)
            wire.run(manual.call.start())
            wire.run(manual.call.body(b"ok", True))
            wire.received()
            wire.run(manual.call.receive())
            assert wire.received() == b""


class TestEarlyHints:
    """RFC 8297; ASGI extension http.response.early_hint."""

    HINT = MESSAGES["early hint"]

    def test_it_is_a_103_with_link_fields(self) -> None:
        two = {"type": "http.response.early_hint", "links": [b"<a>", b"<b>"]}
        with Wire(Script(self.HINT, two, start(200, length(2)), body(b"ok"))) as wire:
            assert wire.send(GET).startswith(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"
                b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nlink: <b>\r\n\r\n"
                b"HTTP/1.1 200 OK\r\n"
            )

    def test_it_leaves_at_once(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.call.send(self.HINT))
            assert wire.received().startswith(b"HTTP/1.1 103 ")

    def test_http_1_0_does_not_get_it(self) -> None:
        with Wire(Script(self.HINT, start(200, length(2)), body(b"ok"))) as wire:
            assert wire.send(GET_1_0).startswith(b"HTTP/1.1 200 ")

    def test_an_error_after_it_is_still_a_500(self) -> None:
        with Wire(Script(self.HINT)) as wire:
            assert b"HTTP/1.1 500 " in wire.send(GET)


class TestTrailers:
    """RFC 9110 §6.5; ASGI extension http.response.trailers."""

    def trailers(self, *fields: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
        return {"type": "http.response.trailers", "headers": list(fields), "more_trailers": more}

    def test_they_follow_a_chunked_body(self) -> None:
        script = Script(start(200, (b"trailer", b"x"), trailers=True), body(b"ok"), self.trailers((b"X", b"y")))
        with Wire(script) as wire:
            data = wire.send(GET)
            assert data.endswith(b"\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n")
            assert b"\r\ntrailer: x\r\n" in data
            assert not wire.closed

    def test_they_may_come_in_several_messages(self) -> None:
        parts = [self.trailers((b"a", b"1"), more=True), self.trailers(more=True), self.trailers((b"b", b"2"))]
        with Wire(Script(start(trailers=True), body(b"ok"), *parts)) as wire:
            assert wire.send(GET).endswith(b"0\r\na: 1\r\nb: 2\r\n\r\n")

    @pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"Host", b"content-type"])
    def test_a_field_that_must_come_before_the_body_is_refused(self, name: bytes) -> None:
        script = Script(start(trailers=True), body(b"ok"), self.trailers((name, b"5")))
        with Wire(script) as wire:
            assert not wire.send(GET).endswith(b"0\r\n\r\n")
        assert "cannot be a trailer" in str(script.error)

    def test_they_may_be_empty_and_the_body_too(self) -> None:
        with Wire(Script(start(trailers=True), body(), self.trailers())) as wire:
            data = wire.send(GET)
            assert data.endswith(b"\r\n\r\n0\r\n\r\n")
            assert data.count(b"0\r\n\r\n") == 1
            assert not wire.closed

    @pytest.mark.parametrize("request_", [GET_1_0, HEAD], ids=["1.0", "HEAD"])
    def test_where_they_cannot_be_carried_they_are_left_out(self, request_: bytes) -> None:
        script = Script(start(trailers=True), body(b"ok"), self.trailers((b"x", b"y")))
        with Wire(script) as wire:
            data = wire.send(request_)
            assert data.endswith(b"\r\n\r\nok" if request_ == GET_1_0 else b"\r\n\r\n")
            assert b"x: y" not in data
            assert wire.closed is (request_ == GET_1_0)
        assert script.error is None

    def test_they_cannot_follow_a_known_length(self) -> None:
        script = Script(start(200, length(2), trailers=True), body(b"ok"), self.trailers((b"x", b"y")))
        with Wire(script) as wire:
            assert wire.send(GET).endswith(b"\r\n\r\nok")
            assert not wire.closed
        assert script.error is None


class TestPathsendErrors:
    """ASGI extension http.response.pathsend; the sending itself is in tests/connection/test_sendfile.py."""

    def answer(self, path: Any, *headers: tuple[bytes, bytes]) -> tuple[bytes, BaseException | None, bool]:
        script = Script(start(200, *headers), {"type": "http.response.pathsend", "path": path})
        with Wire(script) as wire:
            return wire.send(GET), script.error, wire.closed

    @pytest.mark.timeout(10)
    def test_a_file_that_cannot_be_sent_is_a_500(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        cases: dict[Any, type[BaseException]] = {
            str(tmp_path / "missing"): FileNotFoundError,
            str(tmp_path): OSError,
            str(tmp_path / "fifo"): ResponseError,
            "relative": ResponseError,
            "": ResponseError,
            str(tmp_path / "nul\0"): ValueError,
            "/dev/zero": ResponseError,
        }
        before = len(os.listdir("/proc/self/fd"))
        for path, kind in cases.items():
            data, error, closed = self.answer(path)
            assert isinstance(error, kind | ResponseError), path
            assert data.startswith(b"HTTP/1.1 500 "), path
            assert not closed
        assert len(os.listdir("/proc/self/fd")) == before

    def test_an_empty_file_is_an_empty_body(self, tmp_path: Path) -> None:
        file = tmp_path / "empty"
        file.touch()
        data, error, _ = self.answer(str(file))
        assert error is None
        assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + OWN + b"\r\n"

    @pytest.mark.parametrize("announced", [0, 6, 8])
    def test_a_length_that_is_not_the_file_s_is_an_error(self, announced: int, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"content")
        data, error, _ = self.answer(str(file), length(announced))
        assert isinstance(error, ResponseError)
        assert data.startswith(b"HTTP/1.1 500 ")


class TestDisconnect:
    """ASGI HTTP 2.3: `send` after a disconnect does nothing; who goes on for long is told by an OSError, as in 2.4."""

    @pytest.mark.parametrize("message", ["start", "early hint", "body", "unknown"])
    def test_what_is_sent_is_lost_without_a_word(self, message: str) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            if message == "body":
                wire.run(manual.call.start())
            wire.lose()
            assert wire.run(manual.call.send(MESSAGES[message])).exception() is None
            manual.call.finish()
            wire.settle()
            assert not wire.service.exchanges

    def test_who_has_sent_it_all_can_do_what_comes_after_it(self, caplog: pytest.LogCaptureFixture) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.lose()
            wire.run(manual.call.start(200, length(2)))
            wire.run(manual.call.body(b"ok"))
            wire.run(manual.call.receive())
            assert wire.run(manual.call.receive()).result() == {"type": "http.disconnect"}
            assert wire.service.exchanges  # it does
            manual.call.finish()
            wire.settle()
            assert wire.received() == b""
        assert caplog.text == ""

    def test_who_goes_on_for_long_is_told_by_an_os_error(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.call.start())
            wire.lose()
            wire.advance(3 * UNHEARD_TIMEOUT)  # nothing has been lost in it
            assert wire.run(manual.call.body(b"x", True)).exception() is None
            wire.advance(UNHEARD_TIMEOUT - 1)
            assert wire.run(manual.call.body(b"x", True)).exception() is None
            wire.advance(2)
            error = wire.run(manual.call.body(b"x", True)).exception()
            assert isinstance(error, OSError)
            assert isinstance(error, ClientDisconnected)
            manual.call.finish(error)

    def test_who_sends_a_lot_is_told_by_an_os_error_sooner(self) -> None:
        sent: list[int] = []

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()
            while True:
                await send(start() if not sent else body(b"x", True))
                sent.append(1)

        with Wire(endless) as wire:
            wire.send(GET)
            wire.lose()
            assert not wire.service.exchanges
        assert len(sent) == UNHEARD_MESSAGES

    def test_what_the_server_answers_itself_ends_at_once(self) -> None:
        manual = Manual()
        with Wire(Endpoint(manual, "serverd", is_ours=True)) as wire:
            wire.send(GET)
            wire.lose()
            error = wire.run(manual.call.start()).exception()
            assert isinstance(error, ClientDisconnected)
            manual.call.finish(error)
            wire.settle()

    def test_a_send_that_waits_for_the_peer_ends(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.transport.room = 0
            wire.send(GET)
            wire.run(manual.call.start())
            waiting = wire.run(manual.call.body(b"x" * 100_000, True))
            assert not waiting.done()
            wire.lose()
            assert waiting.done()
            assert waiting.exception() is None

    def raised(self, error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
        """Return what is logged when an application raises `error` after its client has gone."""
        manual = Manual()
        caplog.set_level(logging.INFO)
        with Wire(manual) as wire:
            wire.send(GET)
            wire.lose()
            manual.call.finish(error)
            wire.settle()
        return caplog.text

    @staticmethod
    def wrapped(kind: str) -> BaseException:
        """Return ClientDisconnected the way frameworks hand it on."""
        gone = ClientDisconnected()
        if kind == "plain":
            return gone
        if kind == "group":
            return BaseExceptionGroup("tasks", [ExceptionGroup("inner", [gone]), ClientDisconnected()])
        other = RuntimeError("framework's own")
        if kind == "cause":
            other.__cause__ = gone
        else:
            other.__context__ = ExceptionGroup("tasks", [gone])
        return other

    @pytest.mark.parametrize("kind", ["plain", "group", "cause", "context"])
    def test_what_began_with_the_disconnect_is_no_failure(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        assert self.raised(self.wrapped(kind), caplog) == ""

    @pytest.mark.parametrize(
        "error",
        [RuntimeError("bug"), ExceptionGroup("tasks", [ClientDisconnected(), RuntimeError("bug")]), OSError("disk")],
        ids=["plain", "in a group with it", "another OSError"],
    )
    def test_another_failure_is_logged_also_after_a_disconnect(
        self, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert "app test failed on GET /path" in self.raised(error, caplog)

    def test_a_disconnect_is_a_failure_while_the_client_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            raise ClientDisconnected

        with Wire(application) as wire:
            assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
        assert "failed" in caplog.text

    def test_returning_after_a_disconnect_is_fine(self, caplog: pytest.LogCaptureFixture) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.lose()
            manual.call.finish()
            wire.settle()
        assert not caplog.records


class TestBackgroundWork:
    """What an application does after its response does not hold the connection."""

    def test_the_next_request_is_served_meanwhile(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET + GET)
            assert len(manual.calls) == 1
            wire.run(manual.calls[0].respond(b"first"))
            assert len(manual.calls) == 2
            wire.run(manual.calls[1].respond(b"second"))
            assert wire.received().count(b"HTTP/1.1 200 OK") == 2
            assert len(wire.service.exchanges) == 2
            for call in manual.calls:
                call.finish()
            wire.settle()
            assert not wire.service.exchanges

    def test_it_can_do_nothing_to_the_next_response(self) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.calls[0].respond(b"first"))
            wire.send(GET)
            wire.received()
            for message in MESSAGES.values():
                error = wire.run(manual.calls[0].send(message)).exception()
                assert isinstance(error, ResponseError)
            assert wire.run(manual.calls[0].receive()).result() == {"type": "http.disconnect"}
            manual.calls[0].finish(RuntimeError("late"))
            wire.settle()
            assert wire.received() == b""
            wire.run(manual.calls[1].respond(b"second"))
            assert wire.received().endswith(b"\r\n\r\nsecond")
            assert not wire.closed

    def test_its_failure_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        manual = Manual()
        with Wire(manual) as wire:
            wire.send(GET)
            wire.run(manual.call.respond())
            manual.call.finish(RuntimeError("late"))
            wire.settle()
            assert not wire.closed
        assert "app test failed on GET /path" in caplog.text


def test_the_application_runs_in_a_task_of_its_own() -> None:
    tasks: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError):
            await send(start(204))
            await send(body())

    with Wire(application) as wire:
        wire.send(GET * 3)
    assert len(set(tasks)) == 3


def test_what_is_added_to_the_fields_of_a_response_is_not_in_the_next_one() -> None:
    endpoint = Endpoint(Script(start(200, (b"x-own", b"1")), body(b"")), "test", fields=[(b"x-more", b"2")])
    with Wire(endpoint) as wire:
        for _ in range(3):
            answer = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (answer.count(b"x-own: 1\r\n"), answer.count(b"x-more: 2\r\n")) == (1, 1)


def test_the_length_of_a_file_is_not_among_the_fields_of_the_next_response(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"abc", b"a", b"ab"):
        path.write_bytes(content)
        with Http2Wire(Script(start(), {"type": "http.response.pathsend", "path": str(path)})) as wire:
            answer = wire.request()
            assert answer.body == content
            assert [value for name, value in answer.fields if name == b"content-length"] == [b"%d" % len(content)]
