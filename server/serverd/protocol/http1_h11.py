"""Judging a head block with h11, for `http1_parser = "h11"`.

h11 lets bare LF and obs-fold through and folds repeated Content-Length fields into one, so grammar and
splitting are those of `head`, and h11 is a second opinion on what they accept.
"""

from __future__ import annotations

import h11

from serverd.errors import PeerError
from serverd.protocol.head import Fields, check_field_lines, split_fields
from serverd.protocol.names import is_plain

__all__ = ["H11Parser"]


class H11Parser:
    """A field parser."""

    __slots__ = ("notable",)

    def __init__(self) -> None:
        self.notable = False

    def split(self, block: bytes) -> Fields:
        """Return the fields of a whole head, names in lower case.

        Raises PeerError 400.
        """
        check_field_lines(block, block.find(b"\r\n") + 2, len(block) - 2)
        fields = split_fields(block)
        self.notable = not all(is_plain(name) for name, _ in fields)
        return fields

    def accept(self, block: bytes, is_followed: bool) -> None:
        """Ask h11 about a head that we accept; raises PeerError 400 when h11 does not."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(block))
        connection.receive_data(block)
        try:
            connection.next_event()
        except h11.RemoteProtocolError as error:
            raise PeerError(400, "malformed request head") from error
