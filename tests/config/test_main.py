"""The loader process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serverd.messages import Loaded, LoadFailed, decode

PING = '[listeners.web]\nbind = ":${PORT}"\n[[mounts]]\nrespond = { body = "pong" }\n'


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "serverd.config", *arguments], capture_output=True, env=environ, check=False
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "server.toml"
    path.write_text(PING)
    return str(path)


def test_a_valid_file_is_one_message_and_exit_code_0(file: str) -> None:
    done = run(file, PORT="8000")
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    message = decode(done.stdout)
    assert isinstance(message, Loaded)
    assert message.generation.listeners[0].addresses[0].port == 8000


def test_a_wrong_file_is_a_report_and_exit_code_3(file: str) -> None:
    done = run(file)
    assert (done.returncode, done.stderr) == (3, b"")
    message = decode(done.stdout)
    assert isinstance(message, LoadFailed)
    assert message.report.startswith("server.toml:2: listeners.web.bind: ")


def test_no_file_is_wrong_usage() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage" in done.stderr
