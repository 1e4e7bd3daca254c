"""Splitting a head block into field lines with httptools (llhttp); the default parser of `http1`.

llhttp is exactly as strict about field lines as the grammar of `head`: tests/protocol holds the two against
each other for every byte in every place, so the grammar is not matched a second time here.
"""

from __future__ import annotations

from typing import Final

import httptools

from serverd.errors import PeerError
from serverd.protocol.head import Fields, check_field_lines, split_fields
from serverd.protocol.names import is_plain

__all__ = ["HttptoolsParser"]


_NO_FIELDS: Final[Fields] = []  # never added to: `split` begins with a list of its own

# Plain names as clients have written them, and in lower case. A client that makes up names fills it; then looking
# at each anew costs the others 0.3 us.
_plain: dict[bytes, bytes] = {}
_PLAIN_KEPT: Final = 1024
_PLAIN_SIZE: Final = 64  # bytes; the longest of the IANA registry has 43
_get_plain = _plain.get


class HttptoolsParser:
    """A field parser; what it has been given of one head it has forgotten before the next."""

    __slots__ = ("_complete", "_fields", "_is_ready", "_parser", "_refused", "notable")

    def __init__(self) -> None:
        self._fields: Fields = []
        self._complete = False  # llhttp has seen the end of the head
        self.notable = False
        self._refused = False  # llhttp has found something wrong in it
        self._is_ready = True  # llhttp expects a head
        self._parser = httptools.HttpRequestParser(self)

    def split(self, block: bytes) -> Fields:
        """Return the fields of a whole head, names in lower case.

        Raises PeerError 400.
        """
        if not self._is_ready:
            self._parser = httptools.HttpRequestParser(self)
        self._is_ready = False  # until the head has been accepted: whoever refuses it need not say so
        self._fields = []
        self._complete = self._refused = self.notable = False
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            # llhttp stops at an Upgrade offer, which is none of its business here.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self._parser = httptools.HttpRequestParser(self)
            # After the last field line llhttp only judges the framing, which `head` does for both parsers.
            if not self._complete and not self._feed_anew(block):
                return self._split_refused(block)
        fields = self._fields
        self._fields = _NO_FIELDS  # what a connection has sent ends with it
        return fields

    def _feed_anew(self, block: bytes) -> bool:
        """Try again with a parser that is new; return whether it has come to the end of the head."""
        # After `Proxy-Connection: close`, which is nothing to us, llhttp refuses whatever comes next.
        self._fields = []
        self.notable = False
        try:
            self._parser.feed_data(block)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._parser = httptools.HttpRequestParser(self)
            return self._complete
        return True

    def _split_refused(self, block: bytes) -> Fields:
        """Return the fields that llhttp would not: the framing among them may earn another status than 400."""
        check_field_lines(block, block.find(b"\r\n") + 2, len(block) - 2)
        self._refused = self.notable = True
        return split_fields(block)

    def accept(self, block: bytes, is_followed: bool) -> None:
        """Go on with the same llhttp if it expects a head; raises PeerError 400 when llhttp has refused this one."""
        if self._refused:
            raise PeerError(400, "malformed request head")
        self._is_ready = is_followed

    def on_header(self, name: bytes, value: bytes) -> None:
        # Hot path: called once per field line; benchmarks/ "no two requests alike".
        # llhttp leaves the white space behind a value, which is no part of it (RFC 9112 §5.1).
        self._fields.append((_get_plain(name) or self._look_at(name), value.rstrip()))

    def _look_at(self, name: bytes) -> bytes:
        """Return a name that has not been seen before in lower case, and note whether it is plain."""
        lower = name.lower()
        if not is_plain(lower):
            self.notable = True
        elif len(_plain) < _PLAIN_KEPT and len(name) <= _PLAIN_SIZE:
            _plain[name] = lower
        return lower

    def on_headers_complete(self) -> None:
        self._complete = True
