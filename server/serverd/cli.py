"""The command `serverd`: reads the command line, runs the supervisor, ends the process.

It knows no configuration and no processes. What a command needs is imported when it runs, so that `--help`
and `--version` answer at once.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

__all__ = ["main"]

EXIT_BUG = 1


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


def _open_missing_streams() -> None:
    """Open /dev/null in the place of a standard stream that is closed: the next file would take its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
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
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the versions and exit."
)
def main(path: str) -> None:
    """Serve the applications that FILE names, in the foreground, until told to stop.

    HUP reloads the configuration and the applications, TERM and INT stop gracefully (a second one at
    once), QUIT stops at once.

    Exit codes: 0 stopped as asked, 2 wrong usage, 3 the configuration, a listener's address or an
    application does not allow the start, 1 a bug of serverd.
    """
    _open_missing_streams()
    from serverd.supervisor.supervisor import Supervisor

    try:
        code = Supervisor(os.path.abspath(path)).run()
    except KeyboardInterrupt:  # before the supervisor listens to signals: stopped as asked
        code = 0
    except Exception:
        traceback.print_exc()
        click.echo("serverd: this is a bug of serverd, please report it with the lines above", err=True)
        code = EXIT_BUG
    sys.exit(code)
