"""The grammar of the Forwarded field (RFC 7239 §4), read from its right end; used by `forwarded` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from serverd.protocol.head import TOKEN

__all__ = ["parse_element", "split_elements"]

# forwarded-pair (RFC 7239 §4). Beyond the grammar, what proxies write: an address with a colon or brackets without
# quotes, and white space around ";".
_PAIR: Final = re.compile(
    rb"[ \t]*(%b)=(?:([0-9A-Za-z!#$%%&'*+\-.^_`|~:\[\]]+)|\"((?:[^\"\\]|\\.)*)\")[ \t]*" % TOKEN.pattern, re.DOTALL
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


def split_elements(value: bytes) -> Iterator[bytes]:
    """Return the elements of a Forwarded value from the right, without empty ones.

    What stands left of an element has no say in where it begins: a quote that the client leaves open must not
    swallow what a proxy appends.
    """
    end = start = len(value)
    quotes = 0  # not escaped, right of `start` in this element; odd: the comma there stands in a quoted string
    while start >= 0:
        comma = value.rfind(b",", 0, start)
        part = value[comma + 1 : start]
        start = comma
        if b'"' in part:
            quotes += _ESCAPED.sub(b"", part).count(b'"')
        if not quotes % 2:
            element = value[start + 1 : end].strip(b" \t")
            end = start
            quotes = 0
            if element:
                yield element
    # What is left over is an open quote at the beginning: no proxy has written it.


def parse_element(element: bytes) -> dict[bytes, bytes] | None:
    """Return the parameters of an element, names in lower case; None for one that is malformed (RFC 7239 §4)."""
    pairs: dict[bytes, bytes] = {}
    position = 0
    size = len(element)
    while position < size:
        match = _PAIR.match(element, position)
        if match is not None:
            name, plain, quoted = match.groups()
            name = name.lower()
            if name in pairs:
                return None
            pairs[name] = plain if quoted is None else _ESCAPED.sub(rb"\1", quoted)
            position = match.end()
        if position < size:
            if element[position] != ord(";"):
                return None
            position += 1
    return pairs
