"""Whether the applications' modules are still those on disk, and forgetting those that are not."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverd.worker.sources import Sources


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory with the package `pantry`; what is imported from it is forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "pantry").mkdir()
    (tmp_path / "pantry" / "__init__.py").write_text("")
    (tmp_path / "pantry" / "jam.py").write_text("kind = 'plum'\n")
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def sources(directory: Path) -> Sources:
    sources = Sources([str(directory)])
    sources.remember()
    importlib.import_module("pantry.jam")
    sources.remember()
    return sources


def test_files_that_are_as_they_were_are_no_change(sources: Sources) -> None:
    assert sources.change() is None


def test_a_file_that_was_written_since_is_told_by_its_name(directory: Path, sources: Sources) -> None:
    (directory / "pantry" / "jam.py").write_text("kind = 'cherry'\n")
    assert sources.change() == "pantry/jam.py has changed since it was imported"


def test_a_file_of_the_same_size_is_told_by_its_time(directory: Path, sources: Sources) -> None:
    file = directory / "pantry" / "jam.py"
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert sources.change() == "pantry/jam.py has changed since it was imported"


def test_a_file_that_has_gone_is_told(directory: Path, sources: Sources) -> None:
    (directory / "pantry" / "jam.py").unlink()
    assert sources.change() == "pantry/jam.py has gone since it was imported"


def test_what_is_imported_later_counts_from_the_next_look_on(directory: Path, sources: Sources) -> None:
    late = directory / "pantry" / "late.py"
    late.write_text("")
    importlib.invalidate_caches()
    importlib.import_module("pantry.late")
    sources.remember()
    assert sources.change() is None
    late.write_text("# changed\n")
    assert sources.change() == "pantry/late.py has changed since it was imported"


def test_files_elsewhere_do_not_count(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    sources = Sources([str(tmp_path_factory.mktemp("elsewhere")), f"{directory}/pan"])
    importlib.import_module("pantry.jam")
    sources.remember()
    (directory / "pantry" / "jam.py").write_text("")
    assert sources.change() is None


def test_only_one_directory_can_be_asked_about(directory: Path, sources: Sources) -> None:
    (directory / "pantry" / "jam.py").write_text("")
    assert sources.change(f"{directory}/other") is None
    assert sources.change(str(directory)) is not None


def test_anything_that_is_put_into_sys_modules_is_borne(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pantry.odd", 5)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pantry.none", None)  # type: ignore[arg-type]
    sources.remember()
    assert sources.change() is None


def test_what_is_forgotten_is_imported_anew(directory: Path, sources: Sources) -> None:
    (directory / "pantry" / "jam.py").write_text("kind = 'blackberry'\n")
    sources.forget(["pantry.jam", "json", "nothing"], str(directory))
    assert "json" in sys.modules
    namespace: dict[str, object] = {}
    exec("from pantry import jam", namespace)  # the package stayed: it must not offer the old one
    assert namespace["jam"].kind == "blackberry"  # type: ignore[attr-defined]
    sources.remember()
    assert sources.change() is None


def test_compiled_modules_are_not_forgotten(directory: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = type(sys)("pantry.fast")
    compiled.__file__ = str(directory / "pantry" / "fast.so")
    monkeypatch.setitem(sys.modules, "pantry.fast", compiled)
    sources.remember()
    sources.forget(["pantry.fast"], str(directory))
    assert sys.modules["pantry.fast"] is compiled
