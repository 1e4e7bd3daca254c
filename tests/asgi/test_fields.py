"""Header and trailer fields of an application (RFC 9110 §5.1, §5.5, §8.6), for every protocol."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.asgi import fields as module
from serverd.asgi.fields import check_fields
from serverd.errors import ResponseError
from tests.support.every import every

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_names_become_lower_case_and_order_is_kept() -> None:
    given = [(b"X-B", b"1"), (b"set-cookie", b"a"), (b"Set-Cookie", b"b"), (b"X-A", b"")]
    assert check_fields(given) == (
        [(b"x-b", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x-a", b"")],
        None,
    )


@every("byte", range(256))
def test_a_name_takes_token_characters_only(byte: int) -> None:
    for name in (b"x%b" % bytes([byte]), bytes([byte]) + b"x"):
        for _ in range(2):  # the second time from memory
            if byte in TCHAR:
                assert check_fields([(name, b"")])[0] == [(name.lower(), b"")]
            else:
                with pytest.raises(ResponseError, match="not a token"):
                    check_fields([(name, b"")])


@every("byte", range(256))
def test_a_value_takes_anything_but_cr_lf_and_nul(byte: int) -> None:
    value = b"a%bb" % bytes([byte])
    if byte in b"\r\n\x00":
        with pytest.raises(ResponseError, match="CR, LF or NUL"):
            check_fields([(b"x", value)])
    else:
        assert check_fields([(b"x", value)])[0] == [(b"x", value)]


def test_a_bad_value_is_found_in_any_field() -> None:
    for position in range(5):
        given = [(b"x", b"good")] * 5
        given[position] = (b"x", b"bad\n")
        with pytest.raises(ResponseError):
            check_fields(given)


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"5", 5), (b"005", 5), (b"1" + b"0" * 30, 10**30)])
def test_a_length_is_read(value: bytes, length: int) -> None:
    assert check_fields([(b"Content-Length", value)]) == ([(b"content-length", value)], length)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 ", b" 1", b"1_0", b"0x1", b"\xb2", b"1,1", "1", 1], ids=repr)
def test_a_malformed_length_is_refused(value: Any) -> None:
    with pytest.raises(ResponseError, match="content-length"):
        check_fields([(b"content-length", value)])


def test_two_lengths_are_refused() -> None:
    with pytest.raises(ResponseError, match="several"):
        check_fields([(b"content-length", b"1"), (b"CONTENT-LENGTH", b"1")])


@pytest.mark.parametrize(
    "field", [("x", b"y"), (None, b"y"), (1, b"y"), (b"x", "y"), (b"x", None), (b"x", 1)], ids=repr
)
def test_what_is_no_bytes_is_refused(field: Any) -> None:
    with pytest.raises(ResponseError, match="bytes"):
        check_fields([field])


@pytest.mark.parametrize("field", [(), (b"x",), (b"x", b"y", b"z"), b"xyz", "x", 1, None], ids=repr)
def test_what_is_no_pair_is_refused(field: Any) -> None:
    with pytest.raises(ResponseError, match="is not a pair of name and value"):
        check_fields([field])


@pytest.mark.parametrize("make", [bytearray, memoryview, type("Text", (bytes,), {})])
def test_whatever_holds_bytes_is_taken_for_them_the_first_time_and_every_other(make: Any) -> None:
    name, value = bytearray(b"x-name"), bytearray(b"value")
    for known in ([(b"other", b"")], [(b"x-name", b"value")]):
        check_fields(known)
        for given in ([(make(name), make(value))], [(b"x-name", make(value))], [(make(name), b"value")]):
            fields, _ = check_fields(given)
            assert [tuple(map(type, field)) for field in fields] == [(bytes, bytes)]
            assert fields == [(b"x-name", b"value")]


def test_what_an_application_changes_after_the_check_is_not_sent() -> None:
    value = bytearray(b"good")
    fields, _ = check_fields([(b"x", value)])
    value[:] = b"a\r\nb"
    assert fields == [(b"x", b"good")]
    with pytest.raises(ResponseError, match="CR, LF or NUL"):
        check_fields([(b"x", value)])


@pytest.mark.parametrize("make", [bytearray, memoryview])
def test_a_length_in_whatever_holds_bytes_is_read(make: Any) -> None:
    assert check_fields([(b"content-length", make(b"17"))]) == ([(b"content-length", b"17")], 17)


def test_remembered_names_are_bounded() -> None:
    for number in range(3000):
        check_fields([(b"x-made-up-%d" % number, b"")])
    assert len(module._good_names) <= 1024


def test_fields_that_come_again_are_known_and_what_is_changed_in_them_is_looked_at() -> None:
    given = [(b"x-a", b"1"), (b"content-length", b"5")]
    known = check_fields(given)
    again = check_fields([(b"x-a", bytes([0x31])), (b"content-length", b"5")])
    assert again[0] is known[0]
    assert again == ([(b"x-a", b"1"), (b"content-length", b"5")], 5)
    given.append((b"x-b", b"bad\n"))
    for _ in range(2):
        with pytest.raises(ResponseError, match="CR, LF or NUL"):
            check_fields(given)
    assert check_fields(given[:2]) == (given[:2], 5)
    for value in ("1", 1, None):
        with pytest.raises(ResponseError, match="expected bytes"):
            check_fields([(b"x-a", value), (b"content-length", b"5")])


def test_large_fields_are_not_kept() -> None:
    small = check_fields([(b"x-a", b"1")])
    assert check_fields([(b"x-a", bytes([1]) * 10_000)]) == ([(b"x-a", bytes([1]) * 10_000)], None)
    assert module._known == small
