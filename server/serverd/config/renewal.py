"""Certificates, keys and lists of revoked ones read again, because their files have changed; nothing else is.

What the configuration says may have been edited meanwhile, and is not looked at: the operator has not asked for it. A
pair that cannot be used keeps what it had, so that it holds up no other. What was to be said of files that hold what
they held has been said. Called by `python -m serverd.config --renew`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from serverd.config.expiry import KEPT, tell_age
from serverd.config.files import read_pem
from serverd.config.pairs import Fault, doubts_of_authorities, read_authorities, read_pair
from serverd.config.stamps import stamp
from serverd.errors import ConfigError
from serverd.generation import Certificate, Generation, Tls

__all__ = ["renew"]


Objection = Callable[[Tls, Certificate], str]
"""Returns why a certificate cannot be used with its key, as a whole line; "" when it can."""


def renew(generation: Generation, objection: Objection) -> Generation:
    """Return `generation` with what its TLS tables read today; its warnings are about that alone.

    Raises ConfigError with a line for each problem when nothing else is new, or authorities of clients are concerned.
    """
    problems: list[str] = []
    warnings: list[str] = []
    read = partial(read_pem, account=generation.server.account)
    tables = dict.fromkeys(listener.tls for listener in generation.listeners if listener.tls is not None)
    fresh = {tls: _read_again(tls, read, objection, problems, warnings) for tls in tables}
    kept = [pair.kept for tls in fresh.values() for pair in tls.certificates if pair.kept]
    told = {pair.kept for tls in tables for pair in tls.certificates}
    if problems or (kept and not any(map(_is_new, fresh.keys(), fresh.values()))):
        raise ConfigError("\n".join([*problems, *kept]))
    fresh_kept = [reason for reason in kept if reason not in told]
    warnings += (f"{line}{KEPT}" for line in "\n".join(fresh_kept).splitlines())
    return replace(
        generation,
        listeners=tuple(
            replace(listener, tls=None if listener.tls is None else fresh[listener.tls])
            for listener in generation.listeners
        ),
        warnings=tuple(warnings),
    )


def _is_new(before: Tls, after: Tls) -> bool:
    """Return whether there is something else to be used."""
    pairs = zip(before.certificates, after.certificates, strict=True)
    return (
        before.client_ca != after.client_ca
        or before.client_crl != after.client_crl
        or any((one.cert, one.key) != (other.cert, other.key) for one, other in pairs)
    )


def _read_again(
    tls: Tls, read: Callable[[str], str], objection: Objection, problems: list[str], warnings: list[str]
) -> Tls:
    faults: list[Fault] = []
    # First of all: what changes while it is read is seen by the next look.
    files = tuple(stamp(file.path) for file in tls.files)
    renewed = read_authorities(tls, read, faults)
    named = dict(zip(("client_ca", "client_crl"), tls.client_files, strict=False))
    problems += (_told(tls.source_of(fault.key), f"tls.{tls.name}", fault, named[fault.key]) for fault in faults)
    is_known = (tls.client_ca, tls.client_crl) == (renewed.client_ca, renewed.client_crl)
    doubts = [] if faults or is_known else doubts_of_authorities(renewed, time.time())
    warnings += (_told(tls.source_of(doubt.key), f"tls.{tls.name}", doubt, named[doubt.key]) for doubt in doubts)
    certificates = []
    for number, pair in enumerate(tls.certificates):
        fresh, lines = _read_pair(tls, number, pair, read, warnings)
        reason = "\n".join(lines) or objection(tls, fresh)
        certificates.append(replace(pair, kept=reason) if reason else replace(fresh, kept=""))
    return replace(renewed, files=files, certificates=tuple(certificates))


def _read_pair(
    tls: Tls, number: int, pair: Certificate, read: Callable[[str], str], warnings: list[str]
) -> tuple[Certificate, list[str]]:
    """Return what the files of a pair hold, and a line for each fault."""
    faults: list[Fault] = []
    doubts: list[Fault] = []
    fresh = read_pair(pair, read, faults, doubts)
    place = f"tls.{tls.name}.certificates[{number}]"
    named = {"cert": pair.files[0], "key": pair.files[1], "key_password": ""}
    lines = [_told(pair.source, place, fault, named[fault.key]) for fault in faults]
    age = tell_age(fresh, time.time())
    doubts += [Fault("cert", age)] if age and not faults else []
    if fresh.cert != pair.cert:
        warnings += (_told(pair.source, place, doubt, named[doubt.key]) for doubt in doubts)
    return fresh, lines


def _told(source: str, place: str, fault: Fault, file: str) -> str:
    """Return the line of the log about `file`; "" is none."""
    return f"{source}: {place}.{fault.key}: {file}{' ' if file else ''}{fault.predicate}"
