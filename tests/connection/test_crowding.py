"""How many are served at a time: limits.connections and limits.concurrency, and what the others are told."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Limits, Listener
from tests.support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def waits(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await receive()  # until the client has gone


class TestConcurrency:
    """RFC 9110 §15.6.4."""

    def test_a_request_too_many_gets_503_with_retry_after_and_keeps_its_connection(self) -> None:
        with Wire(waits, limits=Limits(concurrency=1)) as wire:
            first = wire.transport
            assert wire.send(GET) == b""
            wire.connect()
            answer = wire.send(GET)
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"connection: close" not in answer.lower()
            first.abort()
            wire.settle()
            assert wire.send(GET) == b""  # there is room for it now

    def test_idle_connections_do_not_count(self) -> None:
        with Wire(answers, limits=Limits(concurrency=1)) as wire:
            for _ in range(5):
                assert wire.send(GET).startswith(b"HTTP/1.1 200 ")
                wire.connect()
            assert wire.send(GET).startswith(b"HTTP/1.1 200 ")

    def test_what_the_server_answers_itself_takes_no_place_however_slowly_it_is_read(self) -> None:
        large = Endpoint(builtin.respond(200, bytes(1_000_000), []), "serverd", is_ours=True)
        routes = [Route((), "/large", large), Route((), "/", Endpoint(answers, "test"))]
        ours = [
            Endpoint(app, "serverd", is_ours=True) for app in (builtin.not_found, builtin.misdirected, builtin.options)
        ]
        with Wire(Router(routes, *ours), limits=Limits(concurrency=1)) as wire:
            wire.transport.room = 1000
            assert wire.send(GET.replace(b"/", b"/large", 1) + GET.replace(b"/", b"/large", 1)).startswith(
                b"HTTP/1.1 200 "
            )
            assert wire.service.answers
            wire.connect()
            assert wire.send(GET).startswith(b"HTTP/1.1 200 ")


class TestConnections:
    def test_a_connection_too_many_is_told_503_and_closed(self) -> None:
        with Wire(answers, limits=Limits(connections=1)) as wire:
            wire.connect()
            wire.settle()
            answer = wire.received()
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"\r\nconnection: close\r\n" in answer.lower()
            assert wire.closed

    def test_those_turned_away_take_no_room_from_others_while_they_end(self) -> None:
        with Wire(answers, limits=Limits(connections=1)) as wire:
            first = wire.transport
            for _ in range(3):
                wire.connect()
            assert wire.service.turned_away == 3
            first.abort()
            wire.connect()
            assert wire.send(GET).startswith(b"HTTP/1.1 200 ")
            wire.advance(10)
            assert wire.service.turned_away == 0

    def test_what_one_that_is_turned_away_sends_is_not_answered(self) -> None:
        with Wire(answers, limits=Limits(connections=1)) as wire:
            wire.connect()
            wire.received()
            assert wire.send(GET) == b""

    def test_with_wait_nobody_is_turned_away_and_the_crowd_is_told_once(self) -> None:
        told = []
        with Wire(answers, limits=Limits(connections=16, connections_beyond="wait")) as wire:
            wire.service.on_crowd = lambda: told.append(wire.service.is_crowded)
            transports = [wire.transport]
            for _ in range(16):  # one more than there is room for had been accepted already
                wire.connect()
                transports.append(wire.transport)
            assert told == [True]
            assert wire.send(GET).startswith(b"HTTP/1.1 200 ")
            transports.pop().abort()
            assert told == [True]
            transports.pop().abort()
            assert told == [True, False]
            transports.pop().abort()
            assert told == [True, False]

    def test_a_limit_that_is_taken_back_disperses_the_crowd(self) -> None:
        told = []
        with Wire(answers, limits=Limits(connections=1, connections_beyond="wait")) as wire:
            wire.connect()
            wire.service.on_crowd = lambda: told.append(wire.service.is_crowded)
            listener = Listener("web", (), 1, Limits())
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            assert told == [False]


class TestTrace:
    """RFC 9110 §9.3.8."""

    REQUEST = b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"

    def test_it_gets_405_with_what_is_allowed(self) -> None:
        with Wire(answers) as wire:
            answer = wire.send(self.REQUEST)
            assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
            assert b"\r\nallow: GET, HEAD, POST" in answer

    def test_a_mount_may_leave_it_to_its_application(self) -> None:
        with Wire(Endpoint(answers, "test", takes_trace=True)) as wire:
            assert wire.send(self.REQUEST).startswith(b"HTTP/1.1 200 ")


class TestRequestTimeout:
    """RFC 9110 §15.6.5, as far as an application is what one waits for."""

    def test_a_request_that_has_no_answer_gets_504_and_its_application_is_cancelled(self) -> None:
        with Wire(waits) as wire:
            assert wire.send(GET) == b""
            [exchange] = wire.service.exchanges
            exchange.expire()
            wire.settle()
            assert wire.received().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
            assert not wire.service.exchanges
            assert wire.send(GET) == b""  # the connection goes on

    def test_one_whose_response_has_begun_is_cut(self) -> None:
        async def begins(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await waits(scope, receive, send)

        with Wire(begins) as wire:
            wire.send(GET)
            [exchange] = wire.service.exchanges
            exchange.expire()
            wire.settle()
            assert b"0\r\n\r\n" not in wire.received()
            assert wire.closed

    @pytest.mark.parametrize("method", [b"GET", b"HEAD"])
    def test_an_application_that_does_not_end_is_left_and_cannot_answer_any_more(self, method: bytes) -> None:
        refused: list[BaseException] = []

        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            try:
                await waits(scope, receive, send)
            except BaseException:
                try:
                    await answers(scope, receive, send)
                except Exception as error:
                    refused.append(error)

        with Wire(stubborn) as wire:
            wire.send(GET.replace(b"GET", method))
            [exchange] = wire.service.exchanges
            exchange.expire()
            wire.settle()
            assert wire.received().count(b"HTTP/1.1 ") == 1
            assert len(refused) == 1
