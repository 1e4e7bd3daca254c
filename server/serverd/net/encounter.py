"""A client of TLS in memory that meets what a listener shows: how commands ask OpenSSL instead of repeating its rules.

`suites` and `cli.shown` ask; a server never does.
"""

from __future__ import annotations

import contextlib
import ssl

from serverd.net.tls import Contexts

__all__ = ["curious", "shake_hands"]

# Flights of a handshake, with room to spare.
_TURNS = 10


def curious(least: ssl.TLSVersion, most: ssl.TLSVersion, suites: str = "") -> ssl.SSLContext:
    """Return the context of a client that takes every certificate: it is to be seen, not believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = least, most
    if suites:
        context.set_ciphers(suites)
    return context


def shake_hands(contexts: Contexts, context: ssl.SSLContext, host: str = "") -> tuple[ssl.SSLObject, str]:
    """Return the client after its handshake, as far as that got, and why the server refused it, in OpenSSL's words."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client = context.wrap_bio(to_client, to_server, server_hostname=host or None)
    except ValueError:  # no name that TLS can carry: as if none were asked for
        client = context.wrap_bio(to_client, to_server)
    server = contexts.wrap(to_server, to_client)
    for _ in range(_TURNS):
        with contextlib.suppress(ssl.SSLError):  # it waits for the server, or has been told by it
            client.do_handshake()
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            return client, error.reason or "UNKNOWN"
    return client, ""
