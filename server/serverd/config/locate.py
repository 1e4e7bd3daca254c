"""From a key path to the line it stands on, without a second TOML grammar.

tomli tells no positions, so it is asked: a key stands on the first line after which the text, cut there and
parsed by tomli, contains the key's path. A cut within a multi-line value is closed by hand with the brackets
and quotes that fit. Bisecting the whole text costs a parse of it per step; as every app, listener and mount
wants its line on every start, the text is first cut into pieces of one table each, and only the piece is
bisected: linear in the length of the file. What a strange file can make it parse is limited by a budget.

Called by `document`. The text must be one that tomli parses as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import tomli

__all__ = ["Budget", "Locator", "Path", "present"]

Path = tuple[str | int, ...]
"""Keys and list indexes from the root of a document to a value, as pydantic's `loc` has them."""

BUDGET = 8 * 1024 * 1024  # characters; ten thousand mounts need the half of it, the slowest take seconds

_ABSENT = object()


def present(path: Path, values: Any) -> Path:
    """Return `path` without the steps that `values` lacks: missing keys, and the union tags of pydantic."""
    kept: Path = ()
    for step in path:
        inner = _enter(values, step)
        if inner is not _ABSENT:
            kept = (*kept, step)
            values = inner
    return kept


def _enter(values: Any, step: str | int) -> Any:
    """Return what `step` leads to within `values`, or _ABSENT."""
    if isinstance(values, dict) and step in values:
        return values[step]
    if isinstance(values, list) and isinstance(step, int) and step < len(values):
        return values[step]
    return _ABSENT


def _contains(values: Any, path: Path) -> bool:
    return present(path, values) == path


class Budget:
    """How many characters tomli may still be given in the search for lines, in all documents that share it."""

    def __init__(self) -> None:
        self.left = BUDGET


class Locator:
    """The lines of one document, and where its keys stand in them."""

    def __init__(self, text: str, budget: Budget | None = None) -> None:
        self._lines = text.split("\n")
        self._index: dict[Path, tuple[int, int, Path]] | None = None
        self._budget = budget or Budget()

    def line(self, path: Path) -> int | None:
        """Return the line, counted from 1, where `path` first stands; None when it stands nowhere.

        When the budget is used up, it is a line before that.
        """
        if self._index is None:
            self._index = self._make_index()
        found = self._index.get(path)
        if found is None:
            return None
        first, last, inner = found
        return first + self._within(self._lines[first:last], inner) + 1

    def _parse(self, lines: list[str], closing: str = "") -> dict[str, Any] | None:
        """Return what the lines hold, or None when they are not whole statements."""
        text = "\n".join(lines) + "\n" + closing
        self._budget.left -= len(text)
        try:
            return tomli.loads(text)
        except (ValueError, RecursionError):
            return None

    def _make_index(self) -> dict[Path, tuple[int, int, Path]]:
        """Return for every key path the piece (first line, end) it first stands in, and its path within that."""
        index: dict[Path, tuple[int, int, Path]] = {}
        lengths: dict[Path, int] = {}  # of the arrays so far: "[[mounts]]" is one element in each of its pieces

        def enter(piece: tuple[int, int], value: Any, path: Path, inner: Path) -> None:
            if isinstance(value, dict) and path in lengths:
                path = (*path, lengths[path] - 1)  # "[mounts.respond]" belongs to the latest "[[mounts]]"
            index.setdefault(path, (*piece, inner))
            if isinstance(value, dict):
                for key, item in value.items():
                    enter(piece, item, (*path, key), (*inner, key))
            elif isinstance(value, list):
                before = lengths.get(path, 0)
                lengths[path] = before + len(value)
                for number, item in enumerate(value):
                    enter(piece, item, (*path, before + number), (*inner, number))

        for first, end, values in self._pieces():
            for key, item in values.items():
                enter((first, end), item, (key,), (key,))
        return index

    def _pieces(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield first line, end and values of pieces of one table each; together they are the text."""
        first = 0
        for end in _piece_ends(self._lines):
            affordable = self._budget.left > 0 or end == len(self._lines)  # the last one is whatever is left
            values = self._parse(self._lines[first:end]) if affordable else None
            if values is not None:  # else the "[" was in a multi-line value: the piece goes on
                yield first, end, values
                first = end

    def _within(self, lines: list[str], path: Path) -> int:
        """Return the line, counted from 0, where `path` begins in the piece `lines`.

        Bisects for the first cut through the piece that contains the path; where no cut can be closed, the line
        after the last one that could.
        """
        before, limit, end = 0, len(lines), len(lines)
        while before + 1 < limit and self._budget.left > 0:
            middle = (before + limit) // 2
            stop, values = middle, self._closed(lines[:middle], path)
            while values is None and stop < end and self._budget.left > 0:
                stop += 1
                values = self._closed(lines[:stop], path)
            if values is None or _contains(values, path):
                limit, end = middle, stop
            else:
                before = stop
        return before

    def _closed(self, lines: list[str], path: Path) -> dict[str, Any] | None:
        """Return what the lines hold when the value that they end within is closed by hand; None when none can be.

        The brackets that are open follow from the path, give or take one.
        """
        closings = "".join("]" if isinstance(step, int) else "}" for step in reversed(path))
        for quotes, extra, opened in product(("", '"""', "'''"), ("", "]", "}"), range(len(path) + 1)):
            values = self._parse(lines, quotes + extra + closings[:opened])
            if values is not None:
                return values
        return None


def _piece_ends(lines: list[str]) -> list[int]:
    """Return the ends of lines after which a table may begin; some are within a multi-line value."""
    return [number for number, line in enumerate(lines) if number and line.lstrip(" \t").startswith("[")] + [len(lines)]
