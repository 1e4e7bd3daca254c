"""Listeners: limits, owners and unix paths."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import get_args

import pytest

from serverd.config.kinds import ForwardedHeader
from serverd.config.models import Limits
from serverd.errors import ConfigError
from serverd.generation import AddressKind
from serverd.generation import Limits as PlainLimits
from serverd.messages import Loaded, decode, encode
from serverd.protocol.trust import BELIEVABLE, BELIEVED, Trust

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


# How many, and what beyond.


def test_a_listener_overrides_how_many_there_may_be(load_text: Load) -> None:
    generation = load_text(
        '[limits]\nconnections = "${MOST}"\nconcurrency = 10\n'
        '[listeners.plain]\nbind = ":1"\n'
        '[listeners.own]\nbind = ":2"\nlimits = { connections_beyond = "wait", concurrency = 0 }\n' + PONG,
        MOST="100",
    )
    plain, own = generation.listeners
    assert plain.limits == PlainLimits(connections=100, concurrency=10)
    assert own.limits == PlainLimits(connections=100, connections_beyond="wait")


@pytest.mark.parametrize("key", ["connections", "concurrency"])
def test_less_than_none_is_refused(report_of: Report, key: str) -> None:
    report = report_of(f'[limits]\n{key} = -1\n[listeners.web]\nbind = ":1"\n{PONG}')
    assert report.startswith(f"server.toml:2: limits.{key}: -1 is too small (expected at least 0)")


WAIT = 'connections_beyond = "wait"'
IDLE = "connections_beyond: has no effect without `connections`"


@pytest.mark.parametrize(
    ("limits", "web", "subjects"),
    [
        ("", WAIT, ["listeners.web.limits"]),
        (WAIT, "", ["limits"]),
        (WAIT, WAIT, ["limits", "listeners.web.limits"]),
        (f"{WAIT}\nconnections = 5", "connections = 0", []),
        (f"{WAIT}\nconnections = 5", f"{WAIT}, connections = 0", ["listeners.web.limits"]),
        ("connections = 5", WAIT, []),
        (WAIT, "connections = 5", []),
        ('connections_beyond = "refuse"', 'connections_beyond = "refuse"', []),
    ],
)
def test_waiting_for_an_end_that_nothing_needs_has_no_effect(
    load_text: Load, report_of: Report, limits: str, web: str, subjects: list[str]
) -> None:
    text = f'[limits]\n{limits}\n[listeners.web]\nbind = ":1"\nlimits = {{ {web} }}\n{PONG}'
    if not subjects:
        assert load_text(text).warnings == ()
        return
    report = report_of(text)
    assert all(f": {subject}.{IDLE}" in report for subject in subjects)
    assert report.count(IDLE) == len(subjects)


@pytest.mark.parametrize(
    ("limits", "web"),
    [
        (f"{WAIT}\nconnections = true", ""),
        (f"{WAIT}\nconections = 5", ""),
        (WAIT, 'connections = "x"'),
        ("connections = -5", WAIT),
        ('connections_beyond = "weit"', ""),
    ],
)
def test_nothing_is_concluded_from_a_number_that_is_not_known(report_of: Report, limits: str, web: str) -> None:
    report = report_of(f'[limits]\n{limits}\n[listeners.web]\nbind = ":1"\nlimits = {{ {web} }}\n{PONG}')
    assert "has no effect" not in report
    assert report.endswith("\n1 problem in server.toml")


def test_a_file_that_is_missing_may_hold_the_listener_that_needs_a_default(report_of: Report) -> None:
    report = report_of(f'include = ["x.toml"]\n[limits]\n{WAIT}\n[listeners.web]\nbind = ":1"\n{PONG}')
    assert "has no effect" not in report
    assert report.endswith("\n1 problem in server.toml")


# Trust.


def trusting(proxies: str, bind: str = '":1"', keys: str = "") -> str:
    return f"[listeners.web]\nbind = {bind}\ntrusted_proxies = {proxies}\n{keys}\n{PONG}"


def test_trust_is_carried_along_in_one_spelling(load_text: Load) -> None:
    text = trusting(
        '["10.0.0.0/8", "${PROXY}", "FD00:0::1", "unix", "::ffff:10.0.0.0/104"]',
        '[":1", "unix:x"]',
        'proxy_protocol = true\nambiguous_headers = "pass"',
    )
    generation = load_text(text, PROXY="192.0.2.1/32")
    listener = generation.listeners[0]
    assert listener.trusted_proxies == ("10.0.0.0/8", "192.0.2.1", "fd00::1", "unix")
    assert (listener.proxy_protocol, listener.ambiguous_headers) == (True, "pass")
    assert generation.warnings == ()
    assert decode(encode(Loaded(generation))) == Loaded(generation)


def test_nobody_is_trusted_unasked(load_text: Load) -> None:
    listener = load_text(f'[listeners.web]\nbind = ":1"\n{PONG}').listeners[0]
    assert (listener.trusted_proxies, listener.proxy_protocol, listener.ambiguous_headers) == ((), False, "drop")


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "::ffff:0:0/96"])
def test_trust_in_everybody_is_a_warning_at_its_line(load_text: Load, everybody: str) -> None:
    warnings = load_text(trusting(f'[\n"10.0.0.1",\n"{everybody}",\n]')).warnings
    assert warnings == (
        f'server.toml:5: listeners.web.trusted_proxies[1]: "{everybody}" lets every client that can connect say on'
        " whose behalf it speaks (expected the proxies alone)",
    )


@pytest.mark.parametrize("network", ["0.0.0.0/1", "::/1", "10.0.0.0/8"])
def test_trust_in_less_than_everybody_is_no_warning(load_text: Load, network: str) -> None:
    assert load_text(trusting(f'["{network}"]')).warnings == ()


def test_trust_in_everybody_is_an_error_as_a_wildcard(report_of: Report) -> None:
    report = report_of(trusting('["*"]'))
    assert report.startswith(
        'server.toml:3: listeners.web.trusted_proxies[0]: "*" would let every client say on whose behalf it speaks'
        " (expected the proxies alone"
    )


@pytest.mark.parametrize("bind", ['":1"', '["127.0.0.1:1", "[::1]:1"]'])
def test_who_comes_over_unix_sockets_needs_one_to_be_trusted(report_of: Report, bind: str) -> None:
    report = report_of(trusting('["10.0.0.1", "unix"]', bind))
    assert report.startswith(
        'server.toml:3: listeners.web.trusted_proxies[1]: "unix" has no effect without a unix address in `bind`'
    )
    assert report.endswith("\n1 problem in server.toml")


@pytest.mark.parametrize("bind", ['"unix:x"', '[":1", "unix:x"]', '"fd:3"', '"systemd:web"'])
def test_what_is_or_may_be_a_unix_socket_is_one(load_text: Load, bind: str) -> None:
    assert load_text(trusting('["10.0.0.1", "unix"]', bind)).warnings == ()


@pytest.mark.parametrize("bind", ["1", '["unix:"]', '[":1", "unix:"]', '["${MISSING}", ":1"]'])
def test_nothing_is_said_about_unix_when_an_address_is_not_known(report_of: Report, bind: str) -> None:
    report = report_of(trusting('["unix"]', bind))
    assert "has no effect" not in report
    assert report.endswith("\n1 problem in server.toml")


@pytest.mark.parametrize("keys", ["", "proxy_protocol = true"])
def test_addresses_trust_nobody_on_a_listener_of_unix_sockets(load_text: Load, keys: str) -> None:
    assert load_text(trusting('["10.0.0.1"]', '["unix:x", "unix:y"]', keys)).warnings == (
        "server.toml:3: listeners.web.trusted_proxies: trusts nobody: on a unix socket no peer has an address (expected"
        ' "unix" for whoever connects to it)',
    )


@pytest.mark.parametrize(
    ("proxies", "bind"),
    [("[]", '"unix:x"'), ('["10.0.0.1"]', '["unix:x", ":1"]'), ('["10.0.0.1"]', '["unix:x", "fd:3"]')],
)
def test_trust_that_may_have_an_effect_is_no_warning(load_text: Load, proxies: str, bind: str) -> None:
    assert load_text(trusting(proxies, bind)).warnings == ()


@pytest.mark.parametrize("proxies", ["", "trusted_proxies = []"])
def test_a_proxy_header_needs_somebody_who_may_send_it(report_of: Report, proxies: str) -> None:
    report = report_of(f'[listeners.web]\nbind = ":1"\nproxy_protocol = true\n{proxies}\n{PONG}')
    assert report.startswith(
        "server.toml:3: listeners.web.proxy_protocol: would refuse every connection: only `trusted_proxies` may send"
    )
    assert report.endswith("\n1 problem in server.toml")


@pytest.mark.parametrize(
    "proxies",
    [
        'trusted_proxies = ["*"]',
        "trusted_proxies = 1",
        'trusted_proxis = ["10.0.0.1"]',
        'trusted_proxies = ["${MISSING}"]',
    ],
)
def test_a_faulty_trust_is_not_called_none(report_of: Report, proxies: str) -> None:
    report = report_of(f'[listeners.web]\nbind = ":1"\nproxy_protocol = true\n{proxies}\n{PONG}')
    assert "would refuse every connection" not in report
    assert report.endswith("\n1 problem in server.toml")


# Which headers of the proxies are believed.


def believing(headers: str, proxies: str = '["10.0.0.1"]') -> str:
    return trusting(proxies, keys=f"forwarded_headers = {headers}")


def test_headers_are_believed_in_one_spelling(load_text: Load) -> None:
    generation = load_text(believing('["X-Forwarded-For", "${HEADER}", "x-forwarded-for"]'), HEADER="X-FORWARDED-Host")
    assert generation.listeners[0].forwarded_headers == ("x-forwarded-for", "x-forwarded-host")
    assert decode(encode(Loaded(generation))) == Loaded(generation)


def test_nothing_need_be_believed(load_text: Load) -> None:
    assert load_text(believing("[]")).listeners[0].forwarded_headers == ()


def test_the_headers_are_those_that_can_be_believed(load_text: Load) -> None:
    assert tuple(name.encode() for name in get_args(get_args(ForwardedHeader)[0])) == BELIEVABLE
    by_default = load_text(trusting('["10.0.0.1"]')).listeners[0].forwarded_headers
    assert tuple(name.encode() for name in by_default) == BELIEVED


@pytest.mark.parametrize("one", BELIEVABLE)
@pytest.mark.parametrize("other", BELIEVABLE)
def test_two_headers_clash_where_one_listener_cannot_believe_both(load_text: Load, one: bytes, other: bytes) -> None:
    text = believing(f'["{one.decode()}", "{other.decode()}"]')
    try:
        Trust((), (one, other))
    except ValueError:
        with pytest.raises(ConfigError, match="says the same as"):
            load_text(text)
    else:
        assert set(load_text(text).listeners[0].forwarded_headers) == {one.decode(), other.decode()}


def test_a_clash_of_headers_is_told_at_the_line_of_the_later_one(report_of: Report) -> None:
    report = report_of(believing('[\n"x-forwarded-prefix",\n"x-forwarded-port",\n"nonsense",\n"Forwarded",\n]'))
    assert (
        'server.toml:8: listeners.web.forwarded_headers[3]: "Forwarded" says the same as "x-forwarded-port", and a'
        " client would send the one that the proxies do not overwrite (expected the kind that they write, alone)"
    ) in report
    assert report.endswith("\n2 problems in server.toml")


@pytest.mark.parametrize(("written", "meant"), [("X-Forwarded-Fro", "x-forwarded-for"), ("FORWARD", "forwarded")])
def test_an_unknown_header_is_told_with_the_nearest_name(report_of: Report, written: str, meant: str) -> None:
    report = report_of(believing(f'["x-forwarded-prefix", "{written}"]'))
    assert f'server.toml:4: listeners.web.forwarded_headers[1]: "{written}" is not one of "forwarded", ' in report
    assert f'(did you mean "{meant}"?)' in report
    assert report.endswith("\n1 problem in server.toml")


@pytest.mark.parametrize("proxies", ["", "trusted_proxies = []\n"])
def test_headers_are_believed_of_somebody(report_of: Report, proxies: str) -> None:
    report = report_of(f'[listeners.web]\nbind = ":1"\nforwarded_headers = ["x-forwarded-for"]\n{proxies}{PONG}')
    assert report.startswith(
        "server.toml:3: listeners.web.forwarded_headers: has no effect without `trusted_proxies`, who alone are"
        " believed"
    )
    assert report.endswith("\n1 problem in server.toml")


@pytest.mark.parametrize("proxies", ['trusted_proxies = ["*"]', 'trusted_proxis = ["10.0.0.1"]'])
def test_headers_of_proxies_with_a_fault_are_not_called_without_effect(report_of: Report, proxies: str) -> None:
    report = report_of(f'[listeners.web]\nbind = ":1"\nforwarded_headers = ["forwarded"]\n{proxies}\n{PONG}')
    assert "has no effect" not in report
    assert report.endswith("\n1 problem in server.toml")


def test_a_network_from_a_variable_stays_hidden(report_of: Report) -> None:
    report = report_of(trusting('["${PROXY}"]'), PROXY="10.20.30.40/8")
    assert '"${PROXY}" is an address within a network, and could mean either (expected one of them)' in report
    assert "10.20" not in report
