"""The group of commands: `serverd -c FILE` serves, and what is wrong usage."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import click
from click.core import ParameterSource

from serverd.cli.ending import EXIT_OUTPUT, serve
from serverd.cli.run import reload_options, watched
from serverd.cli.usage import absolute, worded
from serverd.console import abandon, prepare_streams, say

__all__ = ["main"]


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from serverd.cli.version import describe_versions

    click.echo(describe_versions(), nl=False)
    context.exit()


class _Group(click.Group):
    """The command with its subcommands; says what an unknown one may have been meant to be."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command and end the process, with a line and no traceback when standard output fails."""
        try:
            return super().main(*args, **options)
        except OSError as error:  # of `show`, or of click, which shows help itself; a closed pipe it leaves quietly
            from serverd.errors import reason_of

            abandon(sys.stdout)
            say(f"serverd: standard output cannot be written: {reason_of(error)}\n")
            sys.exit(EXIT_OUTPUT)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the options that stand in front of a command."""
        with worded():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what the command line asks for."""
        with worded():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand that the first argument names, and what is left.

        Raises click.UsageError when there is none of that name.
        """
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name[:40], self.commands, n=1)
            if name.endswith(".toml"):
                near = [f"serverd -c {name}"]
            listed = ", ".join(sorted(self.commands))
            hint = f'did you mean "{near[0]}"?' if near else f"expected one of {listed}"
            ctx.fail(f'there is no command "{name}" ({hint})')
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGS]...]",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    default="server.toml",
    show_default=True,
    type=click.Path(readable=False),
    help="The configuration to serve.",
)
@reload_options
@click.option("--take-over", metavar="FD", type=click.IntRange(min=3), hidden=True)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the versions and exit."
)
@click.pass_context
def main(context: click.Context, /, path: str, take_over: int | None, **given: Any) -> None:
    """Serve the applications that FILE names, in the foreground, until told to stop.

    reload, scale, status, stop and upgrade ask a server that runs already, and are for the user it runs as, and for
    root. init, check, routes and explain need none.

    HUP reloads the configuration and the applications, TERM and INT stop gracefully (a second one at
    once), QUIT stops at once, USR2 lets a new supervisor take over.

    Exit codes: 0 stopped, or done, as asked, 2 wrong usage, 3 the configuration, a listener's address or an
    application does not allow it, or no server, or no mount, answers, 1 standard output fails, or a bug of serverd.
    """
    prepare_streams()
    watch, arguments = watched(given)
    if context.invoked_subcommand is None:
        from serverd.supervisor.source import Source

        serve(Source.of_file(absolute(path), watch, arguments), take_over)
    if watch is not None:
        raise click.UsageError("--reload stands behind run, or goes with no command")
    if take_over is not None:
        raise click.UsageError("--take-over goes with no command")
    if context.get_parameter_source("path") is ParameterSource.COMMANDLINE:
        _refuse_unread(context)
    context.obj = path


def _refuse_unread(context: click.Context) -> None:
    """Refuse a configuration that the command would not look at."""
    name = context.invoked_subcommand
    assert name is not None  # else it is served
    assert isinstance(context.command, click.Group)
    if not any(parameter.name == "path" for parameter in context.command.commands[name].params):
        raise click.UsageError(f"{name} reads no configuration (expected no -c)")
