"""What the server answers itself, as ASGI applications, so that there is one way to answer.

404 and 421 for requests that no mount serves, 405 to TRACE, 503 when there are too many requests or in the
place of an application that is down, `respond` and `redirect` mounts, and `OPTIONS *`. `worker.routes`,
`worker.applications` and `connection.intake` make endpoints of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus

from serverd.asgi.types import Application, Message, Receive, Scope, Send
from serverd.protocol.head import Fields

__all__ = [
    "misdirected",
    "no_trace",
    "no_tunnel",
    "not_found",
    "options",
    "overloaded",
    "redirect",
    "respond",
    "unavailable",
]

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


def respond(status: int, body: bytes, fields: Fields) -> Application:
    """Return an application that always gives this response; `body` gets a Content-Length."""
    headers = list(fields)
    if body and not any(name == b"content-type" for name, _ in headers):
        headers.append(_TEXT)
    headers.append((b"content-length", b"%d" % len(body)))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


def redirect(location: Callable[[Scope], bytes]) -> Application:
    """Return an application that answers 307 with the location made from the scope.

    307 keeps method and body and is never cached for good (RFC 9110 §15.4.8): a mistake in the
    configuration does not outlive its correction.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"location", location(scope)), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return application


def unavailable(wait: Callable[[], float]) -> Application:
    """Return an application that answers 503 until the next try, `wait()` seconds away (RFC 9110 §10.2.3)."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"retry-after", b"%d" % max(1, math.ceil(wait())))]
        answer = respond(503, f"{HTTPStatus.SERVICE_UNAVAILABLE.phrase}\n".encode(), fields)
        await answer(scope, receive, send)

    return application


def no_tunnel(application: Application) -> Application:
    """Return `application` with 501 in the place of an answer that would open a tunnel.

    That is any 2xx to CONNECT (RFC 9110 §9.3.6), and who answers here knows nothing of tunnels.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def send_unless_it_opens(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] < 300:
                refused = True
                await not_implemented(scope, receive, send)
            elif not refused:
                await send(message)

        await application(scope, receive, send_unless_it_opens)

    return answer


def _plain(status: HTTPStatus) -> Application:
    return respond(status.value, f"{status.phrase}\n".encode(), [])


not_found = _plain(HTTPStatus.NOT_FOUND)
not_implemented = _plain(HTTPStatus.NOT_IMPLEMENTED)
# RFC 9110 §15.5.20: nothing on this listener is served under the name that the client asked for.
misdirected = _plain(HTTPStatus.MISDIRECTED_REQUEST)
# RFC 9110 §9.3.7: `OPTIONS *` asks about the server as a whole.
options = respond(204, b"", [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])
# RFC 9110 §9.3.8: the answer to TRACE holds what the client may not show to scripts, such as cookies.
no_trace = respond(405, b"Method Not Allowed\n", [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])
# RFC 9110 §15.6.4: limits.concurrency is reached; requests in flight end all the time, so soon is soon enough.
overloaded = unavailable(lambda: 1.0)
