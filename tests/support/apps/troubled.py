"""The application that gets into trouble: each path is one way for a worker to suffer. Raw ASGI."""

import asyncio
import os
import re
import time
from typing import Any
from urllib.parse import parse_qs

HELD: list[bytearray] = []


async def respond(send: Any, body: bytes) -> None:
    """Send a response of known length."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def begin(send: Any) -> None:
    """Begin a response with "begun": whoever has read that knows that what follows happens."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})


async def end(send: Any) -> None:
    """End what `begin` has begun."""
    await send({"type": "http.response.body", "body": b"done"})


async def pid(scope: Any, send: Any) -> None:
    """Tell which worker answers."""
    await respond(send, str(os.getpid()).encode())


async def slow(scope: Any, send: Any) -> None:
    """Answer after ?seconds=2."""
    [seconds] = parse_qs(scope["query_string"].decode()).get("seconds", ["2"])
    await begin(send)
    await asyncio.sleep(float(seconds))
    await end(send)


async def block(scope: Any, send: Any) -> None:
    """Block the event loop for a minute, or ?seconds=."""
    [seconds] = parse_qs(scope["query_string"].decode()).get("seconds", ["60"])
    await begin(send)
    time.sleep(float(seconds))  # noqa: ASYNC251 - the trouble
    await end(send)


async def match(scope: Any, send: Any) -> None:
    """Hold the GIL for hours: a regular expression with two ways to match each letter."""
    await begin(send)
    re.fullmatch(r"(a|a)+", "a" * 60 + "b")
    await end(send)


async def leak(scope: Any, send: Any) -> None:
    """Keep 100 KiB more, which is in memory because it is written to."""
    HELD.append(bytearray(b"x" * 100 * 1024))
    await pid(scope, send)


PAGES = {f"/{page.__name__}": page for page in (pid, slow, block, match, leak)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Choose the page by the path."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await PAGES[scope["path"]](scope, send)
