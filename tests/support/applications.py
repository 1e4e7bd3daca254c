"""Small ASGI applications that tests serve in memory."""

from __future__ import annotations

import asyncio
from typing import Any


async def read_body(receive: Any) -> bytes | None:
    """Return the whole request body, None when the client went away before its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def respond(send: Any, body: bytes = b"ok", status: int = 200, headers: Any = ()) -> None:
    """Send a whole response of known length."""
    headers = [(b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer without looking at the request."""
    await respond(send)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 with the request body, or its own path where there is none."""
    body = await read_body(receive)
    if body is None:
        return
    await respond(send, body or scope["path"].encode(), headers=[(b"content-type", b"application/octet-stream")])


class Recorder:
    """An application that keeps every scope and body and answers 200."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = await read_body(receive)
        if body is None:
            return
        self.bodies.append(body)
        await respond(send)


class Script:
    """An application that sends these messages, one after the other, and keeps what that raised."""

    def __init__(self, *messages: Any) -> None:
        self.messages = messages
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in self.messages:
                await send(message)
        except BaseException as error:
            self.error = error
            raise


class Call:
    """One call of a `Manual` application."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, status: int = 200, headers: Any = (), **more: Any) -> None:
        """Send the head of the response."""
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers), **more})

    async def body(self, body: bytes = b"", more_body: bool = False) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def respond(self, body: bytes = b"ok", status: int = 200, headers: Any = ()) -> None:
        """Send a whole response of known length."""
        await respond(self.send, body, status, headers)

    def finish(self, error: BaseException | None = None) -> None:
        """Let the application return, or raise `error`."""
        if error is None:
            self.end.set_result(None)
        else:
            self.end.set_exception(error)


class Manual:
    """An application that does nothing by itself: a test receives and sends in its place, at its own time."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        call = Call(scope, receive, send)
        self.calls.append(call)
        await call.end

    @property
    def call(self) -> Call:
        """The last call."""
        return self.calls[-1]
