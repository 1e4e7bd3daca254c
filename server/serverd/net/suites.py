"""Whether a client of TLS 1.2 can be served at all with `ciphers` and the certificates beside them, as OpenSSL has it.

Which suite goes with which key, and what else one takes, such as parameters for DHE, is OpenSSL's knowledge: a client
in memory that takes every suite there is either agrees on one or does not. `cli.check` asks; a server never does.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import replace

from serverd.generation import Certificate, Tls
from serverd.net.tls import Contexts

__all__ = ["unserved"]

# Flights of a handshake, with room to spare.
_TURNS = 10


def unserved(tls: Tls) -> Iterator[Certificate]:
    """Yield each certificate for whose key there is no suite, and for some name of which there is no other.

    Raises ConfigError when the table cannot be used.
    """
    if not tls.ciphers or tls.min_version != "1.2":
        return
    lacking = [one for one in tls.certificates if not _is_served(tls, one)]
    names = {name for one in tls.certificates if one not in lacking for name in one.names}
    yield from (one for one in lacking if not one.names or not names.issuperset(one.names))


def _is_served(tls: Tls, certificate: Certificate) -> bool:
    contexts = Contexts(replace(tls, certificates=(certificate,), client_auth="none"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = _anything().wrap_bio(to_client, to_server), contexts.wrap(to_server, to_client)
    for _ in range(_TURNS):
        with contextlib.suppress(ssl.SSLError):  # it waits for the server, or has been told by it
            client.do_handshake()
            return True
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return error.reason != "NO_SHARED_CIPHER"
    return True  # for all that is known


def _anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
