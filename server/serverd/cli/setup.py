"""The commands that prepare something for a server and ask none: init, dev-cert, completion."""

from __future__ import annotations

import click

from serverd.cli.ending import finish
from serverd.cli.options import completing
from serverd.console import show

__all__ = ["COMMANDS"]

_SHELLS = ("bash", "zsh", "fish")
# What of click's scripts is otherwise here, by shell. In fish a description went to its first comma only. In zsh, where
# the script is the body of a function that compinit loads, the second completion of a session registered the function
# once more, in the place of completing.
_MENDED = {
    "zsh": ("$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _serverd"),
    "fish": ('string split "," ', 'string split -m 1 "," '),
}


@click.command()
@click.argument("directory", default=".", shell_complete=completing("dir"))
@click.option("--force", is_flag=True, help="Replace a server.toml that is there.")
def init(directory: str, force: bool) -> None:
    """Write a server.toml for the applications in DIRECTORY.

    DIRECTORY is the present one by default. They are found by reading its Python files; nothing is imported, and
    nothing asked.
    """
    from serverd.cli.starter import write_configuration

    def run() -> int:
        show(write_configuration(directory, overwrite=force))
        return 0

    finish(run)


@click.command("dev-cert")
@click.argument("names", nargs=-1)
@click.option(
    "--directory", default=".", show_default=True, shell_complete=completing("dir"), help="Where to write the files."
)
def dev_cert(names: tuple[str, ...], directory: str) -> None:
    """Write a certificate for development.

    For NAMES (localhost by default), from a local authority that is made with it and used again.
    """
    from serverd.dev.certificates import make_certificate

    def make() -> int:
        show(make_certificate(directory, names))
        return 0

    finish(make)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Show the script that lets SHELL complete commands, options and files.

    \b
    bash:  serverd completion bash > ~/.local/share/bash-completion/completions/serverd
    zsh:   serverd completion zsh > ~/.zfunc/_serverd   (a folder of fpath, before compinit)
    fish:  serverd completion fish > ~/.config/fish/completions/serverd.fish
    """
    from click.shell_completion import get_completion_class

    def run() -> int:
        of_shell = get_completion_class(shell)
        assert of_shell is not None  # click has all of them
        # Without asking the shell for its version, as its `source` does: the script is for whoever loads it.
        script = of_shell(context.find_root().command, {}, "serverd", "_SERVERD_COMPLETE")
        text = script.source_template % script.source_vars()
        show(text.replace(*_MENDED.get(shell, ("", ""))) + "\n")
        return 0

    finish(run)


COMMANDS = (init, dev_cert, completion)
