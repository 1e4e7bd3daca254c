"""Certificates, keys and lists of revoked ones read again, because their files have changed; nothing else is.

What the configuration says may have been edited meanwhile, and is not looked at: the operator has not asked for it.
Called by `python -m serverd.config --renew`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from serverd.config.expiry import tell_age
from serverd.config.files import read_pem
from serverd.config.pairs import Fault, doubts_of_authorities, read_authorities, read_pair
from serverd.config.stamps import stamp
from serverd.errors import ConfigError
from serverd.generation import Certificate, Generation, Tls

__all__ = ["renew"]


def renew(generation: Generation) -> Generation:
    """Return `generation` with what its TLS tables read today; its warnings are about that alone.

    Raises ConfigError with a line for each problem.
    """
    problems: list[str] = []
    warnings: list[str] = []
    read = partial(read_pem, account=generation.server.account)
    tables = dict.fromkeys(listener.tls for listener in generation.listeners if listener.tls is not None)
    fresh = {tls: _read_again(tls, read, problems, warnings) for tls in tables}
    if problems:
        raise ConfigError("\n".join(problems))
    return replace(
        generation,
        listeners=tuple(
            replace(listener, tls=None if listener.tls is None else fresh[listener.tls])
            for listener in generation.listeners
        ),
        warnings=tuple(warnings),
    )


def _read_again(tls: Tls, read: Callable[[str], str], problems: list[str], warnings: list[str]) -> Tls:
    faults: list[Fault] = []
    # First of all: what changes while it is read is seen by the next look.
    files = tuple(stamp(file.path) for file in tls.files)
    renewed = read_authorities(tls, read, faults)
    named = dict(zip(("client_ca", "client_crl"), tls.client_files, strict=False))
    problems += (_told(tls.source, f"tls.{tls.name}", fault, named[fault.key]) for fault in faults)
    doubts = [] if faults else doubts_of_authorities(renewed, time.time())
    warnings += (_told(tls.source, f"tls.{tls.name}", doubt, named[doubt.key]) for doubt in doubts)
    certificates = []
    for number, pair in enumerate(tls.certificates):
        certificates.append(_read_pair(tls, number, pair, read, problems, warnings))
    return replace(renewed, files=files, certificates=tuple(certificates))


def _read_pair(
    tls: Tls, number: int, pair: Certificate, read: Callable[[str], str], problems: list[str], warnings: list[str]
) -> Certificate:
    faults: list[Fault] = []
    doubts: list[Fault] = []
    fresh = read_pair(pair, read, faults, doubts)
    place = f"tls.{tls.name}.certificates[{number}]"
    named = {"cert": pair.files[0], "key": pair.files[1], "key_password": ""}
    problems += (_told(pair.source, place, fault, named[fault.key]) for fault in faults)
    age = tell_age(fresh.not_before, fresh.not_after, time.time())
    doubts += [Fault("cert", age)] if age and not faults else []
    warnings += (_told(pair.source, place, doubt, named[doubt.key]) for doubt in doubts)
    return fresh


def _told(source: str, place: str, fault: Fault, file: str) -> str:
    """Return the line of the log about `file`; "" is none."""
    return f"{source}: {place}.{fault.key}: {file}{' ' if file else ''}{fault.predicate}"
