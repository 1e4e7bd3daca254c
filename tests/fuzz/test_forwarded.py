"""No byte that an untrusted client sends changes who it is taken for: directly, or through trusted proxies.

The proxies are simulated as they are: they pass every field of the client on, and append to the one that they write,
in the same line or a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from serverd.protocol.forwarded import Origin, OriginReader, strip
from serverd.protocol.forwarded_field import parse_element, split_elements
from serverd.protocol.head import Fields, normalise_host
from serverd.protocol.trust import BELIEVABLE, Trust
from tests.support.fuzzing import examples

fuzzing = examples(400)

PROXIES = ["10.0.0.1", "10.0.0.2", "2001:db8:a::3"]
TRUSTED = ["10.0.0.0/8", "2001:db8:a::/48", "unix"]
CLIENTS = [("192.0.2.1", 5000), ("2001:db8::1", 5000), ("127.0.0.1", 5000)]

# What a client would send to be taken for another, and what breaks parsers.
PIECES = [
    *(b"9.9.9.9", b"10.0.0.1", b"127.0.0.1", b"[::1]:80", b'"[2001:db8:a::3]"', b"unix:", b"unknown", b"_x"),
    *(b"for=", b"For=", b"proto=", b"host=", b"by=", b"x=", b"https", b"http", b"evil.example", b"443", b"/evil"),
    *(b",", b", ", b";", b"; ", b'"', b'\\"', b"\\", b"\\,", b"=", b" ", b"\t", b":", b"[", b"]", b"\xff", b"\x80"),
]
value = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join).map(lambda text: text.strip(b" \t"))
name = st.sampled_from(
    [*BELIEVABLE, *BELIEVABLE, b"x_forwarded_for", b"x.forwarded.proto", b"x-real-ip", b"x-forwarded-ssl", b"x"]
)
sent = st.lists(st.tuples(name, value), max_size=6)


@dataclass(frozen=True)
class Appending:
    """How a chain of proxies hands on where a request comes from."""

    standard: bool  # Forwarded instead of X-Forwarded-*
    line: bool  # in a line of its own
    joins: bool  # all lines of a field become one before, as in most proxies
    quotes: bool  # also what would not need it

    @property
    def believed(self) -> list[bytes]:
        return [b"forwarded"] if self.standard else [b"x-forwarded-for", b"x-forwarded-proto"]

    def append(self, fields: Fields, name: bytes, value: bytes) -> Fields:
        """Return the fields with the value at the end of this one's list."""
        own = [field for other, field in fields if other == name]
        if not own or (self.line and not self.joins):
            return [*fields, (name, value)]
        others = [field for field in fields if field[0] != name]
        if self.line:
            return [*others, (name, b", ".join(own)), (name, value)]
        if self.joins:
            return [*others, (name, b", ".join([*own, value]))]
        last = max(number for number, field in enumerate(fields) if field[0] == name)
        return [*fields[:last], (name, fields[last][1] + b", " + value), *fields[last + 1 :]]

    def pass_on(self, fields: Fields, peer: tuple[str, int], scheme: str, outermost: bool) -> Fields:
        """Return the fields as a proxy with this peer sends them to the next hop."""
        host, port = peer
        if not self.standard:
            fields = self.append(fields, b"x-forwarded-for", host.encode())
            if outermost:  # the next one trusts it, and leaves it
                fields = [field for field in fields if field[0] != b"x-forwarded-proto"]
                fields = [*fields, (b"x-forwarded-proto", scheme.encode())]
            return fields
        node = f"[{host}]:{port}" if ":" in host else host
        if ":" in node or self.quotes:
            node = f'"{node}"'
        element = f"for={node};by=_edge;proto={scheme}"
        if self.quotes:
            element += ';secret="a, \\"b\\", c\\\\"'
        return self.append(fields, b"forwarded", element.encode())


appending = st.builds(Appending, st.booleans(), st.booleans(), st.booleans(), st.booleans())


def through(fields: Fields, client: tuple[str, int], scheme: str, hops: int, how: Appending) -> Origin:
    """Return what the server makes of a client's request that comes through this many trusted proxies."""
    peer = client
    for number, proxy in enumerate(PROXIES[:hops]):
        fields = how.pass_on(fields, peer, scheme if number == 0 else "http", number == 0)
        peer = (proxy, 40000)
    return OriginReader(Trust(TRUSTED, how.believed), peer, "http").read(fields)


@fuzzing
@given(sent, st.sampled_from(CLIENTS), st.sampled_from(["http", "https"]), st.integers(1, 3), appending)
def test_a_client_behind_trusted_proxies_cannot_choose_who_it_is(
    fields: Fields, client: tuple[str, int], scheme: str, hops: int, how: Appending
) -> None:
    honest = through([(b"host", b"a")], client, scheme, hops, how)
    assert honest.client is not None
    assert (honest.client[0], honest.scheme, honest.authority, honest.prefix) == (client[0], scheme, None, "")
    origin = through([(b"host", b"a"), *fields], client, scheme, hops, how)
    assert origin[:2] == honest[:2]
    assert (origin.authority, origin.prefix) == (None, "")
    # Nor is anything left of what the server could have believed, and does not.
    assert {field[0] for field in origin.fields if field[0] in BELIEVABLE} <= set(how.believed)


@fuzzing
@given(sent, st.sampled_from([*CLIENTS, None]), st.sampled_from(["http", "https"]))
def test_a_client_that_is_connected_directly_cannot_choose_who_it_is(
    fields: Fields, client: tuple[str, int] | None, scheme: str
) -> None:
    # Everything is believed of the proxies, of which the client is none.
    trust = Trust(["10.0.0.0/8"], [name for name in BELIEVABLE if name != b"forwarded"])
    origin = OriginReader(trust, client, scheme).read(fields)
    assert origin == Origin(client, scheme, [field for field in fields if field[0] == b"x"])
    assert strip(origin.fields) is origin.fields


@fuzzing
@given(sent, st.sampled_from([("10.0.0.1", 1), None]), st.booleans())
def test_whatever_a_trusted_proxy_sends_comes_out_in_good_form(
    fields: Fields, peer: tuple[str, int] | None, standard: bool
) -> None:
    believed = [b"forwarded", b"x-forwarded-prefix"] if standard else BELIEVABLE[1:]
    before = list(fields)
    origin = OriginReader(Trust(TRUSTED, believed), peer, "http").read(fields)
    assert fields == before
    if origin.client is not None:
        host, port = origin.client
        assert str(ip_address(host)) == host
        assert 0 <= port <= 65535
    assert origin.scheme in ("http", "https")
    assert origin.prefix == "" or (origin.prefix.startswith("/") and "//" not in origin.prefix)
    if origin.authority is not None:
        assert normalise_host(origin.authority)
        assert [field for field in origin.fields if field[0] == b"host"] == [(b"host", origin.authority)]


token = st.sampled_from([b"a", b"192.0.2.1", b"x-y", b"~"])
quoted = (
    st.text(st.sampled_from('a,;="\\ \t'), max_size=8)
    .map(lambda text: text.replace("\\", "\\\\").replace('"', '\\"').encode())
    .map(lambda text: b'"' + text + b'"')
)
element = st.tuples(token | quoted, token | quoted, token | quoted).map(lambda three: b"a=%b;b=%b;c=%b" % three)


@fuzzing
@given(st.lists(element, max_size=4), st.sampled_from([b",", b", ", b" ,\t"]))
def test_well_formed_elements_are_split_where_they_are_joined(elements: list[bytes], comma: bytes) -> None:
    split = list(split_elements(comma.join(elements)))
    assert split == elements[::-1]
    for text in split:
        pairs = parse_element(text)
        assert pairs is not None
        assert set(pairs) == {b"a", b"b", b"c"}
