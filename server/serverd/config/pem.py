"""The blocks of a PEM file (RFC 7468), and what a file is that has none of those that are expected.

It looks at labels only; what stands in a block is for `certificates`, which calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["blocks", "told_incomplete", "told_instead"]

# RFC 7468 §2, and as OpenSSL has it: what surrounds the blocks is explanation, also what does not begin its line
# ("# -----BEGIN"). Before a block may stand a byte order mark, which is no ASCII, and the end of another, where `cat`
# has put a file behind one without a last newline. No block goes beyond the beginning, or the end, of another, so that
# a file of beginnings is read in linear time.
_PLACE = r"(?:^[ \t\ufffd]*|(?<=-----))"
_BLOCK = re.compile(
    _PLACE + r"(-----BEGIN ([^-\n]{1,64})-----[ \t\r\f\v]*\n"
    r"([^-]*(?:-(?!----(?:BEGIN|END) )[^-]*)*)-----END \2-----)",
    re.MULTILINE,
)
_BEGINNING = re.compile(_PLACE + r"-----(BEGIN [^-\n]{0,64})", re.MULTILINE)  # also one that is cut off itself
# DER is a SEQUENCE (X.690 §8.9) whose length takes more than a byte, or that begins with a number, as short keys do;
# what is no ASCII has become U+FFFD.
_DER = re.compile(r"0(\ufffd|.\x02\x01)", re.DOTALL)
_UTF16 = "B\0E\0G\0I\0N"

# What people take for a certificate or a key, by the end of its label.
_KINDS = {
    "PRIVATE KEY": "a private key",
    "PUBLIC KEY": "a public key",
    "CERTIFICATE REQUEST": "a certificate request",
    "TRUSTED CERTIFICATE": "a certificate with OpenSSL's notes on trust",
    "CERTIFICATE": "a certificate",
    "X509 CRL": "a list of revoked certificates",
    "PARAMETERS": "parameters",
    "PKCS7": "a container of PKCS #7",
}


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield label, block and body of everything PEM."""
    for found in _BLOCK.finditer(text):
        yield found[2], found[1].replace("\r\n", "\n"), found[3]


def told_incomplete(text: str) -> str:
    """Return, as a predicate, that some block of `text` has not come to its end; "" when all have."""
    rest = _BEGINNING.search(_BLOCK.sub("", text))
    return f"is cut off or damaged: {rest[1]} has no END" if rest is not None else ""


def told_instead(text: str) -> str:
    """Return what a file of certificates or keys, none of which were found in `text`, is instead, in some words.

    They follow what it does not hold; "" when nothing can be told.
    """
    labels = [label for label, _, _ in blocks(text)]
    if labels:
        kinds = (next((kind for end, kind in _KINDS.items() if label.endswith(end)), label) for label in labels)
        return f", but {' and '.join(dict.fromkeys(kinds))}"
    if _BEGINNING.search(text):
        return f": it {told_incomplete(text)}"
    if not text.strip():
        return ": it is empty"
    if _DER.match(text):
        return ": it is DER or PKCS #12, which `openssl x509`, `openssl pkey` and `openssl pkcs12` make PEM of"
    return ": it is UTF-16, as some editors write it" if _UTF16 in text else ""
