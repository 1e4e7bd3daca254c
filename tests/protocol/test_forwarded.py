"""Where a request comes from: who is trusted, what is believed of whom, and what an application gets to see."""

from __future__ import annotations

import sys

import pytest

from serverd.protocol.forwarded import ALIASES, Client, Origin, OriginReader, replace_host, resolve, strip
from serverd.protocol.head import Fields
from serverd.protocol.trust import BELIEVABLE, BELIEVED, Node, Trust
from tests.support.every import every

PROXY = ("10.0.0.1", 40000)
TRUSTED = ["10.0.0.0/8", "2001:db8:a::/48", "unix"]
HOST = (b"host", b"inner")
XFF, XFP, XFH, XFPORT, PREFIX, FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"forwarded",
)
EVERYTHING = Trust(TRUSTED, [XFF, XFP, XFH, XFPORT, PREFIX])
STANDARD = Trust(TRUSTED, [FORWARDED, PREFIX])


def client_by(*chain: bytes, peer: Client = PROXY) -> Client:
    """Return the client by X-Forwarded-For, in as many lines."""
    return resolve([(XFF, line) for line in chain], peer, "http", EVERYTHING).client


def by_forwarded(*lines: bytes, trust: Trust = STANDARD) -> Origin:
    return resolve([HOST, *((FORWARDED, line) for line in lines)], PROXY, "http", trust)


# Trust.


@every(
    ("entries", "host", "trusted"),
    [
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "11.1.2.3", False),
        (["::ffff:10.0.0.1"], "10.0.0.1", True),
        (["::1"], "::1", True),
        (["::1"], "0:0:0:0:0:0:0:1", True),
        (["::1"], "127.0.0.1", False),
        (["::/0"], "10.0.0.1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["fe80::/10"], "febf::1", True),
        (["fe80::/10"], "fec0::1", False),
        (["unix"], None, True),
        (["10.0.0.0/8"], None, False),
        (["unix"], "127.0.0.1", False),
        (["unix"], "", False),
        (["0.0.0.0/0", "::/0", "unix"], "a.example", False),
        ([], "127.0.0.1", False),
        ([], None, False),
    ],
)
def test_who_is_covered_by_an_entry_is_trusted(entries: list[str], host: str | None, trusted: bool) -> None:
    trust = Trust(entries)
    assert trust.is_trusted(host) is trusted
    assert trust.is_trusted(host) is trusted  # as remembered


@pytest.mark.parametrize(("entries", "any_one"), [([], False), (["unix"], True), (["::1"], True)])
def test_trust_is_true_when_it_trusts_anybody(entries: list[str], any_one: bool) -> None:
    assert bool(Trust(entries)) is any_one


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "localhost", "", "10.0.0", "*", "Unix", "10.0.0.0/33"])
def test_an_entry_that_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Trust([entry])


@pytest.mark.parametrize(
    "believed",
    [[FORWARDED, XFF], [FORWARDED, XFP], [FORWARDED, XFH], [FORWARDED, XFPORT], [b"x-real-ip"], [b"X-Forwarded-For"]],
)
def test_fields_that_contradict_each_other_or_are_unknown_are_refused(believed: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"forwarded|x-real-ip|X-Forwarded-For"):
        Trust(["::1"], believed)


def test_what_a_peer_can_make_trust_remember_is_bounded() -> None:
    trust = Trust(TRUSTED)
    for number in range(5000):
        address = f"198.51.{number // 250}.{number % 250}"
        assert not trust.is_trusted(address)
        assert trust.read_node(address.encode()) == Node(address, 0, False)
    assert trust.read_node(b"x" * 10_000) is None
    assert len(trust._hosts) <= 1024
    assert len(trust._nodes) <= 1024
    assert max(map(len, trust._nodes)) < 100


@every(
    ("text", "node"),
    [
        (b"192.0.2.1", ("192.0.2.1", 0)),
        (b"192.0.2.1:80", ("192.0.2.1", 80)),
        (b"192.0.2.1:65535", ("192.0.2.1", 65535)),
        (b"192.0.2.1:_x.y-z_1", ("192.0.2.1", 0)),
        (b"2001:DB8::0:1", ("2001:db8::1", 0)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        (b"[2001:db8:0:0:0:0:0:1]:_p", ("2001:db8::1", 0)),
        (b"::ffff:192.0.2.1", ("192.0.2.1", 0)),
        (b"::ffff:c000:201", ("192.0.2.1", 0)),
        (b"[::ffff:192.0.2.1]:80", ("192.0.2.1", 80)),
        (b"192.0.2.1:65536", None),
        (b"192.0.2.1:", None),
        (b"192.0.2.1:x", None),
        (b"192.0.2.1:80:80", None),
        (b"192.0.2.01", None),
        (b"192.0.2", None),
        (b"192.0.2.256", None),
        (b"[192.0.2.1]", None),
        (b"[2001:db8::1", None),
        (b"2001:db8::1]", None),
        (b"[2001:db8::1]80", None),
        (b"fe80::1%eth0", None),
        (b"[fe80::1%25eth0]", None),
        (b"1:2:3:4:5:6:7:8:9", None),
        (b"unknown", None),
        (b"_hidden", None),
        (b"_SEVKISEK", None),
        (b'"192.0.2.1"', None),
        (b"192.0.2.1 ", None),
        (b"192.0.2.1\x00", None),
        (b"a.example", None),
        (b"3221225985", None),
        (b"0x7f000001", None),
        (b"\xb2.0.2.1", None),
        (b"", None),
    ],
)
def test_a_node_is_an_address_with_or_without_port(text: bytes, node: tuple[str, int] | None) -> None:
    assert Trust([]).read_node(text) == (None if node is None else Node(*node, False))


# X-Forwarded-For: the right-most address that is not a trusted proxy.


@every(
    ("chain", "client"),
    [
        pytest.param([b"192.0.2.1"], ("192.0.2.1", 0), id="one"),
        pytest.param([b"192.0.2.1:5000"], ("192.0.2.1", 5000), id="with port"),
        pytest.param([b"[2001:db8::1]:5000"], ("2001:db8::1", 5000), id="IPv6 with port"),
        pytest.param([b"2001:db8::1"], ("2001:db8::1", 0), id="IPv6"),
        pytest.param([b"203.0.113.9, 192.0.2.1"], ("192.0.2.1", 0), id="what the client sent"),
        pytest.param([b"192.0.2.1, 10.1.1.1, 2001:db8:a::1"], ("192.0.2.1", 0), id="past trusted hops"),
        pytest.param([b"203.0.113.9,10.9.9.9,192.0.2.1,10.1.1.1"], ("192.0.2.1", 0), id="forged trusted hop"),
        pytest.param([b"203.0.113.9", b"192.0.2.1"], ("192.0.2.1", 0), id="two lines"),
        pytest.param([b"203.0.113.9, 192.0.2.1", b"10.1.1.1"], ("192.0.2.1", 0), id="two lines with a hop"),
        pytest.param([b", 192.0.2.1 ,\t,"], ("192.0.2.1", 0), id="empty elements"),
        pytest.param([b"10.3.3.3, 10.2.2.2"], ("10.3.3.3", 0), id="all trusted"),
        pytest.param([b"192.0.2.1, unix:"], ("192.0.2.1", 0), id="trusted unix hop"),
        pytest.param([b"unix:"], None, id="from a unix socket"),
        pytest.param([b"192.0.2.1, unknown"], PROXY, id="unknown"),
        pytest.param([b"192.0.2.1, unknown, 10.1.1.1"], ("10.1.1.1", 0), id="unknown behind a hop"),
        pytest.param([b"192.0.2.1, _hidden"], PROXY, id="obfuscated"),
        pytest.param([b"192.0.2.1, 10.1.1.1:x"], PROXY, id="garbage after an address"),
        pytest.param([b"192.0.2.1; 10.1.1.1"], PROXY, id="wrong separator"),
        pytest.param([b"192.0.2.1 10.1.1.1"], PROXY, id="no separator"),
        pytest.param([b'"192.0.2.1"'], PROXY, id="quoted"),
        pytest.param([b""], PROXY, id="empty"),
        pytest.param([b"\xff" * 10_000], PROXY, id="10 kB of garbage"),
        pytest.param([b"203.0.113.9, " * 800 + b"192.0.2.1"], ("192.0.2.1", 0), id="10 kB of addresses"),
        pytest.param([b"10.2.2.2, " * 1000 + b"10.1.1.1"], ("10.2.2.2", 0), id="10 kB of trusted hops"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_trusted(chain: list[bytes], client: Client) -> None:
    assert client_by(*chain) == client


def test_a_peer_on_a_trusted_unix_socket_is_believed() -> None:
    assert client_by(b"192.0.2.1", peer=None) == ("192.0.2.1", 0)
    assert OriginReader(EVERYTHING, None, "http").read([(XFF, b"192.0.2.1")]).client == ("192.0.2.1", 0)


def test_a_unix_hop_that_is_not_trusted_is_the_client() -> None:
    trust = Trust(["10.0.0.0/8"])
    assert resolve([(XFF, b"192.0.2.1, unix:")], PROXY, "http", trust).client is None


# X-Forwarded-Proto, -Host, -Port, -Prefix.


@every(
    ("value", "scheme"),
    [
        (b"https", "https"),
        (b"HTTPS", "https"),
        (b"wss", "https"),
        (b"http", "http"),
        (b"ws", "http"),
        (b"http, https", "https"),
        (b"https, http", "http"),
        (b"https,", "http"),
        (b"ftp", "http"),
        (b"https;", "http"),
        (b'"https"', "http"),
        (b"https http", "http"),
        (b"", "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(value: bytes, scheme: str) -> None:
    assert resolve([(XFP, value)], PROXY, "http", EVERYTHING).scheme == scheme


def test_the_scheme_may_also_be_less_than_that_of_the_connection() -> None:
    assert resolve([(XFP, b"http")], PROXY, "https", EVERYTHING).scheme == "http"
    assert resolve([(XFP, b"gopher")], PROXY, "https", EVERYTHING).scheme == "https"
    assert resolve([], PROXY, "https", EVERYTHING).scheme == "https"


@every(
    ("said", "authority"),
    [
        pytest.param([(XFH, b"shop.example")], b"shop.example", id="host"),
        pytest.param([(XFH, b"shop.example:8443")], b"shop.example:8443", id="host with port"),
        pytest.param([(XFH, b"[2001:db8::1]:8443")], b"[2001:db8::1]:8443", id="IPv6 with port"),
        pytest.param([(XFH, b"evil.example, shop.example")], b"shop.example", id="list"),
        pytest.param([(XFH, b"evil.example"), (XFH, b"shop.example")], b"shop.example", id="lines"),
        pytest.param([(XFPORT, b"8080")], b"inner:8080", id="port of the own host"),
        pytest.param([(XFPORT, b"80")], b"inner", id="default port of the own host"),
        pytest.param([(XFPORT, b"443"), (XFP, b"https")], b"inner", id="default port of https"),
        pytest.param([(XFPORT, b"443")], b"inner:443", id="port of https in http"),
        pytest.param([(XFH, b"shop.example:1"), (XFPORT, b"2")], b"shop.example:2", id="port beside a port"),
        pytest.param([(XFH, b"[::1]:1"), (XFPORT, b"2")], b"[::1]:2", id="port of IPv6 beside a port"),
        pytest.param([(XFH, b"[::1]"), (XFPORT, b"2")], b"[::1]:2", id="port of IPv6"),
        pytest.param([(XFH, b"bad host"), (XFPORT, b"8080")], b"inner:8080", id="bad host with a port"),
    ],
)
def test_a_believed_host_takes_the_place_of_host(said: Fields, authority: bytes) -> None:
    fields = [(b"accept", b"*/*"), HOST, *said]
    origin = resolve(fields, PROXY, "http", EVERYTHING)
    assert origin.authority == authority
    assert origin.fields == [(b"host", authority), (b"accept", b"*/*"), *said]
    assert fields[1] == HOST  # the decoder keeps its list


@every(
    "said",
    [
        *(
            pytest.param([(XFH, value)], id=repr(value))
            for value in (
                b"",
                b"a b",
                b"a/b",
                b"a@b",
                b"a,",
                b".",
                b":80",
                b"a:",
                b"a:0",
                b"a:080",
                b"a:65536",
                b"a:b",
                b"[::1",
                b"[1.2.3.4]",
                b"\xff",
                b"a:80:80",
            )
        ),
        *(
            pytest.param([(XFPORT, value)], id=f"port {value!r}")
            for value in (b"0", b"65536", b"080", b"-1", b"+1", b"8 0", b"x", b"99999999", b"")
        ),
    ],
)
def test_a_host_or_port_outside_the_grammar_counts_as_absent(said: Fields) -> None:
    fields = [HOST, *said]
    assert resolve(fields, PROXY, "http", EVERYTHING) == Origin(PROXY, "http", fields)


def test_a_port_without_any_host_counts_as_absent() -> None:
    fields = [(XFPORT, b"8080")]
    assert resolve(fields, PROXY, "http", EVERYTHING) == Origin(PROXY, "http", fields)


@every(
    ("value", "prefix"),
    [
        (b"/shop", "/shop"),
        (b"/shop/", "/shop"),
        (b"/a/b.c/~d", "/a/b.c/~d"),
        (b"/...", "/..."),
        (b"/evil, /shop", "/shop"),
        (b"/", ""),
        (b"", ""),
        (b"shop", ""),
        (b"//evil.example", ""),
        (b"/a//b", ""),
        (b"/a//", ""),
        (b"/.", ""),
        (b"/..", ""),
        (b"/a/../b", ""),
        (b"/a/./b", ""),
        (b"/a/..", ""),
        (b"/%2e%2e", ""),
        (b"/a?b", ""),
        (b"/a#b", ""),
        (b"/a\\b", ""),
        (b"/a b", ""),
        (b"/a\x00", ""),
        (b"/a\tb", ""),
        (b"/\xc3\xa9", ""),
        (b"https://evil.example/", ""),
        (b"/" + b"a" * 300, ""),
    ],
)
def test_a_prefix_is_a_clean_absolute_path(value: bytes, prefix: str) -> None:
    for trust in (EVERYTHING, STANDARD):
        assert resolve([(PREFIX, value)], PROXY, "http", trust).prefix == prefix


# Forwarded (RFC 7239).


@every(
    ("lines", "client", "scheme", "authority"),
    [
        pytest.param([b'for="_gazonk"'], PROXY, "http", None, id="§4, obfuscated"),
        pytest.param([b'For="[2001:db8:cafe::17]:4711"'], ("2001:db8:cafe::17", 4711), "http", None, id="§4, IPv6"),
        pytest.param([b"for=192.0.2.60;proto=http;by=203.0.113.43"], ("192.0.2.60", 0), "http", None, id="§4, all"),
        pytest.param([b"for=192.0.2.43, for=198.51.100.17"], ("198.51.100.17", 0), "http", None, id="§4, two"),
        pytest.param([b"for=192.0.2.43", b"for=198.51.100.17"], ("198.51.100.17", 0), "http", None, id="lines"),
        pytest.param([b"for=192.0.2.43,for=10.1.1.1;by=_x"], ("192.0.2.43", 0), "http", None, id="past a trusted hop"),
        pytest.param([b'FOR="192.0.2.1:80";PROTO="https"'], ("192.0.2.1", 80), "https", None, id="quoted"),
        pytest.param([b'for="192\\.0.2\\.1"'], ("192.0.2.1", 0), "http", None, id="escapes"),
        pytest.param(
            [b"for=192.0.2.1;host=shop.example:8443;proto=https"],
            ("192.0.2.1", 0),
            "https",
            b"shop.example:8443",
            id="host",
        ),
        pytest.param([b'for=192.0.2.1;host="[::1]:80"'], ("192.0.2.1", 0), "http", b"[::1]:80", id="quoted host"),
        pytest.param([b'for=192.0.2.1;host="a,b"'], ("192.0.2.1", 0), "http", None, id="bad host"),
        pytest.param([b"for=192.0.2.1;proto=gopher"], ("192.0.2.1", 0), "http", None, id="bad scheme"),
        pytest.param([b"for=[2001:db8::1]:80; proto=https "], ("2001:db8::1", 80), "https", None, id="lenient"),
        pytest.param([b"for=192.0.2.1;;proto=https;"], ("192.0.2.1", 0), "https", None, id="empty pairs"),
        pytest.param([b",, for=192.0.2.1 , ,"], ("192.0.2.1", 0), "http", None, id="empty elements"),
        pytest.param(
            [b"for=9.9.9.9;proto=http, for=192.0.2.1;proto=https;host=a, for=10.1.1.1;proto=http;host=b"],
            ("192.0.2.1", 0),
            "https",
            b"a",
            id="parameters of the hop that saw the client",
        ),
        pytest.param(
            [b"for=192.0.2.1, for=10.1.1.1;proto=https;host=b"],
            ("192.0.2.1", 0),
            "https",
            b"b",
            id="parameters of an inner hop where the outer is silent",
        ),
        pytest.param([b"for=192.0.2.1, proto=https"], PROXY, "https", None, id="no address"),
        pytest.param([b"for=192.0.2.1, for=unknown;proto=https"], PROXY, "https", None, id="unknown"),
        pytest.param([b"for=192.0.2.1, for=a b;proto=https"], PROXY, "http", None, id="malformed as a whole"),
        pytest.param([b"proto=https;for=192.0.2.1 x"], PROXY, "http", None, id="malformed at its end"),
        pytest.param([b"for=192.0.2.1;for=192.0.2.2"], PROXY, "http", None, id="twice"),
        pytest.param([b"for=192.0.2.1;For=192.0.2.1"], PROXY, "http", None, id="twice in other case"),
        pytest.param([b"for = 192.0.2.1"], PROXY, "http", None, id="space around the equals sign"),
        pytest.param([b'for="192.0.2.1'], PROXY, "http", None, id="open quote"),
        pytest.param([b'for="192.0.2.1"x'], PROXY, "http", None, id="text behind a quote"),
        pytest.param([b"192.0.2.1"], PROXY, "http", None, id="no pair"),
        pytest.param([b'x="for=9.9.9.9, for=9.9.9.9";for=192.0.2.1'], ("192.0.2.1", 0), "http", None, id="comma"),
        pytest.param([b'x="\\", for=9.9.9.9";for=192.0.2.1'], ("192.0.2.1", 0), "http", None, id="escaped quote"),
        pytest.param([b'x="\\\\";for=192.0.2.1'], ("192.0.2.1", 0), "http", None, id="escaped backslash"),
        # What a client leaves open must not swallow what the proxy appends.
        pytest.param([b'for="9.9.9.9, for=192.0.2.1'], ("192.0.2.1", 0), "http", None, id="client's quote"),
        pytest.param([b'x="\\, for=192.0.2.1'], ("192.0.2.1", 0), "http", None, id="client's backslash"),
        pytest.param(
            [b'for=9.9.9.9;x=", for="192.0.2.1:80";proto=https'],
            ("192.0.2.1", 80),
            "https",
            None,
            id="client's quote before a quoted address",
        ),
        pytest.param([b'"' * 9999 + b', for="192.0.2.1"'], ("192.0.2.1", 0), "http", None, id="10 kB of quotes"),
        pytest.param([b"," * 9999 + b"for=192.0.2.1"], ("192.0.2.1", 0), "http", None, id="10 kB of commas"),
        pytest.param([b""], PROXY, "http", None, id="empty"),
    ],
)
def test_forwarded_is_read_from_its_right_end(
    lines: list[bytes], client: Client, scheme: str, authority: bytes | None
) -> None:
    origin = by_forwarded(*lines)
    assert (origin.client, origin.scheme, origin.authority) == (client, scheme, authority)
    host = authority or HOST[1]
    assert origin.fields == [(b"host", host), *((FORWARDED, line) for line in lines)]


# What the peer is not believed.


def test_of_a_trusted_peer_only_the_fields_that_its_operator_named_are_believed() -> None:
    evil = [
        (FORWARDED, b"for=9.9.9.9;proto=https;host=evil.example"),
        (XFH, b"evil.example"),
        (XFPORT, b"1"),
        (PREFIX, b"/evil"),
    ]
    good = [(XFF, b"192.0.2.1"), (XFP, b"https")]
    rest = [HOST, (b"x-real-ip", b"192.0.2.1"), (b"x-forwarded-server", b"edge")]
    trust = Trust(TRUSTED)
    assert trust.believed == frozenset(BELIEVED)
    origin = resolve([*evil, *good, *rest], PROXY, "http", trust)
    assert origin == Origin(("192.0.2.1", 0), "https", [*good, *rest])

    standard = Trust(TRUSTED, [FORWARDED])
    forged = [(XFF, b"9.9.9.9"), (XFP, b"https"), (XFH, b"evil.example"), (XFPORT, b"1"), (PREFIX, b"/evil")]
    origin = resolve([*forged, HOST, (FORWARDED, b"for=192.0.2.1")], PROXY, "http", standard)
    assert origin == Origin(("192.0.2.1", 0), "http", [HOST, (FORWARDED, b"for=192.0.2.1")])


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"x-forwarded_for", b"x.forwarded-for", b"x_forwarded.proto"])
def test_another_spelling_of_a_field_is_removed_even_from_a_trusted_peer(name: bytes) -> None:
    fields = [HOST, (name, b"9.9.9.9"), (XFF, b"192.0.2.1")]
    assert resolve(fields, PROXY, "http", EVERYTHING) == Origin(("192.0.2.1", 0), "http", [HOST, (XFF, b"192.0.2.1")])


def test_fields_of_a_trusted_peer_stay_as_they_are() -> None:
    fields = [HOST, (XFF, b"9.9.9.9, 192.0.2.1"), (XFP, b"https"), (b"true-client-ip", b"192.0.2.1")]
    assert resolve(fields, PROXY, "http", EVERYTHING).fields is fields


SPELLINGS = [
    name.replace(b"-", sign)
    for name in (*ALIASES, *BELIEVABLE, b"x-forwarded-anything", b"x-forwarded-user", b"x-forwarded-")
    for sign in (b"-", b"_", b".")
]


@every("name", sorted(set(SPELLINGS)))
def test_an_untrusted_peer_has_every_such_field_removed(name: bytes) -> None:
    fields = [HOST, (name, b"9.9.9.9"), (b"accept", b"*/*"), (name, b"https")]
    peer = ("192.0.2.1", 5)
    assert strip(fields) == [HOST, (b"accept", b"*/*")]
    assert OriginReader(EVERYTHING, peer, "http").read(fields) == Origin(peer, "http", [HOST, (b"accept", b"*/*")])
    assert len(fields) == 4


def test_other_fields_of_an_untrusted_peer_stay_in_the_same_list() -> None:
    names = (b"host", b"x-forwarde", b"x-forwardedfor", b"not-forwarded", b"via", b"x-request-id", b"from", b"x", b"x-")
    fields = [(name, b"1") for name in names]
    assert strip(fields) is fields
    assert strip([]) == []


@pytest.mark.parametrize("entries", [[], ["127.0.0.1"]])
def test_nobody_on_a_unix_socket_is_believed_unless_it_is_said(entries: list[str]) -> None:
    fields = [HOST, (XFF, b"192.0.2.1")]
    assert OriginReader(Trust(entries), None, "http").read(fields) == Origin(None, "http", [HOST])


def test_a_trusted_peer_that_speaks_for_somebody_unnamed_is_not_believed() -> None:
    fields = [HOST, (XFF, b"9.9.9.9")]
    assert OriginReader(EVERYTHING, PROXY, "http", trusted=False).read(fields) == Origin(PROXY, "http", [HOST])


def test_a_reader_remembers_the_list_that_it_read_and_no_other() -> None:
    reader = OriginReader(EVERYTHING, PROXY, "http")
    first = [HOST, (XFF, b"192.0.2.1")]
    second = [HOST, (XFF, b"192.0.2.2")]
    origin = reader.read(first)
    assert reader.read(first) is origin
    assert reader.read(second).client == ("192.0.2.2", 0)
    assert reader.read(list(second)).client == ("192.0.2.2", 0)
    assert reader.read(first) == origin


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([HOST, (XFF, b"192.0.2.1")] + [(b"x-%d" % number, b"v" * 100) for number in range(30)], True),
        ([HOST, (XFF, b"192.0.2.1"), (b"cookie", b"c" * 5000)], False),
        ([HOST, (XFF, b"192.0.2.1"), (b"x" * 5000, b"")], False),
        ([HOST, (XFF, b"192.0.2.1")] + [(b"x-%d" % number, b"") for number in range(50)], False),
    ],
)
def test_a_reader_keeps_nothing_of_a_large_head(fields: Fields, kept: bool) -> None:
    """Else an idle connection would keep as much as limits.header_size."""
    references = sys.getrefcount(fields)
    reader = OriginReader(EVERYTHING, PROXY, "http")
    assert reader.read(fields).client == ("192.0.2.1", 0)
    assert (sys.getrefcount(fields) > references) is kept


def test_host_is_replaced_or_put_in() -> None:
    fields = [(b"a", b"1"), HOST, (b"b", b"2")]
    assert replace_host(fields, b"x") == [(b"host", b"x"), (b"a", b"1"), (b"b", b"2")]
    assert replace_host([], b"x") == [(b"host", b"x")]
