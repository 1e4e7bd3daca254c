"""Addresses: what a bind entry names, and which of them clash."""

from __future__ import annotations

import pytest

from serverd.config.addresses import EVERY_PEER, clash, parse_address, parse_proxy
from serverd.config.values import Substituted
from serverd.generation import Address, AddressKind
from tests.support.every import every

TCP, UNIX, FD, SYSTEMD = AddressKind.TCP, AddressKind.UNIX, AddressKind.FD, AddressKind.SYSTEMD


@every(
    "expected",
    [
        Address(TCP, "127.0.0.1:8000", host="127.0.0.1", port=8000),
        Address(TCP, "[::1]:8000", host="::1", port=8000),
        Address(TCP, "[0:0::1]:8000", host="::1", port=8000),
        Address(TCP, "[fe80::1%eth0]:80", host="fe80::1%eth0", port=80),
        Address(TCP, ":8000", host="", port=8000),
        Address(TCP, "LocalHost:0", host="localhost", port=0),
        Address(TCP, "db_1.internal:65535", host="db_1.internal", port=65535),
        Address(UNIX, "unix:/run/x.sock", path="/run/x.sock"),
        Address(UNIX, "unix:x:y.sock", path="x:y.sock"),
        Address(FD, "fd:3", fd=3),
        Address(SYSTEMD, "systemd:web", name="web"),
        Address(SYSTEMD, "systemd:My Web/1.socket", name="My Web/1.socket"),
    ],
    ids=lambda address: address.text,
)
def test_an_address_is_read(expected: Address) -> None:
    assert parse_address(expected.text) == expected


@every(
    ("text", "wrong"),
    [
        ("65536", "has a port above 65535"),
        ("8000", r'is a port alone \(expected "127.0.0.1:8000", or ":8000" for every interface\)'),
        ("localhost", "has no port"),
        ("localhost:", "is not an address"),
        ("localhost:http", "is not an address"),
        ("localhost:٣", "is not an address"),
        ("localhost:65536", "above 65535"),
        ("localhost:800000", "is not an address"),
        ("::1:8000", "without brackets"),
        ("[::1", "without brackets|is not an address"),
        ("[x]:80", "no IPv6 address"),
        ("1.2.3:80", "no IPv4 address"),
        ("1.2.3.4.5:80", "no IPv4 address"),
        ("a b:80", "is not an address"),
        ("-a:80", "is not an address"),
        ("http://a:80", "is a URL"),
        ("unix:", "is empty"),
        ("unix:a\0", "control character"),
        ("fd:x", "is not an address"),
        ("fd:-1", "is not an address"),
        ("systemd:", "no name of a socket"),
        ("systemd:a:b", "no name of a socket"),
        ("systemd:a\n", "no name of a socket"),
        ("systemd:ä", "no name of a socket"),
        ("systemd:" + "x" * 256, "no name of a socket"),
        (8000, "is not a string"),
    ],
)
def test_what_is_no_address_is_refused(text: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_address(text)


@every(
    ("one", "other"),
    [
        (":8000", ":8000"),
        (":8000", "127.0.0.1:8000"),
        (":8000", "[::1]:8000"),
        (":8000", "example.com:8000"),
        ("0.0.0.0:8000", "127.0.0.1:8000"),
        ("[::]:8000", "[::1]:8000"),
        ("localhost:8000", "127.0.0.1:8000"),
        ("localhost:8000", "[::1]:8000"),
        ("example.com:8000", "EXAMPLE.com:8000"),
        ("unix:/x", "unix:/x"),
        ("fd:3", "fd:3"),
        ("systemd:web", "systemd:web"),
    ],
)
def test_addresses_clash_in_both_directions(one: str, other: str) -> None:
    assert clash(parse_address(one), parse_address(other))
    assert clash(parse_address(other), parse_address(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (":8000", ":8001"),
        (":0", ":0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:8000", "127.0.0.2:8000"),
        ("0.0.0.0:8000", "[::1]:8000"),
        ("0.0.0.0:8000", "[::]:8000"),
        ("unix:/x", "unix:/y"),
        ("fd:3", "fd:4"),
        ("fd:3", ":3"),
    ],
)
def test_addresses_do_not_clash(one: str, other: str) -> None:
    assert not clash(parse_address(one), parse_address(other))
    assert not clash(parse_address(other), parse_address(one))


# Proxies.


@every(
    ("written", "proxy"),
    [
        ("unix", "unix"),
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.7/32", "10.0.0.7"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::1", "::1"),
        ("FD00:0::/8", "fd00::/8"),
        ("2001:db8::7/128", "2001:db8::7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/64", "::/64"),
        (Substituted("10.0.0.0/8"), "10.0.0.0/8"),
    ],
)
def test_a_proxy_has_one_spelling(written: str, proxy: str) -> None:
    assert parse_proxy(written) == proxy
    assert type(parse_proxy(written)) is str
    assert parse_proxy(proxy) == proxy


def test_every_peer_is_spelled_as_proxies_are() -> None:
    assert tuple(map(parse_proxy, EVERY_PEER)) == EVERY_PEER


@every(
    ("written", "wrong"),
    [
        ("*", "would let every client say on whose behalf"),
        ("10.0.0.1/8", r'expected one of them: the network "10\.0\.0\.0/8", or the address "10\.0\.0\.1"\)'),
        ("fd00::1/8", r'the network "fd00::/8", or the address "fd00::1"'),
        ("::ffff:10.0.0.1/104", "an address within a network"),
        ("0.0.0.0", "that no peer has"),
        ("::/128", "that no peer has"),
        ("::ffff:0.0.0.0", "that no peer has"),
        ("10.0.0.1:8000", "port or brackets"),
        ("[::1]", "port or brackets"),
        ("[::1]:80", "port or brackets"),
        ("fe80::1%eth0", "holds a zone"),
        ("fe80::%eth0/64", "neither an address nor a network|holds a zone"),
        ("10.0.0.0/33", "expected 0 to 32"),
        ("fd00::/129", "expected 0 to 128"),
        ("10.0.0.0/", "no prefix length"),
        ("10.0.0.0/08", "no prefix length"),
        ("10.0.0.0/-1", "no prefix length"),
        ("10.0.0.0/+8", "no prefix length"),
        ("10.0.0.0/\u0668", "no prefix length"),
        ("10.0.0.0/255.0.0.0", "no prefix length"),
        ("10.0.0.0/8/8", "no prefix length"),
        ("10.0.0", "neither an address"),
        ("010.0.0.1", "neither an address"),
        ("10.0.0.1 ", "neither an address"),
        ("\u0661\u0660.0.0.1", "neither an address"),
        ("167772161", "neither an address"),
        ("localhost", "names are not looked up"),
        ("UNIX", "neither an address"),
        ("unix:/run/x.sock", "neither an address"),
        ("/8", "neither an address"),
        ("", "neither an address"),
        (167772161, "is not a string"),
        (True, "is not a string"),
        (None, "is not a string"),
    ],
)
def test_what_is_no_proxy_is_refused(written: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_proxy(written)


def test_a_network_from_a_variable_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"\(expected one of them\)$"):
        parse_proxy(Substituted("10.0.0.1/8"))
