"""Frozen values: what `dataclass(frozen=True, slots=True)` makes of a class, in a tenth of the time.

That compiles six functions for each class, and the supervisor begins with a hundred classes: it took a quarter of the
time until it served. A record has these functions from here, the same for all, and is a dataclass to everybody else
(`fields`, `replace`, `is_dataclass`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, TypeVar, cast, dataclass_transform

__all__ = ["record"]

Kind = TypeVar("Kind")

_OURS: Final = frozenset(
    ("__init__", "__post_init__", "__repr__", "__reduce__", "__eq__", "__hash__", "__setattr__", "__delattr__")
)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[Kind]) -> type[Kind]:
    """Make of `cls`, by its annotations, a class of frozen values with slots, equal and hashed by all that they hold.

    Of the options of `field` it heeds `default`, `default_factory` and `repr`. Raises TypeError for others, and for a
    class with functions of its own in the place of those from here.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    items = fields(made)
    # Type checkers take it for a dataclass, and would believe what is not so.
    unheeded = [one.name for one in items if not (one.init and one.compare) or one.hash is not None or one.kw_only]
    unheeded += _OURS.intersection(vars(cls))
    if unheeded:
        raise TypeError(f"{cls.__name__} has {min(unheeded)}, which a record does not heed: make it a dataclass")
    made.__shape__ = tuple(
        (one.name, getattr(made, one.name).__set__, one.default, one.default_factory) for one in items
    )
    made.__values__ = _getter([one.name for one in items])
    made.__init__, made.__repr__, made.__reduce__ = _init, _repr, _reduce
    made.__eq__, made.__hash__ = _eq, _hash
    made.__setattr__ = made.__delattr__ = _refuse
    return cast(type[Kind], made)


def _getter(names: list[str]) -> Callable[[Any], Any]:
    """Return what takes from a value all that it holds, to be compared and hashed."""
    return staticmethod(attrgetter(*names)) if names else staticmethod(lambda value: ())


def _init(self: Any, /, *values: Any, **named: Any) -> None:
    shape = self.__shape__
    for (_, put, _, _), value in zip(shape, values, strict=False):
        put(self, value)
    for name, put, value, make in shape[len(values) :]:
        if name in named:
            value = named.pop(name)
        elif value is MISSING:
            if make is MISSING:
                raise TypeError(f"{type(self).__name__} needs a value for {name}")
            value = make()
        put(self, value)
    if named:
        raise TypeError(f"{type(self).__name__} has no field {min(named)}, or it is given twice")
    if len(values) > len(shape):
        raise TypeError(f"{type(self).__name__} has {len(shape)} fields, and {len(values)} values are given")


def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> bool:
    return self.__values__(self) == other.__values__(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(self.__values__(self))


def _refuse(self: Any, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"{type(self).__name__} is frozen: {name} cannot be changed")


def _reduce(self: Any) -> tuple[Any, ...]:
    # A copy is made as the value was: nobody can set its fields one by one.
    return type(self), tuple(getattr(self, one.name) for one in fields(self))
