"""`headers` of a mount: on every response that has none of the name, whoever makes it."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.asgi.router import Router
from serverd.asgi.scope import Endpoint
from serverd.generation import (
    App,
    AppTarget,
    Generation,
    Limits,
    Listener,
    Logging,
    Mount,
    RedirectTarget,
    RespondTarget,
    Server,
    Target,
)
from serverd.worker.routes import make_router
from tests.support.http2 import Http2Wire
from tests.support.wire import Wire

LISTENER = Listener("web", (), 1, Limits())
HSTS = (("strict-transport-security", "max-age=31536000"),)
LINE = b"\r\nstrict-transport-security: max-age=31536000\r\n"


SHOP = AppTarget("shop", "")
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def routed(application: Any, target: Target = SHOP) -> Router:
    mounts = (Mount("/", (), ("web",), target, headers=HSTS),)
    generation = Generation("server.toml", Server(), (LISTENER,), (App("shop", "m:app", "/"),), mounts, Logging())
    return make_router(generation, LISTENER, {"shop": Endpoint(application, "shop")})


def answer_of(target: Target, application: Any = None, method: str = "GET") -> bytes:
    with Wire(routed(application, target)) as wire:
        return wire.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


async def decides(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"Strict-Transport-Security", b"max-age=0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x"})


async def reads(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("of the test")


@pytest.mark.parametrize(
    ("target", "application", "status"),
    [
        (SHOP, answers, b"200"),
        (SHOP, fails, b"500"),
        (RespondTarget(404, "none", ()), None, b"404"),
        (RedirectTarget("https://{host}{uri}"), None, b"307"),
    ],
    ids=["app", "app that fails", "respond", "redirect"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_kind_of_response_has_them(target: Target, application: Any, status: bytes, method: str) -> None:
    answer = answer_of(target, application, method)
    assert answer.split(b" ")[1] == status
    assert answer.count(LINE) == 1


def test_what_the_application_says_itself_counts() -> None:
    answer = answer_of(SHOP, decides)
    assert LINE not in answer
    assert b"\r\nstrict-transport-security: max-age=0\r\n" in answer


@pytest.mark.parametrize(
    ("limits", "request_", "status"),
    [
        (Limits(), b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (Limits(body_size=4), CHUNKED + b"5\r\nhello\r\n", b"413"),
        (Limits(), CHUNKED + b"x\r\n", b"400"),
    ],
    ids=["TRACE", "too large", "malformed"],
)
def test_so_has_what_is_answered_in_the_place_of_an_application(limits: Limits, request_: bytes, status: bytes) -> None:
    with Wire(routed(reads), limits=limits) as wire:
        answer = wire.send(request_)
    assert answer.split(b" ")[1] == status
    assert answer.count(LINE) == 1


def test_so_has_what_is_answered_when_there_are_too_many_requests() -> None:
    with Wire(routed(reads), limits=Limits(concurrency=1)) as wire:
        wire.send(CHUNKED)
        wire.connect()
        answer = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for connection in list(wire.service.connections):
            connection.cut()
    assert answer.split(b" ")[1] == b"503"
    assert answer.count(LINE) == 1


def test_so_has_what_is_refused_over_http_2() -> None:
    with Http2Wire(routed(reads), limits=Limits(body_size=4)) as wire:
        answer = wire.request("POST", body=b"hello")
    assert answer.outcome[0] == 413
    assert (b"strict-transport-security", b"max-age=31536000") in answer.fields


def test_what_is_refused_before_a_mount_is_found_has_none() -> None:
    with Wire(routed(reads)) as wire:
        answer = wire.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert answer.split(b" ")[1] == b"400"
    assert LINE not in answer
