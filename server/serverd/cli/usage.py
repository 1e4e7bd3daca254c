"""What is wrong with a command line, in the form that all our messages have: click finds it, and words it otherwise.

`command` raises what stands here in the place of click's errors. It is click that shows them, and that ends with 2.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import IO, Any

import click

from serverd.console import say

__all__ = ["LostPlaceError", "WrongUsage", "absolute", "worded"]

# What click says of a value that is no number, or one too small or large, and of arguments too many.
_NOT_A_NUMBER = re.compile(r"'?(?P<value>.*?)'? is not (?:a valid integer|in the range)", re.DOTALL)
_TOO_MANY = re.compile(r"Got unexpected extra arguments? \((?P<what>.*)\)", re.DOTALL)


class WrongUsage(click.UsageError):
    """A sentence, then how the command is used."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        context = self.ctx
        command = "serverd" if context is None else context.command_path
        usage = "" if context is None else " ".join([command, *context.command.collect_usage_pieces(context)])
        say(f"{command}: {self.message}\n" + (f"usage: {usage} ({command} --help says more)\n" if usage else ""))


class LostPlaceError(click.ClickException):
    """There is no working directory that a path could be relative to."""

    exit_code = 3  # as whatever else the machine does not allow

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        say(f"serverd: {self.message}\n")


def absolute(path: str) -> str:
    """Return the absolute path of what a command line names; raises LostPlaceError."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise LostPlaceError(
            f"{path}: the working directory has been removed (change to one that is there, or give an absolute path)"
        ) from None


@contextlib.contextmanager
def worded() -> Iterator[None]:
    """Word click's errors as ours."""
    try:
        yield
    except WrongUsage:
        raise
    except click.UsageError as error:
        raise WrongUsage(_sentence(error), error.ctx) from None


def _sentence(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        near = f' (did you mean "{error.possibilities[0]}"?)' if error.possibilities else ""
        return f'there is no option "{error.option_name}"{near}'
    if isinstance(error, click.BadOptionUsage):
        needs = "requires an argument" in error.message
        return f"{error.option_name} {'needs a value' if needs else 'takes no value'}"
    if isinstance(error, click.MissingParameter):
        return f"{_name(error)} is missing"
    if isinstance(error, click.BadParameter):
        return f"{_name(error)}: {_fault(error)}"
    if found := _TOO_MANY.match(error.message):
        return f'there is no place for "{found["what"]}"'
    return error.message  # one of ours


def _name(error: click.BadParameter) -> str:
    parameter = error.param
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return "an argument" if parameter is None else parameter.human_readable_name


def _fault(error: click.BadParameter) -> str:
    kind = None if error.param is None else error.param.type
    found = _NOT_A_NUMBER.match(error.message)
    if found and isinstance(kind, click.IntRange):
        bounds = f"of {kind.min} or more" if kind.max is None else f"from {kind.min} to {kind.max}"
        return f'"{found["value"]}" is not a whole number {bounds}'
    return error.message.rstrip(".").replace("'", '"')
