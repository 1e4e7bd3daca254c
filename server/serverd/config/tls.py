"""The tables [tls.NAME]: from the model to the generation, and what is wrong with them beyond a single value.

Reads the files that they name, and finds what does not go together: tables, listeners, the names in certificates and
the hosts of mounts. Whether a key belongs to its certificate is seen by who loads both, `net.tls`. Called by `load`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serverd.config.certificates import covers
from serverd.config.document import Entry
from serverd.config.expiry import tell_age
from serverd.config.models import Listener, Mount, Tls
from serverd.config.mounts import Names
from serverd.config.pairs import Fault, Read, doubts_of_authorities, read_authorities, read_pair
from serverd.config.report import Problem
from serverd.config.stamps import stamp
from serverd.config.wording import listed, nearest
from serverd.generation import Certificate
from serverd.generation import Listener as PlainListener
from serverd.generation import Tls as PlainTls

__all__ = ["aging_certificates", "attach_tls", "resolve_tls", "tls_files", "uncertified_hosts", "unused_tables"]

# Keys of which only who has cryptography, or reads the files again, can tell that something is wrong with them.
_BLAMED = ("ciphers", "client_ca", "client_crl")
WITHOUT_CA = "has no effect without `client_ca`"


def resolve_tls(entry: Entry[Tls], read: Read, problems: list[Problem], warnings: list[Problem]) -> PlainTls:
    """Return the table of a generation; what is wrong with it is added to `problems`, what is odd to `warnings`."""
    model = entry.model
    resolve = entry.document.resolve
    # First of all: what changes while it is read is seen by the next look.
    files = tuple(stamp(path) for path in _paths(entry))
    certificates = []
    for number, written in entry.elements("certificates", model.certificates):
        faults: list[Fault] = []
        doubts: list[Fault] = []
        pair = Certificate(
            cert="",
            key="",
            key_password=written.key_password or "",
            files=(resolve(written.cert), resolve(written.key)),
            source=entry.document.place((*entry.path, "certificates", number)),
        )
        certificates.append(read_pair(pair, read, faults, doubts))
        problems += (_problem(entry, fault, number) for fault in faults)
        warnings += (_problem(entry, doubt, number) for doubt in doubts)
    problems += _contradictions(entry)
    faults = []
    tls = read_authorities(
        PlainTls(
            name=entry.name,
            certificates=tuple(certificates),
            min_version=model.min_version,
            ciphers=model.ciphers or "",
            client_auth=model.client_auth,
            client_files=tuple(resolve(path) for path in _authority_files(model)),
            source=entry.place(),
            sources=tuple((key, entry.place(key)) for key in _BLAMED if entry.has(key)),
        ),
        read,
        faults,
    )
    problems += (_problem(entry, fault) for fault in faults)
    return replace(tls, files=files)


def _paths(entry: Entry[Tls]) -> Iterable[str]:
    """Return every file that the table names, once."""
    pairs = [path for pair in entry.model.certificates or () for path in (pair.cert, pair.key)]
    return dict.fromkeys(map(entry.document.resolve, [*pairs, *_authority_files(entry.model)]))


def _authority_files(model: Tls) -> list[str]:
    """Return the files of authorities and of what they have revoked; without the former, the latter say nothing."""
    files = [model.client_ca, model.client_crl] if model.client_ca is not None else []
    return [path for path in files if path is not None]


def attach_tls(
    entry: Entry[Listener],
    listener: PlainListener,
    tables: Mapping[str, PlainTls],
    names: Names,
    problems: list[Problem],
) -> PlainListener:
    """Return the listener with the table that it refers to; one that does not exist is added to `problems`.

    `names` are those of all tables, also of those that are not sound.
    """
    name = entry.model.tls
    if name is None:
        return listener
    if names.complete and name not in names.known:
        close = "" if entry.document.substituted((*entry.path, "tls")) else nearest(name, names.known)
        expected = f"expected one of: {listed(sorted(names.known))}" if names.known else "none is defined"
        problems.append(entry.refusal("tls", f"is not a tls table{close or f' ({expected})'}"))
    return replace(listener, tls=tables.get(name))


def tls_files(tables: Iterable[PlainTls]) -> dict[str, str]:
    """Return the absolute paths of what `tables` read, and what each is."""
    return {file.path: f'a file of tls table "{tls.name}"' for tls in tables for file in tls.files}


def unused_tables(entries: Iterable[Entry[Tls]], listeners: Iterable[PlainListener]) -> Iterable[Problem]:
    """Yield a warning for every table that no listener refers to."""
    used = {listener.tls.name for listener in listeners if listener.tls is not None}
    for entry in entries:
        if entry.name not in used:
            yield entry.problem("", "no listener uses this tls table")


def aging_certificates(entry: Entry[Tls], tls: PlainTls, now: float) -> Iterable[Problem]:
    """Yield a warning for everything in a sound table that has expired, is about to, or is not valid yet.

    `now` is in seconds since the epoch. And one for each without a name: its subject is none (RFC 9525 §6.3).
    """
    for number, certificate in enumerate(tls.certificates):
        predicate = tell_age(certificate, now)
        if predicate:
            yield _problem(entry, Fault("cert", predicate), number)
        if not certificate.names:
            predicate = "has no subjectAltName, where clients look for the name that they asked for"
            yield _problem(entry, Fault("cert", predicate), number)
    for doubt in doubts_of_authorities(tls, now):
        yield _problem(entry, doubt)


def uncertified_hosts(mounts: Iterable[Entry[Mount]], listeners: Sequence[PlainListener]) -> Iterable[Problem]:
    """Yield a warning for every host of a mount that no certificate of one of its listeners is for."""
    secure = [(listener, listener.tls) for listener in listeners if listener.tls is not None]
    for entry in mounts:
        served = entry.model.listeners
        concerned = [(listener, tls) for listener, tls in secure if not served or listener.name in served]
        if not concerned:
            continue  # there may be tens of thousands of hosts
        for number, host in entry.elements("hosts", entry.model.hosts):
            for listener, tls in concerned:
                if not _is_certified(host, tls):
                    yield entry.refusal(
                        "hosts",
                        f'is no name in a certificate of listener "{listener.name}" (tls table'
                        f' "{tls.name}"): clients refuse the one they are shown',
                        number,
                    )


def _is_certified(host: str, tls: PlainTls) -> bool:
    name = host.strip("[]")
    return any(covers(pattern, name) for certificate in tls.certificates for pattern in certificate.names)


def _contradictions(entry: Entry[Tls]) -> Iterable[Problem]:
    """Yield a problem for every key that another one leaves without effect, or without what it needs."""
    model = entry.model
    if model.client_auth != "none" and model.client_ca is None and entry.knows("client_ca"):
        yield entry.refusal(
            "client_auth", "needs to know whose certificates are valid (expected `client_ca` beside it)"
        )
    if model.client_auth == "none" and model.client_ca is not None and entry.knows("client_auth"):
        yield entry.problem("client_ca", "has no effect without `client_auth`")
    if model.client_crl is not None and model.client_ca is None and entry.knows("client_ca"):
        yield entry.problem("client_crl", WITHOUT_CA)
    if model.ciphers is not None and model.min_version == "1.3":
        yield entry.problem("ciphers", 'has no effect with min_version = "1.3" (they are those of TLS 1.2)')


def _problem(entry: Entry[Tls], fault: Fault, number: int | None = None) -> Problem:
    path = (*entry.path, fault.key) if number is None else (*entry.path, "certificates", number, fault.key)
    if fault.key == "key_password":
        return entry.document.problem(path, fault.predicate)
    shown = entry.document.shown(path).strip('"')
    looked = entry.document.resolve(shown)
    hidden = entry.document.substituted(path) or os.path.isabs(shown)
    where = f" (looked for {looked})" if fault.predicate == "does not exist" and not hidden else ""
    return entry.document.refusal(path, fault.predicate + where)
