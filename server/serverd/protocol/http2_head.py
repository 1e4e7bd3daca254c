"""The head of an HTTP/2 request out of its header block (RFC 9113 §8.2, §8.3), as the `RequestHead` of every protocol.

Two kinds of refusal: what the RFC calls malformed is a StreamFault, whoever sent it does not speak HTTP/2. What is good
HTTP/2 and yet not served here - an unknown method, a target or host outside the grammar of `head`, a list that is too
large - is a PeerError whose status the client is told.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.head import TOKEN, Fields, Framing, RequestHead, Target, parse_target
from serverd.protocol.hpack import HeaderListTooLarge
from serverd.protocol.hpack_decoder import HpackDecoder
from serverd.protocol.hpack_huffman import decode as decode_huffman
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_fields import Section, check_fields, malformed, read_section
from serverd.protocol.methods import METHODS
from serverd.protocol.partial_head import read_pseudo_fields

__all__ = ["Http2HeadReader", "TunnelHead"]

_METHOD: Final = b":method"
_SCHEME: Final = b":scheme"
_PATH: Final = b":path"
_AUTHORITY: Final = b":authority"
_PROTOCOL: Final = b":protocol"
_PSEUDO_NAMES: Final = frozenset((_METHOD, _SCHEME, _PATH, _AUTHORITY, _PROTOCOL))

# Blocks that are known again, per connection: so many, of so many bytes. Most clients send a few again and again.
_BLOCKS_KEPT: Final = 16
_BLOCK_SIZE: Final = 512
# What says more is looked at anew: ten thousand idle connections should not keep much (`http1_head`). Counted as in
# RFC 9113 §6.5.2, which is with names, path and what comes out of the table, and 32 bytes beside each field.
_REMEMBERED_SIZE: Final = 6 * 1024

# What a request line has beside method and path, as if it were one of HTTP/1.1.
_AROUND_PATH: Final = len(" HTTP/1.1") + 1

# Good paths as strings of HPACK of one octet of length: how long they are in the clear, and the target. Pages are asked
# for by more than one client. Bounded, as clients may send any: a full table has less than 1 MB.
_targets: dict[bytes, tuple[int, Target]] = {}
_TARGETS_KEPT: Final = 1024


class TunnelHead(RequestHead):
    """The head of an extended CONNECT (RFC 8441 §4), whose body is a tunnel of its `protocol`."""

    __slots__ = ("protocol",)

    def __init__(self, protocol: bytes, target: Target, fields: Fields, framing: Framing) -> None:
        super().__init__("CONNECT", "2", target, fields, framing)
        self.protocol = protocol  # as it was sent: "websocket"


class Pattern(NamedTuple):
    """A header block around the string that is its :path, and what it says beside that; true while the table stays."""

    before: bytes
    after: bytes
    end: bool  # no body follows
    room: int  # how long the path may be before the list of fields, or the request line, is too large
    method: str
    fields: Fields
    framing: Framing
    notable: bool


class Http2HeadReader:
    """Reads the heads and trailer sections of one connection; every header block has to come by, in order."""

    __slots__ = ("_bounds", "_changes", "_decoder", "_known", "_pattern", "_section")

    def __init__(self, decoder: HpackDecoder, bounds: Http2Bounds) -> None:
        self._decoder = decoder
        self._bounds = bounds
        # What blocks said; true until the table changes that they refer to.
        self._known: dict[bytes, tuple[bool, RequestHead]] = {}
        self._changes = 0
        self._pattern: Pattern | None = None  # that of the last block, true as long as they
        self._section: Section | None = None  # that of the last request

    def read(self, block: bytes, end: bool) -> RequestHead:
        """Return the head that `block` is; `end` says that no body follows.

        Raises HpackError, HeaderListTooLarge, StreamFault or PeerError.
        """
        # Hot path: a block that came before says the same again, as in `http1_head`; benchmarks/ "HTTP/2".
        known = self._known.get(block)
        if known is not None and known[0] is end:
            return known[1]
        head = self._read_similar(block, end)
        if head is None:
            changes = self._changes
            try:
                fields = self.skip(block)
            except HeaderListTooLarge as error:
                error.head = read_pseudo_fields(dict(error.first))
                raise
            head = self._make(fields, end)
            if self._changes != changes or not self._is_small:
                return head
            self._note_pattern(block, head, end)
        if len(block) <= _BLOCK_SIZE:
            if len(self._known) >= _BLOCKS_KEPT:
                self._known.clear()
            self._known[block] = end, head
        return head

    def _read_similar(self, block: bytes, end: bool) -> RequestHead | None:
        """Return the head if the block differs from the one of the pattern in its path only, which is checked anew.

        None: the block has to be decoded, and whatever is wrong with it will be found there.
        """
        # Hot path: whoever walks through a site; benchmarks/ "browser headers, 500 paths".
        pattern = self._pattern
        if pattern is None:
            return None
        before, after, ends, room, method, fields, framing, notable = pattern
        if ends is not end or not block.startswith(before) or not block.endswith(after):
            return None
        string = block[len(before) : len(block) - len(after)]  # nothing, and no path, where the two overlap
        known = _targets.get(string) or _read_target(string)
        if known is None or known[0] > room:
            return None
        head = RequestHead(method, "2", known[1], fields, framing)
        head.notable = notable
        return head

    @property
    def _is_small(self) -> bool:
        """Whether the list that was decoded last is worth remembering."""
        return self._bounds.header_list_size - self._decoder.room <= _REMEMBERED_SIZE

    def _note_pattern(self, block: bytes, head: RequestHead, end: bool) -> None:
        """Keep what a block said that left the table as it was, and whose :path is no entry of it."""
        decoder = self._decoder
        start, stop = decoder.path_start, decoder.path_end
        section = self._section
        if start and len(block) <= _BLOCK_SIZE and section is not None and section.fields is head.fields:
            if head.method in ("CONNECT", "OPTIONS"):  # whose targets have other forms
                return
            # The path takes of the list what it has in the clear, as in `HpackDecoder`.
            room = decoder.room + len(head.raw_path) + (len(head.query) + 1 if head.query else 0)
            room = min(room, self._bounds.request_line - len(head.method) - _AROUND_PATH)
            before, after = block[:start], block[stop:]
            self._pattern = Pattern(
                before, after, end, room, head.method, section.fields, section.framing, section.notable
            )

    def limit_table(self, limit: int) -> None:
        """Bound the dynamic table (`HpackDecoder.limit_table`): the next block is judged by that, whatever it is."""
        self._forget()
        self._decoder.limit_table(limit)

    def _forget(self) -> None:
        self._changes = self._decoder.changes
        self._pattern = None
        self._known.clear()

    def read_trailers(self, block: bytes) -> PeerError | None:
        """Check a trailer section (RFC 9113 §8.1), of which nothing is kept: ASGI has no place for it.

        Return the error with which a section is answered that is too large; raises HpackError or StreamFault.
        """
        try:
            fields = self.skip(block)
        except HeaderListTooLarge as error:
            return error
        check_fields(fields)
        if len(fields) > self._bounds.header_count:
            return PeerError(431, "more trailers than limits.header_count")
        return None

    def skip(self, block: bytes) -> Fields:
        """Decode a block of which only the table matters; raises HpackError or HeaderListTooLarge."""
        try:
            return self._decoder.decode(block)
        finally:
            # Whatever the block is refused for: what it has done to the table is done.
            if self._decoder.changes != self._changes:
                self._forget()

    def _make(self, fields: Fields, end: bool) -> RequestHead:
        pseudo: dict[bytes, bytes] = {}
        for name, value in fields:
            if name not in _PSEUDO_NAMES:
                break
            if name in pseudo:
                raise malformed("the same pseudo-field twice")
            pseudo[name] = value
        method = pseudo.get(_METHOD)
        if method is None:
            raise malformed("no :method")
        protocol = pseudo.get(_PROTOCOL)
        try:
            if method == b"CONNECT" and protocol is None:
                raise _refuse_connect(pseudo)
            path = _find_path(pseudo)
            section = self._recall_section(fields[len(pseudo) :], pseudo.get(_AUTHORITY), end)
            self._check_path(path, len(method))
            target = parse_target(method, path)
            if protocol is not None:
                head: RequestHead = _tunnel(method, protocol, target, section.fields, section.framing)
            else:
                known = METHODS.get(method)
                if known is None:
                    raise _unknown_method(method)
                head = RequestHead(known, "2", target, section.fields, section.framing)
        except PeerError as error:
            error.head = read_pseudo_fields(pseudo)
            raise
        head.notable = section.notable or protocol is not None
        return head

    def _check_path(self, path: bytes, method_size: int) -> None:
        if not path.startswith(b"/") and path != b"*":
            raise malformed(":path does not begin with /")
        if method_size + len(path) + _AROUND_PATH > self._bounds.request_line:
            raise PeerError(414, "request line longer than limits.request_line")

    def _recall_section(self, regular: Fields, authority: bytes | None, end: bool) -> Section:
        # Hot path: most clients send the same fields for another path, and fields out of the table are the same
        # objects, which are compared in no time; benchmarks/ "browser headers, 500 paths".
        section = self._section
        if section is None or section.authority != authority or section.end is not end or section.regular != regular:
            section = read_section(regular, authority, end, self._bounds)
            if self._is_small:
                self._section = section
        return section


def _read_target(string: bytes) -> tuple[int, Target] | None:
    """Return the length of a path in the clear, and its target; None if anything is wrong with it."""
    path = string[1:]
    # RFC 7541 §5.2: one octet says the length, up to 126; its first bit is that of Huffman's code.
    if not path or string[0] & 0x7F != len(path) or len(path) >= 0x7F:
        return None
    try:
        if string[0] & 0x80:
            path = decode_huffman(path)
        target = parse_target(b"", path)
    except PeerError:
        return None
    if target[0] is not None:
        return None
    if len(_targets) >= _TARGETS_KEPT:
        _targets.clear()
    known = _targets[string] = len(path), target
    return known


def _find_path(pseudo: dict[bytes, bytes]) -> bytes:
    """Return :path; :scheme has to be one that is served (RFC 9113 §8.3.1)."""
    path = pseudo.get(_PATH)
    scheme = pseudo.get(_SCHEME)
    if path is None or scheme is None:
        raise malformed("no :path or no :scheme")
    if scheme not in (b"http", b"https"):
        raise PeerError(400, "scheme is neither http nor https")
    return path


def _refuse_connect(pseudo: dict[bytes, bytes]) -> PeerError:
    """Return why a CONNECT to another host is refused (RFC 9113 §8.5): like in HTTP/1 there is no tunnel."""
    if _AUTHORITY not in pseudo or _PATH in pseudo or _SCHEME in pseudo:
        return malformed("CONNECT without :authority, or with :scheme or :path")
    return PeerError(501, "unknown method")


def _unknown_method(method: bytes) -> PeerError:
    return PeerError(501, "unknown method") if TOKEN.fullmatch(method) else malformed(":method is not a token")


def _tunnel(method: bytes, protocol: bytes, target: Target, fields: Fields, framing: Framing) -> TunnelHead:
    if method != b"CONNECT":
        raise malformed(":protocol without CONNECT")  # RFC 8441 §4
    if not TOKEN.fullmatch(protocol):
        raise malformed(":protocol is not a token")
    return TunnelHead(protocol, target, fields, framing)
