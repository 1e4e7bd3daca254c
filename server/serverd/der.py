"""The part of DER (X.690) that reading a certificate takes: an element, and those within it.

Strict where it costs nothing and bounded everywhere: lengths are definite and lie within what holds them, tags are of
one byte, and nothing recurses. What the elements mean is in `config.certificates` and `connection.subject`.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "GENERALIZED_TIME",
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "UTC_TIME",
    "Element",
    "elements",
    "moment",
    "only_element",
]

# X.690 §8.1.2, with the class and the bit for constructed ones.
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30

_LONG_TAG = 0x1F  # a tag number beyond 30, which no certificate has
_LENGTH_BYTES = 4  # of a long length: 4 GiB


class Element(NamedTuple):
    """One element: its tag, what is in it, and both as they are written."""

    tag: int
    content: bytes
    whole: bytes

    def expect(self, tag: int) -> Element:
        """Return the element itself; raises ValueError when it is another than `tag`."""
        if self.tag != tag:
            raise ValueError(f"has an element 0x{self.tag:02x} where 0x{tag:02x} belongs")
        return self

    def children(self) -> list[Element]:
        """Return the elements within a constructed one; raises ValueError."""
        return list(elements(self.content))


def elements(data: bytes) -> Iterator[Element]:
    """Yield the elements that `data` is made of; raises ValueError for what is no sequence of whole ones."""
    position, end = 0, len(data)
    while position < end:
        start = position
        if end - position < 2 or data[position] & _LONG_TAG == _LONG_TAG:
            raise ValueError("is cut off, or has a tag that no certificate has")
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= _LENGTH_BYTES or end - position < count:
                raise ValueError("has a length that DER does not know")
            length = int.from_bytes(data[position : position + count])
            position += count
        if end - position < length:
            raise ValueError("is cut off")
        yield Element(tag, data[position : position + length], data[start : position + length])
        position += length


def only_element(data: bytes, tag: int) -> Element:
    """Return the element `tag` that all of `data` is; raises ValueError when it is not."""
    found = list(elements(data))
    if len(found) != 1:
        raise ValueError("has something behind its end")
    return found[0].expect(tag)


def moment(element: Element) -> int:
    """Return the seconds since the epoch that a Time is (RFC 5280 §4.1.2.5); raises ValueError."""
    text = element.content.decode("ascii", "replace")
    if element.tag == UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif element.tag != GENERALIZED_TIME:
        raise ValueError("has a date that is none")
    try:
        return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
    except ValueError:
        raise ValueError("has a date that is none") from None
