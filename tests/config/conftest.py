"""Fixtures for the configuration: files in an empty folder, loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from serverd.config.load import load
from serverd.errors import ConfigError
from serverd.generation import Generation

Write = Callable[[Mapping[str, str]], None]
Load = Callable[..., Generation]
Report = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files, by their names below the folder."""

    def write_files(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        importlib.invalidate_caches()  # Python remembers the contents of folders; a loader is always a new process

    return write_files


@pytest.fixture
def load_text(tmp_path: Path, write: Write) -> Load:
    """Load the text of a server.toml, beside further files, with an environment."""

    def load_it(text: str, files: Mapping[str, str] | None = None, **environ: str) -> Generation:
        write({"server.toml": text, **(files or {})})
        return load(str(tmp_path / "server.toml"), environ)

    return load_it


@pytest.fixture
def report_of(load_text: Load) -> Report:
    """Return the report that loading the text of a server.toml gives."""

    def report_it(text: str, files: Mapping[str, str] | None = None, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load_text(text, files, **environ)
        return str(caught.value)

    return report_it
