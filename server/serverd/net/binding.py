"""One bound address: the sockets it has and who of the workers gets which.

It knows nothing of listeners and generations (`bindings` does) and binds nothing itself (`sockets`
does). Only `bindings` calls it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Protocol

from serverd.generation import Address
from serverd.net import sockets
from serverd.net.sockets import Access, Endpoint

__all__ = ["Binding", "SharedBinding", "TcpBinding", "UnixBinding"]

# How often port 0 is tried anew when the port the kernel chose for the first endpoint of a name is
# taken for another; each try fails with the share of ports in use, so that eight suffice.
PORT_TRIES = 8


class Binding(Protocol):
    """What `bindings` asks of a bound address of any kind."""

    def grow(self, slots: int) -> None:
        """Open sockets until there is one for each of `slots` slots; raises OSError."""

    def shrink(self, slots: int) -> None:
        """Close the sockets beyond `slots` slots."""

    def size(self) -> int:
        """Return for how many slots there are sockets."""

    def sockets(self, slot: int, slots: int) -> list[socket.socket]:
        """Return what the worker of `slot` accepts on when there are `slots` of them."""

    def all_sockets(self) -> list[socket.socket]:
        """Return every socket that workers accept on."""

    def urls(self) -> list[str]:
        """Return where the address is reached."""

    def close(self) -> None:
        """Close every socket."""


class TcpBinding:
    """The endpoints of a TCP address: for each a guard, and a socket per slot."""

    def __init__(self, address: Address, own: list[Endpoint]) -> None:
        self._guards, self.endpoints = _open_guards(address, own)
        self._slots: list[list[socket.socket]] = []  # per slot, one socket per endpoint

    def grow(self, slots: int) -> None:
        while sockets.SPREADS and len(self._slots) < slots:
            opened: list[socket.socket] = []
            self._slots.append(opened)
            try:
                opened.extend(sockets.open_tcp(endpoint) for endpoint in self.endpoints)
            except OSError:
                self.shrink(len(self._slots) - 1)
                raise

    def shrink(self, slots: int) -> None:
        while len(self._slots) > slots:
            for sock in self._slots.pop():
                sock.close()

    def size(self) -> int:
        return len(self._slots)

    def sockets(self, slot: int, slots: int) -> list[socket.socket]:
        if not sockets.SPREADS:
            return self._guards
        return [sock for share in [self._slots[slot], *self._slots[slots:]] for sock in share]

    def all_sockets(self) -> list[socket.socket]:
        return self._guards if not sockets.SPREADS else [sock for share in self._slots for sock in share]

    def urls(self) -> list[str]:
        return [sockets.describe(guard) for guard in self._guards]

    def close(self) -> None:
        self.shrink(0)
        for guard in self._guards:
            guard.close()


class SharedBinding:
    """One socket that all slots share: an adopted descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def grow(self, slots: int) -> None:
        """Nothing to do: the slots share the socket."""

    def shrink(self, slots: int) -> None:
        """Nothing to do: the slots share the socket."""

    def size(self) -> int:
        return 0

    def sockets(self, slot: int, slots: int) -> list[socket.socket]:
        return [self._sock]

    def all_sockets(self) -> list[socket.socket]:
        return [self._sock]

    def urls(self) -> list[str]:
        return [sockets.describe(self._sock)]

    def close(self) -> None:
        self._sock.close()


class UnixBinding(SharedBinding):
    """A unix socket and the file that stands for it."""

    def __init__(self, path: str, access: Access, backlog: int) -> None:
        super().__init__(sockets.open_unix(path, access, backlog))
        self._path = path
        self._identity = sockets.unix_identity(path)
        self._access = access

    def is_reachable(self) -> bool:
        """Whether the file is still the one that was bound; somebody may have removed it."""
        return sockets.unix_identity(self._path) == self._identity

    def change_access(self, access: Access, undo: contextlib.ExitStack) -> None:
        """Give the file another owner and mode; `undo` gets what restores it.

        Raises OSError as the kernel says it.
        """
        if access == self._access:
            return
        found = os.lstat(self._path)
        before = Access(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        undo.callback(self._restore_access, self._access, before)
        sockets.change_access(self._path, access)
        self._access = access

    def _restore_access(self, asked: Access, found: Access) -> None:
        self._access = asked
        with contextlib.suppress(OSError):  # somebody removed the file meanwhile
            sockets.change_access(self._path, found)

    def close(self) -> None:
        if self.is_reachable():
            os.unlink(self._path)
        super().close()


def _open_guards(address: Address, own: list[Endpoint]) -> tuple[list[socket.socket], list[Endpoint]]:
    """Return guards and endpoints, with the real port, for a TCP address; `own` are endpoints of ours."""
    endpoints = sockets.resolve(address)
    for tries_left in reversed(range(PORT_TRIES)):
        try:
            return _open_guards_once(endpoints, own)
        except OSError as error:
            retry = not address.port and len(endpoints) > 1 and error.errno == errno.EADDRINUSE
            if not retry or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _open_guards_once(
    endpoints: tuple[Endpoint, ...], own: list[Endpoint]
) -> tuple[list[socket.socket], list[Endpoint]]:
    guards: list[socket.socket] = []
    bound: list[Endpoint] = []
    missing: OSError | None = None
    with contextlib.ExitStack() as undo:
        for wanted in endpoints:
            # Of a name with port 0, the first endpoint chooses and the others take the same port.
            port = wanted.port or (bound[0].port if bound else 0)
            endpoint = Endpoint(wanted.family, wanted.host, port, wanted.scope, wanted.dual)
            beside_own = any(sockets.overlap(endpoint, other) for other in own)
            try:
                guard = undo.enter_context(sockets.open_guard(endpoint, beside_own=beside_own))
            except OSError as error:
                if error.errno not in sockets.UNAVAILABLE:
                    raise
                missing = error  # "localhost" names ::1 even on a machine without IPv6
                continue
            guards.append(guard)
            port = guard.getsockname()[1]
            bound.append(Endpoint(wanted.family, wanted.host, port, wanted.scope, wanted.dual))
        if missing is not None and not guards:
            raise missing
        undo.pop_all()
    return guards, bound
