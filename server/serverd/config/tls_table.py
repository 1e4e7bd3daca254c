"""The keys of [tls.NAME]: what a listener needs to speak TLS.

As in `models`, which puts all tables together: type, default, bounds and description beside the field. What the files
hold is looked at in `tls`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serverd.config.kinds import CipherList, FilePath, Text
from serverd.config.settings import Section

__all__ = ["Certificate", "Tls"]

# Each becomes a context of its own in every worker, and is read and compared with all others at each reload.
MOST_CERTIFICATES = 1000


class Certificate(Section):
    """A certificate and its private key, both in PEM; clients are shown the one for the name they ask for."""

    cert: FilePath = Field(
        description="The certificate, then those that lead to its authority, relative to this file.",
        examples=["example.com.crt"],
    )
    key: FilePath = Field(
        description="The private key, relative to this file; the supervisor reads it, so that nobody else must.",
        examples=["example.com.key"],
    )
    key_password: Text | None = Field(
        default=None,
        description="What an encrypted key is encrypted with.",
        examples=["${KEY_PASSWORD}"],
    )


class Tls(Section):
    """How listeners speak TLS; any number of them may refer to it by its name."""

    certificates: Annotated[tuple[Certificate, ...], Field(strict=False)] = Field(
        description="Certificates, chosen by the name that a client asks for: exact names before wildcards, the first"
        " one for all others. Two with keys of different kinds for one name are both used.",
        examples=[[{"cert": "example.com.crt", "key": "example.com.key"}]],
        min_length=1,
        max_length=MOST_CERTIFICATES,
    )
    min_version: Literal["1.2", "1.3"] = Field(default="1.2", description="The oldest version of TLS that is spoken.")
    ciphers: CipherList | None = Field(
        default=None,
        description="The cipher suites of TLS 1.2, in OpenSSL's words; by default those with forward secrecy and"
        " authenticated encryption. Those of TLS 1.3 are all good.",
        examples=["ECDHE+AESGCM:ECDHE+CHACHA20"],
    )
    client_auth: Literal["none", "optional", "required"] = Field(
        default="none",
        description="Whether clients are asked for a certificate; one that is not valid ends the handshake.",
    )
    client_ca: FilePath | None = Field(
        default=None,
        description="The authorities, in PEM, whose client certificates are valid.",
        examples=["clients.crt"],
    )
    client_crl: FilePath | None = Field(
        default=None,
        description="Their lists of revoked certificates, in PEM: one of each authority that is not out of date, or"
        " none of its certificates is valid.",
        examples=["clients.crl"],
    )
