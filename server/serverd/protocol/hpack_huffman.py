"""The Huffman code of HPACK (RFC 7541 §5.2, Appendix B), by table in both directions.

The code is canonical: the lengths of the codes say which they are. `decode` goes byte by byte through a table of
states, the inner nodes of the code's tree; the rows of it are made when text first leads there, because all of them
would cost each worker 65,536 entries and most are for octets that are in no header.
"""

from __future__ import annotations

from typing import Final

from serverd.protocol.hpack import HpackError

__all__ = ["decode", "encode"]

# Appendix B: the length in bits of the code of each octet.
_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
)
_EOS_LENGTH: Final = 30  # the end of string, 30 ones, which never stands in a string
_OCTETS: Final = [bytes((octet,)) for octet in range(256)]


def _assign_codes() -> dict[int, str]:
    """Return octet -> code as text of 0 and 1: consecutive numbers, by length and then by octet."""
    codes: dict[int, str] = {}
    code = length = 0
    for octet in sorted(range(256), key=lambda octet: (_LENGTHS[octet], octet)):
        code <<= _LENGTHS[octet] - length
        length = _LENGTHS[octet]
        codes[octet] = f"{code:0{length}b}"
        code += 1
    return codes


_CODES: Final = _assign_codes()


def encode(data: bytes) -> bytes:
    """Return the Huffman code of `data`, padded with ones."""
    # Text of 0 and 1 is translated and read as a number in C; a loop over the octets takes five times as long.
    bits = data.decode("latin-1").translate(_CODES)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


# A state, and what was completed on the way to it; None: the end of string was.
_Step = tuple[int, bytes | None]

_ROOT: Final = 0


def _grow_tree() -> tuple[list[list[_Step]], list[int]]:
    """Return the steps on 0 and 1 from each inner node, and the nodes at which a string may end.

    Those are the root and the seven first nodes of the end of string, as padding is less than an octet of its bits.
    """
    inner: dict[str, int] = {"": _ROOT}
    for code in [*_CODES.values(), "1" * _EOS_LENGTH]:
        for size in range(1, len(code)):
            inner.setdefault(code[:size], len(inner))
    leaves: dict[str, bytes | None] = {code: _OCTETS[octet] for octet, code in _CODES.items()}
    leaves["1" * _EOS_LENGTH] = None
    steps: list[list[_Step]] = []
    for node in inner:
        ends = (node + "0", node + "1")
        steps.append([(inner[end], b"") if end in inner else (_ROOT, leaves[end]) for end in ends])
    return steps, [inner["1" * size] for size in range(8)]


_BITS, _ENDS = _grow_tree()

# What an octet of code leads to from one state: the next state, and the text that is complete then. In two sequences
# because there are 256 states, and few texts that all rows share: a pair for each octet would be ten times as large.
_Row = tuple[bytes, list[bytes | None]]
_rows: list[_Row | None] = [None] * len(_BITS)
_texts: dict[bytes | None, bytes | None] = {}


def _make_row(state: int) -> _Row:
    steps: list[_Step] = [(state, b"")]
    for _ in range(8):
        longer: list[_Step] = []
        for node, text in steps:
            for end, completed in _BITS[node]:
                longer.append((end, None if text is None or completed is None else text + completed))
        steps = longer
    row = bytes([node for node, _ in steps]), [_texts.setdefault(text, text) for _, text in steps]
    _rows[state] = row
    return row


def decode(data: bytes) -> bytes:
    """Return the string of which `data` is the code; raises HpackError."""
    parts: list[bytes | None] = []
    state = _ROOT
    for octet in data:
        states, texts = _rows[state] or _make_row(state)
        state = states[octet]
        parts.append(texts[octet])
    if state not in _ENDS:
        raise HpackError("a Huffman-encoded string is padded with more than seven bits or with others than ones")
    try:
        return b"".join(parts)  # type: ignore[arg-type]  # looking for None before costs more than the rest
    except TypeError:
        raise HpackError("the end of string is part of a Huffman-encoded string") from None
