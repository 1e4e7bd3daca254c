"""Checking the fields and the body that an application wants to send, for every protocol.

A CR, LF or NUL in a field would let whoever controls its value begin another field or another response
(uvicorn CVE-2020-7695): it is an application error and never sent. Called by `exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from serverd.errors import ResponseError, without_context
from serverd.protocol.head import TOKEN, Fields

__all__ = ["check_body", "check_fields", "check_trailers", "left_after", "missing_from"]

_search_illegal = re.compile(rb"[\r\n\x00]").search
_CONTENT_LENGTH: Final = b"content-length"
# Framing, routing and what decides how the body is to be read.
_NO_TRAILERS: Final = frozenset(
    (
        _CONTENT_LENGTH,
        b"connection",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"host",
        b"trailer",
        b"transfer-encoding",
    )
)
# Names that have passed the check, so that the usual ones cost one look-up; bounded, an application may
# make up names from what a client sent.
_good_names = {b"content-length", b"content-type", b"cache-control", b"date", b"etag", b"location", b"server", b"vary"}
_NAMES_KEPT: Final = 1024

# The fields that were checked last, which was found good, and the Content-Length among them.
_known: tuple[Fields, int | None] = ([], None)
_KNOWN_SIZE: Final = 4096


def check_fields(headers: Iterable[Any]) -> tuple[Fields, int | None]:
    """Return the fields, names in lower case, and the announced Content-Length in bytes or None.

    The list may be one that others have, too: nobody changes it.

    Raises ResponseError (RFC 9110 §5.1, §5.5, §8.6).
    """
    # Hot path: most responses have the fields of the one before; benchmarks/ "plain GET", "HTTP/2". To be equal says
    # nothing of types: a bytearray is equal to bytes, and is taken for them the first time, too.
    known = _known
    return known if headers == known[0] else _check_fields(headers)


def _check_fields(headers: Iterable[Any]) -> tuple[Fields, int | None]:
    """Check fields that are others than those before."""
    global _known
    fields: Fields = []
    values: list[bytes] = []
    length: int | None = None
    for field in headers:
        try:
            name, value = field
        except (TypeError, ValueError):
            raise without_context(ResponseError(f"header {field!r} is not a pair of name and value")) from None
        if type(name) is not bytes or name not in _good_names:
            name = _check_name(_as_bytes(name, f"header name {name!r}"))
            field = (name, value)
        if type(value) is not bytes:
            value = _as_bytes(value, f"value of header {name!r}")
            field = (name, value)
        if name == _CONTENT_LENGTH:
            if length is not None:
                raise ResponseError("several content-length headers")
            if not value.isdigit():
                raise ResponseError(f"content-length {value!r} is not a decimal number of bytes")
            length = int(value)
        fields.append(field if type(field) is tuple else (name, value))
        values.append(value)
    joined = b"".join(values)
    # Hot path: one search; `in` on bytes costs an exception inside CPython 3.11 (benchmarks/ "plain GET").
    if _search_illegal(joined) is not None:
        raise ResponseError(f"CR, LF or NUL in a header value: {fields!r}")
    known = fields, length
    # What an application keeps of a large head is its own matter: nothing larger stays here.
    if len(joined) <= _KNOWN_SIZE:
        _known = known
    return known


def missing_from(fields: Fields, more: Fields) -> Fields:
    """Return those of `more` whose name is not among `fields`."""
    names = {name for name, _ in fields}
    return [field for field in more if field[0] not in names]


def check_trailers(headers: Iterable[Any]) -> Fields:
    """Return the fields of a trailer section, names in lower case.

    Raises ResponseError, also for a field that must be known before the body (RFC 9110 §6.5.1).
    """
    fields, _ = check_fields(headers)
    for name, _ in fields:
        if name in _NO_TRAILERS:
            raise ResponseError(f"{name.decode()} cannot be a trailer: it belongs into http.response.start")
    return fields


def check_body(data: Any) -> bytes:
    """Return a part of a response body as bytes; raises ResponseError when it is nothing of the kind."""
    return data if type(data) is bytes else _as_bytes(data, "body or message")


def _as_bytes(data: Any, what: str) -> bytes:
    """Return what an application says as bytes that it can change no more; raises ResponseError."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ResponseError(f"{what} is {type(data).__name__}: expected bytes")
    return bytes(data)


def _check_name(name: bytes) -> bytes:
    if not TOKEN.fullmatch(name):
        raise ResponseError(f"header name {name!r} is not a token")
    lower = name.lower()
    if len(_good_names) < _NAMES_KEPT:
        _good_names.add(lower)
    return lower


def left_after(left: int, size: int, end: bool) -> int:
    """Return what is left of the announced Content-Length after `size` bytes (RFC 9110 §8.6).

    Raises ResponseError when that is too much, or at the `end` too little.
    """
    if size > left:
        raise ResponseError("response body is longer than its content-length")
    if end and size < left:
        raise ResponseError(f"response body is {left - size} bytes shorter than its content-length")
    return left - size
