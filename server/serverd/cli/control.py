"""The commands that ask a running server: status, reload, reopen, stop, scale, upgrade.

Options and exit codes; what is asked, and what the answer means, is in `control.commands`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from serverd.cli import ending
from serverd.cli.options import completing, config_option, json_option
from serverd.cli.usage import absolute
from serverd.console import say, show

if TYPE_CHECKING:
    from serverd.control.client import ControlClient
    from serverd.control.commands import Outcome

__all__ = ["COMMANDS"]

# As many workers as the configuration may ask for; here a second time, so that nothing is imported for it.
MOST_WORKERS = 1024

# Seconds for --timeout: a day is longer than anything that is worth waiting for.
LONGEST_TIMEOUT = 86400

# Cursor to the upper left; forget the rest of the line; forget the rest of the screen (ECMA-48). Not the whole
# screen at once, which flickers.
_HOME, _CUT_LINE, _CUT_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
# DECAWM: the terminal cuts a line at its edge, so that each has one row, and whether it goes on below.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"

_F = TypeVar("_F", bound=Callable[..., Any])


def _server_options(command: _F) -> _F:
    """Give a command the options that say which server it is about, as `path` and `socket`."""
    config = config_option("The configuration that the server was started with.")
    about = "Its control socket; without, found by way of FILE."
    socket = click.option("--socket", metavar="PATH", shell_complete=completing("file"), help=about)
    return config(socket(command))


def _timeout_option(command: _F) -> _F:
    return click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.IntRange(1, LONGEST_TIMEOUT),
        help="Stop waiting after so long; the server goes on.  [default: wait as long as it takes]",
    )(command)


@click.command()
@_server_options
@json_option
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
        ending.finish(keep_showing)
    _ask(path, socket, lambda client: commands.read_status(client, as_json=as_json))


@click.command()
@_server_options
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@_timeout_option
def reload(path: str, socket: str | None, dry_run: bool, timeout: int | None) -> None:
    """Reload configuration and applications, and say how it went.

    On failure the old ones go on serving.
    """
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.order(client, "reload", timeout, dry_run=dry_run))


@click.command()
@_server_options
@_timeout_option
def reopen(path: str, socket: str | None, timeout: int | None) -> None:
    """Open the log files anew, as after logrotate has moved them."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.order(client, "reopen", timeout))


@click.command()
@_server_options
@_timeout_option
def stop(path: str, socket: str | None, timeout: int | None) -> None:
    """Stop gracefully and wait until the server has gone."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.stop(client, timeout))


@click.command()
@click.argument("workers", metavar="N", type=click.IntRange(1, MOST_WORKERS))
@_server_options
@_timeout_option
def scale(workers: int, path: str, socket: str | None, timeout: int | None) -> None:
    """Change the number of workers to N, until the file says another one, or an upgrade."""
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.order(client, "scale", timeout, workers=workers))


@click.command()
@_server_options
@_timeout_option
def upgrade(path: str, socket: str | None, timeout: int | None) -> None:
    """Replace the supervisor by the version that is installed now.

    No connection is lost. Waits until the new one serves; on failure the old one goes on.
    """
    from serverd.control import commands

    _ask(path, socket, lambda client: commands.order(client, "upgrade", timeout))


def _ask(path: str, socket: str | None, question: Callable[[ControlClient], Outcome]) -> NoReturn:
    def ask() -> int:
        with _connect(path, socket) as client:
            try:
                return ending.write(question(client))
            except KeyboardInterrupt:
                say("serverd: not waiting any longer; what was asked goes on\n")
                return ending.EXIT_INTERRUPTED

    ending.finish(ask)


def _connect(path: str, socket: str | None) -> ControlClient:
    from serverd.control.client import ControlClient

    if socket is not None:
        return ControlClient(socket)
    from serverd.config.control import configured_socket

    return ControlClient(configured_socket(absolute(path)), path)


def _redraw(outcome: Outcome, *, as_json: bool) -> None:
    """Write one look of many: over the one before on a terminal, below it elsewhere."""
    if as_json or not sys.stdout.isatty():
        ending.write(outcome)
        return
    lines = (outcome.out + outcome.err).splitlines()
    rows = os.get_terminal_size(sys.stdout.fileno()).lines - 1 or len(lines)  # 0: the terminal does not know
    if len(lines) > rows > 0:
        lines[rows - 1 :] = [f"and {len(lines) - rows + 1} lines more"]
    text = "".join(f"{line}{_CUT_LINE}\n" for line in lines)
    show(f"{_NO_WRAP}{_HOME}{text}{_CUT_SCREEN}{_WRAP}")


COMMANDS = (status, reload, reopen, stop, scale, upgrade)
