"""The ASGI applications in a directory, found by reading Python files: what `serverd init` begins with.

Bounded in files, bytes and depth, and nothing is imported. Left out are hidden folders, virtual environments, what is
installed or built, and tests. `syntax` reads each file.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from serverd.cli.syntax import Definition, Source, read_source
from serverd.errors import OperatorError, reason_of

__all__ = ["Application", "Discovery", "discover"]

MOST_FILES = 2000
LARGEST_FILE = 512 * 1024  # bytes; what is larger is generated
DEEPEST = 8  # folders below the directory
MOST_APPS = 50

_ENVIRONMENTS = ("venv", "env", "virtualenv", "node_modules", "site-packages")
_ASIDE = ("__pycache__", "build", "dist", "docs", "migrations", "test", "testing", "tests")
_IGNORED_FILES = ("conftest.py", "setup.py", "noxfile.py")


@dataclass(frozen=True, slots=True)
class Application:
    """One application, as a configuration names it."""

    directory: str  # first on the import path, relative to where was looked; "." is that itself
    module: str
    attribute: str
    kind: str  # the framework
    file: str  # relative as well
    line: int
    is_factory: bool = False

    @property
    def target(self) -> str:
        """What `app` of [apps.NAME] has."""
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found."""

    applications: tuple[Application, ...]
    files: int  # that were read
    broken: tuple[str, ...] = ()  # of these, what is no Python: file, line and what Python says of it
    is_complete: bool = True  # nothing was left out because there is too much


def discover(directory: str) -> Discovery:
    """Return the applications below `directory`, those nearest to it first.

    Raises OperatorError when it cannot be read.
    """
    try:
        os.listdir(directory)
    except OSError as error:
        raise OperatorError(f"cannot look into {directory}: {reason_of(error)}") from None
    found: list[Application] = []
    mounted: set[str] = set()
    broken: list[str] = []
    files = 0
    for path in _python_files(directory):
        if files == MOST_FILES or len(found) >= MOST_APPS:
            return Discovery(_without_mounted(found, mounted), files, tuple(broken), is_complete=False)
        files += 1
        folder, module = _place(directory, path)
        try:
            source = _read(os.path.join(directory, path), module)
        except SyntaxError as error:
            broken.append(f"{path}, line {error.lineno or 1}: {error.msg}")
            continue
        if source is None:
            continue
        folder, module = _ascend(directory, folder, module, source)
        mounted |= {name if "." in name else f"{module}.{name}" for name in source.mounted}
        found += (_application(one, folder, module, path) for one in source.definitions if _is_importable(module))
    return Discovery(_without_mounted(found, mounted), files, tuple(broken))


def _python_files(directory: str) -> Iterator[str]:
    """Yield the files to look at, relative to `directory`, level by level."""
    level = [""]
    for _ in range(DEEPEST + 1):
        below: list[str] = []
        for folder in level:
            try:
                with os.scandir(os.path.join(directory, folder)) as entries:
                    names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            except OSError:
                continue  # somebody else's
            for name, is_folder in names:
                if not _is_text(name):
                    continue
                path = os.path.join(folder, name)
                if is_folder and not _is_ignored(directory, path, name):
                    below.append(path)
                elif not is_folder and _is_source(name):
                    yield path
        level = below


def _is_ignored(directory: str, path: str, name: str) -> bool:
    is_environment = os.path.exists(os.path.join(directory, path, "pyvenv.cfg"))
    return name.startswith(".") or name in (*_ENVIRONMENTS, *_ASIDE) or name.endswith(".egg-info") or is_environment


def _is_text(name: str) -> bool:
    """Return whether a configuration, which is UTF-8, can name the file."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _is_source(name: str) -> bool:
    is_test = name.startswith("test_") or name.endswith("_test.py") or name in _IGNORED_FILES
    return name.endswith(".py") and not is_test and not name.startswith(".")


def _read(path: str, module: str) -> Source | None:
    """Return what a file says; None for one that cannot be read. Raises SyntaxError for what is no Python."""
    try:
        # O_NONBLOCK: a fifo would never open.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
                return None
            code = file.read(LARGEST_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape in a string that is none
            return read_source(code, _package_of(path, module))
    except (OSError, ValueError, RecursionError, MemoryError):
        return None


def _package_of(path: str, module: str) -> str:
    return module if os.path.basename(path) == "__init__.py" else module.rpartition(".")[0]


def _place(directory: str, path: str) -> tuple[str, str]:
    """Return the folder that goes on the import path for a file, and the module's name: packages have an __init__."""
    folder, name = os.path.split(path)
    parts = [] if name == "__init__.py" else [name.removesuffix(".py")]
    while folder and os.path.exists(os.path.join(directory, folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return folder, ".".join(parts)


def _ascend(directory: str, folder: str, module: str, source: Source) -> tuple[str, str]:
    """Return folder and module where a folder without __init__ is used as a package all the same."""
    above, name = os.path.split(folder)
    if not name.isidentifier():
        return folder, module
    is_package = source.is_in_package and "." not in module
    for imported in source.imports:
        # A folder may also be called like what is imported from elsewhere, as "django".
        first, _, rest = imported.partition(".")
        below = os.path.join(directory, folder, rest.partition(".")[0])
        is_package = is_package or bool(
            first == name and rest and (os.path.isdir(below) or os.path.isfile(f"{below}.py"))
        )
    return (above, f"{name}.{module}") if is_package else (folder, module)


def _is_importable(module: str) -> bool:
    return bool(module) and all(part.isidentifier() for part in module.split("."))


def _application(one: Definition, folder: str, module: str, path: str) -> Application:
    return Application(folder or ".", module, one.attribute, one.kind, path, one.line, one.is_factory)


def _without_mounted(found: list[Application], mounted: set[str]) -> tuple[Application, ...]:
    """Return the applications that are not served by way of another one."""
    return tuple(one for one in found if f"{one.module}.{one.attribute}" not in mounted)
