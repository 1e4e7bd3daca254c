"""The application that hostile and slow clients meet: it reads slowly, and tells whom it has seen. Raw ASGI."""

import asyncio
import contextlib
import ctypes
import json
from typing import Any
from urllib.parse import parse_qs

MEGABYTE = 1024 * 1024
PIECE = bytes(range(256)) * 256  # 64 KiB
PAUSE_EVERY = 4 * MEGABYTE
PAUSE = 0.01  # s
SEEN: list[dict[str, Any]] = []


async def respond(send: Any, body: bytes) -> None:
    """Send a response of known length."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once."""
    await respond(send, b"hello")


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Tell where the request comes from, and remember it."""
    told = {key: scope[key] for key in ("client", "scheme", "server", "root_path", "path")}
    told["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    SEEN.append(told)
    await respond(send, json.dumps(told).encode())


async def seen(scope: Any, receive: Any, send: Any) -> None:
    """Tell everything that `who` has told."""
    await respond(send, json.dumps(SEEN).encode())


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answer after ?seconds=."""
    [seconds] = parse_qs(scope["query_string"].decode())["seconds"]
    await asyncio.sleep(float(seconds))
    await respond(send, b"slow")


async def swallow(scope: Any, receive: Any, send: Any) -> None:
    """Count the body, and read it slowly: with a pause every few megabytes."""
    total, pause_at, more = 0, PAUSE_EVERY, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        total += len(event["body"])
        more = event["more_body"]
        if total >= pause_at:
            pause_at += PAUSE_EVERY
            await asyncio.sleep(PAUSE)
    await respond(send, str(total).encode())


async def pour(scope: Any, receive: Any, send: Any) -> None:
    """Send ?megabytes= as fast as they are taken."""
    [megabytes] = parse_qs(scope["query_string"].decode())["megabytes"]
    pieces = int(megabytes) * MEGABYTE // len(PIECE)
    headers = [(b"content-length", str(pieces * len(PIECE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": number < pieces - 1})


async def half(scope: Any, receive: Any, send: Any) -> None:
    """Send one megabyte of two, which the kernel takes at once, and nothing more."""
    headers = [(b"content-length", str(2 * MEGABYTE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PIECE * 16, "more_body": True})
    await asyncio.Event().wait()


async def trim(scope: Any, receive: Any, send: Any) -> None:
    """Give back the memory that is free but kept by the allocator, so that what is left is in use (malloc_trim(3))."""
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    await respond(send, b"trimmed")


PAGES = {f"/{page.__name__}": page for page in (hello, who, seen, slow, swallow, pour, half, trim)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Choose the page by the path; what is none tells who asked."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await PAGES.get(scope["path"].removeprefix(scope["root_path"]), who)(scope, receive, send)
