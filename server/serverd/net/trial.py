"""Whether the addresses of a generation could be bound, without keeping one, and without disturbing who serves there.

What can be bound and let go is bound as for a start (`bindings`); of unix sockets it is only looked at what is in the
way, because binding would replace a file. The rehearsal of a start calls it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from serverd.errors import BindError
from serverd.generation import Address, AddressKind, Generation, Listener
from serverd.net import sockets
from serverd.net.bindings import Bindings
from serverd.net.endpoints import EVERYWHERE_6, Endpoint, overlap
from serverd.net.plan import addresses

__all__ = ["Trial"]

_INHERITED = (AddressKind.FD, AddressKind.SYSTEMD)


class Trial:
    """What became of each address: `problems` as a start would report them, and `notes` on what could not be tried."""

    def __init__(self, generation: Generation, held: Iterable[str] = (), holder: str = "") -> None:
        """Try all addresses; `held` are the URLs of a server that serves this configuration, `holder` names it."""
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._bindings = Bindings()
        urls = list(held)
        paths = {url.removeprefix("unix:") for url in urls if url.startswith("unix:")}
        endpoints = list(_endpoints(urls))
        free: list[tuple[Listener, Address]] = []
        for _, listener, address in addresses(generation):
            if address.kind in _INHERITED:
                self._try_inherited(generation, listener, address)
            elif _is_held(address, endpoints, paths):
                self._note(listener, f"{address.text} is in use by {holder}, and was not tried")
            elif address.kind is AddressKind.UNIX:
                self._look_at(listener, address)
            else:
                free.append((listener, address))
        self._try(generation, free)

    def _try(self, generation: Generation, chosen: Iterable[tuple[Listener, Address]]) -> None:
        """Bind addresses as a start does, all of them, and let them go."""
        listeners = tuple(replace(listener, addresses=(address,)) for listener, address in chosen)
        try:
            self._bindings.prepare(replace(generation, listeners=listeners), 1)
        except BindError as error:
            self.problems += str(error).split("\n")
        finally:
            self._bindings.rollback()

    def _try_inherited(self, generation: Generation, listener: Listener, address: Address) -> None:
        before = len(self.problems)
        self._try(generation, [(listener, address)])
        if self.problems[before:]:  # of course: it is not we who get them
            del self.problems[before:]
            self._note(listener, f"{address.text} comes from whoever starts the server, and was not tried")

    def _look_at(self, listener: Listener, address: Address) -> None:
        try:
            sockets.examine_unix(address.path)
        except (OSError, BindError) as error:
            self.problems.append(f"{listener.source}: {sockets.refusal(address, error)}")

    def _note(self, listener: Listener, text: str) -> None:
        self.notes.append(f"{listener.source}: listeners.{listener.name}: {text}")


def _endpoints(urls: Iterable[str]) -> Iterator[Endpoint]:
    for url in urls:
        parts = urlsplit(url)
        if parts.hostname and parts.port:
            family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
            yield Endpoint(family, parts.hostname, parts.port, dual=parts.hostname == EVERYWHERE_6)


def _is_held(address: Address, endpoints: Iterable[Endpoint], paths: Iterable[str]) -> bool:
    """Return whether the address, or a part of it, is one of these; one that does not resolve is not."""
    if address.kind is AddressKind.UNIX:
        return address.path in paths
    try:
        wanted = sockets.resolve(address)
    except BindError:
        return False
    return any(overlap(one, other) for one in wanted for other in endpoints)
