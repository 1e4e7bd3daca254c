"""`headers` of a mount: on every response that has none of the name, whoever makes it."""

from __future__ import annotations

from typing import Any

import pytest

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
from tests.support.wire import Wire

LISTENER = Listener("web", (), 1, Limits())
HSTS = (("strict-transport-security", "max-age=31536000"),)
LINE = b"\r\nstrict-transport-security: max-age=31536000\r\n"


def answer_of(target: Target, application: Any = None, method: str = "GET") -> bytes:
    mounts = (Mount("/", (), ("web",), target, headers=HSTS),)
    generation = Generation("server.toml", Server(), (LISTENER,), (App("shop", "m:app", "/"),), mounts, Logging())
    with Wire(make_router(generation, LISTENER, {"shop": Endpoint(application, "shop")})) as wire:
        return wire.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


async def decides(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"Strict-Transport-Security", b"max-age=0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x"})


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("of the test")


@pytest.mark.parametrize(
    ("target", "application", "status"),
    [
        (AppTarget("shop", ""), answers, b"200"),
        (AppTarget("shop", ""), fails, b"500"),
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
    answer = answer_of(AppTarget("shop", ""), decides)
    assert LINE not in answer
    assert b"\r\nstrict-transport-security: max-age=0\r\n" in answer
