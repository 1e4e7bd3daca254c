"""The standard streams of a command: what is shown, and what happens when that cannot be written."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import click

__all__ = ["OutputError", "abandon", "output_reserved", "prepare_streams", "say", "show"]


def prepare_streams() -> None:
    """Open /dev/null in the place of a standard stream that is closed: the next file would take its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an application may have a name that the locale cannot write
            stream.reconfigure(errors=_SPELLED)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Return what the stream cannot write with backslashes; of a name that is no text, the bytes that it has."""
    assert isinstance(error, UnicodeEncodeError)
    parts = [
        f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"  # os.fsdecode
        else character.encode("ascii", "backslashreplace").decode()
        for character in error.object[error.start : error.end]
    ]
    return "".join(parts), error.end


_SPELLED = "serverd.spelled"
codecs.register_error(_SPELLED, _spell)


class OutputError(OSError):
    """What was to be shown could not be written; with the arguments of the error that said so."""


@contextlib.contextmanager
def output_reserved() -> Iterator[None]:
    """Lead what anybody else writes to standard output, as a process that is started here, to standard error."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


def show(text: str) -> None:
    """Write to standard output; raises OutputError when that fails."""
    try:
        click.echo(text, nl=False)
    except OSError as error:
        raise OutputError(*error.args) from error


def say(text: str) -> None:
    """Write to standard error; when that fails there is nowhere to say so, and the exit code has to do."""
    try:
        click.echo(text, nl=False, err=True)
    except OSError:
        abandon(sys.stderr)


def abandon(stream: TextIO) -> None:
    """Let what `stream` still holds go nowhere: Python would fail once more when it writes it at the very end."""
    with contextlib.suppress(OSError, ValueError):  # it may have no descriptor, or be closed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
