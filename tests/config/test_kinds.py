"""Kinds: accounts, root paths, and what the schema says of a value."""

from __future__ import annotations

import re

import pytest
from pydantic import TypeAdapter

from serverd.config.kinds import (
    Duration,
    ForwardedHeader,
    HangTimeout,
    LagThreshold,
    Lifetime,
    Memory,
    Workers,
    parse_account,
    parse_root_path,
)


@pytest.mark.parametrize(("written", "account"), [(0, 0), (1000, 1000), ("1000", 1000), ("www-data", "www-data")])
def test_an_account_is_a_number_or_a_name(written: object, account: object) -> None:
    assert parse_account(written) == account


@pytest.mark.parametrize("written", [-1, 2**32 - 1, True, "", "a\0", None, 1.5])
def test_other_accounts_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_account(written)


@pytest.mark.parametrize(("written", "path"), [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a")])
def test_a_root_path_is_empty_at_the_root(written: str, path: str) -> None:
    assert parse_root_path(written) == path


@pytest.mark.parametrize("kind", [Duration, Workers], ids=["duration", "workers"])
def test_the_schema_accepts_numbers_and_text(kind: object) -> None:
    accepted = TypeAdapter(kind).json_schema()["anyOf"]
    assert {item.get("type") for item in accepted} >= {"string"}
    assert any(item.get("type") in ("number", "integer") for item in accepted)


@pytest.mark.parametrize(
    ("written", "fits"),
    [("forwarded", True), ("X-Forwarded-For", True), ("${HEADER}", True), ("x-real-ip", False), ("xforwarded", False)],
)
def test_the_schema_takes_forwarded_headers_in_any_case(written: str, fits: bool) -> None:
    names, spelled = TypeAdapter(ForwardedHeader).json_schema()["anyOf"]
    assert (written in names["enum"] or re.search(spelled["pattern"], written) is not None) is fits


BOUNDED = [(HangTimeout, 2.0, "2s"), (LagThreshold, 0.01, "10ms"), (Lifetime, 1.0, "1s"), (Memory, 2**24, "16MiB")]


@pytest.mark.parametrize(("kind", "least", "written"), BOUNDED, ids=["hang", "lag", "lifetime", "memory"])
def test_0_is_never_and_what_is_too_small_to_be_meant_is_refused(kind: object, least: float, written: str) -> None:
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(0) == 0
    assert adapter.validate_python(written) == least
    with pytest.raises(ValueError, match=f"expected at least {written}, or 0 for never"):
        adapter.validate_python(least * 0.9 if isinstance(least, float) else least - 1)
