"""A certificate authority for tests: certificates and keys of every kind that a server or a client may have.

Keys are made once for each kind, because making them takes longer than all the rest.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["DAY", "Authority", "Issued", "made_key"]

DAY = datetime.timedelta(days=1)


@cache
def made_key(kind: str, number: int = 0) -> CertificateIssuerPrivateKeyTypes:
    """Return a key of the kind "ec", "rsa" or "ed25519"; another `number`, another key."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issued:
    """A certificate with its chain and its key, in PEM."""

    certificate: x509.Certificate
    cert: str
    key: str

    def write(self, folder: Path, name: str) -> None:
        """Write `name`.crt and `name`.key."""
        (folder / f"{name}.crt").write_text(self.cert)
        (folder / f"{name}.key").write_text(self.key)

    @property
    def serial(self) -> str:
        """The serial number as ssl has it."""
        text = f"{self.certificate.serial_number:X}"
        return text if len(text) % 2 == 0 else f"0{text}"


class Authority:
    """A root, with an intermediate authority if `deep`, that issues certificates."""

    def __init__(
        self,
        name: str = "root",
        *,
        deep: bool = False,
        impostor: bool = False,
        begins: datetime.timedelta | None = None,
        ends: datetime.timedelta | None = None,
        inner_ends: datetime.timedelta | None = None,
    ) -> None:
        """An impostor has the name of another authority, and keys of its own; `begins` and the ends are from now."""
        other = 10 if impostor else 0
        key = made_key("ec", (-1 if name == "root" else -2) - other)
        self.root = _sign(_name(name), _name(name), key, key, _AUTHORITY, begins, ends)
        self.pem = _pem(self.root)
        self._chain = ""
        self._subject, self._key = _name(name), key
        if deep:
            inner_key, subject = made_key("ec", -3 - other), _name(f"{name} intermediate")
            inner = _sign(subject, self._subject, inner_key, key, _AUTHORITY, None, inner_ends)
            self._chain, self._subject, self._key = _pem(inner), subject, inner_key

    def issue(
        self,
        *names: str,
        kind: str = "ec",
        subject: x509.Name | None = None,
        begins: datetime.timedelta | None = None,
        ends: datetime.timedelta | None = None,
        client: bool = False,
        password: str = "",
        key_number: int = 0,
        more: Iterable[x509.ExtensionType] = (),
    ) -> Issued:
        """Return a certificate for `names`; it is valid from `begins` on, until `ends`, from now."""
        key = made_key(kind, key_number)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([usage]), *more]
        if names:
            extensions.append(x509.SubjectAlternativeName(list(map(_general, names))))
        certificate = _sign(
            subject or _name(names[0] if names else "nameless"), self._subject, key, self._key, extensions, begins, ends
        )
        how = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()
        return Issued(certificate, _pem(certificate) + self._chain, pem)

    def revocations(self, revoked: Iterable[Issued] = (), ends: datetime.timedelta = DAY) -> str:
        """Return the list of revoked certificates, in PEM; another one comes `ends` from now."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._subject)
        builder = builder.last_update(now - 9 * DAY).next_update(now + ends)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def client_context(self, certificate: Issued | None = None, folder: Path | None = None) -> ssl.SSLContext:
        """Return what a client that believes this authority uses, with a certificate of its own if there is one."""
        context = ssl.create_default_context(cadata=self.pem)
        if certificate is not None:
            assert folder is not None
            certificate.write(folder, "client")
            context.load_cert_chain(folder / "client.crt", folder / "client.key")
        return context


# What RFC 5280 demands of one (§4.2.1), as Python does from 3.13 on; and so the identifiers that `_sign` gives to all.
_AUTHORITY: list[x509.ExtensionType] = [
    x509.BasicConstraints(ca=True, path_length=None),
    x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    ),
]


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    extensions: list[x509.ExtensionType],
    begins: datetime.timedelta | None,
    ends: datetime.timedelta | None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + (begins or -DAY)).not_valid_after(now + (ends or 90 * DAY))
    # Made of the names and not of the keys, so that an impostor's are right, too, and the signature alone tells.
    identifiers = (
        x509.SubjectKeyIdentifier(_digest(subject)),
        x509.AuthorityKeyIdentifier(_digest(issuer), None, None),
    )
    for extension in (*extensions, *identifiers):
        critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _digest(name: x509.Name) -> bytes:
    return hashlib.sha1(name.public_bytes(), usedforsecurity=False).digest()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
