"""Which addresses of a configuration a URL leads to, also where the configuration does not say the port.

A port that is chosen at the start, and where an inherited socket is, a running server tells on its control socket.
Without one, the only address that the URL could mean is taken for it, and that is said. `explain` asks it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from serverd.cli.question import Question
from serverd.control.running import find_running
from serverd.errors import OperatorError
from serverd.generation import Address, AddressKind, Generation, Listener

__all__ = ["Reached", "reached", "settled"]


@dataclass(frozen=True, slots=True)
class Reached:
    """An address that the URL leads to."""

    listener: Listener
    address: Address
    is_assumed: bool = False  # its port is chosen at the start, and taken to be that of the URL


def settled(generation: Generation) -> Generation:
    """Return the generation with the ports that a server which runs with it has chosen, if there is one."""
    if not any(is_unsettled(address) for one in generation.listeners for address in one.addresses):
        return generation
    running = find_running(generation.source, generation.control_socket)
    if running is None:
        return generation
    listeners = []
    for one in generation.listeners:
        urls = [url for name, url in running.places if name == one.name]
        listeners.append(replace(one, addresses=tuple(_settle(one.addresses, urls))))
    return replace(generation, listeners=tuple(listeners))


def is_unsettled(address: Address) -> bool:
    """Return whether the configuration does not say at which port the address is."""
    return not address.port if address.kind is AddressKind.TCP else address.kind is not AddressKind.UNIX


def _settle(addresses: Sequence[Address], urls: Sequence[str]) -> Iterator[Address]:
    """Yield the addresses with what `urls`, those of their listener, say of the unsettled ones; each place once."""
    parts = [urlsplit(url) for url in urls if "://" in url]
    places = [(part.hostname or "", part.port) for part in parts if part.port]
    left = [place for place in places if not any(_is_at(place, address) for address in addresses if address.port)]
    seen: set[tuple[str, int]] = set()
    for address in addresses:
        here = [place for place in left if _is_at(place, address)] if is_unsettled(address) else []
        if not here:
            yield address
        for host, port in here:
            at = address.host if address.kind is AddressKind.TCP else host
            if (at, port) not in seen:
                seen.add((at, port))
                text = f"{f'[{at}]' if ':' in at else at}:{port}"
                yield Address(AddressKind.TCP, text, host=at, port=port)


def _is_at(place: tuple[str, int], address: Address) -> bool:
    """Return whether a socket at this host and port may be the address's."""
    host, port = place
    if address.kind is not AddressKind.TCP:
        return address.kind is not AddressKind.UNIX
    if address.port not in (0, port):
        return False
    try:
        own = ipaddress.ip_address(address.host or "::")
        return own == ipaddress.ip_address(host) or (own.is_unspecified and ipaddress.ip_address(host).is_unspecified)
    except ValueError:
        return True  # a name, which is not looked up


def reached(generation: Generation, question: Question, listener: str | None) -> list[Reached]:
    """Return the addresses that the question leads to; of the listener of this name, the first one.

    Raises OperatorError when there is no such listener, or when the URL may lead to several and nobody knows to which.
    """
    if listener is not None:
        found = [Reached(one, one.addresses[0]) for one in generation.listeners if one.name == listener]
        if not found:
            known = ", ".join(one.name for one in generation.listeners)
            raise OperatorError(f'there is no listener "{listener}" (expected one of: {known})')
        return found
    every = [(one, address) for one in generation.listeners for address in one.addresses]
    certain = [
        Reached(one, address) for one, address in every if question.reaches(address, speaks_tls=one.tls is not None)
    ]
    return certain or _assumed(every, question)


def _assumed(every: Sequence[tuple[Listener, Address]], question: Question) -> list[Reached]:
    possible = [
        Reached(one, at, is_assumed=True)
        for one, address in every
        if is_unsettled(address) and question.reaches(at := _assume(address, question), speaks_tls=one.tls is not None)
    ]
    if len({one.listener.name for one in possible}) < 2:
        return possible[:1]
    names = " and ".join(f'"{one.listener.name}" ({one.listener.source})' for one in possible)
    raise OperatorError(
        f"nobody knows who is at port {question.port}: {names} have ports that are known to a running server only, and"
        " none runs with this configuration (expected --listener NAME)"
    )


def _assume(address: Address, question: Question) -> Address:
    """Return an unsettled address as if it were where the question leads."""
    if address.kind is AddressKind.TCP:
        return replace(address, port=question.port)
    return Address(AddressKind.TCP, address.text, port=question.port)
