"""One bound address: the sockets it has and which worker slots they are for.

It knows nothing of listeners and generations (`bindings` does) and binds nothing itself (`sockets`
does). Each kind writes itself down for another supervisor, and is made again from that (`handover`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, Protocol

from serverd.errors import BindError
from serverd.generation import Address
from serverd.net import sockets
from serverd.net.endpoints import Access, Endpoint, overlap
from serverd.net.socket_files import Identity, change_access, unix_identity

__all__ = ["EVERY_SLOT", "Binding", "SharedBinding", "TcpBinding", "UnixBinding"]

# In the place of a slot: a socket that exists once, for every worker. The same number as in `messages`.
EVERY_SLOT = -1

# How often port 0 is tried anew when the port the kernel chose for the first endpoint of a name is
# taken for another; each try fails with the share of ports in use, so that eight suffice.
PORT_TRIES = 8

Record = dict[str, Any]  # what a binding is, as JSON has it
Give = Callable[[socket.socket], int]  # adds a socket to what is handed over, returns its place there
Take = Callable[[int], socket.socket]  # the other way round


class Binding(Protocol):
    """What `bindings` asks of a bound address of any kind."""

    def grow(self, slots: int) -> None:
        """Open sockets until there is one for each of `slots` slots; raises OSError."""

    def shrink(self, slots: int) -> None:
        """Close the sockets beyond `slots` slots."""

    def size(self) -> int:
        """Return for how many slots there are sockets; 0 when the slots share what there is."""

    def sockets(self, slots: int) -> list[tuple[int, socket.socket]]:
        """Return slot and socket of what the workers of the first `slots` slots accept on."""

    def all_sockets(self) -> list[socket.socket]:
        """Return every socket that workers accept on."""

    def urls(self) -> list[str]:
        """Return where the address is reached."""

    def record(self, give: Give) -> Record:
        """Return what makes this binding again, in another process."""

    def close(self, keep_files: bool = False) -> None:
        """Close every socket, and remove the file of one that has its own unless somebody else serves it."""


class TcpBinding:
    """The endpoints of a TCP address: for each a guard, and a socket per slot."""

    def __init__(
        self, guards: list[socket.socket], endpoints: list[Endpoint], slots: list[list[socket.socket]] | None = None
    ) -> None:
        self._guards = guards
        self.endpoints = endpoints  # with the real port
        self._slots = slots or []  # per slot, one socket per endpoint

    @classmethod
    def open(cls, address: Address, own: list[Endpoint]) -> TcpBinding:
        """Bind the guards of an address, beside `own`, the endpoints that are ours.

        Raises OSError or BindError.
        """
        return cls(*_open_guards(address, own))

    @classmethod
    def restore(cls, record: Record, take: Take) -> TcpBinding:
        """Return the binding of a record."""
        endpoints = [Endpoint(socket.AddressFamily(family), *rest) for family, *rest in record["endpoints"]]
        return cls(list(map(take, record["guards"])), endpoints, [list(map(take, share)) for share in record["slots"]])

    def record(self, give: Give) -> Record:
        endpoints = [[int(one.family), one.host, one.port, one.scope, one.dual] for one in self.endpoints]
        slots = [list(map(give, share)) for share in self._slots]
        return {"endpoints": endpoints, "guards": list(map(give, self._guards)), "slots": slots}

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

    def sockets(self, slots: int) -> list[tuple[int, socket.socket]]:
        if not sockets.SPREADS:
            return [(EVERY_SLOT, guard) for guard in self._guards]
        return [(slot, sock) for slot, share in enumerate(self._slots[:slots]) for sock in share]

    def all_sockets(self) -> list[socket.socket]:
        return [sock for _, sock in self.sockets(self.size())]

    def urls(self) -> list[str]:
        return [sockets.describe(guard) for guard in self._guards]

    def close(self, keep_files: bool = False) -> None:
        self.shrink(0)
        for guard in self._guards:
            guard.close()


class SharedBinding:
    """Sockets that all slots share: adopted descriptors."""

    def __init__(self, shared: list[socket.socket]) -> None:
        self._sockets = shared

    @classmethod
    def restore(cls, record: Record, take: Take) -> SharedBinding:
        """Return the binding of a record."""
        return cls(list(map(take, record["sockets"])))

    def record(self, give: Give) -> Record:
        return {"sockets": list(map(give, self._sockets))}

    def grow(self, slots: int) -> None:
        """Nothing to do: the slots share the sockets."""

    def shrink(self, slots: int) -> None:
        """Nothing to do: the slots share the sockets."""

    def size(self) -> int:
        return 0

    def sockets(self, slots: int) -> list[tuple[int, socket.socket]]:
        return [(EVERY_SLOT, sock) for sock in self._sockets]

    def all_sockets(self) -> list[socket.socket]:
        return self._sockets

    def urls(self) -> list[str]:
        return [sockets.describe(sock) for sock in self._sockets]

    def close(self, keep_files: bool = False) -> None:
        for sock in self._sockets:
            sock.close()


class UnixBinding(SharedBinding):
    """A unix socket and the file that stands for it."""

    def __init__(self, sock: socket.socket, path: str, identity: Identity | None, access: Access) -> None:
        super().__init__([sock])
        self._path = path
        self._identity = identity
        self._access = access

    @classmethod
    def open(cls, path: str, access: Access, backlog: int) -> UnixBinding:
        """Bind a socket at `path`.

        Raises OSError or BindError.
        """
        sock, identity = sockets.open_unix(path, access, backlog)
        return cls(sock, path, identity, access)

    @classmethod
    def restore(cls, record: Record, take: Take) -> UnixBinding:
        """Return the binding of a record."""
        identity = record["identity"] and tuple(record["identity"])
        return cls(take(record["socket"]), record["path"], identity, Access(*record["access"]))

    def record(self, give: Give) -> Record:
        access = [self._access.mode, self._access.uid, self._access.gid]
        return {"socket": give(self._sockets[0]), "path": self._path, "identity": self._identity, "access": access}

    def is_reachable(self) -> bool:
        """Whether the file is still the one that was bound; somebody may have removed it."""
        return unix_identity(self._path) == self._identity

    def change_access(self, access: Access, undo: contextlib.ExitStack) -> None:
        """Give the file another owner and mode; `undo` gets what restores it.

        Raises OSError as the kernel says it, or BindError when another file has taken its place.
        """
        if access == self._access:
            return
        found = os.lstat(self._path)
        before = Access(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        undo.callback(self._restore_access, self._access, before)
        change_access(self._path, access, self._identity)
        self._access = access

    def _restore_access(self, asked: Access, found: Access) -> None:
        self._access = asked
        with contextlib.suppress(OSError, BindError):  # somebody removed or replaced the file meanwhile
            change_access(self._path, found, self._identity)

    def close(self, keep_files: bool = False) -> None:
        if not keep_files and self._identity is not None and self.is_reachable():
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
            beside_own = any(overlap(endpoint, other) for other in own)
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
