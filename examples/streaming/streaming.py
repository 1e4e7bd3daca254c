"""What ASGI can do beyond one response at once: stream in both directions, trailers, early hints.

Nothing here ever holds more than one piece of a body: serverd stops reading from a client while the application does
not ask for more, and `send` waits while a client does not read.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Send ten pieces of unknown total length: HTTP/1.1 carries them as chunks."""
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    for number in range(1, 11):
        await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
    await send({"type": "http.response.body"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the upload back while it is still arriving."""
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        more = event.get("more_body", False)
        await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": more})


async def checksum(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a body whose checksum is known only at its end, in a trailer, to a client that accepts trailers."""
    trailers = "http.response.trailers" in scope["extensions"]
    headers = [TEXT, (b"trailer", b"x-sha256")] if trailers else [TEXT]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": trailers})
    digest = hashlib.sha256()
    for number in range(10):
        line = b"line %d\n" % number
        digest.update(line)
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body"})
    if trailers:
        value = digest.hexdigest().encode()
        await send({"type": "http.response.trailers", "headers": [(b"x-sha256", value)], "more_trailers": False})


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Name the style sheet in a 103 response, so that a browser fetches it while the page is being made."""
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"<!doctype html><title>Early</title>\n"})


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 404."""
    await send({"type": "http.response.start", "status": 404, "headers": [TEXT]})
    await send({"type": "http.response.body", "body": b"try /count /echo /checksum /page\n"})


PAGES = {"/count": count, "/echo": echo, "/checksum": checksum, "/page": page}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Choose the page by the path below the mount."""
    if scope["type"] != "http":
        raise NotImplementedError(f"this application does not speak {scope['type']}")
    path = scope["path"].removeprefix(scope["root_path"])
    await PAGES.get(path, missing)(scope, receive, send)
