"""Whether each certificate of a chain has really been signed by the next one, as a client would find out.

`config.pairs` compares their names; this takes cryptography, which here is OpenSSL's: a client in memory is served the
first k certificates, and believes certificate k+1 alone. Only signatures are judged, not dates, purposes or the
strength of algorithms, which the machines of clients see differently. `cli.check` asks it; a server never does.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence

from serverd.generation import Certificate
from serverd.net.tls import file_of

__all__ = ["broken_link"]

# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which `ssl` has no name for.
_NO_CHECK_TIME = 0x200000
# x509_vfy.h: no issuer found (the name is right, and the key identifier another), signature failure, no first
# certificate verified.
_NOT_SIGNED = frozenset({2, 7, 20, 21})
_END = "-----END CERTIFICATE-----\n"
# Flights of a handshake, with room to spare.
_TURNS = 10


def broken_link(certificate: Certificate) -> int:
    """Return the number, from 1, of the first certificate that the one behind it has not signed; 0: there is none.

    What cannot be judged, as of a key that fits no handshake, counts as sound. Raises OSError (ssl.SSLError is one)
    when certificate and key cannot be used.
    """
    blocks = [f"{block}{_END}" for block in certificate.cert.split(_END) if block.strip()]
    for number in range(1, len(blocks)):
        if not _is_signed(blocks[:number], blocks[number], certificate):
            return number
    return 0


def _is_signed(chain: Sequence[str], issuer: str, certificate: Certificate) -> bool:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    with file_of("".join(chain)) as cert, file_of(certificate.key) as key:
        server.load_cert_chain(cert, key, certificate.key_password)
    client.check_hostname = False
    client.load_verify_locations(cadata=issuer)
    client.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        return error.verify_code not in _NOT_SIGNED
    except ssl.SSLError:  # no algorithm in common: nothing is known
        pass
    return True


def _shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Have the two meet in memory; raises ssl.SSLError as the client sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_TURNS):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
            return
        with contextlib.suppress(ssl.SSLError):
            server.do_handshake()
