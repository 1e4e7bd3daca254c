"""The listening descriptors that whoever started the supervisor left open for it.

A listener names them by number (`fd:3`) or, after socket activation, by systemd's name for them
(`systemd:web`, sd_listen_fds(3)). They stay open for good, under their numbers: those are the operator's
words, which a later reload may use again. `bindings` asks for them; `handover` passes them on.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterable, Iterator, MutableMapping

from serverd.errors import BindError
from serverd.net import sockets

__all__ = ["Inheritance"]

# sd_listen_fds(3): the first descriptor that is passed, and what tells of them. LISTEN_PIDFDID came with systemd 258.
FIRST = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
# sd_listen_fds_with_names(3): the name of a descriptor that was given none.
NAMELESS = "unknown"


class Inheritance:
    """Inherited descriptors; what has been taken from it, or has a name, is closed by no child's start."""

    def __init__(self, descriptors: Iterable[tuple[int, str | None]] = (), addressee: str = "") -> None:
        """Keep descriptors with their names, None for those that only have their number.

        `addressee`: the number of the process that systemd meant to pass its descriptors to, if it was not ours.
        """
        self._names: dict[int, str | None] = {}
        self._addressee = addressee
        for fd, name in descriptors:
            os.set_inheritable(fd, False)
            self._names[fd] = name

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Inheritance:
        """Return what systemd passed to us, and remove its words from `environment`, so that no child believes them."""
        pid, count, names, _ = (environment.pop(variable, "") for variable in VARIABLES)
        if pid != str(os.getpid()):
            return cls(addressee=pid)
        number = int(count) if count.isascii() and count.isdigit() else 0
        every_name = itertools.chain(names.split(":") if names else (), itertools.repeat(NAMELESS))
        return cls(zip(_open_from(FIRST, number), every_name, strict=False))

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        """Yield descriptors and names, as the constructor takes them."""
        return iter(self._names.items())

    def adopt(self, fd: int) -> socket.socket:
        """Return a socket of our own for the inherited descriptor `fd`.

        Raises BindError when it was not inherited or is no listening stream socket.
        """
        if fd not in self._names and not _is_inheritable(fd):
            raise BindError("no such descriptor was inherited")
        sock = sockets.adopt(fd)
        self._names.setdefault(fd, None)
        return sock

    def adopt_named(self, name: str) -> list[socket.socket]:
        """Return sockets of our own for all descriptors that systemd calls `name`.

        Raises BindError when there is none, or one that is no listening stream socket.
        """
        found = [fd for fd, known in self._names.items() if known == name]
        if not found:
            raise BindError(self._missing(name))
        adopted: list[socket.socket] = []
        try:
            adopted.extend(map(sockets.adopt, found))
        except BaseException:
            for sock in adopted:
                sock.close()
            raise
        return adopted

    def _missing(self, name: str) -> str:
        known = ", ".join(sorted({one for one in self._names.values() if one is not None}))
        text = f"no socket named {name} was passed by systemd, there are: {known or 'none'}"
        if self._addressee:
            return f"{text}; LISTEN_PID names process {self._addressee}, start serverd without a shell in between"
        return f"{text}; FileDescriptorName= in the .socket unit sets it"


def _open_from(first: int, count: int) -> Iterator[int]:
    """Yield `count` descriptors from `first` on, as far as they are open."""
    for fd in range(first, first + count):
        try:
            os.fstat(fd)
        except OSError:
            return
        yield fd


def _is_inheritable(fd: int) -> bool:
    """Return whether `fd` came from outside: Python opens nothing that a child would inherit (PEP 446)."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
