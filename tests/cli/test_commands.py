"""The commands that ask a running server: how it is found, exit codes, and where the words go."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serverd import cli
from serverd.cli import control
from serverd.config import values
from serverd.config.control import configured_socket
from serverd.control.requests import COMMANDS, MOST_WORKERS, Request
from serverd.control.server import ControlServer
from serverd.supervisor import beginning, supervisor
from serverd.supervisor.source import Source
from tests.control.desk import Service
from tests.control.documents import status
from tests.support.every import every


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def answer(server: ControlServer, number: int, request: Request) -> None:
    """Answer as a supervisor does for which everything goes well."""
    if request.command == "stop":
        server.reply(number, {"ok": True, "text": "stopping"}, end=False)
        server.close()
        return
    text = "plan: nothing" if request.dry_run else f"{request.command} done"
    server.reply(number, {"ok": True} | status() if request.command == "status" else {"ok": True, "text": text})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Return a server of tmp_path/server.toml, with its socket where the file says."""
    (tmp_path / "server.toml").write_text('[control]\nsocket = "x.sock"\n')
    with Service(tmp_path / "x.sock", answer) as service:
        yield service


@pytest.fixture
def file(service: Service) -> str:
    return str(Path(service.path).with_name("server.toml"))


def asked(service: Service) -> list[Request]:
    return [request for _, request in service.desk.asked]


# Each command


@pytest.mark.parametrize(
    ("arguments", "request_", "out"),
    [
        (["reload"], Request("reload"), "reload done\n"),
        (["reload", "--dry-run"], Request("reload", dry_run=True), "plan: nothing\n"),
        (["reload", "--timeout", "20"], Request("reload"), "reload done\n"),
        (["scale", "3"], Request("scale", workers=3), "scale done\n"),
        (["upgrade"], Request("upgrade"), "upgrade done\n"),
        (["reopen"], Request("reopen"), "reopen done\n"),
        (["stop"], Request("stop"), "stopped\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_asks_the_server_of_the_file(
    service: Service, file: str, arguments: Sequence[str], request_: Request, out: str
) -> None:
    result = run(*arguments, "-c", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, out, "")
    assert asked(service) == [request_]


def test_status_shows_the_server(file: str) -> None:
    result = run("status", "-c", file)
    assert result.exit_code == 0
    assert result.stdout.startswith("serverd 0.1.0 serves /srv/shop/server.toml\n")


def test_status_as_json_is_for_programs(file: str) -> None:
    result = run("status", "-c", file, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == status()


@pytest.mark.parametrize("reason", ["reload", "upgrade", "scale"])
def test_a_refusal_is_three_and_goes_to_standard_error(tmp_path: Path, reason: str) -> None:
    def refuse(server: ControlServer, number: int, _: Request) -> None:
        server.reply(number, {"ok": False, "error": "apps.shop failed", "detail": "Traceback\nImportError: x"})

    arguments = [reason, "2"] if reason == "scale" else [reason]
    with Service(tmp_path / "x.sock", refuse) as service:
        result = run(*arguments, "--socket", service.path)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == "serverd: apps.shop failed\nTraceback\nImportError: x\n"


# Which server


def test_the_file_may_be_named_before_the_command(service: Service, file: str) -> None:
    assert run("-c", file, "reload").exit_code == 0
    assert run("-c", "/nowhere.toml", "reload", "-c", file).exit_code == 0
    assert len(asked(service)) == 2


def test_the_file_is_server_toml_by_default(service: Service, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(file))
    assert run("reload").exit_code == 0
    assert len(asked(service)) == 1


def test_the_socket_may_be_named_instead_of_the_file(service: Service) -> None:
    assert run("reload", "--socket", service.path).exit_code == 0
    assert len(asked(service)) == 1


@pytest.mark.parametrize(
    "command", [["status"], ["reload"], ["stop"], ["scale", "2"], ["upgrade"], ["reopen"]], ids=" ".join
)
def test_without_a_server_it_is_three_and_a_sentence(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "shop.toml"
    result = run(*command, "-c", str(file))
    socket = configured_socket(str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (
        3,
        "",
        f"serverd: no serverd serves {file}: no control socket at {socket}, expected that of a running server,"
        " and no such file: name that of the server with -c FILE\n",
    )
    file.touch()
    assert run(*command, "-c", str(file)).stderr.endswith("expected that of a running server\n")


def test_a_path_in_a_message_cannot_forge_lines(tmp_path: Path) -> None:
    result = run("status", "--socket", f"{tmp_path}/\x1b[2J\nserverd: all is well")
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


# Wrong usage


@every(
    ("arguments", "error"),
    [
        (["relaod"], 'there is no command "relaod" (did you mean "reload"?)'),
        (["server.toml"], 'there is no command "server.toml" (did you mean "serverd -c server.toml"?)'),
        (["xyz"], f'there is no command "xyz" (expected one of {", ".join(sorted(cli.main.commands))})'),
        (["scale"], "N is missing"),
        (["scale", "0"], 'N: "0" is not a whole number from 1 to 1024'),
        (["scale", "many"], 'N: "many" is not a whole number from 1 to 1024'),
        (["scale", "1", "2", "3"], 'there is no place for "2 3"'),
        (["reload", "--timeout", "0"], '--timeout: "0" is not a whole number from 1 to 86400'),
        (["reload", "--timeout"], "--timeout needs a value"),
        (["stop", "--json"], 'there is no option "--json"'),
        (["status", "--jsno"], 'there is no option "--jsno" (did you mean "--json"?)'),
        (["status", "--json=1"], "--json takes no value"),
        (["--nonsense"], 'there is no option "--nonsense"'),
        (["completion", "tcsh"], 'SHELL: "tcsh" is not one of "bash", "zsh", "fish"'),
        (["--take-over", "7", "status"], "--take-over goes with no command"),
        (["-c", "server.toml", "schema"], "schema reads no configuration (expected no -c)"),
        (["-c", "server.toml", "init"], "init reads no configuration (expected no -c)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_two_and_says_what_is_right(arguments: list[str], error: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    told, *usage = result.stderr.splitlines()
    command = told.partition(": ")[0]
    assert told == f"{command}: {error}"
    assert [line.startswith(f"usage: {command} ") for line in usage] in ([True], [])


# The server itself


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of what supervisors were made of, instead of starting one."""
    made: list[Any] = []

    class StandIn:
        def __init__(self, path: str, **options: Any) -> None:
            made.append((path, options))

        def run(self) -> int:
            return 3

    monkeypatch.setattr(supervisor, "Supervisor", StandIn)
    monkeypatch.setattr(beginning, "begin_reading", lambda source: None)
    return made


def test_without_a_command_it_serves(started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().exit_code == 3
    assert run("-c", "other.toml").exit_code == 3
    alone = {"take_over": None, "begun": None}
    files = [Source.of_file(str(tmp_path / name)) for name in ("server.toml", "other.toml")]
    assert started == [(file, alone) for file in files]


def test_a_command_starts_no_server(started: list[Any], file: str) -> None:
    assert run("status", "-c", file).exit_code == 0
    assert started == []


def test_a_new_supervisor_is_told_where_to_take_over_from(started: list[Any]) -> None:
    assert run("-c", "/srv/server.toml", "--take-over", "7").exit_code == 3
    assert started == [(Source.of_file("/srv/server.toml"), {"take_over": 7, "begun": None})]


# Errors of ours, and people


def test_a_bug_is_one_and_asks_to_be_reported(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serverd.control.commands.order", lambda *_, **__: 1 / 0)
    result = run("reload", "-c", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("serverd: this is a bug of serverd")


def test_ctrl_c_ends_the_waiting_and_not_the_work(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serverd.control.commands.order", interrupted)
    result = run("reload", "-c", file)
    assert result.exit_code == 130
    assert result.stderr == "serverd: not waiting any longer; what was asked goes on\n"


def test_ctrl_c_that_comes_as_another_exception_is_no_bug(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("as code in C has it, that calls back") from None

    monkeypatch.setattr("serverd.control.commands.order", interrupted)
    result = run("reload", "-c", file)
    assert (result.exit_code, result.stderr) == (130, "serverd: interrupted\n")


def test_ctrl_c_is_how_watching_ends(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "serverd.control.commands.watch_status.__kwdefaults__", {"as_json": False, "sleep": interrupted}
    )
    result = run("status", "-c", file, "--watch", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == status()
    assert result.stderr == ""


# Real processes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "serverd", *arguments]


def test_a_locale_that_cannot_write_a_name_is_no_bug(tmp_path: Path) -> None:
    def arrow(server: ControlServer, number: int, _: Request) -> None:
        server.reply(number, {"ok": True, "text": "a → b"})

    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    with Service(tmp_path / "x.sock", arrow) as service:
        asking = command("reload", "--socket", service.path)
        done = subprocess.run(asking, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "a \\u2192 b\n")


def test_a_reader_that_has_enough_is_no_bug(file: str) -> None:
    shell = f"'{sys.executable}' -m serverd status -c '{file}' --watch --json | head -n 1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout) == status()
    assert done.stderr == ""


def test_a_reader_that_has_gone_is_told_nothing(file: str) -> None:
    own, its = os.pipe()
    os.close(own)
    with os.fdopen(its, "wb") as closed:
        asking = command("status", "-c", file)
        done = subprocess.run(asking, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize("option", [[], ["--json"], ["--watch"], ["--help"]], ids=" ".join)
def test_an_output_that_fails_is_a_line_and_no_bug(file: str, option: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        asking = command("status", "-c", file, *option)
        done = subprocess.run(asking, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    line = "serverd: standard output cannot be written: no space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is Linux's")
def test_an_error_that_cannot_be_written_keeps_its_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        asking = command("status", "--socket", str(tmp_path / "none.sock"))
        assert subprocess.run(asking, stderr=full, timeout=60, check=False).returncode == 3


def test_watching_on_a_terminal_draws_over_the_look_before(file: str) -> None:
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 40, 0, 0))
    process = subprocess.Popen(command("status", "-c", file, "--watch"), stdin=its, stdout=its, stderr=its)
    try:
        os.close(its)
        drawn = b""
        while drawn.count(b"\x1b[J\x1b[?7h") < 2:
            drawn += os.read(own, 4096)
        assert drawn.count(b"\x1b[H") == 2
        look = drawn.partition(b"\x1b[J")[0]
        assert look.startswith(b"\x1b[?7l\x1b[Hserverd 0.1.0 serves /srv/shop/server.toml\x1b[K\r\n")
        assert look.count(b"\n") == 5  # of six rows, one for the cursor
        assert re.search(rb"\nand \d+ lines more\x1b\[K\r\n$", look)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(own)


def test_completion_is_there_for_shells() -> None:
    environment = {**os.environ, "_SERVERD_COMPLETE": "bash_complete", "COMP_WORDS": "serverd re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from serverd.cli import main; main(prog_name='serverd')"],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert done.stdout == "plain,reload\nplain,reopen\n"


def test_the_group_has_the_commands_that_the_server_understands() -> None:
    assert {command.name for command in control.COMMANDS} == set(COMMANDS)
    assert set(cli.main.commands) > set(COMMANDS)


def test_the_number_of_workers_has_one_bound_wherever_it_is_asked_for() -> None:
    assert control.MOST_WORKERS == MOST_WORKERS == values.MOST_WORKERS
