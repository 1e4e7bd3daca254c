"""What a certificate says, for the ASGI extension `tls`: its subject as LDAP writes names (RFC 4514), and its end.

Read from the certificate itself: `ssl` decodes all that stands in one to tell any of it, and raises UnicodeDecodeError
where something else than the subject, such as a mail address in Latin-1, is no UTF-8, which OpenSSL takes. It decides
nothing: whether a certificate is valid is OpenSSL's to say, before. Called by `tls_extension`.
"""

from __future__ import annotations

import re
from typing import Final

from serverd import der
from serverd.der import Element

__all__ = ["distinguished_name", "last_moment", "subject_name"]

_VERSION: Final = 0xA0  # [0] of TBSCertificate (RFC 5280 §4.1)
_VALIDITY: Final = 3  # behind serial number, signature and issuer
_SUBJECT: Final = 4  # behind serial number, signature, issuer and validity
_SET: Final = 0x31

_NAMES: Final = {
    # RFC 4514 §3.
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
    # What OpenSSL calls others that certificates have.
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionLocalityName",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionStateOrProvinceName",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionCountryName",
}

# X.680 §8.6 and what each holds; T61String is Latin-1, as OpenSSL and everybody else has it.
_TEXTS: Final = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # T61String
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_SPECIAL: Final = re.compile(r'["+,;<>\\]|^[ #]| $')  # RFC 4514 §2.4


def subject_name(certificate: bytes) -> str:
    """Return the subject of a certificate in DER; raises ValueError when it cannot be read."""
    return distinguished_name(_part(certificate, _SUBJECT))


def last_moment(certificate: bytes) -> int:
    """Return until when a certificate in DER is valid, in seconds since the epoch; raises ValueError."""
    dates = _part(certificate, _VALIDITY).children()
    if len(dates) != 2:
        raise ValueError("lacks a date")
    return der.moment(dates[1])


def _part(certificate: bytes, number: int) -> Element:
    try:
        fields = der.only_element(certificate, der.SEQUENCE).children()[0].expect(der.SEQUENCE).children()
        if fields[0].tag == _VERSION:
            del fields[0]
        return fields[number].expect(der.SEQUENCE)
    except IndexError:
        raise ValueError("lacks a part") from None


def distinguished_name(name: Element) -> str:
    """Return a Name (RFC 5280 §4.1.2.4) in the words of RFC 4514, the last part first; raises ValueError."""
    parts = [part.expect(_SET).children() for part in reversed(name.children())]
    return ",".join("+".join(map(_attribute, part)) for part in parts)


def _attribute(attribute: Element) -> str:
    """Return one attribute; what has no name but its number, or is no text, has its value in hexadecimal (§2.4)."""
    kind, value = attribute.expect(der.SEQUENCE).children()
    number = _dotted(kind.expect(der.OBJECT_IDENTIFIER).content)
    name, encoding = _NAMES.get(number), _TEXTS.get(value.tag)
    if name is not None and encoding is not None:
        try:
            text = value.content.decode(encoding)
        except UnicodeDecodeError:
            pass
        else:
            escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}", text).replace("\0", "\\00")
            return f"{name}={escaped}"
    return f"{name or number}=#{value.whole.hex()}"


def _dotted(content: bytes) -> str:
    """Return an object identifier as numbers with dots (X.690 §8.19); raises ValueError."""
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not content or content[-1] & 0x80:
        raise ValueError("has an object identifier that is cut off")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))
