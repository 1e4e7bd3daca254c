"""Where the control socket is: derived by server and command alike, or as the file has it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serverd.config.addresses import UNIX_PATH_BYTES
from serverd.config.control import configured_socket, socket_path
from serverd.config.load import load

from .conftest import Write

REST = '[listeners.web]\nbind = ":0"\n[[mounts]]\nrespond = { body = "pong" }\n'


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """Be somebody who is not root, and own what the test makes."""
    uid = os.geteuid() or 5001
    os.chown(tmp_path, uid, -1)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    return uid


def digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:12]


def test_root_has_its_sockets_where_the_system_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}  # kept by sudo -E and su; of somebody else
    expected = f"run/serverd/shop-{digest('/etc/shop.toml')}.sock"
    assert socket_path("/etc/shop.toml", environ) in (f"/{expected}", f"/var/{expected}")


def test_a_user_has_them_in_the_runtime_directory(user: int, tmp_path: Path) -> None:
    found = socket_path("/etc/shop.toml", {"XDG_RUNTIME_DIR": f"{tmp_path}/"})
    assert found == f"{tmp_path}/serverd/shop-{digest('/etc/shop.toml')}.sock"
    assert list(tmp_path.iterdir()) == []  # nothing was created


@pytest.mark.parametrize("what", ["unset", "empty", "relative", "missing", "file", "foreign", "long", "nul"])
def test_a_runtime_directory_that_is_none_of_ours_is_passed_over(
    user: int, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "file").touch()
    (tmp_path / ("x" * 100)).mkdir()
    runtime = {
        "unset": None,
        "empty": "",
        "relative": tmp_path.name,
        "missing": str(tmp_path / "missing"),
        "file": str(tmp_path / "file"),
        "foreign": str(tmp_path),
        "long": str(tmp_path / ("x" * 100)),
        "nul": "/a\0b",
    }[what]
    if what == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    found = socket_path("/etc/shop.toml", {} if runtime is None else {"XDG_RUNTIME_DIR": runtime, "TMPDIR": "/x"})
    assert found == f"/tmp/serverd-{os.geteuid()}/shop-{digest('/etc/shop.toml')}.sock"


def test_the_path_is_that_of_the_absolute_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert socket_path("server.toml", {}) == socket_path(str(tmp_path / "server.toml"), {})
    assert socket_path("a/../server.toml", {}) == socket_path("./server.toml", {})
    assert socket_path("/a/server.toml", {}) != socket_path("/b/server.toml", {})


@pytest.mark.parametrize("name", ["x" * 250, "a b\n\x1b[1m.toml", "ü" * 60, "\udcff.toml", ".toml", "a" * 24 + ".toml"])
def test_whatever_the_file_is_called_the_name_is_plain_and_short(user: int, name: str) -> None:
    found = socket_path(f"/etc/{name}", {})
    base = os.path.basename(found)
    assert base.isascii()
    assert base.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert len(os.fsencode(found)) < UNIX_PATH_BYTES


# configured_socket


def test_a_command_finds_what_the_server_was_told(write: Write, tmp_path: Path) -> None:
    write({"server.toml": f'control = {{ socket = "run/${{NAME}}.sock" }}\n{REST}'})
    path, environ = str(tmp_path / "server.toml"), {"NAME": "a"}
    assert configured_socket(path, environ) == str(tmp_path / "run/a.sock")
    assert configured_socket(path, environ) == load(path, environ).control_socket


def test_a_command_finds_what_the_server_derives(write: Write, tmp_path: Path) -> None:
    write({"server.toml": REST})
    path = str(tmp_path / "server.toml")
    assert configured_socket(path, {}) == load(path, {}).control_socket == socket_path(path, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[control\n",
        "control = 1",
        "control = [{ socket = 'x' }]",
        "control.socket = 1",
        "control.socket = ''",
        "control.socket = 'a\\u0000'".replace("'", '"'),
        "control.socket = '${MISSING}'",
        "control.socket = '${'",
        "x = " + "[" * 5000,
        "#" * (1024 * 1024 + 1),
    ],
    ids=["empty", "syntax", "scalar", "list", "number", "nothing", "nul", "variable", "reference", "deep", "large"],
)
def test_a_file_without_a_sound_one_counts_as_one_without(write: Write, tmp_path: Path, text: str) -> None:
    write({"server.toml": text})
    assert configured_socket(str(tmp_path / "server.toml"), {}) == socket_path(str(tmp_path / "server.toml"), {})


def test_a_file_that_is_gone_counts_as_one_without(tmp_path: Path) -> None:
    for path in (str(tmp_path / "gone.toml"), str(tmp_path)):
        assert configured_socket(path, {}) == socket_path(path, {})


def test_a_file_that_is_otherwise_wrong_is_good_enough(write: Write, tmp_path: Path) -> None:
    write({"server.toml": '[control]\nsocket = "/run/x"\n[server]\nworkres = "${MISSING}"\n'})
    assert configured_socket(str(tmp_path / "server.toml"), {}) == "/run/x"


def test_a_server_with_another_environment_is_found_where_it_is(
    user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cron has started knows no runtime directory, the shell of its owner does."""
    path, with_runtime = str(tmp_path / "gone.toml"), {"XDG_RUNTIME_DIR": str(tmp_path)}
    elsewhere = socket_path(path, {})
    assert configured_socket(path, with_runtime) == socket_path(path, with_runtime)
    exists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda name: name == elsewhere or exists(name))
    assert configured_socket(path, with_runtime) == elsewhere
    (tmp_path / "serverd").mkdir()
    Path(socket_path(path, with_runtime)).touch()
    assert configured_socket(path, with_runtime) == socket_path(path, with_runtime)


def test_a_command_needs_no_pydantic() -> None:
    code = "import sys, serverd.config.control; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
