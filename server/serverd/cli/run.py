"""The command that serves one application without a file: run; and the options of --reload, which a file has, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from serverd.cli.ending import serve
from serverd.cli.options import completing
from serverd.cli.usage import absolute

if TYPE_CHECKING:
    from serverd.config.options import Option
    from serverd.supervisor.source import Watched

__all__ = ["COMMANDS", "reload_options", "watched"]

_F = TypeVar("_F", bound=Callable[..., Any])

# Of uvicorn's, those that mean nothing here, and why.
_NOT_HERE = {
    "--log-config": "logging is --log-level and --log-format; an application may configure its own loggers",
    "--use-colors": "--log-format says how lines look",
    "--no-use-colors": "--log-format says how lines look",
    "--ws": "there is one implementation of WebSocket",
    "--reload-delay": "changes are told by the kernel, nothing is looked at in intervals",
    "--ssl-version": "TLS 1.2 and 1.3 are spoken; a file has tls.NAME.min_version",
    "--http2": "HTTP/2 is always spoken to clients that ask for it",
    "--reset-contextvars": "every request runs in a context of its own, a copy of that of the import",
}


# What a value is for shells, by what help calls it.
_COMPLETED = {"FILE": "file", "PATH": "file", "FOLDER": "dir"}


def reload_options(command: _F) -> _F:
    """Give a command the options about --reload."""
    lists = [
        ("--reload-dir", "FOLDER", "Watch this, not the application's folder."),
        ("--reload-include", "PATTERN", "Files to watch beside *.py, such as 'templates/*'."),
        ("--reload-exclude", "PATTERN", "Files or folders not to watch."),
    ]
    for name, metavar, about in reversed(lists):
        complete = completing("dir") if metavar == "FOLDER" else None
        command = click.option(name, metavar=metavar, multiple=True, help=about, shell_complete=complete)(command)
    about = "Reload when files of the application or configuration change."
    return click.option("--reload", is_flag=True, help=about)(command)


def watched(given: dict[str, Any]) -> tuple[Watched | None, tuple[str, ...]]:
    """Take the options about --reload out of `given`; return what they say, and them as arguments again."""
    reload = given.pop("reload")
    lists = {name: given.pop(name) for name in ("reload_dir", "reload_include", "reload_exclude")}
    for name, values in lists.items():
        if values and not reload:
            raise click.UsageError(f"{_flag(name)} needs --reload")
    if not reload:
        return None, ()
    for folder in lists["reload_dir"]:
        if not os.path.isdir(folder):
            raise click.UsageError(f"--reload-dir: {folder} is not a folder")
    arguments = tuple(part for name, values in lists.items() for value in values for part in (_flag(name), value))
    from serverd.supervisor.source import Watched

    folders = tuple(map(os.path.realpath, lists["reload_dir"]))
    return Watched(folders, lists["reload_include"], lists["reload_exclude"]), ("--reload", *arguments)


class _Run(click.Command):
    """The command, with the options that stand for keys, and which knows what it deliberately does not take."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; what they stand for is imported when this command is looked at, and no other."""
        from serverd.config.options import OPTIONS

        if not self._is_complete:
            self._is_complete = True
            self.params = [*map(_declare, OPTIONS), *self.params]
        return super().get_params(ctx)

    _is_complete = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say why an option of uvicorn's means nothing here, else parse as usual."""
        for argument in args[: args.index("--")] if "--" in args else args:
            reason = _NOT_HERE.get(argument.partition("=")[0])
            if reason is not None:
                ctx.fail(f'there is no option "{argument.partition("=")[0]}" ({reason})')
        return super().parse_args(ctx, args)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _declare(option: Option) -> click.Option:
    name, about = _flag(option.name), {"help": option.about, "default": None}
    if option.kind == "switch":
        return click.Option([name], is_flag=True, flag_value=True, **about)  # type: ignore[arg-type]
    if option.kind == "both":
        return click.Option([f"{name}/--no-{name[2:]}"], **about)  # type: ignore[arg-type]
    types = {"whole": click.INT, "seconds": click.FLOAT}
    many = option.kind == "texts"
    return click.Option(
        [name],
        metavar=option.metavar or None,
        type=types.get(option.kind, click.STRING),
        multiple=many,
        help=option.about,
        shell_complete=completing(_COMPLETED[option.metavar]) if option.metavar in _COMPLETED else None,
    )


@click.command(cls=_Run)
@click.argument("app")
@reload_options
@click.option("--take-over", metavar="FD", type=click.IntRange(min=3), hidden=True)
def run(app: str, take_over: int | None, **given: Any) -> NoReturn:
    """Serve APP, given as module:attribute, without a file.

    The attribute is app unless it is named. The same supervisor and workers serve it as with a file, and every
    option stands for a key of one: `serverd init` writes a file when there is more to say. A server that was started
    so is asked, from the same folder, with `serverd -c run:APP status`, or,
    when it listens elsewhere than by default, with `serverd -c run:APP@ADDRESS:PORT status`.
    """
    from serverd.config.options import call, pack, title, words
    from serverd.supervisor.source import Source

    watch, arguments = watched(given)
    options = {name: value for name, value in given.items() if value is not None and value != ()}
    line = ("run", app, *words(options), *arguments)  # and --take-over behind them, in an upgrade
    source = Source(absolute(call(app, options)), line, pack(app, options, are_flags=True), watch, title(app, True))
    serve(source, take_over)


COMMANDS = (run,)
