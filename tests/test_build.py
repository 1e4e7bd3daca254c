"""What tools/backend.py builds: pure Python unless it is asked to compile, and then all that a request goes through."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tools import backend

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDS_LONG = pytest.mark.skipif(not os.environ.get("SERVERD_LONG"), reason="takes long: SERVERD_LONG=1")


def checkout(directory: Path) -> Path:
    """Return a copy of what is built."""
    copied = directory / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    for name in ("server", "tools"):
        shutil.copytree(ROOT / name, copied / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied / name)
    return copied


def build(hook: str, source: Path, compiled: str = "0") -> Path:
    """Have a hook of PEP 517 build something of `source`, as pip would; return what was built."""
    command = [sys.executable, "-W", "ignore", "-c", f"import backend; backend.{hook}('built')"]
    environment = {**os.environ, "SERVERD_COMPILE": compiled, "PYTHONPATH": str(source / "tools")}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [built] = (source / "built").iterdir()
    return built


def modules() -> set[str]:
    server = ROOT / "server"
    return {str(file.relative_to(server)) for file in server.glob("serverd/**/*") if file.suffix in (".py", ".html")}


def test_every_pattern_names_modules_and_none_is_named_twice() -> None:
    sources = backend.sources()
    assert len(set(sources)) == len(sources)
    for pattern in backend.MODULES:
        assert list((ROOT / "server" / "serverd").glob(pattern)), f"{pattern} names nothing"
    for name in ("asgi/exchange.py", "connection/http1.py", "protocol/head.py"):
        assert f"server/serverd/{name}" in sources


def test_what_calls_applications_is_not_compiled() -> None:
    assert "server/serverd/asgi/calling.py" not in backend.sources()


@pytest.mark.parametrize("value", [None, "", "0"])
def test_building_needs_no_mypy_unless_it_compiles(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVERD_COMPILE", raising=False)
    if value is not None:
        monkeypatch.setenv("SERVERD_COMPILE", value)
    assert backend.get_requires_for_build_wheel() == []


def test_compiling_needs_mypy_and_the_types_of_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERD_COMPILE", "1")
    monkeypatch.setattr(backend, "_check_tools", lambda: None)
    needed = backend.get_requires_for_build_wheel()
    assert set(PYPROJECT["project"]["dependencies"]) < set(needed)
    assert [one for one in needed if one.startswith("mypy")]


def test_a_value_that_says_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERD_COMPILE", "yes")
    with pytest.raises(SystemExit, match="SERVERD_COMPILE is 'yes': expected 1"):
        backend.build_wheel("unused")


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERD_COMPILE", "1")
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(SystemExit, match=r"the C compiler 'no-such-compiler' is not installed.*Debian: gcc"):
        backend.get_requires_for_build_wheel()


def test_without_the_headers_of_python_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERD_COMPILE", "1")
    monkeypatch.setenv("CC", sys.executable)  # a program that exists
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"Python\.h does not exist.*Debian: python3-dev"):
        backend.get_requires_for_build_wheel()


def test_an_sdist_has_what_it_takes_to_build_a_pure_wheel_of_all_modules(tmp_path: Path) -> None:
    sdist = build("build_sdist", checkout(tmp_path), compiled="1")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [source] = (tmp_path / "unpacked").iterdir()
    wheel = build("build_wheel", source)
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert modules() <= names
    assert not [name for name in names if name.endswith((".so", ".c"))]


def test_linking_leaves_out_where_this_python_has_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"CC": "gcc", "LDSHARED": "gcc -shared -L/built/lib -Wl,-rpath,/built/lib"}
    monkeypatch.setattr(sysconfig, "get_config_var", variables.get)
    for name in ("CC", "LDSHARED"):
        monkeypatch.delenv(name, raising=False)
    assert backend._link_command() == "gcc -shared -L/built/lib"
    monkeypatch.setenv("CC", "clang -m64")
    assert backend._link_command() == "clang -m64 -shared -L/built/lib"
    monkeypatch.setenv("LDSHARED", "ld -shared -Wl,-rpath,/built/lib")
    assert backend._link_command() == "ld -shared"


@NEEDS_LONG
@pytest.mark.timeout(900)
def test_a_compiled_wheel_has_the_sources_too_and_says_that_it_is_compiled(tmp_path: Path) -> None:
    source = checkout(tmp_path)
    wheel = build("build_wheel", source, compiled="1")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{tag}-{tag}-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert modules() <= names
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in backend.sources():
        assert name.removeprefix("server/").removesuffix(".py") + suffix in names
    libraries = list((tmp_path / "site").rglob("*.so"))
    assert len(libraries) == len(backend.sources()) + 1
    for library in libraries:
        for path in (source, Path(sys.base_prefix) / "lib", Path(sys.base_prefix) / "include"):
            assert str(path).encode() not in library.read_bytes(), f"{library} tells where it was built"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "serverd", "--version"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[0].endswith(" (compiled)")
