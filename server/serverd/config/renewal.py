"""Certificates, keys and lists of revoked ones read again, because their files have changed; nothing else is.

What the configuration says may have been edited meanwhile, and is not looked at: the operator has not asked for it. A
pair that cannot be used keeps what it had, so that it holds up no other. What was to be said of files that hold what
they held has been said; a digest tells those that are refused from others that would be for the same reason. Called by
`python -m serverd.config --renew`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from serverd.config.expiry import KEPT, tell_age
from serverd.config.files import read_pem
from serverd.config.pairs import Fault, doubts_of_authorities, read_authorities, read_pair
from serverd.config.stamps import stamp
from serverd.errors import RenewalError
from serverd.generation import Certificate, Generation, Tls

__all__ = ["renew"]


class Refusal(NamedTuple):
    """Why files cannot be used, and what tells these from others that could not be for the same reason."""

    report: str
    digest: str


class Reader:
    """Reads files, and knows what they held."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self._read = read
        self._held: list[str] = []

    def __call__(self, path: str) -> str:
        """Return the text of a file; raises Unreadable."""
        self._held.append(self._read(path))
        return self._held[-1]

    def refusal(self, report: str) -> Refusal:
        """Return that what was read is refused."""
        return Refusal(
            report, hashlib.sha256("\0".join([report, *self._held]).encode(errors="surrogatepass")).hexdigest()
        )


Objection = Callable[[Tls, Certificate], str]
"""Returns why a certificate cannot be used with its key, as a whole line; "" when it can."""


def renew(generation: Generation, objection: Objection) -> Generation:
    """Return `generation` with what its TLS tables read today; its warnings are about that alone.

    Raises RenewalError with a line for each problem when nothing else is new, or authorities of clients are concerned.
    """
    problems: list[Refusal] = []
    warnings: list[str] = []
    read = partial(read_pem, account=generation.server.account)
    tables = dict.fromkeys(listener.tls for listener in generation.listeners if listener.tls is not None)
    fresh = {tls: _read_again(tls, read, objection, problems, warnings) for tls in tables}
    kept = [Refusal(pair.kept, pair.refused) for tls in fresh.values() for pair in tls.certificates if pair.kept]
    told = {pair.refused for tls in tables for pair in tls.certificates}
    if problems or (kept and not any(map(_is_new, fresh.keys(), fresh.values()))):
        refusals = [*problems, *kept]
        raise RenewalError("\n".join(one.report for one in refusals), tuple(one.digest for one in refusals))
    fresh_kept = [one.report for one in kept if one.digest not in told]
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
    tls: Tls, read: Callable[[str], str], objection: Objection, problems: list[Refusal], warnings: list[str]
) -> Tls:
    faults: list[Fault] = []
    # First of all: what changes while it is read is seen by the next look.
    files = tuple(stamp(file.path) for file in tls.files)
    authorities = Reader(read)
    renewed = read_authorities(tls, authorities, faults)
    named = dict(zip(("client_ca", "client_crl"), tls.client_files, strict=False))
    lines = [_told(tls.source_of(fault.key), f"tls.{tls.name}", fault, named[fault.key]) for fault in faults]
    problems += [authorities.refusal("\n".join(lines))] if lines else []
    is_known = (tls.client_ca, tls.client_crl) == (renewed.client_ca, renewed.client_crl)
    doubts = [] if faults or is_known else doubts_of_authorities(renewed, time.time())
    warnings += (_told(tls.source_of(doubt.key), f"tls.{tls.name}", doubt, named[doubt.key]) for doubt in doubts)
    certificates = []
    for number, pair in enumerate(tls.certificates):
        files_of_pair = Reader(read)
        fresh, lines = _read_pair(tls, number, pair, files_of_pair, warnings)
        reason = "\n".join(lines) or objection(tls, fresh)
        if reason:
            kept = files_of_pair.refusal(reason)
            certificates.append(replace(pair, kept=kept.report, refused=kept.digest))
        else:
            certificates.append(replace(fresh, kept="", refused=""))
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
