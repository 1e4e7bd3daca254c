"""The builtin mounts health, metrics and status, as ASGI applications.

They answer GET and HEAD; `inside` makes them, `routes` mounts them. What they show comes from the supervisor
(`enquiry`), whichever worker is asked; only health speaks of the worker itself. Rendering is `observe`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from serverd.asgi import builtin
from serverd.asgi.router import normalise_path
from serverd.asgi.types import Application, Receive, Scope, Send
from serverd.observe.overview import make_overview
from serverd.protocol.head import Fields
from serverd.worker.enquiry import Enquiry, NoAnswer
from serverd.worker.standing import Standing

__all__ = ["WATCHERS", "health", "metrics", "status"]

# Pages that may be watched at a time in one worker: people, not machines.
WATCHERS = 32
# Seconds between two events, and until a page has to come again: its mount may be another by then.
EVENT_INTERVAL = 1.0
WATCH_LIMIT = 600.0

_TEXT = b"text/plain; charset=utf-8"
_ALWAYS: Fields = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
_Page = Callable[[Scope], Awaitable[tuple[bytes, bytes, Fields]]]


def health(standing: Standing) -> Application:
    """Return what answers /livez while the event loop turns, and /readyz while requests should come here."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        path = _below(scope)
        if path not in ("", "/livez", "/readyz"):
            await builtin.not_found(scope, receive, send)
            return
        reason = "" if path == "/livez" else standing.why_not()
        answer = f"not ready: {reason}\n" if reason else "ok\n"
        await _respond(send, scope, (503 if reason else 200), _TEXT, answer.encode(), [])

    return _reading(application)


def metrics(enquiry: Enquiry) -> Application:
    """Return what Prometheus scrapes."""

    async def page(scope: Scope) -> tuple[bytes, bytes, Fields]:
        from serverd.observe.metrics import render  # the worker that is scraped pays for the library

        media_type, text = render(await enquiry.report(), _field(scope, b"accept"))
        return media_type.encode(), text, [(b"vary", b"accept")]

    return _reading(_paged({"": page}))


def status(enquiry: Enquiry, standing: Standing) -> Application:
    """Return the page for people: HTML, its numbers as JSON, and as events."""
    watching = 0

    async def as_json(scope: Scope) -> tuple[bytes, bytes, Fields]:
        overview = make_overview(await enquiry.report())
        return b"application/json", json.dumps(overview, indent=1).encode() + b"\n", []

    async def as_html(scope: Scope) -> tuple[bytes, bytes, Fields]:
        from serverd.observe import page

        overview = make_overview(await enquiry.report())
        text = page.render(overview, events=f"{scope['root_path']}/events")
        policy = (b"content-security-policy", page.POLICY.encode())
        return b"text/html; charset=utf-8", text.encode(), [policy, (b"referrer-policy", b"no-referrer")]

    async def either(scope: Scope) -> tuple[bytes, bytes, Fields]:
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("format", [""])[0]
        accept = _field(scope, b"accept")
        wants_json = asked == "json" or (not asked and "json" in accept and "html" not in accept)
        media_type, body, fields = await (as_json if wants_json else as_html)(scope)
        return media_type, body, [*fields, (b"vary", b"accept")]

    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal watching
        if watching >= WATCHERS:
            await builtin.overloaded(scope, receive, send)
            return
        watching += 1
        try:
            await _send_events(enquiry, standing, scope, send)
        finally:
            watching -= 1

    paged = _paged({"": either, "/status.json": as_json})

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await (events if _below(scope) == "/events" else paged)(scope, receive, send)

    return _reading(application)


async def _send_events(enquiry: Enquiry, standing: Standing, scope: Scope, send: Send) -> None:
    """Send the page's moving part once a second, for WATCH_LIMIT at most, however slowly it is read.

    HTML Living Standard, "Server-sent events".
    """
    headers = [*_ALWAYS, (b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["method"] != "HEAD":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_LIMIT):
                await _tell(enquiry, standing, send)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):  # it is on its way; who does not read has no longer a place while it waits
            await send({"type": "http.response.body", "body": b""})


async def _tell(enquiry: Enquiry, standing: Standing, send: Send) -> None:
    """Send event after event until this worker drains: then the page comes again, to another one."""
    from serverd.observe import page

    rests = True
    while rests:
        try:
            data = json.dumps(page.make_event(make_overview(await enquiry.report())))
        except NoAnswer:
            pass  # the page shows how old its numbers are
        else:
            event = f"retry: 1000\ndata: {data}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
        rests = not await standing.rest(EVENT_INTERVAL)


def _paged(pages: dict[str, _Page]) -> Application:
    """Return what answers with the page below a path, and 503 when the supervisor is silent."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        page = pages.get(_below(scope))
        if page is None:
            await builtin.not_found(scope, receive, send)
            return
        try:
            media_type, body, fields = await page(scope)
        except NoAnswer:
            await _respond(send, scope, 503, _TEXT, b"the supervisor does not answer\n", [(b"retry-after", b"1")])
            return
        await _respond(send, scope, 200, media_type, body, fields)

    return application


def _reading(application: Application) -> Application:
    """Return an application that answers GET and HEAD only (RFC 9110 §15.5.6)."""
    refusal = builtin.respond(405, b"Method Not Allowed\n", [(b"allow", b"GET, HEAD")])

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await (application if scope["method"] in ("GET", "HEAD") else refusal)(scope, receive, send)

    return reading


async def _respond(send: Send, scope: Scope, status: int, media_type: bytes, body: bytes, fields: Fields) -> None:
    headers = [*_ALWAYS, *fields, (b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _below(scope: Scope) -> str:
    """Return the path below the mount, and below what a proxy took off it."""
    return normalise_path(scope["path"]).removeprefix(scope["root_path"]).rstrip("/")


def _field(scope: Scope, name: bytes) -> str:
    values: list[Any] = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values)
