"""Apps: from the model to the generation, and what is wrong with them beyond a single value.

Looks for directories and modules in the file system only: application code is imported by workers,
never here. Called by `load`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from itertools import combinations

from serverd.config.document import Entry, Unreadable
from serverd.config.models import App
from serverd.config.modules import Resolved, find, top_module
from serverd.config.report import Problem
from serverd.config.values import parse_variable_name
from serverd.generation import App as PlainApp

__all__ = ["parse_env_file", "resolve_app", "shared_variables"]


def resolve_app(entry: Entry[App], read: Callable[[str], str], problems: list[Problem]) -> PlainApp:
    """Return the app of a generation; what is wrong with it is added to `problems`.

    `read` returns the text of a file and raises Unreadable.
    """
    model = entry.model
    directory = entry.document.resolve(model.directory or "")
    if entry.knows("directory"):
        problems += _not_there(entry, directory)
    return PlainApp(
        name=entry.name,
        target=model.app,
        # Of a symlinked release the real one: that is what the next reload compares, and what its modules are found by.
        directory=os.path.realpath(directory),
        factory=model.factory,
        interface=model.interface,
        lifespan=model.lifespan,
        on_failure=model.on_failure,
        request_timeout=model.request_timeout,
        env={**_read_env_file(entry, read, problems), **model.env},
        source=entry.place("app"),
    )


def _not_there(entry: Entry[App], directory: str) -> Iterable[Problem]:
    """Yield a problem when there is no such directory, or the app's module can be found nowhere."""
    given = entry.model.directory
    if not os.path.isdir(directory):
        hidden = entry.document.substituted((*entry.path, "directory"))
        looked = "" if hidden or given == directory else f" (looked for {directory})"
        yield entry.refusal("directory", f"is not a directory{looked}")
    elif entry.knows("app") and find(top_module(entry.model.app), [directory, *sys.path]) is None:
        where = "its directory" if given else entry.document.home
        option = entry.document.term((*entry.path, "directory"))
        yield entry.refusal(
            "app",
            f"names a module that is neither in {where} nor installed (expected it there,"
            f" or {option} naming the folder it is in)",
        )


def shared_variables(apps: Resolved) -> Iterable[Problem]:
    """Yield a problem for every variable that two apps set differently: they share one environment."""
    for (first, one), (second, other) in combinations(apps, 2):
        for name in sorted(one.env.keys() & other.env.keys()):
            if one.env[name] != other.env[name]:
                own = ("env", name) if name in second.model.env else ("env_file",)
                elsewhere = ("env", name) if name in first.model.env else ("env_file",)
                yield second.document.problem(
                    (*second.path, *own),
                    f'sets {name} to another value than app "{first.name}" at'
                    f" {first.document.place((*first.path, *elsewhere))} (applications of a worker share one"
                    " environment)",
                )


def parse_env_file(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Return the variables of NAME=value lines, and what is wrong as (line, message).

    Blank lines and lines that start with "#" are skipped, "export " in front is dropped, and so is one pair
    of quotes around a value. There are no escapes and no references.
    """
    variables: dict[str, str] = {}
    failures: list[tuple[int, str]] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        name, equals, value = content.partition("=")
        name, value = name.removeprefix("export ").strip(), value.strip()
        if not equals:
            failures.append((number, "is not a variable (expected NAME=value)"))
            continue
        try:
            parse_variable_name(name)
        except ValueError as error:
            failures.append((number, f'has a name in front of "=" that {error}'))
            continue
        if "\0" in value:
            failures.append((number, "holds NUL, which no environment variable can"))
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        variables[name] = value
    return variables, failures


def _read_env_file(entry: Entry[App], read: Callable[[str], str], problems: list[Problem]) -> dict[str, str]:
    """Return the variables of the app's env_file, without those whose value in `env`, which wins, is not known.

    Its lines are never quoted, as they tend to hold secrets.
    """
    if entry.model.env_file is None:
        return {}
    try:
        text = read(entry.document.resolve(entry.model.env_file))
    except Unreadable as error:
        problems.append(entry.refusal("env_file", str(error)))
        return {}
    variables, failures = parse_env_file(text)
    problems += [entry.refusal("env_file", f"line {number} {message}") for number, message in failures]
    return {name: value for name, value in variables.items() if entry.knows("env", name)}
