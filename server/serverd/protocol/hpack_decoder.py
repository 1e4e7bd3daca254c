"""Header blocks into fields (RFC 7541), with the dynamic table of one connection; `hpack_encoder` goes the other way.

What a block may say is counted while it is decoded. A list that is too large is still decoded to the end of its block,
because the blocks behind it need the table as the peer has it, but nothing of it is kept; one that is twice too large
is a bomb, and its block is given up. Go's http2 draws the same two lines.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.head import Fields
from serverd.protocol.hpack import (
    DEFAULT_TABLE_SIZE,
    ENTRY_OVERHEAD,
    STATIC_TABLE,
    HeaderListTooLarge,
    HpackBomb,
    HpackError,
)
from serverd.protocol.hpack_huffman import decode as decode_huffman

__all__ = ["HpackDecoder"]

_STATIC_SIZES: Final = [len(name) + len(value) + ENTRY_OVERHEAD for name, value in STATIC_TABLE]
_STATIC_COUNT: Final = len(STATIC_TABLE)  # 61, and the index 0 that is not used

# RFC 7541 §5.1 asks for a limit: 28 bits beside the prefix are more than any size or index here, and leave four octets.
_LARGEST_SHIFT: Final = 21

# RFC 7541 §4.2: the least size since the last block, and the one that holds. A block of nothing else would cost as much
# for each octet as for a field, of which a list may have only so many.
_MOST_SIZE_UPDATES: Final = 2

_BOMB_FACTOR: Final = 2
# Fields that are told of a list that is too large: as many as there are pseudo-fields in RFC 9113 §8.3.1 and RFC 8441.
_FIRST: Final = 5

_PATHS: Final = (4, 5)  # the entries of the static table whose name is :path


def _decode_integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Return the integer that begins in the last `prefix` bits of an octet, and where it ends (RFC 7541 §5.1)."""
    largest = (1 << prefix) - 1
    value = block[position] & largest
    position += 1
    if value < largest:
        return value, position
    shift = 0
    while True:
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7
        if shift > _LARGEST_SHIFT:
            raise HpackError("an integer in a header block has more than 28 bits beyond its prefix")


def _decode_string(block: bytes, position: int) -> tuple[bytes, int]:
    """Return the string literal that begins at `position`, and where it ends (RFC 7541 §5.2)."""
    first = block[position]
    size, position = _decode_integer(block, position, 7)
    end = position + size
    if end > len(block):
        raise HpackError("a string literal is longer than its header block")
    text = block[position:end]
    return decode_huffman(text) if first >= 0x80 else text, end


class HpackDecoder:
    """The decoder of one connection, which must see every header block of it, in order."""

    __slots__ = (
        "_entries",
        "_limit",
        "_list_size",
        "_must_shrink",
        "_size",
        "_size_limit",
        "_sizes",
        "changes",
        "path_end",
        "path_start",
        "room",
    )

    def __init__(self, list_size: int) -> None:
        """Begin with an empty table; `list_size` is what a header list may have, as RFC 9113 §6.5.2 counts it."""
        self._list_size = list_size
        # Static and dynamic table in one, so that the index of a field is the index here (RFC 7541 §2.3.3).
        self._entries: Fields = list(STATIC_TABLE)
        self._sizes = _STATIC_SIZES.copy()
        self._size = 0  # of the dynamic table
        self._size_limit = DEFAULT_TABLE_SIZE  # what the peer has chosen for it
        self._limit = DEFAULT_TABLE_SIZE  # what it may choose
        self._must_shrink = False  # the next block has to begin with a new choice
        self.changes = 0  # of the table so far: blocks decode to the same while it does not change
        # Of the last block: where the string stands that is its :path, if one does and is not indexed, and how much
        # larger the list could have been. By them `http2_head` knows a block that differs in its path only.
        self.path_start = 0
        self.path_end = 0
        self.room = 0

    @property
    def table_size(self) -> int:
        """The size of the dynamic table, as RFC 7541 §4.1 counts it."""
        return self._size

    def limit_table(self, limit: int) -> None:
        """Bound the dynamic table by what the peer has acknowledged as SETTINGS_HEADER_TABLE_SIZE (RFC 7541 §4.2)."""
        self._limit = limit
        self._must_shrink = self._size_limit > limit

    def decode(self, block: bytes) -> Fields:
        """Return the fields of a whole header block.

        Raises HpackError, after which nothing can be decoded any more, or HeaderListTooLarge.
        """
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("a header block ends inside a representation") from None

    def _decode(self, block: bytes) -> Fields:
        entries = self._entries
        sizes = self._sizes
        fields: Fields = []
        first: Fields = []
        left = self._list_size
        self.path_start = 0
        position = self._receive_size_updates(block)
        end = len(block)
        while position < end:
            octet = block[position]
            if octet >= 0x80:  # §6.1: an indexed field
                # Hot path: most fields of most requests; benchmarks/ "HTTP/2".
                index = octet & 0x7F
                position += 1
                if index == 0x7F:
                    index, position = _decode_integer(block, position - 1, 7)
                if not 0 < index < len(entries):
                    raise HpackError("a header block refers to an entry that does not exist")
                left -= sizes[index]
                fields.append(entries[index])
            elif octet >= 0x40:  # §6.2.1: to be added to the table
                field, position = self._decode_literal(block, position, 6)
                size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
                left -= size
                fields.append(field)
                self._insert(field, size)
            elif octet >= 0x20:
                raise HpackError("a size update stands behind a field of its header block")
            else:  # §6.2.2, §6.2.3: whether it may be indexed later concerns only who sends it on
                start = position + 1
                field, position = self._decode_literal(block, position, 4)
                if octet & 0x0F in _PATHS:
                    self.path_start, self.path_end = start, position
                left -= len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
                fields.append(field)
            if left < 0:
                if left < -self._list_size * (_BOMB_FACTOR - 1):
                    raise HpackBomb("a header block has more than twice the fields that are allowed")
                first = first or fields[:_FIRST]
                fields.clear()
        if left < 0:
            raise HeaderListTooLarge("header list larger than limits.header_size", first)
        self.room = left
        return fields

    def _decode_literal(self, block: bytes, position: int, prefix: int) -> tuple[tuple[bytes, bytes], int]:
        index, position = _decode_integer(block, position, prefix)
        if index >= len(self._entries):
            raise HpackError("a header block refers to an entry that does not exist")
        if index:
            name = self._entries[index][0]
        else:
            name, position = _decode_string(block, position)
        value, position = _decode_string(block, position)
        return (name, value), position

    def _receive_size_updates(self, block: bytes) -> int:
        """Take the size updates with which a block may begin; return where its fields do (RFC 7541 §6.3)."""
        position = 0
        left = _MOST_SIZE_UPDATES
        while position < len(block) and block[position] & 0xE0 == 0x20:
            if not left:
                raise HpackError("a header block begins with more than two size updates")
            left -= 1
            size, position = _decode_integer(block, position, 5)
            if size > self._limit:
                raise HpackError("a size update makes the table larger than SETTINGS_HEADER_TABLE_SIZE")
            self._size_limit = size
            self._must_shrink = False
            self._evict(size)
            self.changes += 1
        if self._must_shrink:
            raise HpackError("no size update although SETTINGS_HEADER_TABLE_SIZE became less")
        return position

    def _insert(self, field: tuple[bytes, bytes], size: int) -> None:
        """Add an entry (RFC 7541 §4.4); one that is larger than the table empties it."""
        self.changes += 1
        self._evict(self._size_limit - size)
        if size <= self._size_limit:
            self._entries.insert(_STATIC_COUNT, field)
            self._sizes.insert(_STATIC_COUNT, size)
            self._size += size

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until the table has at most this size; less than 0 empties it."""
        while self._size > size and self._size:
            self._entries.pop()
            self._size -= self._sizes.pop()
