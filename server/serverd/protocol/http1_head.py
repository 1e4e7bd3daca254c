"""One HTTP/1 head out of its bytes: request line, field section, framing (RFC 9112 §3, §5, §6).

The grammar is that of `head`; a parser (`http1_httptools`, `http1_h11`) splits the field lines and lets none
through that the grammar does not. `http1` finds the block and calls this, once per request.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from serverd.errors import PeerError
from serverd.protocol.head import (
    Fields,
    Framing,
    RequestHead,
    Target,
    check_field_lines,
    check_line_beginning,
    frame_request,
    normalise_host,
    parse_request_line,
)
from serverd.protocol.names import without_ambiguous

__all__ = ["Bounds", "FieldParser", "HeadReader"]


class FieldParser(Protocol):
    """What a parser library does for decoders: whole heads, one after the other, of whichever connection."""

    notable: bool
    """Whether a name among the fields that were split last is not `names.is_plain`."""

    def split(self, block: bytes) -> Fields:
        """Return the fields of a whole head, names in lower case.

        Raises PeerError 400 for what is not field lines by the grammar of `head.check_field_lines`.
        """

    def accept(self, block: bytes, is_followed: bool) -> None:
        """Take note that the head which was split is good, and whether another may follow right behind it.

        Raises PeerError 400 when the library sees more in it than we do.
        """


class Bounds(NamedTuple):
    """Limits on a request, in bytes and fields; 0 for `body_size` is unlimited."""

    request_line: int
    header_size: int
    header_count: int
    body_size: int
    ambiguous_names: str = "drop"  # field names with "_" or ".": drop | pass | refuse


_UNKNOWN_METHOD: Final = 501

# A larger head is parsed anew: ten thousand idle connections should not keep much.
_REMEMBERED_SIZE: Final = 4 * 1024


class HeadReader:
    """Reads the heads of one connection."""

    __slots__ = ("_block", "_bounds", "_framing", "_head", "_parser", "_section", "_section_size")

    def __init__(self, parser: FieldParser, bounds: Bounds) -> None:
        self._parser = parser
        self._bounds = bounds
        # The last request without a body, as it came and as it was understood.
        self._block = b""
        self._section = b""  # of the block: from the CRLF of the request line to the empty line
        self._section_size = 0
        self._head: RequestHead | None = None
        self._framing: Framing = (None, 0, True, False)

    def recall(self, data: bytes) -> RequestHead | None:
        """Return the head that `data` is, if that needs no reading of fields; raises PeerError."""
        # Hot path: most clients send the same fields again and again, many the same request; benchmarks/
        # "GET with 11 browser headers". What is remembered is one whole head, so `data` is exactly that, too.
        if data == self._block:
            return self._head
        line_end = data.find(b"\r\n")
        known = self._head
        # Of pipelined requests `data` is all that have come: no more of it is copied than tells whether there is more.
        if known is None or line_end <= 0 or data[line_end : line_end + self._section_size + 1] != self._section:
            return None
        method, version, target = self._parse_request_line(data[:line_end])
        framing = self._framing
        if version != known.version:
            framing = frame_request(version, known.fields)
        head = RequestHead(method, version, target, known.fields, framing)
        head.notable = known.notable
        if target[0] is not None:
            self._apply_authority(head, target[0])
        return head

    def read(self, block: bytes) -> RequestHead:
        """Return the head that `block` is, from the request line to the empty line; raises PeerError."""
        line_end = block.find(b"\r\n")
        try:
            method, version, target = self._parse_request_line(block[:line_end])
        except PeerError as error:
            if error.status == _UNKNOWN_METHOD:
                self.check_lines(block, line_end, line_end + 2)
            raise
        bounds = self._bounds
        size = len(block)
        if size - line_end > bounds.header_size:
            self.check_lines(block, line_end, line_end + 2)
        fields = self._parser.split(block)
        if len(fields) > bounds.header_count:
            raise PeerError(431, "more fields than limits.header_count")
        notable = self._parser.notable
        if notable:
            fields = without_ambiguous(fields, bounds.ambiguous_names)
        framing = frame_request(version, fields)
        head = RequestHead(method, version, target, fields, framing)
        self._parser.accept(block, not head.length and head.keep_alive)
        head.notable = notable
        if target[0] is not None:
            self._apply_authority(head, target[0])
        elif not head.length and size <= _REMEMBERED_SIZE:
            self._block = block
            self._section = block[line_end:]
            self._section_size = size - line_end
            self._head = head
            self._framing = framing
        return head

    # A head that arrives in pieces is refused as soon as it cannot become good, and with the same status
    # as one that arrives whole: what comes first in it is judged first.

    def check_beginning(self, data: bytes) -> None:
        """Refuse a request line before its end has arrived; raises PeerError."""
        longest = self._bounds.request_line
        check_line_beginning(data[:longest])
        if len(data) - data.endswith(b"\r") > longest:
            raise PeerError(414, "request line longer than limits.request_line")

    def check_line(self, line: bytes) -> None:
        """Refuse a request line before its fields have arrived; raises PeerError."""
        try:
            self._parse_request_line(line)
        except PeerError as error:
            # A method that we lack breaks nothing: it is refused when the head is there.
            if error.status != _UNKNOWN_METHOD:
                raise

    def check_lines(self, data: bytes, line_end: int, checked: int) -> int:
        """Refuse field lines, of which those before `checked` are good; return where the good ones end.

        Raises PeerError.
        """
        largest = line_end + self._bounds.header_size
        too_large = len(data) > largest
        whole = data.rfind(b"\n", checked, largest if too_large else len(data)) + 1
        # The empty line after the last field line ends a whole head.
        end = whole - 2 if data.startswith(b"\r\n\r\n", whole - 4) else whole
        if end > checked:
            check_field_lines(data, checked, end)
        if too_large:
            raise PeerError(431, "header section larger than limits.header_size")
        return max(end, checked)

    def _parse_request_line(self, line: bytes) -> tuple[str, str, Target]:
        if len(line) > self._bounds.request_line:
            self.check_beginning(line + b" ")  # whatever follows, it is too long
        return parse_request_line(line)

    @staticmethod
    def _apply_authority(head: RequestHead, authority: bytes) -> None:
        """Put the authority of an absolute-form target in the place of Host (RFC 9112 §3.2.2)."""
        head.host = normalise_host(authority)
        head.fields = [(b"host", authority), *(item for item in head.fields if item[0] != b"host")]
