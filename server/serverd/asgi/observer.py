"""Who looks on: told once of the end of every exchange and session, and of requests that never became one.

An `Endpoint` carries the observer of its mount, a service that of its listener. What is observed - times, sizes, the
status - stands on the `Cycle`, written as it happens; an observer reads it and must not change it, nor raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from serverd.asgi.cycle import Cycle
    from serverd.asgi.refusal import Refusal
    from serverd.asgi.session import Session

__all__ = ["UNOBSERVED", "MountObserver", "Observer", "RefusalObserver"]


class Observer(Protocol):
    """Whoever counts or logs requests."""

    def on_exchange(self, cycle: Cycle) -> None:
        """The response is complete, or was given up (`given_up`); also a WebSocket handshake that was refused."""

    def on_session(self, session: Session) -> None:
        """The application of an accepted WebSocket has ended."""


class RefusalObserver(Protocol):
    """Whoever counts or logs what was answered before it had an exchange."""

    def on_refusal(self, refusal: Refusal) -> None:
        """A connection is about to answer what is no request, or not one that it takes."""


class MountObserver(Observer, RefusalObserver, Protocol):
    """Both: what looks on at a mount can look on at a listener."""


class _Unobserved:
    """Nobody."""

    def on_exchange(self, cycle: Cycle) -> None:
        """Do nothing."""

    def on_session(self, session: Session) -> None:
        """Do nothing."""

    def on_refusal(self, refusal: Refusal) -> None:
        """Do nothing."""


UNOBSERVED: Final[MountObserver] = _Unobserved()
