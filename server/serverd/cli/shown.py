"""Which certificate a listener shows to a client that asks for a host: found out by a handshake in memory."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass

from serverd.config.certificates import covers
from serverd.generation import Certificate, Listener
from serverd.net.tls import Contexts

__all__ = ["Shown", "shown_certificate"]

# Flights of a handshake, with room to spare.
_TURNS = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate that a client is shown."""

    source: str  # "server.toml:7"
    names: tuple[str, ...]
    fits: bool  # it is for the host


def shown_certificate(listener: Listener, host: str) -> Shown | None:
    """Return what a client is shown that asks for `host`; None when the handshake does not get so far.

    Raises ConfigError when the listener's table cannot be used.
    """
    assert listener.tls is not None  # it speaks TLS
    shown = _shake_hands(Contexts(listener.tls), host)
    for certificate in listener.tls.certificates:
        if shown is not None and _first(certificate) == shown:
            fits = any(covers(name, host) for name in certificate.names)
            return Shown(certificate.source, certificate.names, fits)
    return None


def _first(certificate: Certificate) -> bytes:
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(certificate.cert[: certificate.cert.index(end) + len(end)])


def _shake_hands(contexts: Contexts, host: str) -> bytes | None:
    """Return the certificate, in DER, that a client gets to see."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is to be seen, not believed
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client = context.wrap_bio(to_client, to_server, server_hostname=host or None)
    except ValueError:  # no name that TLS can carry: as if none were asked for
        client = context.wrap_bio(to_client, to_server)
    server = contexts.wrap(to_server, to_client)
    for _ in range(_TURNS):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLError):  # it waits for the other side, or refuses it
                side.do_handshake()
        with contextlib.suppress(ValueError):  # not yet
            return client.getpeercert(binary_form=True)
    return None
