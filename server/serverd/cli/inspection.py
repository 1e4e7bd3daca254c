"""The commands that look at a configuration and change nothing: check, routes, explain, schema."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from serverd.cli.ending import EXIT_INTERRUPTED, finish
from serverd.cli.options import config_option, json_option
from serverd.cli.usage import absolute
from serverd.console import say, show

if TYPE_CHECKING:
    from serverd.generation import Generation

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
        report = rehearse(absolute(path), lifespan=not no_lifespan)
        if not (report.is_complete or report.invalid):
            say("serverd: interrupted\n")
            return EXIT_INTERRUPTED
        show(json.dumps(document(report, path), indent=2) + "\n" if as_json else describe(report, path))
        return 0 if report.is_good else EXIT_REFUSED

    finish(run)


@click.command()
@config_option("The configuration to show.")
@json_option
def routes(path: str, as_json: bool) -> None:
    """Show the mounts in the order in which they are decided.

    The first row whose host and path match is the one that answers.
    """
    from serverd.cli.mount_table import describe_table, table

    def run() -> int:
        generation = _read_generation(path)
        show(json.dumps(table(generation), indent=2) + "\n" if as_json else describe_table(generation))
        return 0

    finish(run)


@click.command()
@click.argument("url")
@config_option("The configuration to ask.")
@click.option("-X", "--method", default="GET", show_default=True, help="The method of the request.")
@click.option("-H", "--header", "headers", metavar="LINE", multiple=True, help='A header, such as "Accept: text/html".')
@click.option("--listener", metavar="NAME", help="Ask this one, wherever the URL leads, as a proxy would.")
@click.option("--client", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Who asks.")
@json_option
def explain(
    url: str, path: str, method: str, headers: tuple[str, ...], listener: str | None, client: str, as_json: bool
) -> None:
    """Say who would answer URL, and why.

    Which listener, with which certificate, which mount and which it comes before, and what the application finds
    in its scope. Without scheme and host, as in /shop/cart, every listener is asked. The application is not called,
    and nothing connected to, but that a server which runs with FILE is asked for ports that FILE does not say. The
    exit code is 3 when nothing serves it.
    """
    from serverd.cli import explain_text
    from serverd.cli.explain import explain as ask
    from serverd.cli.question import read_question
    from serverd.cli.reach import settled

    def run() -> int:
        question = read_question(url, method, headers, client)
        generation = settled(_read_generation(path))
        answers = ask(generation, question, listener)
        if as_json:
            show(json.dumps(explain_text.document(question, answers), indent=2) + "\n")
        elif answers:
            show(explain_text.describe_answers(answers, generation))
        else:
            show(explain_text.describe_unreached(question, generation))
        return 0 if any(answer.is_served for answer in answers) else EXIT_REFUSED

    finish(run)


@click.command()
def schema() -> None:
    """Show the JSON Schema of the configuration, for editors."""

    def run() -> int:
        from serverd.config.reference import schema as text

        show(text())
        return 0

    finish(run)


def _read_generation(path: str) -> Generation:
    """Return what the configuration says; raises ConfigError with the complete report."""
    from serverd.config.load import load

    return load(absolute(path), os.environ)


COMMANDS = (check, routes, explain, schema)
