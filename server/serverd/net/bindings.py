"""The bound addresses of the supervisor, from generation to generation.

`prepare` opens what a new generation needs beside what is open, `commit` closes what only the older
one needed, `rollback` closes what `prepare` opened and nothing else. An address that stays keeps its
sockets, whatever its listener is called. It binds nothing itself (`sockets` does) and never accepts.
The supervisor calls it; a worker gets descriptors and makes them listen when it accepts on them.

On Linux an address has one socket per worker slot, and the kernel spreads connections over those
that listen. A socket that has ever listened stays as long as its address, because closing it would
reset the connections in its queue: when there are fewer slots, somebody has to accept on the spare ones.

`prepare` resolves host names and waits for DNS; the supervisor does nothing else meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence

from serverd.errors import BindError
from serverd.generation import Address, AddressKind, Generation, Listener
from serverd.net import handover, sockets
from serverd.net.binding import Binding, SharedBinding, TcpBinding, UnixBinding
from serverd.net.endpoints import Access
from serverd.net.inheritance import Inheritance
from serverd.net.plan import Bound, Key, Place, Plan, addresses
from serverd.net.queues import Queue

__all__ = ["Bindings", "Place", "Queue"]


class Bindings:
    """Every socket the supervisor keeps open for its listeners."""

    def __init__(self) -> None:
        """Take what systemd passed to this process, once: its words in the environment are removed."""
        self._inheritance = Inheritance.from_environment(os.environ)
        self._plans: dict[int, Plan] = {}  # generation number: the committed one and the one prepared
        self._committed = Plan({})
        self._prepared: Plan | None = None
        self._undo = contextlib.ExitStack()
        self._are_files_ours = True  # not while another supervisor serves the sockets that we have taken over

    def take_over(self, text: str, descriptors: Sequence[int]) -> None:
        """Continue with what another supervisor's `hand_over` described; comes before the first `prepare`.

        The first commit closes what its generation does not use; until then nothing that the other one relies
        on changes, except that `prepare` gives unix sockets their new mode and owner. The descriptors are ours
        from here on. Raises BindError, with all of them closed, when the text cannot be understood.
        """
        self._committed, self._inheritance = handover.read(text, descriptors)
        self._are_files_ours = False

    def hand_over(self) -> tuple[str, list[int]]:
        """Return what is committed as text for another supervisor, and the descriptors in the text's order.

        They stay ours, and those that were inherited have to arrive under the same numbers.
        """
        return handover.write(self._committed, self._inheritance)

    def prepare(self, generation: Generation, slots: int) -> None:
        """Open what `generation` needs for `slots` slots beside what is open; what it shares stays untouched.

        Raises BindError that lists every address that cannot be bound, with nothing left open.
        """
        problems: list[str] = []
        plan = Plan({})
        for key, listener, address in addresses(generation):
            try:
                binding = self._provide(key, listener, address, plan)
                binding.grow(slots)
            except (OSError, BindError) as error:
                problems.append(_problem(listener.source, sockets.refusal(address, error)))
            else:
                speaks_tls = listener.tls is not None
                plan.bound[key] = Bound(
                    listener.name, listener.backlog, listener.source, address, binding, speaks_tls=speaks_tls
                )
        if problems:
            self._undo_preparation()
            raise BindError("\n".join(problems))
        plan.settle()
        self._prepared = self._plans[generation.number] = plan

    def commit(self) -> tuple[list[Place], list[Place]]:
        """Close what the prepared generation no longer needs; return the places that are new and those closed."""
        before, self._committed = self._committed, self._prepared or self._committed
        self._prepared = None
        self._undo.pop_all()
        self._plans = {number: plan for number, plan in self._plans.items() if plan is self._committed}
        self._are_files_ours = True
        opened, closed = self._committed.places_beside(before), before.places_beside(self._committed)
        kept = set(map(id, self._committed.bindings()))
        for binding in before.bindings():
            if id(binding) not in kept:
                binding.close()
        self._committed.settle()
        self._committed.set_backlogs()
        return opened, closed

    def rollback(self) -> None:
        """Close what the last `prepare` opened, and nothing else."""
        self._prepared = None
        self._undo_preparation()
        self._plans = {number: plan for number, plan in self._plans.items() if plan is self._committed}
        self._committed.set_backlogs()  # a worker of the failed generation may have set its own

    def grow(self, slots: int) -> None:
        """Open sockets of the committed generation for `slots` slots; those of more slots stay.

        Raises BindError that lists every address that refuses, with nothing left open.
        """
        before = [(one, one.binding.size()) for one in self._committed.bound.values()]
        problems: list[str] = []
        for one, _ in before:
            try:
                one.binding.grow(slots)
            except OSError as error:
                problems.append(_problem(one.source, sockets.refusal(one.address, error)))
        if problems:
            for one, size in before:
                one.binding.shrink(size)
            raise BindError("\n".join(problems))
        for one, _ in before:
            one.slots = max(one.slots, min(slots, one.binding.size()))

    def grants(self, number: int) -> list[tuple[str, int, socket.socket]]:
        """Return listener, slot and socket of everything that generation `number` accepts on.

        All slots are there, also those that are no longer used; the slot is EVERY_SLOT for a socket that the
        workers share.
        """
        return self._plans[number].grants()

    def slots(self) -> int:
        """Return the largest number of slots that a committed address has sockets for."""
        return self._committed.slots()

    def places(self) -> list[Place]:
        """Return where the committed generation is reached."""
        return self._committed.places_beside(Plan({}))

    def queues(self) -> list[Queue]:
        """Return the accept queues of the committed generation, as far as the kernel tells."""
        return self._committed.queues()

    def close(self, keep_files: bool = False) -> None:
        """Close every socket and remove the files of those that are unix sockets and still ours.

        `keep_files`: another supervisor serves them, and the files stay.
        """
        self.rollback()
        for binding in self._committed.bindings():
            binding.close(keep_files or not self._are_files_ours)
        self._committed = Plan({})
        self._plans.clear()

    def _undo_preparation(self) -> None:
        self._undo.close()
        self._committed.trim()

    def _provide(self, key: Key, listener: Listener, address: Address, fresh: Plan) -> Binding:
        """Return the binding of `address`: the one that is open, or a new one."""
        access = Access(listener.socket_mode, listener.socket_uid, listener.socket_gid)
        open_one = self._committed.bound.get(key)
        if open_one is not None:
            binding = open_one.binding
            if not isinstance(binding, UnixBinding):
                return binding
            if binding.is_reachable():
                binding.change_access(access, self._undo)
                return binding
        binding = self._open(listener, address, access, fresh)
        self._undo.callback(binding.close)
        return binding

    def _open(self, listener: Listener, address: Address, access: Access, fresh: Plan) -> Binding:
        match address.kind:
            case AddressKind.UNIX:
                return UnixBinding.open(address.path, access, listener.backlog)
            case AddressKind.FD:
                return _share([self._inheritance.adopt(address.fd)], fresh)
            case AddressKind.SYSTEMD:
                return _share(self._inheritance.adopt_named(address.name), fresh)
            case AddressKind.TCP:
                bindings = [*self._committed.bindings(), *fresh.bindings()]
                own = [one for binding in bindings if isinstance(binding, TcpBinding) for one in binding.endpoints]
                return TcpBinding.open(address, own)


def _share(adopted: list[socket.socket], fresh: Plan) -> SharedBinding:
    """Return the binding of adopted sockets; the same one must not stand for two addresses of a generation."""
    binding = SharedBinding(adopted)
    taken = {_inode(sock) for other in fresh.bindings() for sock in other.all_sockets()}
    if not taken.isdisjoint(map(_inode, adopted)):
        binding.close()
        raise BindError("another address of the configuration names the same socket")
    return binding


def _inode(sock: socket.socket) -> int:
    """Return what tells sockets from one another, whatever their descriptors."""
    return os.fstat(sock.fileno()).st_ino


def _problem(source: str, text: str) -> str:
    """Return a line of the operator's report; `source` is where the listener stands."""
    return f"{source}: {text}" if source else text
