"""What can be told of a request whose head is refused: its request line, as far as it has come and can be read.

For logs, where it stands in the place of a `RequestHead`; nothing is decided by it. `http1` and `http2_head` attach it
to the PeerError, once there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from serverd.protocol.head import TOKEN, UNSHOWN, Fields, Shown

__all__ = ["NOTHING_READ", "NOTHING_READ_HTTP2", "PartialHead", "read_pseudo_fields", "read_request_line"]

# Bytes of a request line that are looked at: as many as limits.request_line allows by default.
_LONGEST: Final = 8 * 1024
# Method and target, and the version if it has come as well. Of what is no token nobody knows what it is, and a target
# ends where a line or a terminal would take something else for its end; logs escape the rest.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([^\x00-\x20\x7f]+)(?: HTTP/([0-9]\.[0-9])(?=\r?\n|\r?$))?")
_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f]+")


class PartialHead:
    """A head of which the request line is known at most."""

    __slots__ = ("method", "path", "query", "raw_path", "version")

    fields: Fields = []  # noqa: RUF012 - of all: none, and nobody adds any
    host = None
    notable = False

    def __init__(self, method: str, version: str, target: bytes) -> None:
        self.method = method  # "-": unknown
        self.version = version
        self.raw_path, _, self.query = target.partition(b"?")
        self.path = self.raw_path.decode("utf-8", "replace")

    @property
    def shown(self) -> Shown:
        """Nothing, ever: no such head comes again, and the two below are everybody's."""
        return UNSHOWN

    @shown.setter
    def shown(self, texts: object) -> None:  # no Shown: tests/test_compiled.py says why
        """Keep nothing."""


NOTHING_READ: Final = PartialHead("-", "1.1", b"-")
"""Of a connection over which nothing has come that is a request line."""

NOTHING_READ_HTTP2: Final = PartialHead("-", "2", b"-")
"""Of a stream of which nobody knows what it asks for: it may be a HEAD (RFC 9110 §9.3.2)."""


def read_request_line(data: bytes) -> PartialHead | None:
    """Return what `data`, the bytes of a head, begins with; None when that is no request line.

    One whose version is missing has that of the connection, 1.1.
    """
    match = _LINE.match(data[: 2 * _LONGEST].lstrip(b"\r\n")[:_LONGEST])
    if match is None:
        return None
    method, target, version = match.groups(b"1.1")
    return PartialHead(method.decode("ascii"), version.decode("ascii"), target)


def read_pseudo_fields(pseudo: Mapping[bytes, bytes]) -> PartialHead | None:
    """Return what the pseudo-fields of an HTTP/2 request say; None when the method is missing, or none."""
    method = pseudo.get(b":method", b"")
    if not TOKEN.fullmatch(method):
        return None
    target = _TARGET.match(pseudo.get(b":path", b"")[:_LONGEST])
    return PartialHead(method[:64].decode("ascii"), "2", b"-" if target is None else target[0])
