"""The files for systemd and logrotate in config/: well formed, and in agreement with what serverd does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import tomli

from serverd import cli
from serverd.cli.ending import EXIT_BUG
from serverd.errors import AppError, OperatorError
from serverd.generation import Server
from serverd.supervisor import signals
from serverd.supervisor.transaction import LOAD_PATIENCE

CONFIG = Path(__file__).parents[2] / "config"
# Seconds beyond graceful_timeout that a worker has for cutting what is left and for leaving, as the unit says.
END = 10.0

REFERENCE = (CONFIG / "reference.toml").read_text()

Unit = dict[str, dict[str, str]]


def parse(text: str) -> Unit:
    """Return sections, keys and values, without any of the tolerance of systemd.syntax(7)."""
    unit: Unit = {}
    keys: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if section := re.fullmatch(r"\[([A-Z][a-z]+)\]", line):
            assert section[1] not in unit, f"line {number}: section {section[1]} twice"
            keys = unit[section[1]] = {}
        else:
            setting = re.fullmatch(r"([A-Z][A-Za-z]+)=(|\S.*\S|\S)", line)
            assert setting, f"line {number}: neither a section nor a setting: {line!r}"
            assert keys is not None, f"line {number}: a setting before any section"
            assert setting[1] not in keys, f"line {number}: {setting[1]} twice"
            assert not setting[2].endswith("\\"), f"line {number}: goes on in the next line"
            keys[setting[1]] = setting[2]
    return unit


def seconds(value: str) -> int:
    match = re.fullmatch(r"(\d+)s", value)
    assert match, f"{value}: write seconds, with their unit"
    return int(match[1])


SERVICE = parse((CONFIG / "serverd.service").read_text())
SOCKET = parse((CONFIG / "serverd.socket").read_text())
ROTATION = (CONFIG / "logrotate").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "Key=1",
        "[A]\nKey = 1",
        "[Unit]\nKey=1\nKey=2",
        "[Unit]\n[Unit]",
        "[Unit]\nKey=1 ",
        "[Unit]\nKey=1\\\n2",
        "[unit]",
    ],
)
def test_the_parser_is_strict(text: str) -> None:
    with pytest.raises(AssertionError):
        parse(text)


def test_a_start_that_would_fail_again_is_not_repeated_and_a_bug_is() -> None:
    final = {int(code) for code in SERVICE["Service"]["RestartPreventExitStatus"].split()}
    assert final == {click.UsageError.exit_code, OperatorError.exit_code, AppError.exit_code}
    assert EXIT_BUG not in final
    assert SERVICE["Service"]["Restart"] == "on-failure"


def test_systemd_is_more_patient_than_serverd() -> None:
    service, server = SERVICE["Service"], Server()
    drain = server.graceful_timeout + END
    assert seconds(service["TimeoutStartSec"]) > LOAD_PATIENCE + server.start_timeout + drain
    assert seconds(service["TimeoutStopSec"]) > server.shutdown_delay + drain


def test_only_the_supervisor_speaks_and_only_it_is_told_to_stop() -> None:
    service = SERVICE["Service"]
    assert (service["NotifyAccess"], service["KillMode"], service["OOMPolicy"]) == ("main", "mixed", "continue")
    assert seconds(service["WatchdogSec"]) >= 10
    assert "PIDFile" not in service


def test_the_command_is_one_that_serverd_understands() -> None:
    program, *arguments = SERVICE["Service"]["ExecStart"].split()
    assert os.path.isabs(program)
    assert os.path.basename(program) == "serverd"
    context = cli.main.make_context("serverd", arguments)
    assert "/etc/serverd/server.toml" in context.params.values()


def test_the_reload_that_systemd_sends_is_one() -> None:
    # Type=notify-reload sends ReloadSignal=, SIGHUP unless it is set (systemd.service(5)).
    assert SERVICE["Service"]["Type"] == "notify-reload"
    assert SERVICE["Service"].get("ReloadSignal", "SIGHUP") in {number.name for number in signals.HANDLED}


def test_the_socket_has_the_name_by_which_the_configuration_asks_for_it() -> None:
    socket = SOCKET["Socket"]
    assert f'"systemd:{socket["FileDescriptorName"]}"' in REFERENCE
    example = re.findall(r"^#     (.*)$", (CONFIG / "serverd.socket").read_text(), re.MULTILINE)[:2]
    (listener,) = tomli.loads("\n".join(example))["listeners"].values()
    assert listener["bind"] == f"systemd:{socket['FileDescriptorName']}"
    assert socket["Service"] == "serverd.service"


def test_the_backlog_is_that_of_a_listener_by_default() -> None:
    assert int(SOCKET["Socket"]["Backlog"]) == tomli.loads(REFERENCE)["listeners"]["web"]["backlog"]


def test_the_control_socket_of_the_comment_is_where_both_sides_see_it() -> None:
    text = (CONFIG / "serverd.service").read_text()
    (example,) = re.findall(r"^#   (\[control\])\n#   (socket = .*)$", text, re.MULTILINE)
    path = tomli.loads("\n".join(example))["control"]["socket"]
    assert os.path.dirname(path) == f"/run/{SERVICE['Service']['RuntimeDirectory']}"


def test_the_logs_of_the_service_are_rotated_and_the_supervisor_is_told() -> None:
    assert f"\n/var/log/{SERVICE['Service']['LogsDirectory']}/*.log {{\n" in ROTATION
    assert "systemctl kill -s USR1 --kill-whom=main serverd.service" in ROTATION
    assert "SIGUSR1" in {number.name for number in signals.HANDLED}
    assert f"    su {SERVICE['Service']['User']} {SERVICE['Service']['Group']}\n" in ROTATION


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    service = (CONFIG / "serverd.service").read_text()
    # What a machine has to have for the units, this one need not: the program and its user.
    service = service.replace("ExecStart=/opt/serverd/bin/serverd", f"ExecStart={shutil.which('true')}")
    service = re.sub(r"(User|Group)=serverd", r"\1=root", service)
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, timeout=30, check=True)
    if int(version.stdout.split()[1]) < 253:  # as the comment in the unit says
        service = service.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID")
    (tmp_path / "serverd.service").write_text(service)
    shutil.copy(CONFIG / "serverd.socket", tmp_path)
    command = ["systemd-analyze", "verify", "--man=no", "./serverd.service", "./serverd.socket"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    said = [line for line in done.stderr.splitlines() if "serverd" in line or str(tmp_path) in line]
    assert said == []  # of other units of the machine it may say what it likes
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_understands_its_file(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    (logs / "serverd.log").write_text("one\n")
    text = ROTATION.replace("/var/log/serverd", str(logs)).replace("    su serverd serverd\n", "")
    text = re.sub(r"(?s)postrotate\n.*?endscript", f"postrotate\n        touch {tmp_path}/told\n    endscript", text)
    (tmp_path / "conf").write_text(text)
    (tmp_path / "conf").chmod(0o644)
    command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(tmp_path / "conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(logs) == ["serverd.log.1"]
    assert (tmp_path / "told").exists()
