"""A first configuration for the applications in a directory: what `serverd init` writes.

What is written has been read by the loader before, and what the loader refuses, such as an application whose module
another one hides, stands in the file as a comment that says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from serverd.cli.discovery import Application, Discovery, discover
from serverd.config.load import load
from serverd.errors import ConfigError, OperatorError, reason_of
from serverd.observe.logs import escape

__all__ = ["write_configuration"]

NAME = "server.toml"
_BIND = "127.0.0.1:8000"

# What modules and attributes are called that say nothing of what they are.
_GENERIC = frozenset(["main", "app", "asgi", "application", "server", "wsgi", "web", "run", "__init__"])
_UNPLEASANT = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_SIZE = 48
_BLAMED = re.compile(r"^\S+?: apps\.([A-Za-z0-9_-]+)[.:]\S* (.*)$", re.MULTILINE)

_AT = re.compile(r" at \S+:\d+")

_HEAD = f"""\
# Written by `serverd init`, and yours to change.
#   serverd check     what a start would meet, without one
#   serverd           serves, in the foreground, until Ctrl-C
#   serverd reload    puts a changed file, and changed code, to work without a dropped request

[server]
workers = 1  # processes, each with every application; "auto" is one for each usable CPU

# Where clients connect: ":8000" is every interface, and several addresses are a list.
[listeners.web]
bind = "{_BIND}"
"""
_MOUNTS = """\

# What is served where. The most specific mount wins, host before path; the order never matters.
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """An application with its name and its mount; `trouble` is why the loader does not take it."""

    application: Application
    name: str
    path: str
    trouble: str = ""


# Files with mistakes of syntax that are told of; a folder for another version of Python is full of them.
_MOST_BROKEN = 3


def write_configuration(directory: str, *, overwrite: bool = False) -> str:
    """Write server.toml into `directory` for the applications in it; return what was done, and what comes next.

    Raises OperatorError when there is such a file, no application, or no way to write.
    """
    path = os.path.normpath(os.path.join(directory, NAME))
    if os.path.lexists(path) and not overwrite:
        raise OperatorError(_taken(path))
    discovery = discover(directory)
    if not discovery.applications:
        raise OperatorError(_nothing(directory, discovery))
    planned = _plan(discovery.applications, os.path.basename(os.path.abspath(directory)))
    # In its place, because what it says is relative to that.
    trial = os.path.join(directory, f".{NAME}.{secrets.token_hex(8)}")  # which nobody has put there before
    try:
        planned = _tried(planned, trial)
        if overwrite:
            os.replace(trial, path)
        else:
            _write(path, _text(planned), flags=os.O_EXCL)
    except FileExistsError:
        raise OperatorError(_taken(path)) from None
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {reason_of(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)
    return _advice(path, planned, discovery)


def _taken(path: str) -> str:
    return f"{path} is there already (expected none, or --force to replace it)"


def _nothing(directory: str, discovery: Discovery) -> str:
    broken = f"; {discovery.broken[0]} (mend it, and try again)" if discovery.broken else ""
    files = "1 Python file" if discovery.files == 1 else f"{discovery.files} Python files"
    return (
        f"no ASGI application was found in {directory}, in {files} (expected an object such as"
        " app = FastAPI(), a function such as async def app(scope, receive, send), or a factory such as create_app;"
        ' one that is made otherwise can be named by hand: [apps.NAME] with app = "module:attribute")'
        f"{broken}"
    )


# What goes where


def _plan(applications: Sequence[Application], project: str) -> list[Planned]:
    """Return names and paths: the application that is meant to be the site gets "/", each other one its name."""
    names: list[str] = []
    for one in applications:
        names.append(_name(one, project, names))
    root = _root(applications, names)
    return [
        Planned(one, name, "/" if number == root else f"/{name}")
        for number, (one, name) in enumerate(zip(applications, names, strict=True))
    ]


def _name(one: Application, project: str, taken: Sequence[str]) -> str:
    telling = [part for part in one.module.split(".") if part not in _GENERIC]
    folder = os.path.basename(one.directory)
    base = telling[-1] if telling else folder if folder != "." else project
    attribute = "" if one.attribute in _GENERIC or one.is_factory else f"-{one.attribute}"
    for candidate in (base, base + attribute, f"{base}-{one.module}"):
        name = _UNPLEASANT.sub("-", candidate).strip("-")[:_NAME_SIZE] or "app"
        if name not in taken:
            return name
    return next(f"{name}-{number}" for number in range(2, len(taken) + 3) if f"{name}-{number}" not in taken)


def _root(applications: Sequence[Application], names: Sequence[str]) -> int | None:
    """Return which application is the site: the only one, or the only one at the top."""
    at_top = [number for number, one in enumerate(applications) if one.directory == "." and "." not in one.module]
    if len(names) == 1:
        return 0
    return at_top[0] if len(at_top) == 1 else None


# What the loader says of it


def _tried(planned: list[Planned], trial: str) -> list[Planned]:
    """Return the applications with what troubles the loader; `trial` is the path of a file to try them in."""
    while True:
        _write(trial, _text(planned), flags=os.O_TRUNC)
        try:
            load(trial, os.environ)
        except ConfigError as error:
            # Without the places in the file of the trial, which are not those of the result.
            blamed = {name: _AT.sub("", reason) for name, reason in _BLAMED.findall(str(error))}
            news = [one for one in planned if one.name in blamed and not one.trouble]
            if not news or all(one.trouble or one.name in blamed for one in planned):
                raise OperatorError(f"no configuration can be made of what was found: {_first_line(error)}") from None
            # One at a time: the next may be in the way of nobody then.
            worst = news[-1]
            planned = [
                Planned(one.application, one.name, one.path, blamed[one.name]) if one is worst else one
                for one in planned
            ]
        else:
            return planned


def _first_line(error: ConfigError) -> str:
    return str(error).partition("\n")[0]


def _write(path: str, text: str, *, flags: int) -> None:
    """Create a file; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


# The text


def _text(planned: Sequence[Planned]) -> str:
    tables = "".join(_app_table(one) for one in planned)
    mounts = "".join(_mount_table(one) for one in planned if not one.trouble)
    return f"{_HEAD}\n{tables.lstrip()}{_MOUNTS}{mounts}"


def _app_table(one: Planned) -> str:
    app = one.application
    lines = [f"[apps.{one.name}]", f"app = {_quoted(app.target)}"]
    if app.directory != ".":
        lines.append(f"directory = {_quoted(app.directory)}  # first on the import path")
    if app.is_factory:
        lines.append("factory = true  # it is a function that returns the application")
    if one.trouble:
        lines = [f"Left out: {one.trouble}", *lines]
        lines = [f"# {line}" for line in lines]
    return "\n".join(["", f"# {app.kind}, found in {escape(app.file)}, line {app.line}.", *lines, ""])


def _mount_table(one: Planned) -> str:
    return f"[[mounts]]\napp = {_quoted(one.name)}\npath = {_quoted(one.path)}\n\n"


def _quoted(text: str) -> str:
    """Return a string as TOML writes it, in which nothing is substituted."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)


def _advice(path: str, planned: Sequence[Planned], discovery: Discovery) -> str:
    served = [one for one in planned if not one.trouble]
    width = max(len(one.name) for one in planned)
    lines = [f"wrote {path}"]
    lines += [
        f"  {one.name:<{width}}  http://{_BIND}{one.path}  {one.application.kind}, {one.application.target}"
        for one in served
    ]
    lines += [f"  {one.name:<{width}}  left out: {one.trouble}" for one in planned if one.trouble]
    lines += [f"  passed over: {one}" for one in discovery.broken[:_MOST_BROKEN]]
    if not discovery.is_complete:
        lines.append(f"  and perhaps more: the search ended after {discovery.files} files")
    option = "" if os.path.dirname(path) in ("", ".") else f" -c {path}"
    lines += ["next:", f"  serverd check{option}", f"  serverd{option}"]
    return "".join(f"{escape(line)}\n" for line in lines)
