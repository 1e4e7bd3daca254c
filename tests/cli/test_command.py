"""The command line of `serverd`: options, exit codes, and that errors are sentences."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serverd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_the_version_names_serverd_and_python() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"serverd \S+ on Python 3\.\d+\.\S+\n", done.stdout)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_names_options_signals_and_exit_codes(option: str) -> None:
    done = run(option)
    assert done.returncode == 0
    for word in ("-c, --config FILE", "--version", "HUP", "TERM", "Exit codes"):
        assert word in done.stdout
    for command in ("status", "reload", "reopen", "stop", "scale", "upgrade"):
        assert f"\n  {command} " in done.stdout
    assert "take-over" not in done.stdout


def test_the_help_loads_nothing_that_a_server_needs() -> None:
    program = (
        "import sys\n"
        "from serverd.cli import main\n"
        "main(['reload', '--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith('serverd.') or name in {'pydantic', 'socket'}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "['serverd.console', 'serverd.cli']"


@pytest.mark.parametrize("arguments", [("--nonsense",), ("-c",), ("word",), ("status", "now"), ("scale",)])
def test_wrong_usage_is_two(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_three_and_a_sentence(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 3
    assert "server.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_one_and_asks_to_be_reported(tmp_path: Path) -> None:
    program = (
        "from serverd.supervisor.supervisor import Supervisor\n"
        "Supervisor.run = lambda self: 1 / 0\n"
        "from serverd.cli import main\n"
        "main(['-c', 'server.toml'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("serverd: this is a bug of serverd")


def test_a_closed_standard_error_is_no_bug(tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -m serverd -c "{tmp_path}/missing.toml" 2>&-'
    assert subprocess.run(["sh", "-c", command], timeout=30).returncode == 3
