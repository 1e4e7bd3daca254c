"""`serverd completion`: what the shells themselves make of the scripts, where they are installed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from serverd import cli

TIMEOUT = 30.0

Complete = Callable[[str], list[str]]
"""Returns what a shell offers for a command line, without descriptions."""


def script(shell: str) -> str:
    result = CliRunner().invoke(cli.main, ["completion", shell])
    assert result.exit_code == 0
    return result.stdout


def installed(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with files to complete, and with a `serverd` of this environment in bin/."""
    (tmp_path / "shop.toml").touch()
    (tmp_path / "a b.toml").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "serverd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m serverd "$@"\n')
    (tmp_path / "bin" / "serverd").chmod(0o755)
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(place / "bin"), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


# bash: the function is called as readline would call it


def by_bash(place: Path) -> Complete:
    path = installed("bash")
    # The words, their number, and what `compopt` is asked for: to complete names of files or folders by itself.
    program = script("bash") + (
        'compopt() { echo "<$2>"; }\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _serverd_completion serverd\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )

    def complete(line: str) -> list[str]:
        # As readline has it, with quotes and backslashes still there.
        words = re.findall(r"(?:\\.|[^ ])+", line) + ([""] if line.endswith(" ") else [])
        done = subprocess.run(
            [path, "--norc", "-c", program, "bash", *words],
            capture_output=True, text=True, timeout=TIMEOUT, cwd=place, env=environment(place), check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return complete


# fish: asked as its own tests do


def by_fish(place: Path) -> Complete:
    def complete(line: str) -> list[str]:
        return [text.partition("\t")[0] for text in fish(place, line)]

    return complete


def fish(place: Path, line: str) -> list[str]:
    """Return what fish offers for a line: words, each with its description."""
    program = f"{script('fish')}\ncomplete -C {shlex.quote(line)}"
    done = subprocess.run(
        [installed("fish"), "--no-config", "-c", program],
        capture_output=True, text=True, timeout=TIMEOUT, cwd=place, env=environment(place), check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


# zsh: in a terminal, because its completion lives in its line editor

# What compinit has found for the line is noted where it hands the words over, in `compadd`.
ZSH = r"""
PS1=
fpath=($HOME $fpath)
autoload -Uz compinit
compinit -D -u
compadd() {
  [[ "${@[1,(i)(-|--)]}" == *-(O|A|D)\ * ]] || {
    local -a noted
    builtin compadd -A noted "$@"
    print -rl -- $noted >> $HOME/found
  }
  builtin compadd "$@"
}
note() { : > $HOME/found; _main_complete; compstate[insert]=; compstate[list]=; print -r -- "<""done>" }
zle -C note list-choices note
bindkey '^T' note
print -r -- "<""ready>"
"""


class Zsh:
    """A zsh at a terminal, which loads the script as compinit does: from a folder of fpath."""

    def __init__(self, place: Path) -> None:
        path = installed("zsh")
        self._found = place / "bin" / "found"
        (place / "bin" / "_serverd").write_text(script("zsh"))
        (place / "bin" / "begin").write_text(ZSH)
        self._terminal, its = pty.openpty()
        command, streams = [path, "-f", "-i"], {"stdin": its, "stdout": its, "stderr": its}
        self._process = subprocess.Popen(command, cwd=place, env=environment(place), start_new_session=True, **streams)
        os.close(its)
        os.write(self._terminal, b". bin/begin\n")
        self._read_until(b"<ready>")

    def complete(self, line: str) -> list[str]:
        os.write(self._terminal, line.encode() + b"\x14")
        self._read_until(b"<done>")
        os.write(self._terminal, b"\x15")  # forget the line
        return self._found.read_text().split("\n")[:-1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read_until(self, mark: bytes) -> None:
        found = b""
        deadline = time.monotonic() + TIMEOUT
        while mark not in found:
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, f"{mark!r} has not come: {found!r}"
            found += os.read(self._terminal, 65536)


@contextlib.contextmanager
def completer(shell: str, place: Path) -> Iterator[Complete]:
    if shell == "zsh":
        zsh = Zsh(place)
        try:
            yield zsh.complete
        finally:
            zsh.close()
    else:
        yield (by_bash if shell == "bash" else by_fish)(place)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_values_files_and_folders(place: Path, shell: str) -> None:
    with completer(shell, place) as complete:
        assert complete("serverd re") == ["reload", "reopen"]
        assert set(complete("serverd check --")) == {"--config", "--no-lifespan", "--json", "--help"}
        assert "--lifespan" in complete("serverd run --l")
        assert set(complete("serverd completion ")) == {"bash", "zsh", "fish"}
        assert complete("serverd -c a\\ b.toml sta") == ["status"]
        files, folders = complete("serverd check -c "), complete("serverd run --app-dir ")
        if shell == "bash":  # which has readline complete them
            assert (files, folders) == (["<default>"], ["<dirnames>"])
        else:
            assert "shop.toml" in files
            assert {word.rstrip("/") for word in folders} == {"bin", "folder"}


def test_fish_shows_a_description_to_its_end_also_behind_a_comma(place: Path) -> None:
    assert "--json\tShow everything, for programs." in fish(place, "serverd check --j")


@pytest.mark.parametrize(("shell", "mend"), [("zsh", "$funcstack[1] == _serverd ]]"), ("fish", "string split -m 1 ")])
def test_what_is_wrong_in_the_scripts_of_click_is_mended(shell: str, mend: str) -> None:
    assert mend in script(shell)
