"""The heads of HTTP/2 responses into header blocks (RFC 9113 §8.2, §8.3.2).

As `http1_response`, it frames and nothing more: `asgi.exchange` has checked that names and values are legal.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.head import Fields
from serverd.protocol.hpack_encoder import HpackEncoder
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2_fields import CONNECTION_NAMES

__all__ = ["ResponseHeads", "without_connection_fields"]

# A larger block is not kept: ten thousand idle connections should not keep much (`http2_head`).
_BLOCK_SIZE: Final = 512

_STATUS_FIELDS: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}

_DATE: Final = b"date"
_SERVER: Final = b"server"
_LENGTH: Final = b"content-length"
# RFC 9113 §8.2.2: what belongs to an HTTP/1.1 connection is not sent, whatever an application says.
_NOTED: Final = CONNECTION_NAMES | {_DATE, _SERVER, _LENGTH}


class ResponseHeads:
    """Encodes the response heads of one connection."""

    __slots__ = ("_block", "_both", "_changes", "_date", "_defaults", "_encoder", "_fields", "_server", "_status")

    def __init__(self, encoder: HpackEncoder, defaults: DefaultFields) -> None:
        self._encoder = encoder
        self._defaults = defaults
        self._both = b""  # what `defaults` was when the fields were made
        self._date: Fields = []
        self._server: Fields = []
        # The last block, and what it says.
        self._status = 0
        self._fields: Fields = []
        self._block = b""
        self._changes = 0  # of the encoder until then

    def encode(self, status: int, fields: Fields) -> bytes:
        """Return the header block of a final response; Date and Server are added where they are missing."""
        defaults = self._defaults
        encoder = self._encoder
        if defaults.both is not self._both:
            self._both = defaults.both
            self._date = _parse_line(defaults.date)
            self._server = _parse_line(defaults.server)
            self._status = 0  # the block has the date of before
        elif status == self._status and encoder.changes == self._changes and fields == self._fields:
            # Hot path: most applications say the same again and again; benchmarks/ "HTTP/2".
            return self._block
        date = self._date
        server = self._server
        # Hot path: one loop; benchmarks/ "HTTP/2".
        result = [_STATUS_FIELDS[status]]
        for field in fields:
            name = field[0]
            if name in _NOTED:
                if name == _DATE:
                    date = []
                elif name == _SERVER:
                    server = []
                elif name != _LENGTH or status == 204:  # RFC 9110 §8.6: never in a 204
                    continue
            result.append(field)
        result += date
        result += server
        changes = encoder.changes
        block = encoder.encode(result)
        if len(block) <= _BLOCK_SIZE:
            self._status, self._fields, self._block, self._changes = status, fields, block, changes
        return block

    def encode_informational(self, status: int, fields: Fields) -> bytes:
        """Return the header block of an interim response (RFC 9110 §15.2)."""
        return self._encoder.encode([_STATUS_FIELDS[status], *without_connection_fields(fields)])


def without_connection_fields(fields: Fields) -> Fields:
    """Return the fields that HTTP/2 has, for what is no final response."""
    return [field for field in fields if field[0] not in CONNECTION_NAMES]


def _parse_line(line: bytes) -> Fields:
    """Return the field of a field line of HTTP/1, or nothing for none."""
    name, _, value = line.removesuffix(b"\r\n").partition(b": ")
    return [(name, value)] if name else []
