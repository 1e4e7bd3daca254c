"""What the caller says, as a generation and the application objects in it: a file, a dict, or options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serverd.asgi.types import Application
from serverd.config.options import OptionDocument, compose
from serverd.config.report import Problem, render
from serverd.errors import ConfigError
from serverd.generation import Generation

__all__ = ["Configured", "configure", "refuse"]

# Stands in the configuration where the caller has given an object; a module that can always be found.
_GIVEN = "serverd.embed:application"


@dataclass(frozen=True, slots=True)
class Configured:
    """A generation, and the applications of it that need not be imported, by name."""

    generation: Generation
    objects: dict[str, Any] = field(default_factory=dict)


def configure(
    config: str | os.PathLike[str] | Mapping[str, Any] | None,
    app: str | Application | None,
    options: Mapping[str, Any],
) -> Configured:
    """Return what is to be served; raises ConfigError with every problem there is."""
    from serverd.config.load import load, load_document  # pydantic, for who really starts a server

    if (config is None) == (app is None):
        raise ConfigError("a server needs either a configuration or an application (app=...)")
    if app is not None:
        if not (isinstance(app, str) or callable(app)):
            refuse(["app"], f'{type(app).__name__} is no application (expected one, or "package.module:attribute")')
        if isinstance(app, str):
            return Configured(load_document(compose(app, options, are_flags=False), os.environ))
        return Configured(load_document(compose(_GIVEN, options, are_flags=False), os.environ), {"app": app})
    if options:
        refuse(options, "goes with app=..., not with a configuration, which has a key for it")
    if isinstance(config, Mapping):
        objects: dict[str, Any] = {}
        values = _plain(config, (), objects)
        return Configured(load_document(OptionDocument("config", values), os.environ), objects)
    assert config is not None  # as told above
    return Configured(load(os.fspath(config), os.environ))


def refuse(names: Iterable[str], why: str) -> None:
    """Raise ConfigError for each of these options, if there are any."""
    problems = [Problem(0, "", None, None, name, why) for name in names]
    if problems:
        raise ConfigError(render(problems))


def _plain(value: Any, path: tuple[str, ...], objects: dict[str, Any]) -> Any:
    """Return `value` as TOML would have brought it; application objects are put into `objects`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*path, str(key)), objects) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, "[]"), objects) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if len(path) == 3 and path[0] == "apps" and path[2] == "app" and callable(value):
        objects[path[1]] = value
        return _GIVEN
    if isinstance(value, str | int | float):
        return value
    what = ".".join(path)
    raise ConfigError(f"config: {what}: {type(value).__name__} is nothing that a configuration can hold")
