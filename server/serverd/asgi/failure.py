"""What becomes of an application's failure: the 500 or 504 that the client gets, and which failures are none.

Used by `exchange`.
"""

from __future__ import annotations

from http import HTTPStatus

from serverd.asgi.fields import missing_from
from serverd.asgi.stream import Stream
from serverd.errors import ClientDisconnected
from serverd.protocol.head import Fields

__all__ = ["began_with_disconnect", "error_body", "send_error"]


def error_body(status: int) -> bytes:
    """Return the plain sentence that `send_error` answers with."""
    return f"{HTTPStatus(status).phrase}\n".encode()


def send_error(stream: Stream, status: int, more: Fields, *, bodiless: bool) -> None:
    """Answer `status` with a plain sentence and `more` fields; `bodiless` to a HEAD request."""
    body = error_body(status)
    fields: Fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    stream.send_headers(status, [*fields, *missing_from(fields, more)], bodiless)
    if not bodiless:
        stream.send_body(body, True)


def began_with_disconnect(error: BaseException) -> bool:
    """Return whether ClientDisconnected, and nothing else, is what began `error`: frameworks wrap it or group it."""
    found = False
    seen: set[int] = set()  # a chain of causes can bite its own tail, and a group be a cause of what is in it
    waiting = [error]
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        if isinstance(cause, ClientDisconnected):
            found = True
        elif isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        elif (before := cause.__cause__ or cause.__context__) is not None:
            waiting.append(before)
        else:
            return False
    return found
