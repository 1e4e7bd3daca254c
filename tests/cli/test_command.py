"""The command line of `serverd`: options, exit codes, and that errors are sentences."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serverd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_the_version_names_serverd_and_its_parts() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert re.match(r"serverd +\d+\.\d+\.\d+( \(compiled\))?\nPython +3\.\d+\.\d+ \(CPython\)\n", done.stdout)
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(shown)[2:] == ["httptools", "h11", "uvloop", "pydantic", "tomli", "click", "OpenSSL"]
    assert all(re.match(r"\d+\.\d+", version) for version in shown.values())


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
    loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    assert [name for name in loaded if not name.startswith("serverd.cli")] == ["serverd.console"]


@pytest.mark.parametrize("arguments", [("--nonsense",), ("-c",), ("word",), ("status", "now"), ("scale",)])
def test_wrong_usage_is_two(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("serverd")
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_three_and_a_sentence(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 3
    assert "server.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", [(), ("check",), ("routes",), ("status",)], ids=" ".join)
def test_an_unreadable_file_is_three_and_a_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "server.toml").touch(0)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 3
    assert "Usage" not in done.stderr


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


def test_what_the_locale_cannot_write_is_spelled_out(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "server.toml").write_text('[listeners.web]\nbind = ":1"\n[[mounts]]\nrespond = { status = 204 }\n')
    command = [sys.executable, "-m", "serverd", "-c", str(folder / "nö.toml"), "check"]
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    assert done.stdout.splitlines()[0].startswith(b"n\\xc3\\xb6.toml: does not exist")
    done = subprocess.run(
        [sys.executable, "-m", "serverd", "-c", str(folder / "server.toml"), "check"],
        capture_output=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert b"/caf\\xe9/server.toml: good: " in done.stdout


def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    mounts = "".join(f'[[mounts]]\npath = "/{number}"\nrespond = {{ status = 204 }}\n' for number in range(900))
    (tmp_path / "server.toml").write_text(f'[listeners.web]\nbind = ":1"\n{mounts}')
    shell = f"'{sys.executable}' -m serverd routes | head -n 1"  # of more than a pipe holds
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert (done.stdout.split()[0], done.stdout.count("\n"), done.stderr) == ("HOST", 1, "")


def test_a_closed_standard_error_is_no_bug(tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -m serverd -c "{tmp_path}/missing.toml" 2>&-'
    assert subprocess.run(["sh", "-c", command], timeout=30).returncode == 3


def test_a_working_directory_that_has_been_removed_is_told(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    # One process for all: the directory is removed under it, and no module looked for in it, as by the command itself.
    program = (
        "import os, sys\n"
        "from click.testing import CliRunner\n"
        "from serverd.cli import main\n"
        "os.rmdir(os.getcwd())\n"
        "for line in ([], ['run', 'app:app'], ['check'], ['status'], ['routes'], ['explain', '/']):\n"
        "    done = CliRunner().invoke(main, line)\n"
        "    print(done.exit_code, done.stderr, end='')\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=lost, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    told = "the working directory has been removed (change to one that is there, or give an absolute path)"
    assert [line for line in lines if not (line.startswith("3 serverd: ") and line.endswith(f": {told}"))] == []


def test_files_of_the_working_directory_do_not_take_the_place_of_modules(tmp_path: Path) -> None:
    for name in ("logging", "signal", "click", "typing", "config"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    assert run("--help", cwd=tmp_path).returncode == 0
