"""What supervisor, loader and workers say to one another: plain values, one JSON object per line.

JSON and not pickle, because a worker runs foreign code and the supervisor may be root: reading a
message can never run anything. Values are the frozen dataclasses below and those of `generation`;
`encode` and `decode` work from their type hints.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from serverd.generation import Generation

__all__ = [
    "Drain",
    "Draining",
    "Failed",
    "LoadFailed",
    "Loaded",
    "Message",
    "Ready",
    "SocketGrant",
    "Start",
    "Starting",
    "decode",
    "encode",
]


@dataclass(frozen=True, slots=True)
class SocketGrant:
    """A listening descriptor that a worker inherits, and the listener it belongs to."""

    listener: str
    fd: int


@dataclass(frozen=True, slots=True)
class Start:
    """Supervisor to worker, first and once: what to serve, in which slot, on which descriptors."""

    generation: Generation
    slot: int
    sockets: tuple[SocketGrant, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """Supervisor to worker: stop accepting, finish what is in flight, shut the applications down, exit."""

    timeout: float  # seconds until what is left is cut


@dataclass(frozen=True, slots=True)
class Starting:
    """Worker to supervisor: it begins to bring up `what`, and is to blame when nothing more is heard."""

    what: str  # an application, with its place in the configuration


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to supervisor: every application is up and connections are being accepted."""

    pid: int


@dataclass(frozen=True, slots=True)
class Draining:
    """Worker to supervisor: nothing more is accepted, the listening sockets are closed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker to supervisor: the generation cannot be served; the worker exits after this."""

    summary: str  # one line, with the place in the configuration
    detail: str = ""  # the application's own traceback, in full


@dataclass(frozen=True, slots=True)
class Loaded:
    """Loader to supervisor: the configuration is valid."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Loader to supervisor: the configuration is not valid; `report` is the text for the operator."""

    report: str


Message = Start | Drain | Starting | Ready | Draining | Failed | Loaded | LoadFailed


def encode(message: Message) -> bytes:
    """Return `message` as one line of JSON that ends in a newline."""
    return json.dumps(_plain(message), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message that `line` holds.

    Raises ValueError when the line is not a message of this version.
    """
    try:
        message: Message = _build(Message, json.loads(line))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message: {line[:80]!r}") from error
    return message


def _plain(value: Any) -> Any:
    """Return `value` as json writes it; a dataclass becomes an object that carries its type's name."""
    if is_dataclass(value):
        return {"": type(value).__name__} | {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    """Return `value`, as json read it, as an instance of the type `kind`; a mismatch is a TypeError."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _build(_member(typing.get_args(kind), value), value)
    if origin is tuple:
        return tuple(_build(typing.get_args(kind)[0], item) for item in value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _build(hints[name], item) for name, item in value.items() if name})
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
