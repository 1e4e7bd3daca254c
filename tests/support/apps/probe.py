"""The application that the end-to-end tests mount: each path shows one thing about the server. Raw ASGI."""

import asyncio
import json
import os
import sys
from typing import Any
from urllib.parse import parse_qs

TEXT = [(b"content-type", b"text/plain")]
PIECE = bytes(range(256)) * 256  # 64 KiB


async def respond(send: Any, body: bytes, status: int = 200) -> None:
    """Send a response of known length."""
    headers = [*TEXT, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once."""
    await respond(send, b"hello")


async def pid(scope: Any, receive: Any, send: Any) -> None:
    """Tell which worker answers."""
    await respond(send, str(os.getpid()).encode())


async def modules(scope: Any, receive: Any, send: Any) -> None:
    """List what the worker has imported."""
    await respond(send, json.dumps(sorted(sys.modules)).encode())


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send every piece of the body back as it comes; the head goes out with the first one.

    So a client decides when each step of the exchange happens, and knows that it has: no test has to sleep.
    """
    started, more = False, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        more = event["more_body"]
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
            started = True
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answer after ?seconds=N, two without."""
    query = parse_qs(scope["query_string"].decode())
    await asyncio.sleep(float(query.get("seconds", ["2"])[0]))
    await respond(send, b"slow")


async def length(scope: Any, receive: Any, send: Any) -> None:
    """Count the body."""
    total, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        total += len(event["body"])
        more = event["more_body"]
    await respond(send, str(total).encode())


async def download(scope: Any, receive: Any, send: Any) -> None:
    """Send ?pieces=N pieces of 64 KiB."""
    pieces = int(parse_qs(scope["query_string"].decode())["pieces"][0])
    headers = [*TEXT, (b"content-length", str(pieces * len(PIECE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": number < pieces - 1})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answer 413 without looking at the body."""
    await respond(send, b"too much", 413)


PAGES = {page.__name__: page for page in (hello, pid, modules, echo, slow, length, download, refuse)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Choose the page by the last segment of the path."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await PAGES[scope["path"].rpartition("/")[2]](scope, receive, send)
