"""What pip asks to build serverd (PEP 517): setuptools, and mypyc before it when SERVERD_COMPILE=1 asks for that.

    SERVERD_COMPILE=1 python -m pip wheel --no-deps --wheel-dir dist .     # make wheel

An sdist, an editable installation and a wheel that nobody has asked to compile are pure Python: they need no compiler
and no mypy. A compiled wheel has the sources beside what was made of them, for tracebacks and readers, and is for the
version of Python that has built it. `setup.py` hands EXTENSIONS to setuptools; tests and benchmarks ask `sources`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension, build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "EXTENSIONS",
    "MODULES",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
    "sources",
]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("server")

# What every request goes through, as patterns below server/serverd. Left out: most of `worker`, all of `supervisor`,
# `net`, `config` and `control`, which are not on the path, what starts and ends applications, and the access log in
# `observe`, of which no gain could be told: it reads attributes of whatever it is given.
MODULES = (
    "protocol/*.py",
    "asgi/cycle.py",
    "asgi/exchange.py",
    "asgi/fields.py",
    "asgi/observer.py",
    "asgi/progress.py",
    "asgi/router.py",
    "asgi/scope.py",
    "asgi/session.py",
    "asgi/turn.py",
    "asgi/websocket.py",
    "connection/*.py",
    "worker/counting.py",
)

# Filled by `build_wheel` alone: the other hooks run setup.py, too.
EXTENSIONS: list[Extension] = []

# gcc has a macro of the name that mypyc gives to the attribute `Trust._unix`. And nobody needs to know where a wheel
# was built, nor lines of C that are not in it: debug data tells both, and is a third of the wheel.
FLAGS = ["-U__unix", "-g0", f"-ffile-prefix-map={ROOT}=."]

# How mypyc's runtime hands an exception, such as a cancellation, to what a coroutine waits for: in three parts, and of
# that Python warns from 3.12 on. The exception alone says the same to every version; mypyc has no setting for it.
RUNTIME = "misc_ops.c"
THROW = "PyObject_CallFunctionObjArgs(_m, type, value, traceback, NULL)"
MENDED_THROW = "PyObject_CallOneArg(_m, value)"

Settings = dict[str, str | list[str] | None] | None


def sources() -> list[str]:
    """Return the files that are compiled, relative to the root; an empty `__init__` has nothing to compile."""
    package = ROOT / SOURCE / "serverd"
    found = sorted({file for pattern in MODULES for file in package.glob(pattern) if file.name != "__init__.py"})
    return [str(file.relative_to(ROOT)) for file in found]


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what building needs beside setuptools: to compile, mypy and all that serverd imports, for its types."""
    if not _compiles():
        return []
    _check_tools()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    mypy = [one for one in project["optional-dependencies"]["dev"] if one.startswith("mypy")]
    return [*project["dependencies"], *mypy]


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build the wheel and return its name."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools packs whatever an earlier build has left there
    if _compiles():
        _check_tools()
        _compile()
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def _compiles() -> bool:
    """Return whether a compiled wheel is asked for."""
    value = os.environ.get("SERVERD_COMPILE", "0")
    if value not in ("0", "1", ""):
        raise SystemExit(f"SERVERD_COMPILE is {value!r}: expected 1, for a compiled wheel, or 0")
    return value == "1"


def _check_tools() -> None:
    """Exit with a sentence when there is nothing to compile with."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise SystemExit(
            f"the C compiler {compiler!r} is not installed, and a compiled wheel needs one: install it (Debian: gcc), "
            "name another one with CC=, or unset SERVERD_COMPILE for pure Python"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise SystemExit(
            f"{header} does not exist, and a compiled wheel needs it: install the headers of this Python "
            "(Debian: python3-dev), or unset SERVERD_COMPILE for pure Python"
        )


def _compile() -> None:
    """Have mypyc translate the sources to C, which setuptools then has compiled."""
    from mypyc.build import mypycify

    mended = ROOT / "build" / "mended"
    settings = ["--config-file", str(ROOT / "pyproject.toml")]
    # Tracebacks name the files as they are named here: as Python would find them once they are installed.
    with contextlib.chdir(ROOT / SOURCE):
        names = [os.path.relpath(name, SOURCE) for name in sources()]
        made = mypycify([*settings, *names], target_dir=str(ROOT / "build"), group_name="serverd")
    for extension in made:
        assert isinstance(extension, Extension)  # setuptools', since that is imported
        extension.sources = [os.path.relpath(name, ROOT) for name in extension.sources]
        extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS]
        extension.include_dirs = [str(mended), *extension.include_dirs]  # before mypyc's own
        EXTENSIONS.append(extension)
    mended.mkdir()
    (mended / RUNTIME).write_text(_mended_runtime())
    os.environ["LDSHARED"] = _link_command()


def _mended_runtime() -> str:
    """Return that file of mypyc's runtime with the call that a later Python warns of mended."""
    from mypyc.build import include_dir

    text = (Path(include_dir()) / RUNTIME).read_text()
    if text.count(THROW) != 1:
        raise SystemExit(
            f"{RUNTIME} of this mypy does not hand on exceptions as tools/backend.py expects, which mends that: "
            "compile with an earlier mypy, or take the mend out if it is not needed any more"
        )
    return text.replace(THROW, MENDED_THROW)


def _link_command() -> str:
    """Return how to link, as setuptools would, but not to where this Python looks for libraries: nothing needs any."""
    command: str = sysconfig.get_config_var("LDSHARED")
    compiler: str = sysconfig.get_config_var("CC")
    if "CC" in os.environ and command.startswith(compiler):
        command = os.environ["CC"] + command.removeprefix(compiler)
    command = os.environ.get("LDSHARED", command)
    return " ".join(word for word in command.split() if not word.startswith("-Wl,-rpath"))
