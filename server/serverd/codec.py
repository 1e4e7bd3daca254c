"""Frozen dataclasses as JSON and back, by their type hints: what `messages` and whoever else sends values uses.

JSON and not pickle, because a worker runs foreign code and the supervisor may be root: reading can never run anything.
"""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

__all__ = ["build", "plain"]


def plain(value: Any) -> Any:
    """Return `value` as json writes it; a dataclass becomes an object that carries its type's name."""
    if is_dataclass(value):
        return {"": type(value).__name__} | {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def build(kind: Any, value: Any) -> Any:
    """Return `value`, as json read it, as an instance of the type `kind`; a mismatch is a TypeError."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return build(_member(typing.get_args(kind), value), value)
    if origin is tuple:
        return tuple(build(typing.get_args(kind)[0], item) for item in value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: build(hints[name], item) for name, item in value.items() if name})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if type(value) is not (origin or kind):
        raise TypeError(f"{value!r} is not {kind}")
    return value


def _member(options: tuple[Any, ...], value: Any) -> Any:
    """Return the member of a union that `value` is: a dataclass by the name it carries, else by its type."""
    name = value[""] if isinstance(value, dict) else type(value).__name__
    for option in options:
        if option.__name__ == name:
            return option
    raise TypeError(f"{value!r} is none of {options}")
