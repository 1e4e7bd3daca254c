"""What one generation listens on: which address has which binding, and for whom.

It opens and closes nothing; `bindings` does, and `handover` writes a plan down.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from serverd.generation import Address, AddressKind, Generation, Listener
from serverd.net import sockets
from serverd.net.binding import Binding
from serverd.net.queues import Queue, waiting

__all__ = ["Bound", "Key", "Place", "Plan", "addresses"]


class Key(NamedTuple):
    """What makes two addresses the same, however the operator wrote them."""

    kind: AddressKind
    host: str
    port: int
    path: str
    fd: int
    name: str
    repeat: int  # tells equal addresses apart, such as two with port 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener is reached, for the operator."""

    listener: str
    url: str


@dataclass(slots=True)
class Bound:
    """The binding of one address, and of the listener what the binding's sockets need."""

    listener: str
    backlog: int
    source: str  # where the listener stands, for messages
    address: Address
    binding: Binding
    speaks_tls: bool = False
    slots: int = 0  # how many of the binding's slots are of this plan; a plan in preparation may have added more


@dataclass(frozen=True, slots=True)
class Plan:
    """What one generation listens on."""

    bound: dict[Key, Bound]

    def grants(self) -> list[tuple[str, int, socket.socket]]:
        """Return listener, slot and socket of all there is to accept on; slot EVERY_SLOT: it is for every worker."""
        return [
            (one.listener, slot, sock) for one in self.bound.values() for slot, sock in one.binding.sockets(one.slots)
        ]

    def slots(self) -> int:
        """Return the largest number of slots that an address has sockets for."""
        return max((one.slots for one in self.bound.values()), default=0)

    def bindings(self) -> list[Binding]:
        """Return every binding."""
        return [one.binding for one in self.bound.values()]

    def places_beside(self, other: Plan) -> list[Place]:
        """Return where this plan is reached and `other` is not."""
        known = set(map(id, other.bindings()))
        return [
            Place(one.listener, url.replace("http://", "https://", 1) if one.speaks_tls else url)
            for one in self.bound.values()
            if id(one.binding) not in known
            for url in one.binding.urls()
        ]

    def queues(self) -> list[Queue]:
        """Return the accept queues of every address, as far as the kernel tells."""
        found = []
        for one in self.bound.values():
            lengths = [waiting(sock) for sock in filter(sockets.is_listening, one.binding.all_sockets())]
            known = [length for length in lengths if length is not None]
            if known:
                found.append(Queue(one.listener, one.address.text, sum(known), one.backlog))
        return found

    def settle(self) -> None:
        """Count every socket there is as this plan's: no other plan is in preparation."""
        for one in self.bound.values():
            one.slots = one.binding.size()

    def trim(self) -> None:
        """Close the sockets that are not this plan's."""
        for one in self.bound.values():
            one.binding.shrink(one.slots)

    def set_backlogs(self) -> None:
        """Give sockets that listen the backlog of their listener; those of adopted descriptors keep their own."""
        for key, one in self.bound.items():
            if key.kind in {AddressKind.TCP, AddressKind.UNIX}:
                for sock in filter(sockets.is_listening, one.binding.all_sockets()):
                    sock.listen(one.backlog)


def addresses(generation: Generation) -> Iterator[tuple[Key, Listener, Address]]:
    """Yield every address of the generation's listeners, with what it is known by."""
    seen: dict[tuple[object, ...], int] = {}
    for listener in generation.listeners:
        for address in listener.addresses:
            same = (address.kind, address.host, address.port, address.path, address.fd, address.name)
            seen[same] = seen.get(same, -1) + 1
            yield Key(*same, seen[same]), listener, address
