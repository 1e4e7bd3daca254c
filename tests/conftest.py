"""Fixtures for every test: a server from a few lines of configuration, stopped when the test ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.server import Server

APPS = Path(__file__).parent / "support" / "apps"


class Serve(Protocol):
    """The type of the fixture `serve`."""

    def __call__(self, configuration: str | Path, *, env: Mapping[str, str] | None = None) -> Server:
        """Start a server and wait until it is ready."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that live as long as the test, each from a file or from the text of one, written to `tmp_path`."""
    with ExitStack() as stack:

        def start(configuration: str | Path, *, env: Mapping[str, str] | None = None) -> Server:
            if isinstance(configuration, str):
                file = tmp_path / "server.toml"
                file.write_text(configuration)
            else:
                file = configuration
            return stack.enter_context(Server(file, env=env))

        yield start


@pytest.fixture
def probe() -> str:
    """Return the configuration of one listener, `web`, with the application `probe` at its root."""
    return f"""\
[listeners.web]
bind = "127.0.0.1:0"

[apps.probe]
app = "probe:app"
directory = "{APPS}"

[[mounts]]
app = "probe"
path = "/"
"""
