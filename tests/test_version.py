"""Which serverd it is, and that it says truly whether it is compiled."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from serverd import version
from serverd.asgi import cycle
from serverd.connection import http1
from serverd.protocol import head


def test_it_says_what_the_interpreter_has_loaded() -> None:
    for module in (head, cycle, http1):
        assert str(module.__file__).endswith(tuple(EXTENSION_SUFFIXES)) is version.is_compiled()
    assert version.RELEASE.endswith(" (compiled)") is version.is_compiled()


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        (f"head{EXTENSION_SUFFIXES[0]}", True),
        ("head.cpython-39-x86_64-linux-gnu.so", False),  # of a Python that is not ours
        ("other.py", False),
    ],
)
def test_only_what_python_would_import_counts(
    name: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "head.py").touch()
    (tmp_path / name).touch()
    monkeypatch.setattr(version, "_PACKAGE", tmp_path)
    sys.path_importer_cache.pop(str(tmp_path), None)
    assert version.is_compiled() is compiled
