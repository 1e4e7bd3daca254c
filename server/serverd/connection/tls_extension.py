"""What the scope says of a TLS connection: the ASGI extension `tls`.

Computed once for each connection, when its handshake is complete.
"""

from __future__ import annotations

import ssl
from time import time
from typing import Final

from serverd.connection.subject import last_moment, subject_name

__all__ = ["tls_extension"]

# The numbers of the protocol versions (RFC 8446 §4.2.1).
_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

# Chains of clients, in DER, by their first certificate: of a session that is resumed OpenSSL has kept no other. Nobody
# else than its owner can have sent one, because the handshake has asked for the key. So many and so long (bytes) ones
# are kept, the last ones: 4 MiB.
_MOST_CHAINS = 256
_LONGEST_CHAIN: Final = 16 * 1024
_CHAINS: dict[bytes, list[bytes]] = {}

# The numbers of the cipher suites that have been seen in a context, by OpenSSL's names for them.
_NUMBERS: Final[dict[str, int]] = {}


def tls_extension(connection: ssl.SSLObject, server_cert: str | None) -> dict[str, object]:
    """Return the extension (ASGI TLS extension 0.2); `server_cert` is the PEM text that the client was shown.

    A client certificate that is not valid has ended the handshake, so there is never an error to tell. Raises
    ValueError for one that OpenSSL takes and that cannot be read, or that has expired since it was looked at.
    """
    suite = connection.cipher()
    certificate = connection.getpeercert(binary_form=True)
    extension: dict[str, object] = {
        "server_cert": server_cert,
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": None if suite is None else _number(suite[0], connection.context),
    }
    if certificate is not None:
        if connection.session_reused and last_moment(certificate) < time():
            raise ValueError("has expired since the session began that is resumed")  # OpenSSL does not look again
        extension["client_cert_chain"] = tuple(map(ssl.DER_cert_to_PEM_cert, _chain(connection, certificate)))
        extension["client_cert_name"] = subject_name(certificate)
    return extension


def _chain(connection: ssl.SSLObject, certificate: bytes) -> list[bytes]:
    """Return what the client has sent, in DER, its own certificate first."""
    if connection.session_reused:
        return _CHAINS.get(certificate, [certificate])
    chain = _sent(connection) or [certificate]
    _CHAINS.pop(certificate, None)
    if len(chain) > 1 and sum(map(len, chain)) <= _LONGEST_CHAIN:
        _CHAINS[certificate] = chain  # the last one now
        if len(_CHAINS) > _MOST_CHAINS:
            del _CHAINS[next(iter(_CHAINS))]
    return chain


def _sent(connection: ssl.SSLObject) -> list[bytes]:
    """Return what came in this handshake; nothing where Python does not tell."""
    if hasattr(connection, "get_unverified_chain"):
        return list(connection.get_unverified_chain())
    # Before Python 3.13 the method is there under a private name only; pip's `truststore` takes it from there, too.
    ask = getattr(getattr(connection, "_sslobj", None), "get_unverified_chain", None)
    sent = ask() if ask is not None else None
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in sent or ()]


def _number(suite: str, context: ssl.SSLContext) -> int | None:
    """Return the number of a cipher suite that has been agreed on; OpenSSL's have the protocol in front of them."""
    if suite not in _NUMBERS:
        _NUMBERS.update((one["name"], one["id"] & 0xFFFF) for one in context.get_ciphers())
    return _NUMBERS.get(suite)
