"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["config_option", "json_option"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _given_or_inherited(context: click.Context, _: click.Parameter, value: str | None) -> str:
    """Let `serverd -c FILE status` mean the same as `serverd status -c FILE`."""
    return value if value is not None else context.obj


def config_option(about: str) -> Callable[[_F], _F]:
    """Give a command the option that names the configuration, as `path`; `about` is its help."""
    return click.option(
        "-c",
        "--config",
        "path",
        metavar="FILE",
        type=click.Path(readable=False),  # of any kind, and for shells to complete
        show_default="server.toml",
        callback=_given_or_inherited,
        help=about,
    )


def json_option(command: _F) -> _F:
    """Give a command the option to show everything for programs, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Show everything, for programs.")(command)
