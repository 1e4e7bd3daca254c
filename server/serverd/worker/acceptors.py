"""The listening sockets of a worker: which ones it accepts on, and leaving one without losing a connection.

A worker holds the sockets of all slots. It accepts on those of its own slot, on those that every worker shares
and on those of the slots it covers; the rest it holds so that it can cover them at once. A socket is known by its
inode, which stays when it is handed over again. When descriptors run out it accepts on none (`room`). `serving` owns
the acceptors; connections become the `Service`'s.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serverd.connection.handshake import Handshake
from serverd.connection.http1 import Http1Connection
from serverd.connection.negotiation import Negotiation
from serverd.connection.service import Service
from serverd.messages import EVERY_SLOT, SocketGrant
from serverd.observe.counters import ACCEPTED
from serverd.worker.room import Room

__all__ = ["Acceptors"]

_QUEUE_TIMEOUT = 1.0  # s to empty the queues of the listening sockets: what is left then fills as fast as we accept
_ACCEPT_BATCH = 64  # connections that asyncio accepts, or fails to, and logs, in one turn of the loop
_CONNECT_TURNS = 3  # of the loop, at most, from the accepting of a connection to its `connection_made`


@dataclass(slots=True, eq=False)
class _Acceptor:
    """A listening socket, and the server that accepts on it while we are to."""

    fd: int
    slot: int
    service: Service  # whose connections they become; another one when the socket changes its listener
    room: Room
    server: asyncio.Server | None = None
    _batch: int = 0  # connections that `server` accepts in one turn of the loop

    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept, and make the socket listen if it never has; raises OSError."""
        # A duplicate, because a server closes its socket and this one stays with us.
        sock = socket.socket(fileno=os.dup(self.fd))
        sock.setblocking(False)
        self._batch = batch = self._batch_of_service()
        if sock.family != socket.AF_UNIX:
            self.server = await loop.create_server(self._make_connection, sock=sock, backlog=batch)
        else:
            # The path belongs to the supervisor: a worker that ends must not take it from the others.
            options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            self.server = await loop.create_unix_server(self._make_connection, sock=sock, backlog=batch, **options)
        self.listen()

    def listen(self) -> None:
        """Set the length of the queue, which may be longer than what is accepted at once."""
        with socket.socket(fileno=os.dup(self.fd)) as listening:
            listening.listen(self.service.backlog)

    @property
    def is_outdated(self) -> bool:
        """Whether it has to be opened again, because other limits ask for another batch."""
        return self.server is not None and self._batch != self._batch_of_service()

    def _batch_of_service(self) -> int:
        limits = self.service.limits
        # Where no more than so many may be open, the last one must be seen before the next is accepted.
        return 1 if limits.connections and limits.connections_beyond == "wait" else self.room.batch(_ACCEPT_BATCH)

    @property
    def descriptors(self) -> list[int]:
        """What the event loop watches."""
        return [] if self.server is None else [sock.fileno() for sock in self.server.sockets]

    def _make_connection(self) -> Http1Connection | Handshake | Negotiation:
        service = self.service
        service.counts[ACCEPTED] += 1
        self.room.take()
        if service.demands_proxy:
            return Negotiation(service)
        return Http1Connection(service) if service.identity is None else Handshake(service, service.identity)


class Acceptors:
    """The listening sockets of one worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slot: int,
        connections: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        """Hold none; `on_change` is called when it is time to `settle`, because descriptors run out or do no more.

        `connections` returns how many the worker has open.
        """
        self._loop = loop
        self._slot = slot
        self._room = Room(loop.time, connections, on_change)
        self._covered: frozenset[int] = frozenset()
        self._held: dict[int, _Acceptor] = {}  # by inode
        self._changing = asyncio.Lock()  # only one thing at a time is done to the sockets

    def descriptors(self) -> list[int]:
        """Return every descriptor of a listening socket, watched or only held."""
        held = self._held.values()
        return [fd for acceptor in held for fd in (acceptor.fd, *acceptor.descriptors)]

    async def hold(self, grants: Iterable[SocketGrant], fds: Sequence[int], services: Mapping[str, Service]) -> None:
        """Hold these sockets and no other; what waits in the queue of one that goes is accepted first.

        Owns `fds` from now on. Raises OSError when a socket cannot be accepted on; a later call tries again.
        """
        async with self._changing:
            await self._hold(grants, fds, services)

    async def _hold(self, grants: Iterable[SocketGrant], fds: Sequence[int], services: Mapping[str, Service]) -> None:
        before, self._held = self._held, {}
        for grant, fd in zip(grants, fds, strict=True):
            inode = os.fstat(fd).st_ino
            known = self._held.get(inode) or before.pop(inode, None)
            if known is None:
                known = _Acceptor(fd, grant.slot, services[grant.listener], self._room)
            else:
                os.close(fd)
            known.slot, known.service = grant.slot, services[grant.listener]
            self._held[inode] = known
        gone = list(before.values())
        await self._accept_queued(gone)
        await self._stop(gone)
        for acceptor in gone:
            os.close(acceptor.fd)
        await self._stop([acceptor for acceptor in self._held.values() if acceptor.is_outdated])
        for acceptor in self._held.values():
            if acceptor.server is not None:
                acceptor.listen()
        await self._settle()

    async def cover(self, slots: Iterable[int]) -> None:
        """Accept also on the sockets of these slots, and of no others; raises OSError as `hold` does.

        The queue of a slot that needs no cover any more is left as it is: its own worker is back.
        """
        self._covered = frozenset(slots)
        await self.settle()

    def look(self) -> None:
        """See how many descriptors are left; due once a second."""
        self._room.look()

    async def settle(self) -> None:
        """Begin and cease to accept as slot, cover, crowd and room have it; raises OSError as `hold` does."""
        async with self._changing:
            await self._settle()

    async def close(self) -> None:
        """Accept what is queued, because closing would reset it, then close the listening sockets."""
        async with self._changing:
            held = list(self._held.values())
            await self._accept_queued(held)
            await self._stop(held)
            for acceptor in held:
                os.close(acceptor.fd)
            self._held.clear()

    async def _settle(self) -> None:
        slots = {self._slot, EVERY_SLOT, *self._covered}
        mine = (one for one in self._held.values() if one.slot in slots and not one.service.is_crowded)
        wanted = [] if self._room.is_out else list(mine)
        await self._stop([acceptor for acceptor in self._held.values() if acceptor not in wanted])
        failures = []
        for acceptor in wanted:
            if acceptor.server is None:
                try:
                    await acceptor.open(self._loop)
                except OSError as error:
                    failures.append(error)  # one must not keep the others from being served
        if failures:
            raise failures[0]

    async def _accept_queued(self, acceptors: Iterable[_Acceptor]) -> None:
        queues = select.poll()
        for acceptor in acceptors:
            for fd in acceptor.descriptors:
                queues.register(fd, select.POLLIN)
        end = self._loop.time() + _QUEUE_TIMEOUT
        while queues.poll(0) and self._loop.time() < end and not self._room.is_out:
            await _turn()  # uvloop accepts one connection of each queue in it

    async def _stop(self, acceptors: Iterable[_Acceptor]) -> None:
        """Cease to accept; what has been accepted becomes a connection."""
        active = [acceptor for acceptor in acceptors if acceptor.server is not None]
        if not active:
            return
        # asyncio drops without a word what it has accepted and made no transport for when its server is closed.
        for acceptor in active:
            for fd in acceptor.descriptors:
                self._loop.remove_reader(fd)
        await _turn(_CONNECT_TURNS)
        for acceptor in active:
            assert acceptor.server is not None  # it is one of the active
            acceptor.server.close()
            acceptor.server = None
        await _turn(_CONNECT_TURNS)  # uvloop, which loses nothing, has gone on accepting


async def _turn(times: int = 1) -> None:
    """Let the event loop turn."""
    for _ in range(times):
        await asyncio.sleep(0)
