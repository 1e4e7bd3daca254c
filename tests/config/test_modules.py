"""Modules: which one an app would get, in the order in which workers import the apps."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from serverd.config.modules import find, top_module

from .conftest import Load, Report, Write

HEAD = '[listeners.web]\nbind = ":0"\n'


def app(name: str, target: str, directory: str) -> str:
    return f'[apps.{name}]\napp = "{target}"\ndirectory = "{directory}"\n[[mounts]]\npath = "/{name}"\napp = "{name}"\n'


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An import path with the package `blog` at its end."""
    (tmp_path / "site" / "blog").mkdir(parents=True)
    (tmp_path / "site" / "blog" / "__init__.py").write_text("app = 'site'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path


FILES = {
    "a/shop.py": "app = 'a'\n",
    "a/blog.py": "app = 'a'\n",
    "b/blog.py": "app = 'b'\n",
    "c/other.py": "app = 'c'\n",
}

CASES = [
    # (apps in order: name, target, directory), the app that would get a foreign module, what is said of it
    ([("one", "shop", "a"), ("two", "blog", "b")], None, ""),  # a/blog is there, but b comes first by then
    ([("two", "blog", "b"), ("one", "shop", "a")], None, ""),
    ([("one", "blog", "a"), ("two", "blog", "b")], "two", "same name"),
    ([("one", "blog", "a"), ("two", "blog:x", "a")], None, ""),
    ([("one", "blog", "a"), ("two", "blog:x", "c/../a")], None, ""),
    ([("one", "shop", "a"), ("two", "blog", "c")], "two", "hides"),  # installed, and hidden by a/blog
    ([("two", "blog", "c"), ("one", "shop", "a")], None, ""),  # imported before a is on the path
    ([("one", "blog", "a"), ("two", "blog", "c")], "two", "same name"),
    ([("two", "blog", "c"), ("one", "blog", "a")], "one", "same name"),  # the installed one was there first
    ([("one", "blog", "c"), ("two", "blog", ".")], None, ""),  # both want the installed one
    ([("zero", "shop", "a"), ("one", "blog", "b"), ("two", "blog", "c")], "two", "same name"),
    ([("zero", "shop", "a"), ("one", "other", "c"), ("two", "blog", "c")], "two", "hides"),
]


@pytest.mark.parametrize(("apps", "loser", "words"), CASES)
def test_an_app_that_would_get_a_foreign_module_is_refused(
    load_text: Load, report_of: Report, installed: Path, apps: list[tuple[str, str, str]], loser: str | None, words: str
) -> None:
    text = HEAD + "".join(app(*each) for each in apps)
    if loser is None:
        assert len(load_text(text, FILES).apps) == len(apps)
        return
    report = report_of(text, FILES)
    assert f"apps.{loser}.app: " in report
    assert words in report
    assert report.endswith("1 problem in server.toml")


@pytest.mark.parametrize(("apps", "loser", "words"), CASES)
def test_python_itself_agrees(
    write: Write, installed: Path, apps: list[tuple[str, str, str]], loser: str | None, words: str
) -> None:
    """Imported as `worker.apps.load_app` does, only the app that is refused gets another module than by itself."""
    write(FILES)
    alone = {name: imported(installed, [(name, target, folder)])[0] for name, target, folder in apps}
    together = dict(zip(alone, imported(installed, apps), strict=True))
    assert [name for name in alone if together[name] != alone[name]] == ([] if loser is None else [loser])


def imported(folder: Path, apps: list[tuple[str, str, str]]) -> list[str]:
    """Return the `app` of each module, imported one after the other in one fresh process."""
    program = "import importlib, os, sys\nsys.path.append('site')\n"
    for _, target, directory in apps:
        program += (
            f"folder = os.path.abspath({directory!r})\nif folder in sys.path: sys.path.remove(folder)\n"
            f"sys.path.insert(0, folder)\nprint(importlib.import_module({top_module(target)!r}).app)\n"
        )
    command = [sys.executable, "-P", "-B", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.split()


@pytest.mark.parametrize(
    "broken", ['app = "blog:"', 'directory = "nowhere"', 'directory = ""', 'directroy = "b"', 'app = "${MISSING}"']
)
@pytest.mark.parametrize("position", [0, 1])
def test_an_app_whose_module_or_directory_is_not_known_clashes_with_none(
    report_of: Report, installed: Path, broken: str, position: int
) -> None:
    faulty = f'[apps.two]\n{broken}\n[[mounts]]\npath = "/two"\napp = "two"\n'
    faulty = faulty if "app =" in broken else faulty.replace("]", ']\napp = "blog"', 1)
    tables = [app("one", "blog", "a")]
    tables.insert(position, faulty)
    report = report_of(HEAD + "".join(tables), FILES)
    assert report.endswith("1 problem in server.toml")
    assert "same name" not in report


@pytest.mark.parametrize("name", ["top.py", "top/x.py", "top/__init__.py", "top.abi3.so"])
def test_a_directory_has_a_module(tmp_path: Path, write: Write, name: str) -> None:
    write({name: ""})
    importlib.invalidate_caches()
    assert find("top", [str(tmp_path)]) == str(tmp_path / ("top" if name == "top/x.py" else name))
    assert find("to", [str(tmp_path)]) is None


def test_a_package_with_init_wins_over_a_folder_that_comes_first(tmp_path: Path, write: Write) -> None:
    write({"a/top/x.py": "", "b/top/__init__.py": ""})
    assert find("top", [str(tmp_path / "a"), str(tmp_path / "b")]) == str(tmp_path / "b/top/__init__.py")


def test_a_module_is_the_same_through_a_link(tmp_path: Path, write: Write) -> None:
    write({"a/top.py": ""})
    (tmp_path / "b").symlink_to("a")
    assert find("top", [str(tmp_path / "b")]) == str(tmp_path / "a/top.py")


def test_builtin_and_installed_modules_are_found() -> None:
    assert find("sys", []) == "built-in"
    assert find("pydantic", sys.path) is not None
    assert find("surely_not_installed_anywhere", sys.path) is None


def test_a_module_of_an_editable_installation_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such an installation may be a finder in sys.meta_path that knows where one package is."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            return importlib.util.spec_from_file_location(name, tmp_path / "x.py") if name == "editable" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert find("editable", []) == str(tmp_path / "x.py")


def test_the_top_module_is_what_the_import_path_is_searched_for() -> None:
    assert top_module("a.b.c:d.e") == "a"
