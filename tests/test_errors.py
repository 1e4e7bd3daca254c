"""What an error says is the end of a sentence of ours."""

from __future__ import annotations

import errno

import pytest

from serverd.errors import BindError, reason_of


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOENT, "No such file or directory", "/srv/x"), "no such file or directory"),
        (OSError("timed out"), "timed out"),
        (BindError("The RPC failed"), "the RPC failed"),
        (OSError(), ""),
    ],
)
def test_it_has_neither_a_number_nor_a_capital(error: Exception, told: str) -> None:
    assert reason_of(error) == told
