"""A configuration and the report it must give, word for word.

NAME.toml, or a folder NAME with a server.toml, against NAME.expected. The file is loaded as server.toml in
an empty folder that holds the modules below. After a change of wording, `UPDATE_GOLDEN=1 pytest tests/golden`
rewrites what is expected; read the difference before committing it.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path

import pytest

from serverd.config.load import load
from serverd.errors import ConfigError
from tests.support.every import every

HERE = Path(__file__).parent
CASES = sorted([*HERE.glob("*.toml"), *(path.parent for path in HERE.glob("*/server.toml"))])
MODULES = ("shop/__init__.py", "shop/main.py", "shop/inner/__init__.py", "blog.py", "red/main.py", "blue/main.py")
SECRET = "hunter2"
ENVIRON = {"PORT": "8000", "SECRET": SECRET}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in MODULES:
        module = tmp_path / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.touch()
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_report_is_what_the_golden_file_says(case: Path, place: Path) -> None:
    if case.is_dir():
        shutil.copytree(case, place, dirs_exist_ok=True)
    else:
        shutil.copy(case, place / "server.toml")
    with pytest.raises(ConfigError) as caught:
        load(str(place / "server.toml"), ENVIRON)
    report = str(caught.value).replace(str(place), "/etc/serverd") + "\n"
    expected = HERE / f"{case.stem}.expected"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(report, "utf-8")
    assert report == expected.read_text("utf-8")


@every("case", CASES, ids=lambda case: case.stem)
def test_no_report_shows_a_secret(case: Path) -> None:
    assert SECRET not in (HERE / f"{case.stem}.expected").read_text("utf-8")


def test_every_expectation_has_a_case() -> None:
    assert {path.stem for path in HERE.glob("*.expected")} == {case.stem for case in CASES}


def test_the_readme_shows_what_is_printed() -> None:
    """The indented lines after "A mistake is explained at its line" are a report, word for word."""
    readme = (HERE.parents[1] / "README.md").read_text("utf-8")
    block = readme.partition("A mistake is explained at its line")[2].split("\n\n")[1]
    assert textwrap.dedent(block) + "\n" == (HERE / "readme_example.expected").read_text("utf-8")
