"""What counts as a change for --reload, and that what happens before the watching begins is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serverd.dev.watcher import Wanted

WANTED = Wanted(["/srv/shop"], ["/etc/serverd/server.toml", "/etc/serverd/apps.d/*.toml"], ["templates/*"], ["tests"])


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("/srv/shop/main.py", True),
        ("/srv/shop/deep/er/main.py", True),
        ("/srv/shop/templates/a.html", True),
        ("/srv/shop/readme.md", False),
        ("/srv/shop/tests/test_a.py", False),
        ("/srv/shop/.venv/lib/a.py", False),
        ("/srv/shop/__pycache__/main.cpython-311.pyc", False),
        ("/srv/shopping/main.py", False),
        ("/etc/serverd/server.toml", True),
        ("/etc/serverd/apps.d/new.toml", True),
        ("/etc/serverd/other.toml", False),
    ],
)
def test_applications_and_configuration_count_and_nothing_else(path: str, counts: bool) -> None:
    assert WANTED.has(path) is counts


def test_what_was_written_before_the_watching_began_is_found(tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    for file, written in ((old, 1000), (new, 3000)):
        file.write_text("")
        os.utime(file, (written, written))
    assert list(Wanted([str(tmp_path)], []).newer(2000)) == [str(new)]
