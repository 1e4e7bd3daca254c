"""The process-wide tables: accounts, files, and what contradicts itself."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from serverd.config import accounts
from serverd.config.control import socket_path
from serverd.generation import Account, Recycle, Server

from .conftest import Load, Report

REST = '[listeners.web]\nbind = ":0"\n[[mounts]]\nrespond = { body = "pong" }\n'
SOMEBODY = pwd.struct_passwd(("www", "x", 5001, 5002, "", "/", "/bin/false"))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be root on a machine with the user www, in the groups 5002 and 5003, and the group web, 5004."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    _database(monkeypatch)


@pytest.fixture
def nobody_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the user www, in the group web."""
    monkeypatch.setattr(os, "geteuid", lambda: 5001)
    monkeypatch.setattr(os, "getegid", lambda: 5004)
    _database(monkeypatch)


def _database(monkeypatch: pytest.MonkeyPatch) -> None:
    users: dict[object, pwd.struct_passwd] = {"www": SOMEBODY, 5001: SOMEBODY}
    monkeypatch.setattr(accounts.pwd, "getpwnam", users.__getitem__)
    monkeypatch.setattr(accounts.pwd, "getpwuid", users.__getitem__)
    monkeypatch.setattr(
        accounts.grp, "getgrnam", {"web": accounts.grp.struct_group(("web", "x", 5004, []))}.__getitem__
    )
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 5003])


def test_every_setting_reaches_the_generation(load_text: Load, tmp_path: Path) -> None:
    generation = load_text(
        '[server]\nhang_timeout = 0\nlag_threshold = "250ms"\nshutdown_delay = "5s"\numask = "0027"\npreload = true\n'
        'pid_file = "run/serverd.pid"\n'
        '[server.recycle]\nrequests = 1000\njitter = 50\nlifetime = "1h"\nmemory = "512MiB"\n'
        '[control]\nsocket = "run/control"\n[logging]\nfile = "${DIRECTORY}/x.log"\n' + REST,
        DIRECTORY="/var/log",
    )
    assert generation.server == Server(
        hang_timeout=0.0,
        lag_threshold=0.25,
        shutdown_delay=5.0,
        umask=0o27,
        preload=True,
        pid_file=str(tmp_path / "run/serverd.pid"),
        recycle=Recycle(1000, 50, 3600.0, 512 * 2**20),
    )
    assert generation.control_socket == str(tmp_path / "run/control")
    assert generation.logging.file == "/var/log/x.log"


def test_what_is_not_written_is_as_the_generation_has_it_and_the_control_socket_is_derived(
    load_text: Load, tmp_path: Path
) -> None:
    generation = load_text(REST)
    assert generation.server == Server()
    assert generation.logging.file == ""
    assert generation.control_socket == socket_path(str(tmp_path / "server.toml"), {})


def test_an_empty_path_is_none(load_text: Load) -> None:
    generation = load_text('server.pid_file = "${PID_FILE:-}"\nlogging.file = "${LOG_FILE:-}"\n' + REST)
    assert (generation.server.pid_file, generation.logging.file) == ("", "")


@pytest.mark.parametrize(
    ("settings", "account"),
    [
        ('user = "www"', Account(5001, 5002, (5002, 5003))),
        ("user = 5001", Account(5001, 5002, (5002, 5003))),
        ('user = "www"\ngroup = "web"', Account(5001, 5004, (5003, 5004))),
        ("user = 4000000001\ngroup = 5004", Account(4000000001, 5004, (5004,))),
        ('group = "web"', Account(None, 5004, ())),
        ("", Account()),
    ],
    ids=["name", "number", "both", "without account", "group", "neither"],
)
def test_root_hands_the_workers_to_an_account(root: None, load_text: Load, settings: str, account: Account) -> None:
    assert load_text(f"[server]\n{settings}\n{REST}").server.account == account


def test_a_user_without_account_needs_a_group_lest_it_keep_the_one_of_root(root: None, report_of: Report) -> None:
    report = report_of(f"[server]\nuser = 4000000001\n{REST}")
    assert report.startswith("server.toml:2: server.user: 4000000001 has no account, which would tell the group")
    report = report_of(f"[server]\nuser = 4000000001\ngroup = true\n{REST}")
    assert report.startswith("server.toml:3: server.group: true is neither a name nor a number")
    assert report.endswith("1 problem in server.toml")


@pytest.mark.parametrize("settings", ['user = "www"', "user = 5001", 'group = "web"', 'user = "www"\ngroup = 5004'])
def test_who_is_not_root_may_name_itself_and_nothing_is_changed(
    nobody_special: None, load_text: Load, settings: str
) -> None:
    assert load_text(f"[server]\n{settings}\n{REST}").server.account == Account()


def test_who_is_not_root_becomes_nobody_else(nobody_special: None, report_of: Report) -> None:
    report = report_of(f"[server]\nuser = 0\ngroup = 5002\n{REST}")
    assert "server.toml:2: server.user: 0 is not who serverd runs as (only root can become somebody else)" in report
    assert "server.toml:3: server.group: 5002 is not the group that serverd runs as (only root can" in report
    assert report.endswith("2 problems in server.toml")


@pytest.mark.parametrize(
    "settings",
    [
        "hang_timeout = 2",
        "hang_timeout = 0\nlag_threshold = 60",
        "lag_threshold = 0\nhang_timeout = 2",
        "recycle.jitter = 0",
        "recycle = { requests = 1, jitter = 5 }",
        "recycle.lifetime = 1",
    ],
)
def test_settings_that_go_together_are_no_problem(load_text: Load, settings: str) -> None:
    assert load_text(f"[server]\n{settings}\n{REST}").warnings == ()


def test_a_threshold_above_the_default_timeout_is_found(report_of: Report) -> None:
    assert 'server.toml:2: server.lag_threshold: "1m" has no effect' in report_of(
        f'[server]\nlag_threshold = "1m"\n{REST}'
    )


@pytest.mark.parametrize(
    "settings",
    [
        "hang_timeout = 1\nlag_threshold = 60",
        "hang_timeot = 90\nlag_threshold = 60",
        "recycle = { request=1, jitter=1 }",
    ],
    ids=["faulty", "misspelt", "recycle"],
)
def test_nothing_is_concluded_from_what_is_not_known(report_of: Report, settings: str) -> None:
    report = report_of(f"[server]\n{settings}\n{REST}")
    assert "has no effect" not in report
    assert report.endswith("1 problem in server.toml")


def test_an_included_file_is_not_written_to(report_of: Report) -> None:
    report = report_of(
        f'include = ["a.toml"]\nlogging.file = "./a.toml"\n{REST}', {"a.toml": '[listeners.a]\nbind = "fd:3"\n'}
    )
    assert 'server.toml:2: logging.file: "./a.toml" is a configuration file, too' in report


def test_a_file_whose_name_is_faulty_meets_nothing(report_of: Report) -> None:
    report = report_of(f'server.pid_file = 1\nlogging.file = "x"\n{REST}')
    assert report.endswith("1 problem in server.toml")


def test_a_written_socket_is_refused_only_when_the_kernel_would(
    load_text: Load, report_of: Report, tmp_path: Path
) -> None:
    longest = "x" * (107 - len(str(tmp_path)) - 1)
    assert len(load_text(f'control.socket = "{longest}"\n{REST}').control_socket) == 107
    report = report_of(f'control.socket = "{longest}x"\n{REST}')
    assert report.startswith("server.toml:1: control.socket: ")
    assert "leads to a unix path of more than 107 bytes" in report
