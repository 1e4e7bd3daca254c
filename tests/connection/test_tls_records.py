"""Records of TLS (RFC 8446 §5.1): small pieces share one, large ones are not copied first."""

from __future__ import annotations

import pytest

from serverd.connection.tls_writer import RECORD, _joined


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), ()),
        ((9, 500), (509,)),
        ((9, RECORD - 9, 9, 500), (RECORD, 509)),
        ((9, RECORD, 9, RECORD + 1), (9, RECORD, 9, RECORD + 1)),
        ((RECORD // 2 + 1, RECORD // 2, 1), (RECORD // 2 + 1, RECORD // 2 + 1)),
        ((9, 1000) * 20, (1009 * 16 + 9, 1009 * 3 + 1000)),
    ],
)
def test_what_fits_into_a_record_shares_it(sizes: tuple[int, ...], expected: tuple[int, ...]) -> None:
    pieces = [bytes([65 + number % 26]) * size for number, size in enumerate(sizes)]
    joined = list(_joined(pieces))
    assert tuple(map(len, joined)) == expected
    assert b"".join(joined) == b"".join(pieces)


def test_a_large_piece_is_handed_on_as_it_is() -> None:
    large = bytes(RECORD + 1)
    assert any(piece is large for piece in _joined([b"head", large]))
