"""A certificate and its key as files: read, and made into what a generation holds of them.

Only what can be told from the files; where a problem stands in the configuration is for `tls` to say, and for `renewal`
when the files are read again. Called by both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

from serverd.config.certificates import (
    Facts,
    Revocations,
    called,
    read_certificates,
    read_key,
    read_revocation_lists,
    tell_unlisted,
)
from serverd.config.document import Unreadable
from serverd.config.expiry import tell_authority_age, tell_list_age
from serverd.generation import Certificate, Tls, Validity

__all__ = ["Fault", "Read", "doubts_of_authorities", "read_authorities", "read_pair"]

Read = Callable[[str], str]
"""Returns the text of a file, or raises Unreadable with a predicate."""

Value = TypeVar("Value")


class Fault(NamedTuple):
    """What is wrong with the file, or the value, that one key names."""

    key: str
    predicate: str


def read_pair(pair: Certificate, read: Read, faults: list[Fault], doubts: list[Fault]) -> Certificate:
    """Return `pair` with the contents of its files, certificate and key, and what they say.

    What makes it unusable is added to `faults`, and to `doubts` what should be otherwise.
    """
    cert_file, key_file = pair.files
    found = _read("cert", cert_file, read, read_certificates, faults)
    key = _read("key", key_file, read, read_key, faults)
    if key is not None and key.is_encrypted and not pair.key_password:
        faults.append(Fault("key", "is encrypted (expected `key_password` beside it)"))
    if key is not None and not key.is_encrypted and pair.key_password:
        faults.append(Fault("key_password", "has no effect: the key is not encrypted"))
    if found is None or key is None:
        return pair
    pem, (facts, *others) = found
    doubt = _doubt_of_chain([facts, *others])
    if doubt:
        doubts.append(Fault("cert", doubt))
    return replace(
        pair,
        cert=pem,
        key=key.pem,
        names=facts.names,
        key_type=facts.key_type,
        serial=facts.serial,
        not_before=facts.not_before,
        not_after=facts.not_after,
        issuers=tuple(Validity(one.called, one.not_before, one.not_after) for one in others),
    )


def _doubt_of_chain(chain: Sequence[Facts]) -> str:
    """Return what is odd about the order of certificates, as a predicate; "" when each is the issuer of the one before.

    By their names: whether one has really signed the other takes cryptography, and is for `net.chains`.
    """
    for number, (one, other) in enumerate(pairwise(chain), 1):
        if one.issuer != other.subject:
            issuer = called(one.issuer) or "nameless"
            ordered = _ordered(chain)
            if ordered:
                names = ", ".join(f'"{one.called}"' for one in ordered)
                return (
                    f'holds its certificates in the wrong order: behind "{one.called}" comes "{other.called}"'
                    f" (expected {names})"
                )
            return (
                f'has as certificate {number + 1} "{other.called}", which is not the issuer of certificate {number}'
                f' "{one.called}" (expected "{issuer}", or nothing)'
            )
    return ""


def _ordered(chain: Sequence[Facts]) -> Sequence[Facts]:
    """Return the certificates so that each has its issuer behind it; none when they are not one chain."""
    by_subject = {one.subject: one for one in chain}
    issuers = {one.issuer for one in chain if one.issuer != one.subject}
    first = [one for one in chain if one.subject not in issuers]
    if len(by_subject) < len(chain) or len(first) != 1:
        return ()
    seen: list[Facts] = []
    one: Facts | None = first[0]
    while one is not None and one not in seen:
        seen.append(one)
        one = by_subject.get(one.issuer)
    return seen if len(seen) == len(chain) else ()


def read_authorities(tls: Tls, read: Read, faults: list[Fault]) -> Tls:
    """Return `tls` with the contents of its files, the authorities of clients and what they have revoked."""
    files = dict(zip(_keys_of_authorities(tls), tls.client_files, strict=True))
    authorities = revoked = None
    if "client_ca" in files:
        authorities = _read("client_ca", files["client_ca"], read, read_certificates, faults)
    if "client_crl" in files:
        revoked = _read("client_crl", files["client_crl"], read, read_revocation_lists, faults)
    trusted, found = authorities or ("", [])
    lists, stated = revoked or ("", [])
    return replace(
        tls,
        client_ca=trusted,
        client_crl=lists,
        client_authorities=tuple(_authorities(found)),
        client_lists=tuple(_current(stated)),
    )


def _authorities(found: Sequence[Facts]) -> Iterator[Validity]:
    """Yield each authority once: one that was renewed has several certificates, and OpenSSL takes one that is valid."""
    for subject in dict.fromkeys(one.subject for one in found):
        same = [one for one in found if one.subject == subject]
        yield Validity(same[0].called, min(one.not_before for one in same), max(one.not_after for one in same))


def _current(stated: Sequence[Revocations]) -> Iterator[Validity]:
    """Yield the last list of each authority, which is the one that OpenSSL takes."""
    for issuer in dict.fromkeys(one.issuer for one in stated):
        last = max((one for one in stated if one.issuer == issuer), key=lambda one: (not one.until, one.until))
        yield Validity(called(issuer) or "nameless", last.since, last.until)


def doubts_of_authorities(tls: Tls, now: float) -> list[Fault]:
    """Return what should be otherwise with the authorities of clients and their lists of revoked certificates.

    `now` is in seconds since the epoch.
    """
    doubts = [
        Fault("client_ca", f'holds "{one.name}", which {age}')
        for one in tls.client_authorities
        if (age := tell_authority_age(one.since, one.until, now))
    ]
    doubts += [
        Fault("client_crl", f'holds a list of "{one.name}" that {age}')
        for one in tls.client_lists
        if (age := tell_list_age(one.until, now))
    ]
    unlisted = tell_unlisted(tls.client_ca, tls.client_crl) if tls.client_crl else ""
    return [*doubts, Fault("client_crl", unlisted)] if unlisted else doubts


def _keys_of_authorities(tls: Tls) -> tuple[str, ...]:
    """Return which keys name the files of a table: a list of revoked certificates is never without authorities."""
    return ("client_ca", "client_crl")[: len(tls.client_files)]


def _read(key: str, path: str, read: Read, parse: Callable[[str], Value], faults: list[Fault]) -> Value | None:
    try:
        return parse(read(path))
    except Unreadable as error:
        faults.append(Fault(key, str(error)))
    except ValueError as error:
        faults.append(Fault(key, str(error)))
    return None
