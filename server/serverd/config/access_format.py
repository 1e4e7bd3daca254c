"""Values of [access_log]: a format, a path that is left out, a share.

As in `values`: each function raises ValueError with a predicate that the report puts behind the value.
"""

from __future__ import annotations

import difflib
import re

from serverd.config.values import Substituted
from serverd.generation import ACCESS_FIELDS

__all__ = ["parse_access_format", "parse_excluded_path", "parse_share"]

NAMED = ("auto", "text", "json", "combined")
LONGEST = 1000  # characters of a template

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")


def parse_access_format(value: object) -> str:
    """Return the name of a format, or a template all of whose fields are known."""
    if not isinstance(value, str):
        raise ValueError("is not a string (write it in quotes)")
    if value in NAMED:
        return str(value)
    if len(value) > LONGEST or _CONTROL.search(value):
        raise ValueError(f"cannot be one line (expected at most {LONGEST} characters, none of them a control)")
    names = []
    for piece in _PIECE.finditer(value):
        if piece[2]:
            raise ValueError("has a brace without its other (expected {name}, and {{ or }} for a brace)")
        if piece[1] is not None:
            names.append(piece[1])
    if not names:
        shown = value if not isinstance(value, Substituted) else ""
        close = difflib.get_close_matches(shown, NAMED, n=1)
        hint = f'did you mean "{close[0]}"?' if close else "expected auto, text, json, combined, or a template"
        raise ValueError(f"is no format ({hint} with a {{name}} in it)" if not close else f"is no format ({hint})")
    for name in names:
        if name not in ACCESS_FIELDS:
            raise ValueError(_unknown(name, is_secret=isinstance(value, Substituted)))
    return str(value)


def _unknown(name: str, *, is_secret: bool) -> str:
    close = [] if is_secret else difflib.get_close_matches(name[:100], ACCESS_FIELDS, n=1)
    hint = f'did you mean "{{{close[0]}}}"?' if close else f"expected {', '.join(ACCESS_FIELDS)}"
    return f"names a field that is not known ({hint})" if is_secret else f'has no field "{name[:100]}" ({hint})'


def parse_excluded_path(value: object) -> str:
    """Return a path, which may end in * for all that begin with it."""
    if not isinstance(value, str):
        raise ValueError("is not a string (write it in quotes)")
    if not value.startswith("/") or "*" in value[:-1] or _CONTROL.search(value):
        raise ValueError('is no path (expected one like "/healthz", or "/static/*" for all that begin so)')
    return str(value)


def parse_share(value: object) -> float:
    """Return a share of a whole, 0 to 1."""
    if isinstance(value, Substituted):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("is not a number from 0 to 1")
    return float(value)
