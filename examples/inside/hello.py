"""The smallest ASGI application: no framework, one coroutine."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"Hello from serverd!\n"


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer every HTTP request with the same text."""
    if scope["type"] != "http":  # nothing but requests: serverd goes on without lifespan when an application says so
        raise NotImplementedError(f"this application does not speak {scope['type']}")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
