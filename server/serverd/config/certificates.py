"""What stands in PEM files of certificates and keys, as far as it can be told without cryptography.

Names, dates and the kind of key are read with `der`, because the loader may not hold `ssl`, and `ssl` would not tell
them of a certificate that is no authority. Whether key and certificate belong together is for `net.tls` to find out,
in the process that uses them. RFC 5280 is the format of certificates, RFC 7468 that of PEM. Called by `tls`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from serverd import der
from serverd.config.pem import blocks, told_incomplete, told_instead
from serverd.der import Element

__all__ = [
    "Facts",
    "Key",
    "Revocations",
    "called",
    "covers",
    "read_certificates",
    "read_key",
    "read_revocation_lists",
    "tell_unlisted",
]

# RFC 7468 §5; §5.3 for the older labels of certificates.
_CERTIFICATE, _OLDER = _CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_TRUSTED = "TRUSTED CERTIFICATE"  # OpenSSL's own, with notes on what it is trusted for, which nobody here reads
_REVOCATION_LISTS = ("X509 CRL",)
_KEYS = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_OTHER_KEYS = ("OPENSSH PRIVATE KEY", "DSA PRIVATE KEY")  # that TLS has no use for

_SUBJECT_ALT_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17, RFC 5280 §4.2.1.6
_AUTHORITY_ACCESS = bytes.fromhex("2b06010505070101")  # 1.3.6.1.5.5.7.1.1, RFC 5280 §4.2.2.1
_ISSUERS_PLACE = bytes.fromhex("2b06010505073002")  # 1.3.6.1.5.5.7.48.2, caIssuers
_DNS_NAME, _ADDRESS = 0x82, 0x87  # [2] dNSName and [7] iPAddress of GeneralName
_COMMON_NAME = bytes((0x55, 0x04, 0x03))  # 2.5.4.3, RFC 5280 appendix A.1
_ORGANIZATION = bytes((0x55, 0x04, 0x0A))  # 2.5.4.10
_BMP_STRING = 0x1E  # the one string type of names that is not, or not nearly, UTF-8
_NAME_CHARACTERS = 64  # ub-common-name, RFC 5280 appendix A.1; of what exceeds it, so much is shown
_EXTENSIONS = 0xA3  # [3] of TBSCertificate
_VERSION = 0xA0  # [0] of TBSCertificate

# RFC 3279 §2.3.1 and §2.3.5, RFC 4055 §1.2, RFC 8410 §3.
_KEY_TYPES = {
    bytes.fromhex("2a864886f70d010101"): "rsa",
    bytes.fromhex("2a864886f70d01010a"): "rsa-pss",
    bytes.fromhex("2a8648ce3d0201"): "ec",
    bytes.fromhex("2b6570"): "ed25519",
    bytes.fromhex("2b6571"): "ed448",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says of itself."""

    names: tuple[str, ...]  # of subjectAltName: DNS names in lower case, and addresses
    key_type: str
    serial: str
    not_before: int  # seconds since the epoch
    not_after: int
    subject: bytes  # names as they are encoded
    issuer: bytes
    tells_issuer: bool = False  # it says where the certificate of its issuer can be had

    @property
    def called(self) -> str:
        """What people call it: its subject's common name or organization, else the first of its names."""
        return called(self.subject) or next(iter(self.names), "nameless")


@dataclass(frozen=True, slots=True)
class Revocations:
    """What a list of revoked certificates says of itself."""

    issuer: bytes  # a name as it is encoded
    since: int  # seconds since the epoch, when it was issued
    until: int  # when there should be another; 0: the list does not say


@dataclass(frozen=True, slots=True)
class Key:
    """A private key that is not looked into."""

    pem: str
    is_encrypted: bool


def read_certificates(text: str) -> tuple[str, list[Facts]]:
    """Return the certificates in a PEM text, without what surrounds them, and what each says.

    Raises ValueError with a predicate when there is none, or one that cannot be read.
    """
    found = _found(text, _CERTIFICATES, "no certificate", "BEGIN CERTIFICATE")
    if any(label == _TRUSTED for label, _, _ in blocks(text)):  # one that is passed over is missing in the chain
        raise ValueError(f"holds a {_TRUSTED}, with OpenSSL's notes (expected it as `openssl x509` writes it)")
    facts = []
    for number, (_, body) in enumerate(found, 1):
        try:
            facts.append(_read_certificate(binascii.a2b_base64(body)))
        except ValueError as error:  # binascii.Error is one
            raise ValueError(f"holds something else as certificate {number}: it {_predicate(error)}") from None
    # Under the label that Python's `ssl` knows, too.
    return "".join(f"{block}\n".replace(_OLDER, _CERTIFICATE) for block, _ in found), facts


def _found(text: str, labels: tuple[str, ...], none: str, expected: str) -> list[tuple[str, str]]:
    """Return block and body of those with one of `labels`, whole files only: half a chain would pass for a short one.

    Raises ValueError.
    """
    found = [(block, body) for label, block, body in blocks(text) if label in labels]
    if not found:
        raise ValueError(f"holds {none}{told_instead(text)} (expected PEM, with {expected})")
    incomplete = told_incomplete(text)
    if incomplete:
        raise ValueError(f"{incomplete} (expected the whole file)")
    return found


def _predicate(error: ValueError) -> str:
    return "is not base64" if isinstance(error, binascii.Error) else str(error)


def read_key(text: str) -> Key:
    """Return the private key in a PEM text, without what surrounds it.

    Raises ValueError with a predicate when there is none, or one that is of no use.
    """
    labels = []
    for label, block, body in blocks(text):
        labels.append(label)
        if label in _KEYS:
            return Key(f"{block}\n", label.startswith("ENCRYPTED") or "ENCRYPTED" in body.partition("\n")[0])
    if any(label in _OTHER_KEYS for label in labels):
        raise ValueError("holds a private key that is of no use for TLS (expected one of RSA, EC or Ed25519 in PEM)")
    raise ValueError(f"holds no private key{told_instead(text)} (expected PEM, with BEGIN PRIVATE KEY)")


def read_revocation_lists(text: str) -> tuple[str, list[Revocations]]:
    """Return the lists of revoked certificates in a PEM text, without what surrounds them, and what each says.

    Raises ValueError with a predicate when there is none, or one that cannot be read.
    """
    found = _found(text, _REVOCATION_LISTS, "no list of revoked certificates", "BEGIN X509 CRL")
    lists = []
    for number, (_, body) in enumerate(found, 1):
        try:
            lists.append(_read_list(binascii.a2b_base64(body)))
        except ValueError as error:
            raise ValueError(f"holds something else as list {number}: it {_predicate(error)}") from None
    return "".join(f"{block}\n" for block, _ in found), lists


def tell_unlisted(authorities: str, lists: str) -> str:
    """Return, as a predicate of what holds `lists`, which authorities have none there; "" when all have.

    Both are as the functions above return them. An authority and its lists have the same encoding of its name (RFC 5280
    §7.1).
    """
    issuers = {_read_list(binascii.a2b_base64(body)).issuer for _, _, body in blocks(lists)}
    unlisted = [one.called for one in read_certificates(authorities)[1] if one.subject not in issuers]
    if not unlisted:
        return ""
    names = ", ".join(f'"{name}"' for name in dict.fromkeys(unlisted))
    return f"holds no list of {names}, which `client_ca` names (no certificate of a client from there is valid)"


def called(name: bytes) -> str:
    """Return the common name, or else the organization, of a name as it is encoded; "" when it has neither."""
    found: dict[bytes, str] = {}
    try:
        for part in der.only_element(name, der.SEQUENCE).children():
            for attribute in part.children():
                kind, value = attribute.expect(der.SEQUENCE).children()
                text = value.content.decode("utf-16-be" if value.tag == _BMP_STRING else "utf-8", "replace")
                found.setdefault(kind.content, text[:_NAME_CHARACTERS])
    except ValueError:
        return ""
    return found.get(_COMMON_NAME) or found.get(_ORGANIZATION, "")


def covers(pattern: str, name: str) -> bool:
    """Return whether a certificate for `pattern` is one for `name` (RFC 9525 §6.3); both are in lower case.

    A wildcard is the whole left-most label, and stands for one.
    """
    if pattern == name:
        return True
    return pattern.startswith("*.") and name.partition(".")[2] == pattern[2:]


def _read_certificate(data: bytes) -> Facts:
    """Read a certificate (RFC 5280 §4.1); raises ValueError."""
    try:
        signed = der.only_element(data, der.SEQUENCE).children()[0].expect(der.SEQUENCE)
        fields = signed.children()
        if fields[0].tag == _VERSION:
            del fields[0]
        serial, _, issuer, validity, subject, key = fields[:6]
        not_before, not_after = validity.expect(der.SEQUENCE).children()
        algorithm = key.expect(der.SEQUENCE).children()[0].children()[0].expect(der.OBJECT_IDENTIFIER)
        return Facts(
            names=tuple(dict.fromkeys(_names(fields[6:]))),
            key_type=_KEY_TYPES.get(algorithm.content, "other"),
            serial=serial.expect(der.INTEGER).content.hex().upper().removeprefix("00") or "00",
            not_before=der.moment(not_before),
            not_after=der.moment(not_after),
            subject=subject.expect(der.SEQUENCE).whole,
            issuer=issuer.expect(der.SEQUENCE).whole,
            tells_issuer=_tells_issuer(fields[6:]),
        )
    except IndexError:
        raise ValueError("lacks a part") from None


def _read_list(data: bytes) -> Revocations:
    """Read a list of revoked certificates (RFC 5280 §5.1); raises ValueError."""
    try:
        fields = der.only_element(data, der.SEQUENCE).children()[0].expect(der.SEQUENCE).children()
        if fields[0].tag == der.INTEGER:
            del fields[0]  # the version
        since = der.moment(fields[2])
        following = fields[3].tag if len(fields) > 3 else None
        until = der.moment(fields[3]) if following in (der.UTC_TIME, der.GENERALIZED_TIME) else 0
        return Revocations(fields[1].expect(der.SEQUENCE).whole, since, until)
    except IndexError:
        raise ValueError("lacks a part") from None


def _names(fields: list[Element]) -> Iterator[str]:
    """Yield the DNS names and addresses of subjectAltName, among the last fields of a TBSCertificate."""
    for value in _extensions(fields, _SUBJECT_ALT_NAME):
        yield from filter(None, map(_name, value.children()))


def _tells_issuer(fields: list[Element]) -> bool:
    """Return whether there is an address of the issuer's certificate, among the last fields of a TBSCertificate."""
    places = (place for value in _extensions(fields, _AUTHORITY_ACCESS) for place in value.children())
    return any(place.expect(der.SEQUENCE).children()[0].content == _ISSUERS_PLACE for place in places)


def _extensions(fields: list[Element], wanted: bytes) -> Iterator[Element]:
    """Yield the value, a sequence, of each extension of one kind."""
    for field in fields:
        if field.tag != _EXTENSIONS:
            continue
        for extension in der.only_element(field.content, der.SEQUENCE).children():
            identifier, *_, value = extension.expect(der.SEQUENCE).children()
            if identifier.content == wanted:
                yield der.only_element(value.expect(der.OCTET_STRING).content, der.SEQUENCE)


def _name(name: Element) -> str:
    """Return a DNS name or an address as text; "" for what is neither."""
    if name.tag == _DNS_NAME:
        return name.content.decode("ascii", "replace").lower().rstrip(".")
    if name.tag == _ADDRESS and len(name.content) in (4, 16):
        import ipaddress  # few certificates have one

        return str(ipaddress.ip_address(name.content))
    return ""
