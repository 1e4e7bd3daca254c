"""A raw ASGI application that tells how serverd routed the request to it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer with the parts of the scope that depend on the mount."""
    if scope["type"] != "http":
        raise NotImplementedError(f"this application does not speak {scope['type']}")
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    seen = {"path": scope["path"], "root_path": scope["root_path"], "host": hosts[0] if hosts else None}
    body = json.dumps(seen).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
