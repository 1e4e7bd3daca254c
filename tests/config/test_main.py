"""The loader process."""

from __future__ import annotations

import os
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


def test_too_little_memory_is_a_report(file: str, tmp_path: Path) -> None:
    # As the first allocation that fails does, wherever that is while pydantic is imported.
    (tmp_path / "pydantic.py").write_text("raise MemoryError\n")
    done = run(file, PORT="8000", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (3, b"")
    message = decode(done.stdout)
    assert isinstance(message, LoadFailed)
    assert message.report.startswith("the configuration could not be read: there is not enough memory for it")


def test_no_plugin_of_pydantic_that_is_installed_has_a_say(file: str, tmp_path: Path) -> None:
    (tmp_path / "meddler.py").write_text("raise SystemExit('meddled with')\n")
    about = tmp_path / "meddler-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: meddler\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nmeddler = meddler:plugin\n")
    done = run(file, PORT="8000", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    # How they are kept out is nothing that a configuration can see.
    Path(file).write_text(PING.replace("pong", "${PYDANTIC_DISABLE_PLUGINS:-unset}"))
    message = decode(run(file, PORT="8000").stdout)
    assert isinstance(message, Loaded)
    assert "unset" in repr(message.generation.mounts)


def test_signals_to_the_process_group_are_the_supervisors(file: str) -> None:
    # Sent while what takes long is imported, and to the whole group, as `kill -HUP -- -PGID` does.
    program = """
import os, runpy, signal, sys

class Disturbance:
    def find_spec(self, name, *_):
        if name in {"serverd.messages", "serverd.config.load", "pydantic"}:
            print(name, file=sys.stderr)
            for number in ("HUP", "INT", "USR1", "USR2", "TTIN", "TTOU"):
                os.kill(0, signal.Signals["SIG" + number])

sys.meta_path.insert(0, Disturbance())
runpy.run_module("serverd.config", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, file],
        capture_output=True, env={"PORT": "8000"}, start_new_session=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, sorted(done.stderr.split())) == (
        0,
        [b"pydantic", b"serverd.config.load", b"serverd.messages"],
    )
    assert isinstance(decode(done.stdout), Loaded)


def test_a_loader_whose_supervisor_has_died_says_nothing(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-P", "-m", "serverd.config", str(tmp_path / "none.toml")]
    try:
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=30)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (3, b"")
