"""X-Request-ID and traceparent (W3C Trace Context §3.2): what is taken, and from whom."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.asgi.scope import Endpoint
from serverd.generation import Limits
from serverd.protocol.request_id import read_identifiers
from serverd.protocol.trust import Trust
from tests.support.applications import Manual, Recorder
from tests.support.wire import Wire, handshake

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"abc-123", "abc-123"),
        (b"Root=1-67891233-abcdef012345678912345678", "Root=1-67891233-abcdef012345678912345678"),
        (b"x" * 128, "x" * 128),
        (b"x" * 129, ""),
        (b"", ""),
        (b"a b", ""),
        (b'a"b', ""),
        (b"a\\b", ""),
        (b"a\x1b[31m", ""),
        (b"\xe4", ""),
    ],
)
def test_an_id_goes_into_lines_and_headers_as_it_is(value: bytes, expected: str) -> None:
    assert read_identifiers([(b"host", b"a"), (b"x-request-id", value)]) == (expected, "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PARENT, TRACE),
        (b"01" + PARENT[2:] + b"-what-comes-later", TRACE),
        (b"ff" + PARENT[2:], ""),
        (PARENT.upper(), ""),
        (PARENT[:-1], ""),
        (PARENT.replace(TRACE.encode(), b"0" * 32), ""),
        (PARENT.replace(b"00f067aa0ba902b7", b"0" * 16), ""),
        (b"garbage", ""),
    ],
)
def test_a_trace_is_as_the_specification_has_it(value: bytes, expected: str) -> None:
    assert read_identifiers([(b"traceparent", value)]) == ("", expected)


def test_of_two_neither_is_believed() -> None:
    assert read_identifiers([(b"x-request-id", b"a"), (b"x-request-id", b"b"), (b"traceparent", PARENT)]) == ("", TRACE)


def ask(*fields: bytes, trusted: bool, name: bytes = b"") -> tuple[str, bytes, Recorder]:
    """Return the request id that the application is told, the response, and what the application saw."""
    recorder = Recorder()
    with Wire(Endpoint(recorder, "test", request_id_name=name)) as wire:
        if trusted:
            wire.service.trust = Trust(("127.0.0.1",))
            wire.connect()
        answer = wire.send(b"".join(line + b"\r\n" for line in (b"GET / HTTP/1.1", b"Host: a", *fields, b"")))
        for connection in list(wire.service.connections):
            connection.cut()
    return recorder.scopes[0]["state"]["request_id"], answer, recorder


class TestTrust:
    def test_a_trusted_proxy_names_the_request(self) -> None:
        assert ask(b"X-Request-ID: abc", b"Traceparent: " + PARENT, trusted=True)[0] == "abc"

    def test_else_its_trace_does(self) -> None:
        assert ask(b"Traceparent: " + PARENT, trusted=True)[0] == TRACE

    @pytest.mark.parametrize("field", [b"X-Request-ID: abc", b"Traceparent: " + PARENT, b"X-Request-ID: a b"])
    def test_nobody_else_does_and_the_application_sees_what_was_sent(self, field: bytes) -> None:
        name, _, recorder = ask(field, trusted=False)
        assert name not in ("abc", TRACE, "a b")
        assert len(name) > 12
        assert tuple(field.lower().split(b": ")) in [
            (key, value.lower()) for key, value in recorder.scopes[0]["headers"]
        ]

    def test_no_two_are_alike(self) -> None:
        assert ask(trusted=False)[0] != ask(trusted=False)[0]

    def test_the_application_keeps_its_own(self) -> None:
        recorder = Recorder()
        with Wire(Endpoint(recorder, "test", state={"request_id": "mine"})) as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert recorder.scopes[0]["state"]["request_id"] == "mine"


def test_the_response_carries_it_where_that_is_wanted() -> None:
    name, answer, _ = ask(trusted=False, name=b"x-request-id")
    assert b"\r\nx-request-id: " + name.encode() + b"\r\n" in answer
    assert b"x-request-id" not in ask(trusted=False)[1]


def test_so_does_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("broken")

    with Wire(Endpoint(broken, "test", request_id_name=b"x-request-id")) as wire:
        answer = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"\r\nx-request-id: " in answer


def test_so_does_a_session_that_the_application_refuses_with_a_response() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["state"]["request_id"])
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})

    told: list[str] = []
    with Wire(Endpoint(application, "test", request_id_name=b"x-request-id")) as wire:
        answer = wire.send(handshake())
    assert b"\r\nx-request-id: " + told[0].encode() + b"\r\n" in answer


@pytest.mark.parametrize("trace", ["TRACE", "GET"])
def test_what_the_server_answers_by_itself_is_observed_and_named_as_the_mount(trace: str) -> None:
    """TRACE, which the application does not get, and one request too many."""
    manual, seen = Manual(), []

    class Notes:
        def on_exchange(self, cycle: Any) -> None:
            seen.append((cycle.status, cycle.request_id))

        on_session = on_exchange

    endpoint = Endpoint(manual, "test", request_id_name=b"x-request-id", observer=Notes())
    with Wire(endpoint, limits=Limits(concurrency=1)) as wire:
        if trace == "GET":
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            first = wire.connection
            wire.connect()
        answer = wire.send(f"{trace} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        ((status, name),) = seen
        assert status == (405 if trace == "TRACE" else 503)
        assert b"\r\nx-request-id: " + name.encode() + b"\r\n" in answer
        if trace == "GET":
            first.cut()
            manual.call.finish()
            wire.settle()
