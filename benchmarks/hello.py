"""The applications that every server of the comparison runs: raw ASGI, so that the server is what is measured."""

BODY = b"Hello, world!"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))],
}


async def echo(receive, send):
    """Send every message back as it came."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": text})


async def live(receive, send):
    """Speak lifespan, which some servers insist on."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    """Answer at once, or echo."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "lifespan":
        await live(receive, send)
    else:
        await send(START)
        await send({"type": "http.response.body", "body": BODY})


LARGE = b"x" * 1_000_000
LARGE_START = {**START, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(LARGE))]}


async def large(scope, receive, send):
    """Answer with 1 MB in one message."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await send(LARGE_START)
    await send({"type": "http.response.body", "body": LARGE})


PART = b"x" * 1024
STREAM_START = {**START, "headers": [(b"content-type", b"text/plain")]}


async def stream(scope, receive, send):
    """Answer with 50 parts of 1 KB and no announced length."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await send(STREAM_START)
    for _ in range(50):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def upload(scope, receive, send):
    """Read the whole body, then answer."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send({"type": "http.response.body", "body": BODY})
