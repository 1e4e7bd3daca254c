"""Problems as text for the operator: all at once, each with its place and the offending line.

    server.toml:17: apps.blog.workres: unknown key (did you mean "workers" in [server]?)
       17 | workres = 2
    1 problem in server.toml

Not the wording of single problems: that is `wording` for the models' and the module that finds it for all
others. Files are named relative to the folder of the main file, those outside of it absolutely: the text
is the same wherever the command was started. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from serverd.errors import ConfigError

__all__ = ["Problem", "Problems", "in_order", "render", "render_warning"]

MOST_PROBLEMS = 200  # more than anybody reads; what has more is probably not a configuration of serverd at all
LINE_WIDTH = 160  # of a quoted line; a minified file must not flood the log


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where; `order` is the place of its file in the reading order."""

    order: int
    file: str  # "" for an option of a command line, which is the subject
    line: int | None  # counted from 1; None when no line can be named
    quote: str | None  # the offending line; None where it might hold a secret, or there is none
    subject: str  # "apps.blog.workres"; "" for a problem of the file itself
    message: str


class Problems(list[Problem]):
    """The problems found so far; with MOST_PROBLEMS of them the search ends, so that its time is bounded."""

    def append(self, problem: Problem) -> None:
        """Add a problem.

        Raises ConfigError with the report when it is the last one that is taken.
        """
        super().append(problem)
        if len(self) >= MOST_PROBLEMS:
            raise ConfigError(f"{render(self)} (and perhaps more: the search ended here)")

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add problems, each as soon as it is found."""
        for problem in problems:
            self.append(problem)

    def __iadd__(self, problems: Iterable[Problem]) -> Self:  # type: ignore[misc, override]  # it adds, of course
        self.extend(problems)
        return self


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems, each once, in the order in which their places are read."""
    return sorted(
        set(problems), key=lambda problem: (problem.order, problem.line or 0, problem.subject, problem.message)
    )


def render(problems: Iterable[Problem]) -> str:
    """Return the complete report, sorted by file and line, ending in the count."""
    found = in_order(problems)
    lines: list[str] = []
    for problem in found:
        lines.append(_headline(problem))
        if problem.line is not None and problem.quote is not None:
            lines.append(f"   {problem.line} | {_printable(problem.quote)}".rstrip())
    files = ", ".join(dict.fromkeys(_printable(problem.file) or "the options" for problem in found))
    lines.append(f"{len(found)} problem{'' if len(found) == 1 else 's'} in {files}")
    return "\n".join(lines)


def render_warning(problem: Problem) -> str:
    """Return a warning as one line of a log."""
    return _headline(problem)


def _headline(problem: Problem) -> str:
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return _printable(": ".join(filter(None, [place, problem.subject, problem.message])), width=None)


def _printable(text: str, width: int | None = LINE_WIDTH) -> str:
    """Return `text` safe for a terminal: control characters escaped, cut to `width`."""
    text = text.rstrip() if width is None else text[: width + 1].rstrip()  # escaped it is not shorter
    shown = "".join(character if character.isprintable() else _spelled(character) for character in text)
    return shown if width is None or len(shown) <= width else shown[: width - 3] + "..."


def _spelled(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # of a name that is no text, a byte as os.fsdecode has it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "    " if character == "\t" else repr(character)[1:-1]
