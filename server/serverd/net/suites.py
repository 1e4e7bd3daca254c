"""Whether a client of TLS 1.2 can be served at all with `ciphers` and the certificates beside them, as OpenSSL has it.

Which suite goes with which key, and what else one takes, such as parameters for DHE, is OpenSSL's knowledge: a client
in memory that takes every suite there is either agrees on one or does not. `cli.check` asks; a server never does.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace

from serverd.generation import Certificate, Tls
from serverd.net.encounter import curious, shake_hands
from serverd.net.tls import Contexts

__all__ = ["unserved"]


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
    client = curious(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return shake_hands(contexts, client)[1] != "NO_SHARED_CIPHER"
