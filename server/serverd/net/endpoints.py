"""Socket addresses as values, and which of them are in each other's way; pure.

`sockets` finds out which endpoints an address stands for and binds them, `binding` keeps them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

__all__ = ["EVERYWHERE_4", "EVERYWHERE_6", "Access", "Endpoint", "overlap"]

EVERYWHERE_4, EVERYWHERE_6 = "0.0.0.0", "::"  # noqa: S104 - the operator decides whether they are used


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One socket address that a TCP address stands for."""

    family: socket.AddressFamily
    host: str
    port: int
    scope: int = 0  # IPv6: the interface of a link-local address
    dual: bool = False  # IPv6 wildcard that takes IPv4 too

    @property
    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What `bind` takes."""
        if self.family == socket.AF_INET6:
            return (self.host, self.port, 0, self.scope)
        return (self.host, self.port)

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every interface."""
        return self.host in {EVERYWHERE_4, EVERYWHERE_6}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect to a unix socket; None leaves what the process's umask and user give."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def overlap(one: Endpoint, other: Endpoint) -> bool:
    """Return whether a connection could be meant for either of the two endpoints."""
    if one.port != other.port or not one.port:
        return False
    if one.family != other.family and not (one.dual or other.dual):
        return False
    return one.wildcard or other.wildcard or one.host == other.host
