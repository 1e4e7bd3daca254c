"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["completing", "config_option", "json_option"]

_F = TypeVar("_F", bound=Callable[..., Any])


Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def completing(what: str) -> Completer:
    """Return what lets shells complete a value as a `what`: "file" or "dir".

    Unlike a type of click's, it says nothing about what the value has to be: who uses it does.
    """

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=what)]

    return complete


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
