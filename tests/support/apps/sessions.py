"""The WebSocket application of the end-to-end tests: each path shows one thing about sessions. Raw ASGI."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

KIB = 1024


def say(line: str) -> None:
    """Tell the test, through the server's output."""
    print(line, flush=True)


async def accept(receive: Any, send: Any, **more: Any) -> None:
    """Take the session."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send every message back as it came, and tell how the session ended."""
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    say(f"ended with {event['code']} {event['reason']!r}")


async def describe(scope: Any, receive: Any, send: Any) -> None:
    """Send the scope, speak the last of the offered protocols, set a cookie."""
    subprotocol = scope["subprotocols"][-1] if scope["subprotocols"] else None
    await accept(receive, send, subprotocol=subprotocol, headers=[(b"set-cookie", b"a=b")])
    seen = {name: scope[name] for name in ("type", "scheme", "path", "http_version", "subprotocols", "client")}
    await send({"type": "websocket.send", "text": json.dumps(seen)})
    await send({"type": "websocket.close"})


async def forbid(scope: Any, receive: Any, send: Any) -> None:
    """Refuse the session."""
    await receive()
    await send({"type": "websocket.close"})


async def deny(scope: Any, receive: Any, send: Any) -> None:
    """Refuse the session with a response of its own."""
    await receive()
    headers = [(b"www-authenticate", b"Basic")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you?"})


async def fail(scope: Any, receive: Any, send: Any) -> None:
    """Fail after the first message."""
    await accept(receive, send)
    await receive()
    raise RuntimeError("broken on purpose")


async def farewell(scope: Any, receive: Any, send: Any) -> None:
    """Close with ?code=N."""
    await accept(receive, send)
    code = int(parse_qs(scope["query_string"].decode())["code"][0])
    await send({"type": "websocket.close", "code": code, "reason": "so long"})


async def late(scope: Any, receive: Any, send: Any) -> None:
    """Read nothing before the file ?gate=PATH exists, then count bytes until `end` comes."""
    await accept(receive, send)
    say("reads nothing")
    await asyncio.to_thread(open, parse_qs(scope["query_string"].decode())["gate"][0])  # a FIFO: until it is opened
    count = 0
    while (event := await receive()).get("text") != "end":
        if event["type"] == "websocket.disconnect":
            return
        count += len(event["bytes"])
    await send({"type": "websocket.send", "text": str(count)})


async def pour(scope: Any, receive: Any, send: Any) -> None:
    """Send 64 KiB again and again, and tell how often once the client has gone."""
    await accept(receive, send)
    count = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(64 * KIB)})
            count += 1
            if count % 16 == 0:
                say(f"sent {count}")
    except OSError as error:
        say(f"gone after {count}: {type(error).__name__}")


PAGES = {page.__name__: page for page in (echo, describe, forbid, deny, fail, farewell, late, pour)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Choose the page by the last segment of the path."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await PAGES[scope["path"].rpartition("/")[2]](scope, receive, send)
