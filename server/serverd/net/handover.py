"""Every socket of a supervisor, written down for the one that takes its place (USR2).

The text is JSON, without a descriptor in it: it names each by its place in the list that goes with it, so
that both may travel in any way. The other supervisor may be of another version of serverd, which refuses a
text that it does not understand before anything has changed. `bindings` calls it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from serverd.errors import BindError
from serverd.generation import Address, AddressKind
from serverd.net.binding import Binding, Record, SharedBinding, Take, TcpBinding, UnixBinding
from serverd.net.inheritance import Inheritance
from serverd.net.plan import Bound, Key, Plan

__all__ = ["read", "write"]

# Of the text; another number means that it cannot be understood without knowing it.
VERSION = 1

_RESTORE: dict[AddressKind, Callable[[Record, Take], Binding]] = {
    AddressKind.TCP: TcpBinding.restore,
    AddressKind.UNIX: UnixBinding.restore,
    AddressKind.FD: SharedBinding.restore,
    AddressKind.SYSTEMD: SharedBinding.restore,
}


def write(plan: Plan, inheritance: Inheritance) -> tuple[str, list[int]]:
    """Return the text and the descriptors it refers to; they stay the caller's."""
    descriptors: list[int] = []

    def place(fd: int) -> int:
        descriptors.append(fd)
        return len(descriptors) - 1

    bound = [
        {
            "key": [key.kind.value, *key[1:]],
            "listener": one.listener,
            "backlog": one.backlog,
            "address": one.address.text,
            "binding": one.binding.record(lambda sock: place(sock.fileno())),
        }
        for key, one in plan.bound.items()
    ]
    # The numbers of these are the operator's words: they have to arrive under them.
    inherited = [[place(fd), name] for fd, name in inheritance]
    return json.dumps({"version": VERSION, "bound": bound, "inherited": inherited}), descriptors


def read(text: str, descriptors: Sequence[int]) -> tuple[Plan, Inheritance]:
    """Return what the text describes; the descriptors are ours from here on.

    Raises BindError, with every descriptor closed, when it is of another version or damaged.
    """
    left = set(descriptors)
    plan = Plan({})
    with contextlib.ExitStack() as undo:
        undo.callback(_close, left)

        def take(place: int) -> socket.socket:
            sock = undo.enter_context(socket.socket(fileno=descriptors[place]))
            left.remove(descriptors[place])
            sock.set_inheritable(False)
            sock.setblocking(False)
            return sock

        try:
            document = json.loads(text)
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']}")
            for record in document["bound"]:
                key, one = _read_bound(record, take)
                plan.bound[key] = one
            inheritance = Inheritance((descriptors[place], name) for place, name in document["inherited"])
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            raise BindError(
                f"the sockets of the running server cannot be taken over ({error!r}), restart it"
            ) from error
        undo.pop_all()
    plan.settle()
    return plan, inheritance


def _close(descriptors: set[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _read_bound(record: dict[str, Any], take: Take) -> tuple[Key, Bound]:
    kind, *rest = record["key"]
    key = Key(AddressKind(kind), *rest)
    binding = _RESTORE[key.kind](record["binding"], take)
    address = Address(key.kind, record["address"], key.host, key.port, key.path, key.fd, key.name)
    return key, Bound(record["listener"], record["backlog"], "", address, binding)
