"""One configuration file: its text, its values before and after substitution, and the lines of its keys.

Not the reading (`load`) and not the meaning (`models`). Everything that finds a problem in a file reports
it through the file's `Document`, which knows how to name the place and what the operator wrote there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import tomli

from serverd.config.locate import Budget, Locator, Path, present
from serverd.config.report import Problem
from serverd.config.substitution import substitute
from serverd.errors import ConfigError

__all__ = ["Document", "Entry", "Unreadable", "quoted", "spelled"]

DEEPEST = 16  # the language needs 4 levels; the bound keeps every recursion over values harmless
LONGEST_KEY = 1000  # every problem within a table repeats the table's name
QUOTE_WIDTH = 80

SECRET_KEYS = ("key_password",)  # whose values no report shows, also when they are written in plain

# What tomli says of the slips that are made most, and what is said here.
_SLIPS = {
    "Invalid value": "this is no value: text stands in quotes",
    "Cannot overwrite a value": "the key has a value already",
    "Illegal character '\\n'": "the text has no closing quote on its line",
}
_REPEATED = ("mounts", "certificates")  # what there may be any number of: tables in two brackets
_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")
_SECRET = re.compile(rf"({'|'.join(SECRET_KEYS)})[\"']?\s*=")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

Model = TypeVar("Model", covariant=True)
Item = TypeVar("Item")


class Unreadable(ConfigError):
    """A file cannot be read; the message is a predicate such as "cannot be read: permission denied"."""


class Document:
    """One file as the operator wrote it."""

    def __init__(self, path: str, display: str, order: int, budget: Budget | None = None) -> None:
        self.path = path  # absolute
        self.display = display  # how reports name it
        self.order = order  # 0 for the main file
        self.home = "the folder of this file"  # what relative paths are relative to, in words
        self.budget = budget or Budget()  # of the search for lines; the documents of one reading share it
        self.written: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self._lines: list[str] = []
        self._locator: Locator | None = None

    @property
    def title(self) -> str:
        """What the whole is called where somebody is told what a server serves."""
        return self.path

    @property
    def directory(self) -> str:
        """What relative paths in this file are relative to."""
        return os.path.dirname(self.path)

    def resolve(self, path: str) -> str:
        """Return `path`, as this file has it, as an absolute path."""
        return os.path.normpath(os.path.join(self.directory, path))

    def parse(self, text: str) -> list[Problem]:
        """Take `text` as the contents; return the syntax errors, of which tomli tells the first only."""
        text = text.replace("\r\n", "\n")  # as tomli does; a prefix of lines must not end in half of it
        self._lines = text.split("\n")
        try:
            written = tomli.loads(text)
        except tomli.TOMLDecodeError as error:
            if text.lstrip().startswith("{"):  # with which no TOML begins
                return [self.problem((), "is JSON (expected TOML: `serverd init` writes a first one)")]
            return [self.problem((), _syntax_error(error.msg), line=min(error.lineno, len(self._lines)))]
        except (ValueError, RecursionError):
            return [self.problem((), "holds a number or a nesting beyond what TOML readers take")]
        oddity = _oddity(written)
        if oddity:
            return [self.problem((), oddity)]
        self.written = written
        self._locator = Locator(text, self.budget)
        return []

    def expand(self, environ: Mapping[str, str]) -> dict[Path, str]:
        """Replace variables in the values; return what could not be replaced, as key path to message."""
        self.values, failures = substitute(self.written, environ)
        return dict(failures)

    def line(self, path: Path) -> int | None:
        """Return the line of the innermost key of `path` that the file holds; None for none."""
        kept = present(path, self.written)
        return self._locator.line(kept) if self._locator and kept else None

    def holds(self, path: Path) -> bool:
        """Return whether the file has something at `path`, right or wrong."""
        return present(path, self.written) == path

    def term(self, path: Path) -> str:
        """Return what the value at `path` is called where it would be set."""
        return f"`{path[-1]}`"

    def place(self, path: Path) -> str:
        """Return "server.toml:7" for a key path."""
        line = self.line(path)
        return self.display if line is None else f"{self.display}:{line}"

    def problem(self, path: Path, message: str, line: int | None = None) -> Problem:
        """Return a problem of the value at `path`, or of the file when that is empty."""
        line = line or self.line(path)
        quote = None if line is None or _SECRET.search(self._lines[line - 1]) else self._lines[line - 1]
        return Problem(self.order, self.display, line, quote, spelled(path), message)

    def refusal(self, path: Path, predicate: str) -> Problem:
        """Return the problem that the value at `path`, shown as it was written, `predicate`."""
        return self.problem(path, f"{self.shown(path)} {predicate}")

    def shown(self, path: Path) -> str:
        """Return the value at `path` as the file has it, never what its variables hold, nor a secret."""
        if path and path[-1] in SECRET_KEYS:
            return "the value"
        return quoted(self.value(path))

    def substituted(self, path: Path) -> bool:
        """Return whether the value at `path` refers to a variable, so that its final value must not be shown."""
        value = self.value(path)
        return isinstance(value, str) and "${" in value

    def value(self, path: Path) -> Any:
        """Return the value at `path`, or the innermost above it that is there, as the file has it."""
        value: Any = self.written
        for step in present(path, self.written):
            value = value[step]
        return value


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[Model]):
    """A listener, tls table, app or mount: where it is written, what is sound in it, and what is not known of it.

    A value with a problem is not in the model: in its place is the default, None for a key without default, and a list
    has fewer elements. Before something is concluded from what may be such a replacement, `knows` must be asked.
    """

    document: Document
    path: Path
    model: Model
    unknown: frozenset[Path] = frozenset()  # from the entry: what has problems, is missing, or is probably misspelt

    @property
    def name(self) -> str:
        """The name of a listener or an app."""
        return str(self.path[-1])

    def knows(self, *path: str | int) -> bool:
        """Return whether the value at `path`, present or not, and all within it is what the operator meant."""
        return not any(path[: len(other)] == other[: len(path)] for other in self.unknown)

    def has(self, key: str) -> bool:
        """Return whether `key` is written here, with whatever value."""
        return self.document.holds((*self.path, key))

    def elements(self, key: str, values: Iterable[Item] | None) -> list[tuple[int, Item]]:
        """Return the sound elements of a list, which are `values` in the model, each with its index in the file."""
        faulty = {path[:2] for path in self.unknown}
        numbers = (number for number in count() if (key, number) not in faulty)
        return list(zip(numbers, values or (), strict=False))

    def problem(self, key: str, message: str) -> Problem:
        """Return a problem at one key of the entry, or at the entry itself when `key` is ""."""
        return self.document.problem(self._at(key), message)

    def refusal(self, key: str, predicate: str, index: int | None = None) -> Problem:
        """Return the problem that the value of `key`, or its element `index`, as written, `predicate`."""
        return self.document.refusal(self._at(key, index), predicate)

    def place(self, key: str = "") -> str:
        """Return "server.toml:7" for the entry or one of its keys."""
        return self.document.place(self._at(key))

    def _at(self, key: str, index: int | None = None) -> Path:
        path = (*self.path, key) if key else self.path
        return path if index is None else present((*path, index), self.document.written)


def _syntax_error(message: str) -> str:
    """Return what tomli says as a sentence for the operator."""
    twice = _TWICE.fullmatch(message)
    if twice:
        names = re.findall(r"'([^']*)'", twice[1])
        table = spelled(tuple(names))
        told = f"the table [{table}] is there twice" + (f": expected [[{table}]]" if names[-1] in _REPEATED else "")
    else:
        told = _SLIPS.get(message) or f"{message[:1].lower()}{message[1:]}"
    return f"{told} (not valid TOML)"


def spelled(path: Path) -> str:
    """Return a key path as the operator would write it: `mounts[0].hosts[1]`, `apps."bad name".app`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            bare = len(step) <= QUOTE_WIDTH and _BARE_KEY.fullmatch(step)
            text += ("." if text else "") + (step if bare else quoted(step))
    return text


def quoted(value: object) -> str:
    """Return a value for a message: text in quotes and cut, tables and lists by their kind."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= QUOTE_WIDTH else text[: QUOTE_WIDTH - 4] + '..."'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else "a number beyond 64 bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "a table" if value else "{}"
    if isinstance(value, list):
        return "a list" if value else "[]"
    return "a date or time"


def _oddity(written: dict[str, Any]) -> str:
    """Return what no configuration needs and what would make every later step slow, "" for nothing."""
    level: list[Any] = [written]
    for _ in range(DEEPEST):
        if any(len(key) > LONGEST_KEY for value in level if isinstance(value, dict) for key in value):
            return f"holds a key of more than {LONGEST_KEY} characters, which no key here has"
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
    return f"nests deeper than {DEEPEST} levels, which no key here needs" if level else ""
