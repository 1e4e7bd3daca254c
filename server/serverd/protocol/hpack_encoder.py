"""Fields into header blocks (RFC 7541), with the dynamic table of one connection; `hpack_decoder` goes the other way.

A field that is in a table costs one look-up and one octet. Which fields get there:

- Never one that may hold a secret (RFC 7541 §7.1.3): who can have guesses sent beside it, and sees the sizes, could
  find it out. They are marked as never to be indexed by those who pass them on.
- None whose value is another one in nearly every response: it would only drive out those that come back. nghttp2
  does not index the same names.
- Others when they come for the second time. A value made for one response, as a request id, leaves the table alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from serverd.protocol.head import Fields
from serverd.protocol.hpack import DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, STATIC_TABLE, encode_integer
from serverd.protocol.hpack_huffman import encode as encode_huffman

__all__ = ["HpackEncoder"]

_Field = tuple[bytes, bytes]

_STATIC_COUNT: Final = len(STATIC_TABLE) - 1
_STATIC_FIELDS: Final = {field: encode_integer(index, 7, 0x80) for index, field in enumerate(STATIC_TABLE) if index}
_STATIC_NAMES: Final[dict[bytes, int]] = {}
for _index, (_name, _) in enumerate(STATIC_TABLE):
    _STATIC_NAMES.setdefault(_name, _index)
del _STATIC_NAMES[b""]

_WITH_INDEXING: Final = (0x40, 6)
_WITHOUT_INDEXING: Final = (0x00, 4)
_NEVER_INDEXED: Final = (0x10, 4)

_SECRET_NAMES: Final = frozenset(
    (
        b"authentication-info",
        b"authorization",
        b"cookie",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"set-cookie",
        b"www-authenticate",
    )
)
_CHANGING_NAMES: Final = frozenset(
    (
        b"age",
        b"content-length",
        b"content-range",
        b"etag",
        b"expires",
        b"last-modified",
        b"location",
    )
)

# The table of the default size holds no more entries than this, so indices up to it are made once.
_INDEXED = [encode_integer(index, 7, 0x80) for index in range(_STATIC_COUNT + 1 + DEFAULT_TABLE_SIZE // ENTRY_OVERHEAD)]

# Fields that came once are remembered for a while, to know them the second time: some responses' worth.
_SEEN_KEPT: Final = 64

# Names and lengths up to this are read off a table.
_LENGTHS: Final = [encode_integer(size, 7, 0x00) for size in range(256)]


def _encode_string(text: bytes) -> bytes:
    """Return a string literal (RFC 7541 §5.2), Huffman-encoded where that is shorter."""
    code = encode_huffman(text)
    if len(code) < len(text):
        return encode_integer(len(code), 7, 0x80) + code
    return _plain_string(text)


def _plain_string(text: bytes) -> bytes:
    size = len(text)
    return (_LENGTHS[size] if size < len(_LENGTHS) else encode_integer(size, 7, 0x00)) + text


def _literal_prefix(name: bytes, kind: tuple[int, int]) -> bytes:
    """Return what a literal field begins with, its name included (RFC 7541 §6.2)."""
    first, prefix = kind
    index = _STATIC_NAMES.get(name)
    return encode_integer(index, prefix, first) if index else bytes((first,)) + _encode_string(name)


# Names come back, also where values do not. Bounded: an application may make up names from what a client sent.
_prefixes: dict[bytes, bytes] = {}
_PREFIXES_KEPT: Final = 1024


class HpackEncoder:
    """The encoder of one connection, all of whose header blocks have to be sent in the order of encoding."""

    __slots__ = ("_added", "_entries", "_numbers", "_seen", "_size", "_size_limit", "_updates", "changes")

    def __init__(self) -> None:
        """Begin with an empty table of the default size."""
        # An entry is known by how many were added before it: that stays, while its index grows with each addition.
        self._numbers: dict[_Field, int] = {}
        self._added = 0
        self._entries: deque[_Field] = deque()  # the oldest first
        self._size = 0
        self._size_limit = DEFAULT_TABLE_SIZE
        self._updates: list[int] = []  # sizes that the next block has to announce
        self._seen: dict[_Field, None] = {}
        self.changes = 0  # as long as it stays, the same fields are the same block

    @property
    def table_size(self) -> int:
        """The size of the dynamic table, as RFC 7541 §4.1 counts it."""
        return self._size

    def limit_table(self, limit: int) -> None:
        """Obey the peer's SETTINGS_HEADER_TABLE_SIZE; more than the default size is not made use of.

        Between two blocks the least size and the last one are announced (RFC 7541 §4.2).
        """
        size = min(limit, DEFAULT_TABLE_SIZE)
        if size == self._size_limit and not self._updates:
            return
        least = min(size, *self._updates) if self._updates else size
        self.changes += 1
        self._updates = [size] if least == size else [least, size]
        self._size_limit = size
        self._evict(least)

    def encode(self, fields: Fields) -> bytes:
        """Return the header block for `fields`, names in lower case."""
        parts: list[bytes] = []
        if self._updates:
            parts += [encode_integer(size, 5, 0x20) for size in self._updates]
            self._updates = []
            self.changes += 1
        # Hot path: one look-up for a field that came before; benchmarks/ "HTTP/2".
        newest = _STATIC_COUNT + self._added
        numbers = self._numbers
        for field in fields:
            number = numbers.get(field)
            if number is not None:
                parts.append(_INDEXED[newest - number])
                continue
            known = _STATIC_FIELDS.get(field)
            if known is not None:
                parts.append(known)
                continue
            parts.append(self._encode_literal(field))
            newest = _STATIC_COUNT + self._added
        return b"".join(parts)

    def _encode_literal(self, field: _Field) -> bytes:
        name, value = field
        if name in _SECRET_NAMES:
            return _literal_prefix(name, _NEVER_INDEXED) + _plain_string(value)
        size = len(name) + len(value) + ENTRY_OVERHEAD
        # One that would drive out most of the others is left out, as in nghttp2.
        if name not in _CHANGING_NAMES and size <= self._size_limit * 3 // 4:
            self.changes += 1
            if field in self._seen:
                del self._seen[field]
                self._insert(field, size)
                return _literal_prefix(name, _WITH_INDEXING) + _encode_string(value)
            if len(self._seen) >= _SEEN_KEPT:
                self._seen.clear()
            self._seen[field] = None
        prefix = _prefixes.get(name)
        if prefix is None:
            prefix = _literal_prefix(name, _WITHOUT_INDEXING)
            if len(_prefixes) < _PREFIXES_KEPT:
                _prefixes[name] = prefix
        # Not Huffman-encoded: a value that is sent once is not worth the time, which is four times that of the rest.
        return prefix + _plain_string(value)

    def _insert(self, field: _Field, size: int) -> None:
        self._evict(self._size_limit - size)
        self._numbers[field] = self._added
        self._entries.append(field)
        self._added += 1
        self._size += size

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until the table has at most this size."""
        while self._size > size:
            field = self._entries.popleft()
            del self._numbers[field]
            self._size -= len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
