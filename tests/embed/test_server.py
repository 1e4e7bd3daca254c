"""`serverd.Server`: a server within the event loop of a test or a program."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

import serverd
from serverd.config.options import OPTIONS
from serverd.embed.keywords import RunOptions

said: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            said.append(what)
            await send({"type": f"lifespan.{what}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise RuntimeError("no database")


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


async def get(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).text


def test_an_application_is_served_on_a_port_that_is_told_and_its_lifespan_is_run() -> None:
    async def main() -> None:
        said.clear()
        async with serverd.Server(app=app, port=0) as server:
            (address,) = server.addresses
            assert server.urls == [f"http://{address[0]}:{address[1]}"]
            assert await get(f"{server.urls[0]}/x") == "/x"
        assert said == ["startup", "shutdown"]
        assert server.urls == server.addresses == []

    run(main())


def test_a_dict_has_the_language_of_a_file_and_may_hold_applications() -> None:
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "apps": {"shop": {"app": app}},
        "mounts": [{"app": "shop", "path": "/shop"}],
    }

    async def main() -> None:
        async with serverd.Server(config) as server:
            assert await get(f"{server.urls[0]}/shop/x") == "/shop/x"
            assert await get(f"{server.urls[0]}/") == "Not Found\n"

    run(main())


def test_serve_ends_when_it_is_stopped() -> None:
    async def main() -> None:
        server = serverd.Server(app=app, port=0)
        await server.startup()
        serving = asyncio.create_task(server.serve())
        assert await get(server.urls[0]) == "/"
        server.stop()
        await serving
        assert server.urls == []

    run(main())


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"app": app, "prt": 1}, serverd.ConfigError, 'prt: unknown option (did you mean "port"?)'),
        ({"app": app, "port": "x"}, serverd.ConfigError, "port: 'x' is not a port"),
        ({"app": app, "workers": 2}, serverd.ConfigError, "workers: means nothing for a server within"),
        ({"app": app, "lifespan": "x"}, serverd.ConfigError, 'lifespan: "x" is not one of'),
        ({}, serverd.ConfigError, "needs either a configuration or an application"),
        ({"config": {"apps": {"shop": {"app": object()}}}}, serverd.ConfigError, "config: apps.shop.app"),
        ({"app": "serverd.embed:nothing", "port": 0}, serverd.AppLoadError, "has no attribute 'nothing'"),
        ({"app": broken, "port": 0, "lifespan": "on"}, serverd.LifespanError, "no database"),
        ({"app": app, "host": "203.0.113.7"}, serverd.BindError, "cannot bind 203.0.113.7:8000"),
    ],
)
def test_what_is_wrong_is_raised_with_its_type(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    async def main() -> None:
        with pytest.raises(kind) as caught:
            await serverd.Server(**arguments).startup()
        assert text in f"{caught.value} {caught.value.__cause__}"

    run(main())


def test_every_option_is_a_keyword() -> None:
    reload = {"reload", "reload_dir", "reload_include", "reload_exclude"}
    assert RunOptions.__annotations__.keys() == {option.name for option in OPTIONS} | reload


def test_a_shutdown_that_is_cancelled_cuts_what_is_in_flight_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        asked, told, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                told.set()
            asked.set()
            await never.wait()

        before = asyncio.all_tasks()
        server = serverd.Server(app=stubborn, port=0)
        await server.startup()
        (address,) = server.addresses
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asked.wait()
        shutdown = asyncio.create_task(server.shutdown(1000))
        await asyncio.wait({shutdown}, timeout=0.1)  # it drains, of which nothing tells
        shutdown.cancel()
        await told.wait()
        shutdown.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shutdown
        writer.close()
        left = asyncio.all_tasks() - before
        assert not left or not (await asyncio.wait(left, timeout=5))[1]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(main())
