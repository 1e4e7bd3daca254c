"""Which certificates a listener shows to clients that ask for a host, and why: found out by handshakes in memory.

One with each version of TLS, and for TLS 1.2 one for each kind of key, as there a client can be made that takes no
other; TLS 1.3 chooses by the same rule, of those that the client can check the first.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from serverd.config.certificates import covers
from serverd.generation import Certificate, Listener
from serverd.net.encounter import curious, shake_hands
from serverd.net.tls import Contexts, first_block

__all__ = ["Passed", "Shown", "shown_certificates"]

_LATEST, _TLS_1_2 = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
# Clients, and what a certificate is for that nobody before them is shown: version, suites, who.
_CLIENTS = (
    (_LATEST, "", "clients that speak TLS 1.3"),
    (_TLS_1_2, "", "clients that speak TLS 1.2"),
    (_TLS_1_2, "aRSA", "clients that take RSA only"),
    (_TLS_1_2, "aECDSA", "clients that take ECDSA only"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that some clients are shown."""

    source: str  # "server.toml:7"
    names: tuple[str, ...]
    fits: bool  # it is for the host
    whom: str
    why: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A certificate for the host that nobody is shown."""

    source: str
    names: tuple[str, ...]
    why: str


def shown_certificates(listener: Listener, host: str) -> tuple[list[Shown], list[Passed]]:
    """Return what clients are shown that ask for `host`, the latest first, and what else is for it.

    There is nothing where no handshake gets so far. Raises ConfigError when the listener's table cannot be used.
    """
    assert listener.tls is not None  # it speaks TLS
    host = host.lower().removesuffix(".").strip("[]")
    contexts = Contexts(listener.tls)
    certificates = listener.tls.certificates
    known = [ssl.PEM_cert_to_DER_cert(first_block(one.cert)) for one in certificates]
    found: dict[int, str] = {}
    for version, suites, whom in _CLIENTS:
        der = _seen(contexts, host, curious(version, version, suites))
        if der is not None and der in known:
            found.setdefault(known.index(der), whom)  # of several that are the same one the first is as good as any
    shown = [
        Shown(one.source, one.names, _is_for(one, host), whom, _why(one, host))
        for one, whom in ((certificates[number], whom) for number, whom in found.items())
    ]
    winners = [certificates[number] for number in found]
    return shown, list(_passed([one for n, one in enumerate(certificates) if n not in found], winners, host))


def _is_for(certificate: Certificate, host: str) -> bool:
    return any(covers(name, host) for name in certificate.names)


def _is_named(host: str) -> bool:
    """Return whether clients say which host they ask for (RFC 6066 §3: no address)."""
    return bool(host) and ":" not in host and not host.replace(".", "").isdigit()


def _why(certificate: Certificate, host: str) -> str:
    if not _is_named(host):
        return "clients name no host that is an address, so it is the first one, or has the same names"
    if host in certificate.names:
        return "it has the name itself, which comes before wildcards"
    if _is_for(certificate, host):
        return "it has a wildcard for the name, which no other has itself"
    return "none is for this host, so it is the first one, or has the same names"


def _passed(others: list[Certificate], winners: list[Certificate], host: str) -> Iterator[Passed]:
    for one in others:
        if not _is_for(one, host):
            continue
        rival = next((winner for winner in winners if winner.key_type == one.key_type), None)
        if not _is_named(host):
            why = "clients name no host that is an address"
        elif host not in one.names and any(host in winner.names for winner in winners):
            why = "a wildcard comes behind the name itself"
        elif rival is not None:
            why = f"its key is of the same kind as that of {rival.source}, which comes first"
        else:
            why = "no client is known that would be shown it"
        yield Passed(one.source, one.names, why)


def _seen(contexts: Contexts, host: str, context: ssl.SSLContext) -> bytes | None:
    """Return the certificate, in DER, that a client gets to see."""
    client, _ = shake_hands(contexts, context, host)
    with contextlib.suppress(ValueError):  # it never got so far
        return client.getpeercert(binary_form=True)
    return None
