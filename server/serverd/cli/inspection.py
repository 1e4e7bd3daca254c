"""The commands that look at a configuration and change nothing: check, routes, explain, schema."""

from __future__ import annotations

import json

import click

from serverd.cli.ending import EXIT_INTERRUPTED, finish
from serverd.cli.options import config_option, json_option
from serverd.console import say, show

__all__ = ["COMMANDS"]

EXIT_REFUSED = 3  # as of a start that the configuration does not allow


@click.command()
@config_option("The configuration to check.")
@click.option("--no-lifespan", is_flag=True, help="Only import the applications, do not start them.")
@json_option
def check(path: str, no_lifespan: bool, as_json: bool) -> None:
    """Say what a start would meet, and start nothing.

    Reads the configuration, tries the addresses, loads the certificates, imports every application in a worker
    of its own, and runs its lifespan. Every problem and warning is shown; the exit code is 3 when a start would
    fail. What the applications print goes to standard error. A server that runs is not disturbed.
    """
    from serverd.cli.check import describe, document, rehearse

    def run() -> int:
        report = rehearse(path, lifespan=not no_lifespan)
        if not (report.is_complete or report.invalid):
            say("serverd: interrupted\n")
            return EXIT_INTERRUPTED
        show(json.dumps(document(report, path), indent=2) + "\n" if as_json else describe(report, path))
        return 0 if report.is_good else EXIT_REFUSED

    finish(run)


COMMANDS = (check,)
