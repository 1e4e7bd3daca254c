"""Loading: from files to a generation, and no traceback whatever the files hold."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from serverd.config.load import load
from serverd.errors import ConfigError
from serverd.generation import Generation, Logging, Server
from serverd.messages import Loaded, decode, encode

from .conftest import Load, Report

VALID = """\
include = ["apps.d/*.toml"]

[server]
workers = "${WORKERS:-2}"
server_header = "${HEADER:-false}"
graceful_timeout = "1m"

[listeners.web]
bind = ["127.0.0.1:${PORT}", "unix:web.sock"]
socket_mode = "0660"
limits = { body_size = "1GiB" }

[apps.shop]
app = "shop.main:app.inner"
env = { TOKEN = "${TOKEN:-}" }

[[mounts]]
app = "shop"
hosts = ["example.com", "*.example.com"]

[[mounts]]
path = "/ping"

[mounts.respond]
body = \"\"\"
[pong]
\"\"\"

[logging]
level = "debug"
"""
ENVIRON = {"PORT": "8000"}


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").touch()
    path = tmp_path / "server.toml"
    path.write_text(VALID)
    return path


def test_a_generation_is_complete_and_survives_the_trip_to_the_supervisor(valid: Path) -> None:
    generation = load(str(valid), ENVIRON)
    assert generation.source == str(valid)
    assert generation.server == Server(workers=2, server_header=False, graceful_timeout=60.0)
    assert generation.logging == Logging(level="debug")
    assert [listener.name for listener in generation.listeners] == ["web"]
    assert generation.listeners[0].addresses[0].port == 8000
    assert generation.apps[0].source == "server.toml:14"
    assert [mount.source for mount in generation.mounts] == ["server.toml:18", "server.toml:22"]
    assert generation.warnings == ()
    assert decode(encode(Loaded(generation))) == Loaded(generation)


def test_a_relative_path_is_made_absolute(valid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(valid.parent)
    assert load("server.toml", ENVIRON) == load(str(valid), ENVIRON)


def test_workers_may_come_from_a_variable(valid: Path) -> None:
    assert load(str(valid), {**ENVIRON, "WORKERS": "7"}).server.workers == 7
    assert load(str(valid), {**ENVIRON, "WORKERS": "auto"}).server.workers >= 1


def test_what_nobody_uses_is_a_warning(load_text: Load) -> None:
    generation = load_text(
        '[listeners.web]\nbind = ":0"\n[listeners.idle]\nbind = ":0"\n[apps.idle]\napp = "json"\n'
        '[[mounts]]\nlisteners = ["web"]\nredirect = "/x"\n'
    )
    assert generation.warnings == (
        "server.toml:3: listeners.idle: no mount is served on this listener",
        "server.toml:5: apps.idle: no mount leads to this app",
    )


def test_a_name_twice_is_an_error_that_shows_both_places(report_of: Report) -> None:
    report = report_of(
        'include = ["a.toml"]\n[listeners.web]\nbind = ":0"\n[[mounts]]\nredirect = "/x"\n',
        {"a.toml": '\n[listeners.web]\nbind = ":0"\n'},
    )
    assert report.startswith("a.toml:2: listeners.web: is already defined at server.toml:2")


def test_a_missing_file_is_told_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "server.toml"), {})
    assert str(caught.value) == (
        f"server.toml: does not exist in {tmp_path}"
        " (name another file with -c FILE, or have `serverd init` write one)\n"
        "1 problem in server.toml"
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        load(str(tmp_path), {})


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.toml")
    with pytest.raises(ConfigError, match="is not a regular file"):
        load(str(tmp_path / "server.toml"), {})


def test_a_log_by_mistake_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "server.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="is larger than"):
        load(str(tmp_path / "server.toml"), {})


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000], ids=["nul", "long"])
def test_an_impossible_path_is_told(path: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a path|cannot be read"):
        load(path, {})


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(valid: Path) -> None:
    valid.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        load(str(valid), ENVIRON)


def test_a_byte_order_mark_is_passed_over(valid: Path) -> None:
    valid.write_bytes(b"\xef\xbb\xbf" + VALID.encode())
    assert load(str(valid), ENVIRON).apps[0].source == "server.toml:14"


@pytest.mark.parametrize(("mark", "told"), [("\ufeff", "is UTF-16"), ("", "is UTF-16, or no text at all")])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_file_in_another_encoding_is_told_which_is_expected(valid: Path, encoding: str, mark: str, told: str) -> None:
    valid.write_bytes(f"{mark}{valid.read_text()}".encode(encoding))
    with pytest.raises(ConfigError, match=rf"{told} \(expected UTF-8: save it with that encoding\)"):
        load(str(valid), {})


def test_a_variable_that_is_not_utf8_is_carried_along(valid: Path) -> None:
    generation = load(str(valid), {**ENVIRON, "TOKEN": "\udcff"})
    assert decode(encode(Loaded(generation))) == Loaded(generation)


TOKENS = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b'"""',
    b"\n",
    b"=",
    b".",
    b",",
    b"${",
    b"#",
    b"nan",
    b"1979-05-27",
    b"\0",
    b"\xff",
]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return `content` with a byte changed, the end cut off, a piece taken out or a token put in."""
    place = chance.randrange(len(content))
    return chance.choice(
        [
            content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
            content[:place],
            content[:place] + content[place + chance.randrange(1, 40) :],
            content[:place] + chance.choice(TOKENS) + content[place:],
        ]
    )


def loaded_or_report(path: Path) -> Generation | str:
    try:
        return load(str(path), ENVIRON)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_give_a_generation_or_a_report(valid: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(250):
        content = VALID.encode()
        for _ in range(chance.choice((1, 1, 2, 5))):
            content = damaged(content or b"\n", chance)
        valid.write_bytes(content)
        outcome = loaded_or_report(valid)
        if isinstance(outcome, Generation):
            assert decode(encode(Loaded(outcome))) == Loaded(outcome)
        else:
            assert re.fullmatch(r"[0-9]+ problems? in .+", outcome.splitlines()[-1])
