"""Listeners: limits, owners and unix paths."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from serverd.config.models import Limits
from serverd.generation import AddressKind
from serverd.generation import Limits as PlainLimits

from .conftest import Load, Report

PONG = '\n[[mounts]]\nrespond = { body = "pong" }\n'


def test_a_listener_overrides_the_limits_of_the_file(load_text: Load) -> None:
    generation = load_text(
        '[limits]\nbody_size = "1MiB"\nheader_count = 50\n'
        '[listeners.plain]\nbind = ":1"\n'
        '[listeners.own]\nbind = ":2"\nlimits = { body_size = "1GiB", keep_alive_timeout = 1 }\n' + PONG
    )
    plain, own = generation.listeners
    assert plain.limits == PlainLimits(body_size=2**20, header_count=50)
    assert own.limits == PlainLimits(body_size=2**30, header_count=50, keep_alive_timeout=1.0)
    assert Limits().body_size == 0


def test_unix_paths_are_relative_to_the_file_and_owners_are_numbers(load_text: Load, tmp_path: Path) -> None:
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    generation = load_text(
        f'[listeners.web]\nbind = ["unix:run/../web.sock", ":8000"]\nsocket_mode = "0660"\n'
        f'socket_user = "{user.pw_name}"\nsocket_group = "{group.gr_name}"\n' + PONG
    )
    listener = generation.listeners[0]
    assert listener.addresses[0].kind is AddressKind.UNIX
    assert listener.addresses[0].path == str(tmp_path / "web.sock")
    assert listener.addresses[0].text == "unix:run/../web.sock"
    assert (listener.socket_mode, listener.socket_uid, listener.socket_gid) == (0o660, user.pw_uid, group.gr_gid)
    assert listener.source == "server.toml:1"


def test_numeric_owners_need_no_account(load_text: Load) -> None:
    generation = load_text(f'[listeners.web]\nbind = "unix:w"\nsocket_user = 4000000000\nsocket_group = "123"\n{PONG}')
    assert (generation.listeners[0].socket_uid, generation.listeners[0].socket_gid) == (4000000000, 123)


def test_a_clash_within_an_included_file_names_both_places(report_of: Report) -> None:
    report = report_of(
        'include = ["more.toml"]\n[listeners.web]\nbind = ":8000"\n' + PONG,
        {"more.toml": '[listeners.api]\nbind = [\n  "fd:3",\n  "[::1]:8000",\n]\n'},
    )
    assert report.startswith(
        'more.toml:4: listeners.api.bind[1]: "[::1]:8000" clashes with ":8000" of listener "web" at server.toml:3'
    )


@pytest.mark.parametrize("key", ["socket_user", "socket_group"])
def test_an_unknown_owner_is_found_at_its_line(report_of: Report, key: str) -> None:
    report = report_of(f'[listeners.web]\nbind = "unix:w"\n{key} = "nobody-of-that-name"\n{PONG}')
    assert report.startswith(f'server.toml:3: listeners.web.{key}: "nobody-of-that-name" is not a ')


@pytest.mark.parametrize(
    "bind",
    ["1", '["unix:"]', '["${MISSING}"]', '[":1", "unix:"]', "[]"],
    ids=["type", "value", "variable", "one", "none"],
)
def test_nothing_is_said_about_unix_keys_when_an_address_is_not_known(report_of: Report, bind: str) -> None:
    report = report_of(f'[listeners.web]\nbind = {bind}\nsocket_mode = "0660"\n{PONG}')
    assert "has no effect" not in report
    assert report.endswith("\n1 problem in server.toml")


def test_the_sound_addresses_beside_a_faulty_one_are_compared(report_of: Report) -> None:
    report = report_of(
        f'[listeners.a]\nbind = ["x", ":8000"]\nsocket_user = "nobody-of-that-name"\n[listeners.b]\n'
        f'bind = [1, 2, "[::1]:8000"]\n{PONG}'
    )
    assert 'listeners.b.bind[2]: "[::1]:8000" clashes with ":8000" of listener "a" at server.toml:2' in report
    assert 'listeners.a.socket_user: "nobody-of-that-name" is not a user' in report
    assert report.endswith("5 problems in server.toml")


def test_sockets_of_socket_activation_have_the_access_that_their_unit_gives_them(report_of: Report) -> None:
    report = report_of(f'[listeners.web]\nbind = "systemd:web"\nsocket_mode = "0660"\n{PONG}')
    assert report.startswith("server.toml:3: listeners.web.socket_mode: has no effect without a unix address in `bind`")


def test_a_faulty_unix_key_without_unix_address_is_told_both(report_of: Report) -> None:
    report = report_of(f'[listeners.web]\nbind = ":1"\nsocket_mode = 660\n{PONG}')
    assert report.endswith("2 problems in server.toml")
