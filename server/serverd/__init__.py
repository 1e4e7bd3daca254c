"""serverd: a server that hosts several ASGI applications from one TOML file.

`run` and `Server` are for Python programs (docs/embedding.md), the errors are what `Server` raises. They are imported
when they are asked for, because every process of the server imports this module.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers have it: `typing` takes longer than all else before the first line of ours

if TYPE_CHECKING:
    from typing import Any

    from serverd.embed.running import run
    from serverd.embed.server import Server
    from serverd.errors import (
        AppError,
        AppLoadError,
        BindError,
        ConfigError,
        LifespanError,
        OperatorError,
        ServerdError,
    )

__all__ = [
    "AppError",
    "AppLoadError",
    "BindError",
    "ConfigError",
    "LifespanError",
    "OperatorError",
    "Server",
    "ServerdError",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "run":
        from serverd.embed.running import run

        return run
    if name == "Server":
        from serverd.embed.server import Server

        return Server
    if name in __all__:
        from serverd import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
