"""Who the listeners of a generation are to clients that speak TLS: contexts, one set for each table in use.

Made before a generation is served or accepted, because only `ssl` sees that a key belongs to another certificate.
`process` makes them, `serving` hands them to its services.
"""

from __future__ import annotations

from collections.abc import Mapping

from serverd.errors import ConfigError
from serverd.generation import Generation, Listener, Tls
from serverd.net.tls import Contexts

__all__ = ["Identities", "identity_of", "make_identities"]

Identities = Mapping[tuple[Tls, tuple[str, ...]], Contexts]
"""Contexts by table, and by the protocols that are offered with it."""


def make_identities(generation: Generation, before: Identities | None = None) -> Identities:
    """Return the contexts of every table that a listener uses; of a table that was there `before`, the same.

    Raises ConfigError that lists everything that cannot be used, with its line.
    """
    known = before or {}
    keys = [(one.tls, _offered(one)) for one in generation.listeners if one.tls is not None]
    made: dict[tuple[Tls, tuple[str, ...]], Contexts] = {}
    problems: list[str] = []
    for key in dict.fromkeys(keys):
        try:
            made[key] = known.get(key) or Contexts(*key)
        except ConfigError as error:
            problems += str(error).split("\n")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))  # a table may be used with other protocols, too
    return made


def identity_of(listener: Listener, identities: Identities) -> Contexts | None:
    """Return the contexts of a listener; None when nothing is encrypted on it."""
    return None if listener.tls is None else identities[listener.tls, _offered(listener)]


def _offered(listener: Listener) -> tuple[str, ...]:
    """Return the listener's protocols for ALPN (RFC 7301), the one we prefer first."""
    return tuple(sorted(listener.protocols, key=lambda name: name != "h2"))
