"""Looks at the files of certificates, and at their dates, while a generation is served.

The supervisor looks, because workers may run as a user who cannot; that what has changed can be used is found out by
the loader and the workers. It costs a stat for each file, and nothing without TLS. `supervisor` owns the one instance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from serverd.config.expiry import tell_age, tell_authority_age, tell_list_age, without_days
from serverd.config.stamps import stamp
from serverd.generation import Certificate, File, Generation, Tls, Validity

__all__ = ["LOOK_INTERVAL", "CertificateWatch", "authorities", "certificates", "tables"]

log = logging.getLogger("serverd.supervisor")

# Seconds between two looks. What has changed is read at the look after: certificate and key are written one after the
# other.
LOOK_INTERVAL = 1.0


class CertificateWatch:
    """What was seen of the files of the generation that is served."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """Prepare; `clock` and `wall` return seconds, of any clock and since the epoch."""
        self._clock = clock
        self._wall = wall
        self.deadline: float | None = None  # of the clock, when to look next; None: there is nothing to look at
        self._generation: Generation | None = None
        self._seen: tuple[File, ...] = ()  # at the last look
        self._told: tuple[File, ...] = ()  # what was read, or tried to, last
        self._warned: set[tuple[str, str]] = set()  # what was said of dates already

    def look(self, generation: Generation | None) -> bool:
        """Return whether the files of `generation`, which is served, are others than those that were read last.

        Once for each change, and not before a second look finds the same; and warn of dates. A change back is one, too,
        if what was there meanwhile was tried: else it would be the last word about a server that has what it needs.
        """
        now = self._clock()
        if generation is not self._generation:
            self._follow(generation, now)
        if self.deadline is None or now < self.deadline:
            return False
        assert generation is not None  # else there is no deadline
        self.deadline = now + LOOK_INTERVAL
        self._look_at_dates(generation)
        seen, self._seen = self._seen, tuple(stamp(file.path) for file in _files(generation))
        if self._seen == self._told or self._seen != seen:
            return False
        self._told = self._seen
        return True

    def _follow(self, generation: Generation | None, now: float) -> None:
        self._generation = generation
        self._told = () if generation is None else tuple(_files(generation))
        self.deadline = now + LOOK_INTERVAL if self._told else None
        if generation is not None:
            # Who has read it has said so already.
            self._warned.update(key for key, _ in self._overdue(generation))

    def _look_at_dates(self, generation: Generation) -> None:
        for key, text in self._overdue(generation):
            if key not in self._warned:
                self._warned.add(key)
                log.warning("%s", text)

    def _overdue(self, generation: Generation) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield what is to be said about dates, behind what tells whether it has been said."""
        now = self._wall()
        for tls, certificate in certificates(generation):
            age = tell_age(certificate, now)
            if age:
                key = (certificate.serial, without_days(age))  # once for "expires in", and once for "has expired"
                yield key, f"{certificate.source}: certificate of tls.{tls.name} ({certificate.serial}) {age}"
        for tls in tables(generation):
            for file, one, age in authorities(tls, now):
                if age:
                    role = "authority" if file == "client_ca" else "list of"
                    told = f'{role} "{one.name}" in {file} of tls.{tls.name}'
                    yield (f"{told} {one.until}", without_days(age)), f"{tls.source_of(file)}: {told} {age}"


def certificates(generation: Generation) -> Iterator[tuple[Tls, Certificate]]:
    """Yield every certificate that is in use, with its table, once."""
    for tls in tables(generation):
        yield from ((tls, certificate) for certificate in tls.certificates)


def authorities(tls: Tls, now: float) -> Iterator[tuple[str, Validity, str]]:
    """Yield each authority of clients and each list of revoked certificates, and what is to be said of its dates.

    In front of them is the key that names its file; `now` is in seconds since the epoch.
    """
    for one in tls.client_authorities:
        yield "client_ca", one, tell_authority_age(one.since, one.until, now)
    for one in tls.client_lists:
        yield "client_crl", one, tell_list_age(one.until, now)


def tables(generation: Generation) -> Iterator[Tls]:
    """Yield every table that a listener uses, once."""
    return filter(None, dict.fromkeys(listener.tls for listener in generation.listeners))


def _files(generation: Generation) -> Iterator[File]:
    for tls in tables(generation):
        yield from tls.files
