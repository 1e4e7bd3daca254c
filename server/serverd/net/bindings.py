"""The bound addresses of the supervisor, from generation to generation.

`prepare` opens what a new generation needs beside what is open, `commit` closes what only the older
one needed, `rollback` closes what `prepare` opened and nothing else. An address that stays keeps its
sockets, whatever its listener is called. It binds nothing itself (`sockets` does) and never accepts.
The supervisor calls it; a worker gets descriptors and makes them listen when it is ready to accept.

On Linux an address has one socket per worker slot, and the kernel spreads connections over those
that listen. A socket that has ever listened stays as long as its address: when a generation has
fewer slots, all its workers share the spare sockets, because closing one would reset the connections
in its queue.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from serverd.errors import BindError
from serverd.generation import Address, AddressKind, Generation, Listener
from serverd.net import sockets
from serverd.net.binding import Binding, SharedBinding, TcpBinding, UnixBinding
from serverd.net.sockets import Access

__all__ = ["Bindings", "Place"]

# What makes two addresses the same; the last number tells repeated "port 0" apart.
Key = tuple[AddressKind, str, int, str, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener is reached, for the operator."""

    listener: str
    url: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one generation listens on."""

    bound: dict[Key, tuple[Listener, Binding]]
    grants: tuple[tuple[tuple[str, socket.socket], ...], ...]  # per slot: listener and socket


_NOTHING = _Plan({}, ())


class Bindings:
    """Every socket the supervisor keeps open for its listeners."""

    def __init__(self) -> None:
        self._plans: dict[int, _Plan] = {}  # generation number: the committed one and the one prepared
        self._committed = _NOTHING
        self._prepared: _Plan | None = None
        self._undo = contextlib.ExitStack()

    def prepare(self, generation: Generation) -> None:
        """Open what `generation` needs beside what is open; what it shares with it stays untouched.

        Raises BindError that lists every address that cannot be bound, with nothing left open.
        """
        problems: list[str] = []
        bound: dict[Key, tuple[Listener, Binding]] = {}
        for key, listener, address in _addresses(generation):
            try:
                binding = self._provide(key, listener, address, bound)
                self._undo.callback(binding.shrink, binding.size())
                binding.grow(generation.server.workers)
            except (OSError, BindError) as error:
                place = f"{listener.source}: " if listener.source else ""
                problems.append(place + sockets.refusal(address, error))
            else:
                bound[key] = (listener, binding)
        if problems:
            self._undo.close()
            raise BindError("\n".join(problems))
        slots = generation.server.workers
        grants = tuple(tuple(_grants(bound, slot, slots)) for slot in range(slots))
        self._prepared = self._plans[generation.number] = _Plan(bound, grants)

    def commit(self) -> tuple[list[Place], list[Place]]:
        """Close what the prepared generation no longer needs; return the places that are new and those closed."""
        before, self._committed = self._committed, self._prepared or self._committed
        self._prepared = None
        self._undo.pop_all()
        self._plans = {number: plan for number, plan in self._plans.items() if plan is self._committed}
        kept = {id(binding) for _, binding in self._committed.bound.values()}
        known = {id(binding) for _, binding in before.bound.values()}
        opened = list(_places(self._committed, without=known))
        closed = list(_places(before, without=kept))
        for _, binding in before.bound.values():
            if id(binding) not in kept:
                binding.close()
        _set_backlogs(self._committed)
        return opened, closed

    def rollback(self) -> None:
        """Close what the last `prepare` opened, and nothing else."""
        self._prepared = None
        self._undo.close()
        self._plans = {number: plan for number, plan in self._plans.items() if plan is self._committed}
        _set_backlogs(self._committed)  # a worker of the failed generation may have set its own

    def grants(self, number: int, slot: int) -> list[tuple[str, int]]:
        """Return listener and descriptor of every socket that the worker of `slot` in generation `number` gets."""
        return [(listener, sock.fileno()) for listener, sock in self._plans[number].grants[slot]]

    def close(self) -> None:
        """Close every socket and remove the files of those that are unix sockets and still ours."""
        self.rollback()
        for _, binding in self._committed.bound.values():
            binding.close()
        self._committed = _NOTHING
        self._plans.clear()

    def _provide(
        self, key: Key, listener: Listener, address: Address, fresh: dict[Key, tuple[Listener, Binding]]
    ) -> Binding:
        """Return the binding of `address`: the one that is open, or a new one."""
        access = Access(listener.socket_mode, listener.socket_uid, listener.socket_gid)
        open_one = self._committed.bound.get(key)
        if open_one is not None:
            binding = open_one[1]
            if not isinstance(binding, UnixBinding):
                return binding
            if binding.is_reachable():
                binding.change_access(access, self._undo)
                return binding
        binding = self._open(listener, address, access, fresh)
        self._undo.callback(binding.close)
        return binding

    def _open(
        self, listener: Listener, address: Address, access: Access, fresh: dict[Key, tuple[Listener, Binding]]
    ) -> Binding:
        if address.kind is AddressKind.UNIX:
            return UnixBinding(address.path, access, listener.backlog)
        bindings = [binding for _, binding in [*self._committed.bound.values(), *fresh.values()]]
        if address.kind is AddressKind.FD:
            if any(sock.fileno() == address.fd for binding in bindings for sock in binding.all_sockets()):
                raise BindError("no such descriptor was inherited")
            return SharedBinding(sockets.adopt(address.fd))
        own = [one for binding in bindings if isinstance(binding, TcpBinding) for one in binding.endpoints]
        return TcpBinding(address, own)


def _addresses(generation: Generation) -> Iterator[tuple[Key, Listener, Address]]:
    seen: dict[Key, int] = {}
    for listener in generation.listeners:
        for address in listener.addresses:
            key = (address.kind, address.host, address.port, address.path, address.fd, 0)
            seen[key] = seen.get(key, -1) + 1
            yield (*key[:5], seen[key]), listener, address


def _grants(bound: dict[Key, tuple[Listener, Binding]], slot: int, slots: int) -> Iterator[tuple[str, socket.socket]]:
    for listener, binding in bound.values():
        for sock in binding.sockets(slot, slots):
            yield listener.name, sock


def _places(plan: _Plan, without: set[int]) -> Iterator[Place]:
    for listener, binding in plan.bound.values():
        if id(binding) not in without:
            for url in binding.urls():
                yield Place(listener.name, url)


def _set_backlogs(plan: _Plan) -> None:
    """Give sockets that listen the backlog of their listener; those of adopted descriptors keep their own."""
    for (kind, *_), (listener, binding) in plan.bound.items():
        if kind is not AddressKind.FD:
            for sock in filter(sockets.is_listening, binding.all_sockets()):
                sock.listen(listener.backlog)
