"""Certificates in the status as text."""

from __future__ import annotations

from serverd.control.status_text import describe_status
from tests.control.documents import NOW, status

CERTIFICATE = {"tls": "main", "names": ["a.example"], "serial": "07", "not_before": 0, "not_after": 0, "age": None}


def lines(**changes: object) -> list[str]:
    """Return the table of certificates, without its head."""
    text = describe_status(status(certificates=[{**CERTIFICATE, **changes}]), NOW)
    table = next(block for block in text.split("\n\n") if block.startswith("TLS"))
    return table.splitlines()[1:]


def test_each_has_its_date() -> None:
    assert lines(not_after=1_900_000_000) == ["main  2030-03-17  07      a.example"]


def test_of_a_chain_the_first_date_is_shown_and_whose_it_is() -> None:
    [line] = lines(not_after=1_950_000_000, chain_ends={"name": "R3\x1b", "until": 1_900_000_000})
    assert line == r'main  2030-03-17  07      a.example  "R3\x1b" in its chain ends first'


def test_what_is_to_be_done_is_noted() -> None:
    [line] = lines(age="expires in 3 days (expected it to be renewed by now)")
    assert line.endswith("a.example  expires in 3 days (expected it to be renewed by now)")


def test_why_one_was_not_renewed_is_noted() -> None:
    [line] = lines(age="expires in 3 days", kept="a.crt does not exist\na.key is \x1b[2Jempty")
    assert line.endswith(r"expires in 3 days; not renewed: a.crt does not exist; a.key is \x1b[2Jempty")


def test_of_many_names_some_are_shown() -> None:
    [line] = lines(names=[f"{letter}.example" for letter in "abcde"])
    assert line.endswith("a.example, b.example, c.example and 2 more")


def test_names_are_escaped_like_all_that_comes_from_outside() -> None:
    [line] = lines(names=["\x1b[2J\u202e"], serial="\x9b")
    assert line.isprintable()


def test_authorities_of_clients_have_their_dates_too() -> None:
    known = {"tls": "main", "key": "client_ca", "name": "root\x1b", "since": 0, "until": 1_900_000_000, "age": None}
    revoked = {**known, "key": "client_crl", "until": None, "age": "has expired"}
    text = describe_status(status(authorities=[known, revoked]), NOW)
    table = next(block for block in text.split("\n\n") if block.startswith("CLIENTS OF"))
    assert table.rstrip("\n").splitlines()[1:] == [
        r"main        2030-03-17  1970-01-01  client_ca   root\x1b",
        r"main        -           1970-01-01  client_crl  root\x1b   has expired",
    ]


def test_of_a_bundle_those_are_shown_that_something_is_to_be_said_of_and_the_first_to_end() -> None:
    sound = {"tls": "main", "key": "client_ca", "since": 0, "age": None}
    bundle = [{**sound, "name": f"root {number}", "until": 1_950_000_000 - number} for number in range(130)]
    late = {**sound, "name": "late", "until": 0, "age": "has expired"}
    other = {**sound, "tls": "inner", "name": "alone", "until": 1_900_000_000}
    text = describe_status(status(authorities=[*bundle, late, other]), NOW)
    table = next(block for block in text.split("\n\n") if block.startswith("CLIENTS OF"))
    assert [" ".join(line.split()[3:]) for line in table.splitlines()[1:]] == [
        "client_ca late has expired",
        "client_ca root 129 and 129 more that end no earlier",
        "client_ca alone",
    ]
    few = describe_status(status(authorities=[*bundle[:3], late]), NOW)
    assert few.count("root ") == 3
    assert "more" not in few


def test_a_server_without_tls_has_no_table() -> None:
    assert "TLS" not in describe_status(status(certificates=[]), NOW)
    assert "TLS" not in describe_status(status(), NOW)
