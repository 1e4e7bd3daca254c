"""The command `serverd`: reads the command line, runs the supervisor or asks one that runs, ends the process.

It knows no configuration and no processes. What a command needs is imported when it runs, so that `--help`
and `--version` answer at once.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from serverd.console import OutputError, abandon, prepare_streams, say, show

if TYPE_CHECKING:
    from serverd.control.client import ControlClient
    from serverd.control.commands import Outcome

__all__ = ["main"]

EXIT_BUG = 1
# As grep and cat have it, for what could not be written.
EXIT_OUTPUT = 1
# 128 and the number of SIGINT, as shells have it.
EXIT_INTERRUPTED = 130

# As many workers as the configuration may ask for; here a second time, so that nothing is imported for it.
MOST_WORKERS = 1024

# Seconds for --timeout: a day is longer than anything that is worth waiting for.
LONGEST_TIMEOUT = 86400

# Cursor to the upper left; forget the rest of the line; forget the rest of the screen (ECMA-48). Not the whole
# screen at once, which flickers.
_HOME, _CUT_LINE, _CUT_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

_F = TypeVar("_F", bound=Callable[..., Any])


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    import importlib.metadata
    import platform

    try:
        version = importlib.metadata.version("asgi-serverd")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"serverd {version} on Python {platform.python_version()}")
    context.exit()


class _Group(click.Group):
    """The command with its subcommands; says what an unknown one may have been meant to be."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command and end the process, with a line and no traceback when standard output fails."""
        try:
            return super().main(*args, **options)
        except OSError as error:  # of `show`, or of click, which shows help itself; a closed pipe it leaves quietly
            abandon(sys.stdout)
            say(f"serverd: standard output cannot be written: {error.strerror}\n")
            sys.exit(EXIT_OUTPUT)

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


def _given_or_inherited(context: click.Context, _: click.Parameter, value: str | None) -> str:
    """Let `serverd -c FILE status` mean the same as `serverd status -c FILE`."""
    return value if value is not None else context.obj


def _server_options(command: _F) -> _F:
    """Give a command the options that say which server it is about, as `path` and `socket`."""
    config = click.option(
        "-c",
        "--config",
        "path",
        metavar="FILE",
        show_default="server.toml",
        callback=_given_or_inherited,
        help="The configuration that the server was started with.",
    )
    socket = click.option("--socket", metavar="PATH", help="Its control socket; without, found by way of FILE.")
    return config(socket(command))


def _timeout_option(command: _F) -> _F:
    return click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.IntRange(1, LONGEST_TIMEOUT),
        help="Stop waiting after so long; the server goes on.  [default: wait as long as it takes]",
    )(command)


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
    type=click.Path(resolve_path=False),
    help="The configuration to serve.",
)
@click.option("--take-over", metavar="FD", type=click.IntRange(min=3), hidden=True)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the versions and exit."
)
@click.pass_context
def main(context: click.Context, path: str, take_over: int | None) -> None:
    """Serve the applications that FILE names, in the foreground, until told to stop.

    The commands ask a server that runs already, and are for the user it runs as, and for root.

    HUP reloads the configuration and the applications, TERM and INT stop gracefully (a second one at
    once), QUIT stops at once, USR2 lets a new supervisor take over.

    Exit codes: 0 stopped, or done, as asked, 2 wrong usage, 3 the configuration, a listener's address or an
    application does not allow it, or no server answers, 1 standard output fails, or a bug of serverd.
    """
    prepare_streams()
    if context.invoked_subcommand is None:
        _serve(path, take_over)
    if take_over is not None:
        raise click.UsageError("--take-over goes with no command")
    context.obj = path


def _serve(path: str, take_over: int | None) -> NoReturn:
    from serverd.supervisor.supervisor import Supervisor

    try:
        code = Supervisor(os.path.abspath(path), take_over=take_over).run()
    except KeyboardInterrupt:  # before the supervisor listens to signals: stopped as asked
        code = 0
    except Exception:
        code = _report_bug()
    sys.exit(code)


@main.command()
@_server_options
@click.option("--json", "as_json", is_flag=True, help="Show everything, for programs.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def status(path: str, socket: str | None, as_json: bool, watch: bool) -> None:
    """Show generation, workers, applications and listeners."""
    from serverd.control import commands

    def keep_showing() -> int:
        with contextlib.suppress(KeyboardInterrupt):
            for outcome in commands.watch_status(lambda: _connect(path, socket), as_json=as_json):
                _redraw(outcome, as_json=as_json)
        return 0

    if watch:
        _finish(keep_showing)
    _ask(path, socket, lambda client: commands.read_status(client, as_json=as_json))


@main.command()
@_server_options
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@_timeout_option
def reload(path: str, socket: str | None, dry_run: bool, timeout: int | None) -> None:
    """Reload configuration and applications, and say how it went.

    On failure the old ones go on serving.
    """
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.reload(client, dry_run=dry_run, timeout=timeout))


@main.command()
@_server_options
@_timeout_option
def reopen(path: str, socket: str | None, timeout: int | None) -> None:
    """Open the log files anew, as after logrotate has moved them."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.reopen(client, timeout=timeout))


@main.command()
@_server_options
@_timeout_option
def stop(path: str, socket: str | None, timeout: int | None) -> None:
    """Stop gracefully and wait until the server has gone."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.stop(client, timeout=timeout))


@main.command()
@click.argument("workers", metavar="N", type=click.IntRange(1, MOST_WORKERS))
@_server_options
@_timeout_option
def scale(workers: int, path: str, socket: str | None, timeout: int | None) -> None:
    """Change the number of workers to N, until the file says another one, or an upgrade."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.scale(client, workers, timeout=timeout))


@main.command()
@_server_options
@_timeout_option
def upgrade(path: str, socket: str | None, timeout: int | None) -> None:
    """Replace the supervisor by the version that is installed now.

    No connection is lost. Waits until the new one serves; on failure the old one goes on.
    """
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.upgrade(client, timeout=timeout))


@main.command("dev-cert")
@click.argument("names", nargs=-1)
@click.option("--directory", default=".", show_default=True, help="Where to write the files.")
def dev_cert(names: tuple[str, ...], directory: str) -> None:
    """Write a certificate for development.

    For NAMES (localhost by default), from a local authority that is made with it and used again.
    """
    from serverd.dev import make_certificate

    def make() -> int:
        show(make_certificate(directory, names))
        return 0

    _finish(make)


def _ask(path: str, socket: str | None, question: Callable[[ControlClient], Outcome]) -> NoReturn:
    def ask() -> int:
        with _connect(path, socket) as client:
            return _write(question(client))

    _finish(ask)


def _connect(path: str, socket: str | None) -> ControlClient:
    from serverd.control.client import ControlClient

    if socket is not None:
        return ControlClient(socket)
    from serverd.config.control import configured_socket

    return ControlClient(configured_socket(os.path.abspath(path)), path)


def _write(outcome: Outcome) -> int:
    show(outcome.out)
    say(outcome.err)
    return outcome.code


def _redraw(outcome: Outcome, *, as_json: bool) -> None:
    """Write one look of many: over the one before on a terminal, below it elsewhere."""
    if as_json or not sys.stdout.isatty():
        _write(outcome)
        return
    lines = (outcome.out + outcome.err).replace("\n", f"{_CUT_LINE}\n")
    show(f"{_HOME}{lines}{_CUT_SCREEN}")


def _finish(command: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code."""
    from serverd.errors import OperatorError
    from serverd.observe.logs import escape

    try:
        code = command()
    except OperatorError as error:
        say(f"serverd: {escape(str(error))}\n")
        code = error.exit_code
    except KeyboardInterrupt:
        say("serverd: not waiting any longer; what was asked goes on\n")
        code = EXIT_INTERRUPTED
    except OutputError:  # `_Group.main` says it
        raise
    except Exception:
        code = _report_bug()
    sys.exit(code)


def _report_bug() -> int:
    traceback.print_exc()
    say("serverd: this is a bug of serverd, please report it with the lines above\n")
    return EXIT_BUG
