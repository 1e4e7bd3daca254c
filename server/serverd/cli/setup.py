"""The commands that prepare something for a server and ask none: dev-cert."""

from __future__ import annotations

import click

from serverd.cli.ending import finish
from serverd.console import show

__all__ = ["COMMANDS"]


@click.command("dev-cert")
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

    finish(make)


COMMANDS = (dev_cert,)
