"""Pydantic's errors as sentences for the operator.

One table from error type to predicate; the value in front is the one in the file, never the one after
substitution. Not the layout of a report. Called by `validation`.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from serverd.config.document import Document, spelled
from serverd.config.foreign import instead
from serverd.config.kinds import Kind
from serverd.config.locate import Path, present
from serverd.config.models import File, Fragment
from serverd.config.report import Problem

__all__ = ["PREDICATES", "explain", "kind_of", "listed", "misspelt", "nearest"]

LIKE = 0.6  # what difflib must find for names to be alike: its own default
# Among the keys of all tables there are more to be alike by chance; and a slip rarely hits the first letter, so names
# that begin differently need as much, or "port" is taken for "format".
VERY_LIKE = 0.7
LONGEST_NAME = 100  # comparing takes time, and what is longer is no misspelling
MOST_LISTED = 20

PREDICATES: dict[str, Callable[[dict[str, Any]], str]] = {
    "bool_type": lambda _: "is not true or false",
    "dict_type": lambda _: "is not a table",
    "greater_than": lambda ctx: f"is too small (expected more than {ctx['gt']:g})",
    "greater_than_equal": lambda ctx: f"is too small (expected at least {ctx['ge']})",
    "int_type": lambda _: "is not a whole number",
    "less_than_equal": lambda ctx: f"is too large (expected at most {ctx['le']})",
    "model_type": lambda _: "is not a table",
    "string_type": lambda _: "is not a string",
    "too_long": lambda ctx: f"is too long (expected at most {ctx['max_length']})",
    "too_short": lambda ctx: f"is too short (expected at least {ctx['min_length']})",
    "tuple_type": lambda _: "is not a list",
    "value_error": lambda ctx: str(ctx["error"]),
}
"""What each type of error says about the value in front of it; the rest is in `explain`."""


def explain(error: ErrorDetails, document: Document, model: type[BaseModel]) -> Problem:
    """Return one of pydantic's errors, found in `document` with `model`, as a problem."""
    path = present(error["loc"], document.values)
    ctx = error.get("ctx", {})
    if error["type"] == "missing":
        missing = (*path, str(error["loc"][-1]))
        return document.problem(missing, f"is missing (expected {kind_of(_field(model, missing))})")
    if error["type"] == "extra_forbidden":
        return document.problem(path, _unknown_key(path, model))
    if error["loc"][-1] == "[key]":
        return document.problem(path, f"the key {_predicate(error['type'], ctx, error['msg'])}")
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", ctx["expected"])
        written = document.shown(path).strip('"')
        expected = ", ".join(f'"{choice}"' for choice in choices)
        return document.refusal(path, f"is not one of {expected}{nearest(written.lower(), choices)}")
    return document.refusal(
        path, _predicate(error["type"], ctx, error["msg"]) + _remedy(error["type"], document.value(path), path, model)
    )


def _remedy(kind: str, value: Any, path: Path, model: type[BaseModel]) -> str:
    """Return how a value of the wrong type would be written, in parentheses; "" where the error says it."""
    if kind in ("int_type", "bool_type"):
        is_quoted = isinstance(value, str) and (value.isdecimal() if kind == "int_type" else value in ("true", "false"))
        return " (write it without quotes)" if is_quoted else ""
    if kind == "string_type":
        is_plain = isinstance(value, int | float) and not isinstance(value, bool)
        return " (write it in quotes)" if is_plain else " (expected text in quotes)"
    if kind not in ("model_type", "dict_type", "tuple_type") or any(isinstance(step, int) for step in path):
        return ""
    where = spelled(path)
    field = _model_at(model, path[:-1]).model_fields.get(str(path[-1]))
    if field is None:  # an entry of a table of tables, by its name
        return f" (expected [{where}])"
    annotation = field.annotation
    if kind == "tuple_type":
        return f" (expected [[{where}]])" if _model_within(annotation) else " (expected it in square brackets)"
    of_names = typing.get_origin(annotation) is dict and _model_within(annotation)
    return f" (expected [{where}.NAME])" if of_names else f" (expected [{where}])"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "..."?)` for the known name that is most like `name`, else ""."""
    close = _closest(name, known, LIKE)
    return f' (did you mean "{close}"?)' if close else ""


def misspelt(path: Path, model: type[BaseModel]) -> str | None:
    """Return the known key of the same table that the unknown key at `path` was probably meant to be."""
    return _closest(str(path[-1]), _model_at(model, path[:-1]).model_fields, LIKE)


def listed(names: Iterable[str]) -> str:
    """Return names for a message, the first of them when there are too many."""
    every = list(names)
    return ", ".join(every[:MOST_LISTED]) + (", ..." if len(every) > MOST_LISTED else "")


def _closest(name: str, known: Iterable[str], likeness: float) -> str | None:
    if len(name) > LONGEST_NAME or not any(map(str.isalpha, name)):
        return None  # a number that is like another one is none that was mistyped
    for close in difflib.get_close_matches(name, sorted(known), cutoff=likeness):
        if close[:1] == name[:1] or difflib.get_close_matches(name, [close], cutoff=VERY_LIKE):
            return close
    return None


def kind_of(field: FieldInfo) -> str:
    """Return what a field's value is, in words: its `Kind`, its choices, or what its container holds."""
    for item in field.metadata:
        if isinstance(item, Kind):
            return item.text
    return _kind_of_type(field.annotation)


def _kind_of_type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        kinds = [item.text for item in arguments[1:] if isinstance(item, Kind)]
        return kinds[0] if kinds else _kind_of_type(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return _kind_of_type(arguments[0])
    if origin is tuple:
        return f"list of: {_kind_of_type(arguments[0])}"
    if origin is dict:
        return f"table of {_kind_of_type(arguments[0])} = {_kind_of_type(arguments[1])}"
    return "table"


def _predicate(kind: str, ctx: dict[str, Any], message: str) -> str:
    """Return what the table says, or pydantic's own words for a type that nobody has thought of."""
    if kind in PREDICATES:
        return PREDICATES[kind](ctx)
    return f"is not valid ({message[:1].lower()}{message[1:]})"


def _unknown_key(path: Path, model: type[BaseModel]) -> str:
    key = str(path[-1])
    if model is Fragment and len(path) == 1 and key in File.model_fields:
        return "belongs in the main file (an included file may hold only listeners, tls, apps and mounts)"
    remedy = _foreign(path)
    if remedy:
        return f"unknown key ({remedy})"
    close = misspelt(path, model)
    if close:
        return f'unknown key (did you mean "{close}"?)'
    elsewhere = _keys_elsewhere(path)
    close = _closest(key, elsewhere, VERY_LIKE)
    if close:
        header = elsewhere[close]
        here = (_outermost(header) or close) in model.model_fields
        place = f"in {header}" if header else "at the top level"
        return f'unknown key (did you mean "{close}" {place}{"" if here else " of the main file"}?)'
    return f"unknown key (expected one of {', '.join(_model_at(model, path[:-1]).model_fields)})"


def _foreign(path: Path) -> str | None:
    """Return what is done instead of a key that other servers have in such a table."""
    names = [step for step in path if isinstance(step, str)]
    if len(names) == 1:
        return instead("", names[0])
    entries = ("mounts", "server")  # of others the second step is a name
    return instead(names[0], names[-1]) if len(names) == (2 if names[0] in entries else 3) else None


def _keys_elsewhere(path: Path) -> dict[str, str]:
    """Return every key there is, and the header of its table: one near the table of `path` when several have it."""
    tables = sorted(_tables(), key=lambda table: _outermost(table[0]) != path[0])
    return {name: header for header, table in reversed(tables) for name in table.model_fields}


def _tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the header and the model of every table of the main file, the outer ones first."""
    waiting: deque[tuple[str, type[BaseModel]]] = deque([("", File)])
    while waiting:
        header, table = waiting.popleft()
        yield header, table
        for name, field in table.model_fields.items():
            inner = _model_within(field.annotation)
            if inner is not None:
                inner_header = ".".join(filter(None, [header.strip("[]"), name]))
                waiting.append((_header(inner_header, typing.get_origin(field.annotation)), inner))


def _header(path: str, container: Any) -> str:
    if container is dict:
        return f"[{path}.NAME]"
    return f"[[{path}]]" if container is tuple else f"[{path}]"


def _outermost(header: str) -> str:
    return header.strip("[]").partition(".")[0]


def _field(model: type[BaseModel], path: Path) -> FieldInfo:
    return _model_at(model, path[:-1]).model_fields[str(path[-1])]


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """Return the model of the table that `path` leads to."""
    steps = iter(path)
    for step in steps:
        annotation = model.model_fields[str(step)].annotation
        model = _model_within(annotation) or model
        if typing.get_origin(annotation) in (dict, tuple):
            next(steps, None)  # a name or an index
    return model


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the one model within a dict, tuple, union or Annotated type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, typing.get_args(annotation))), None)
