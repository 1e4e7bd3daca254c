"""Numbers as log lines say them."""

from __future__ import annotations

import pytest

from serverd.supervisor.wording import size


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MiB"), (2**19 - 1, "0 MiB"), (2**19, "1 MiB"), (31 * 2**20 + 5, "31 MiB")]
)
def test_a_size_is_rounded_to_mebibytes(count: int, text: str) -> None:
    assert size(count) == text


def test_any_size_that_a_worker_may_claim_can_be_told() -> None:
    assert size(10**400 * 2**20) == f"{10**400} MiB"
