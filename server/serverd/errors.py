"""The exception tree of serverd; the first fork is whose fault it is, and the error carries its consequence.

    ServerdError
    ├── OperatorError            what the operator wrote or the machine refuses      exit_code 3
    │   ├── ConfigError          the configuration files are wrong
    │   │   └── RenewalError     what certificates are made of, when it is read again
    │   └── BindError            a listener's address cannot be bound
    ├── AppError                 what a mounted application did                      exit_code 3 at start
    │   ├── AppLoadError         it cannot be imported or is no ASGI application
    │   ├── LifespanError        its start-up or shutdown failed
    │   └── ResponseError        it broke the ASGI or HTTP rules for a response
    └── PeerError                what the other end of the connection sent           status 4xx or 5xx
        ├── SessionError         it broke the WebSocket protocol                     code, of a Close frame
        └── ClientDisconnected   it has gone; also an OSError, as ASGI 2.4 asks

A bug of ours is none of these: it is left to crash. Messages are lower case, without a full stop:
subject, fact, expectation, remedy. Every module may import this one; it imports nothing.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = [
    "AppError",
    "AppLoadError",
    "BindError",
    "ClientDisconnected",
    "ConfigError",
    "LifespanError",
    "OperatorError",
    "PeerError",
    "RenewalError",
    "ResponseError",
    "ServerdError",
    "SessionError",
    "reason_of",
    "without_context",
]

_Raised = TypeVar("_Raised", bound=Exception)


class ServerdError(Exception):
    """Root of every error that serverd raises on purpose."""


def reason_of(error: Exception) -> str:
    """Return what the machine says is wrong, or we, as a sentence goes on with it: without its number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def without_context(error: _Raised) -> _Raised:
    """Return an error of which a traceback does not show what it was raised amid.

    So says `raise ... from None`, of which mypyc leaves out the `from`: for what is compiled and logged.
    """
    error.__suppress_context__ = True
    return error


class OperatorError(ServerdError):
    """The configuration or the machine does not allow what was asked."""

    exit_code = 3


class ConfigError(OperatorError):
    """The configuration files are wrong; the message lists every problem with file and line."""


class RenewalError(ConfigError):
    """What certificates are made of was read again and cannot be used; `refused` tells it from anything else."""

    def __init__(self, message: str, refused: tuple[str, ...]) -> None:
        super().__init__(message)
        self.refused = refused


class BindError(OperatorError):
    """A listener's address cannot be bound."""


class AppError(ServerdError):
    """A mounted application failed."""

    exit_code = 3


class AppLoadError(AppError):
    """An application cannot be imported or is not an ASGI application."""


class LifespanError(AppError):
    """An application's lifespan start-up or shutdown failed (ASGI Lifespan Protocol)."""


class ResponseError(AppError):
    """An application broke the rules for a response (ASGI HTTP spec; RFC 9110)."""


class PeerError(ServerdError):
    """The peer sent something that is refused with ``status`` and the end of the connection.

    ``head`` is that of the request, if it could be read (a RequestHead), or what could be read of it (a PartialHead).
    """

    def __init__(self, status: int, reason: str, head: Any = None) -> None:
        super().__init__(reason)
        self.head = head
        self.status = status
        self.reason = reason


class SessionError(PeerError):
    """The peer broke the WebSocket protocol, or a bound; the session is closed with ``code`` (RFC 6455 §7.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(400, reason)
        self.code = code


class ClientDisconnected(PeerError, OSError):
    """The client has gone; raised by ``send`` after the disconnect (ASGI HTTP spec 2.4)."""

    def __init__(self) -> None:
        super().__init__(499, "client disconnected")
