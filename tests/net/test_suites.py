"""Cipher suites of TLS 1.2 that go with none of the certificates: found out by handshakes."""

from __future__ import annotations

import pytest

from serverd.errors import ConfigError
from serverd.generation import Certificate, Tls
from serverd.net.suites import unserved
from tests.support.authority import Authority

AUTHORITY = Authority()


def pair(name: str, kind: str) -> Certificate:
    issued = AUTHORITY.issue(name, kind=kind)
    return Certificate(issued.cert, issued.key, names=(name,), key_type=kind)


EC, RSA, ED25519 = (pair("a.example", kind) for kind in ("ec", "rsa", "ed25519"))
OTHER = pair("b.example", "rsa")


@pytest.mark.parametrize(
    ("ciphers", "certificates", "expected"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (RSA,), (RSA,)),
        ("ECDHE-RSA-AES128-GCM-SHA256", (EC,), (EC,)),
        ("ECDHE-RSA-AES128-GCM-SHA256", (ED25519,), (ED25519,)),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (EC,), ()),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (ED25519,), ()),
        ("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", (RSA, OTHER), ()),
        # It goes with the key, but there are no parameters for it.
        ("DHE-RSA-AES128-GCM-SHA256", (RSA,), (RSA,)),
        # Clients of TLS 1.2 get the other one, and those of TLS 1.3 that take no ECDSA this one.
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (EC, RSA), ()),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (EC, OTHER), (OTHER,)),
        ("", (RSA, EC), ()),
    ],
)
def test_a_certificate_that_goes_with_no_suite_is_told(
    ciphers: str, certificates: tuple[Certificate, ...], expected: tuple[Certificate, ...]
) -> None:
    assert tuple(unserved(Tls("main", certificates, ciphers=ciphers))) == expected


def test_whether_clients_are_asked_for_certificates_makes_no_difference() -> None:
    tls = Tls("main", (EC,), ciphers="ECDHE+AESGCM", client_auth="required", client_ca=AUTHORITY.pem)
    assert list(unserved(tls)) == []


def test_suites_that_nobody_knows_are_an_error() -> None:
    with pytest.raises(ConfigError, match="OpenSSL knows none"):
        list(unserved(Tls("main", (EC,), ciphers="ROT13")))
