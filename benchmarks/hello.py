"""The application that every server of the comparison runs: raw ASGI, so that the server is what is measured."""

BODY = b"Hello, world!"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))],
}
LARGE = bytes(1 << 20)
LARGE_START = {**START, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(LARGE))]}


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


async def app(scope, receive, send):
    """Answer at once, or echo; speak lifespan, which some servers insist on."""
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/large":
        await send(LARGE_START)
        await send({"type": "http.response.body", "body": LARGE})
        return
    await send(START)
    await send({"type": "http.response.body", "body": BODY})
