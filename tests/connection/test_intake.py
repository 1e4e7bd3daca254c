"""From the bytes of a peer to what its application sees: whom a whole connection believes, and what of it.

What each field means is shown in tests/protocol/test_forwarded.py; here it is that a connection asks, for every
request, with the right peer.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Limits, Listener
from serverd.protocol.forwarded import ALIASES
from serverd.protocol.trust import BELIEVABLE
from tests.fuzz.grammar import damaged, message
from tests.support.applications import Recorder
from tests.support.every import every
from tests.support.fuzzing import examples
from tests.support.wire import PARSERS, TCP_ENDS, Wire

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))
X_HEADERS = tuple(name.decode() for name in BELIEVABLE if name != b"forwarded")
UNIX_ENDS = {"peername": "", "sockname": "/run/serverd.sock"}
PEER = TCP_ENDS["peername"]
CLAIMS = (
    "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n"
    "X-Forwarded-Port: 8443\r\nX-Forwarded-Prefix: /outside\r\nForwarded: for=203.0.113.9;proto=https\r\n"
    "X-Real-IP: 203.0.113.9\r\n"
)


class Scene:
    """A connection to an application that keeps its scopes, on a listener with these settings."""

    def __init__(
        self,
        *proxies: str,
        parser: str = "httptools",
        ends: dict[str, Any] = TCP_ENDS,
        endpoint: dict[str, Any] | None = None,
        headers: tuple[str, ...] = X_HEADERS,
        ambiguous: str = "drop",
    ) -> None:
        self.recorder = Recorder()
        inside = Endpoint(self.recorder, "inside", **(endpoint or {}))
        self.elsewhere = Recorder()
        router = Router(
            [Route((), "/", inside), Route(("shop.example",), "/", Endpoint(self.elsewhere, "shop"))],
            unmounted=Endpoint(builtin.not_found, "serverd"),
            unserved=Endpoint(builtin.misdirected, "serverd"),
            options=Endpoint(builtin.options, "serverd"),
        )
        self.wire = Wire(router, parser, ends=ends)
        self.wire.lose()
        self.adopt(*proxies, headers=headers, ambiguous=ambiguous)
        self.wire.connect()

    def adopt(self, *proxies: str, headers: tuple[str, ...] = X_HEADERS, ambiguous: str = "drop") -> None:
        """Take other settings, as by a reload."""
        service = self.wire.service
        listener = Listener(
            "web", (), 1, Limits(), trusted_proxies=proxies, forwarded_headers=headers, ambiguous_headers=ambiguous
        )
        service.adopt(service.router, listener, service.parser)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: Any) -> None:
        self.wire.__exit__(*error)

    def get(self, fields: str = "", target: str = "/x", version: str = "1.1", host: str = "a") -> dict[str, Any]:
        """Return the scope that a request makes, whoever gets it."""
        before = [len(recorder.scopes) for recorder in (self.recorder, self.elsewhere)]
        answer = self.wire.send(f"GET {target} HTTP/{version}\r\nHost: {host}\r\n{fields}\r\n".encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        made: list[dict[str, Any]] = [*self.recorder.scopes[before[0] :], *self.elsewhere.scopes[before[1] :]]
        assert len(made) == 1
        return made[0]


def names(scope: dict[str, Any]) -> list[bytes]:
    return [name for name, _ in scope["headers"]]


@EVERY_PARSER
class TestUntrusted:
    """RFC 7239 §8.1: what such a peer says is its own word."""

    @pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8",), ("unix",), ("127.0.0.2", "::1")])
    def test_nothing_it_says_is_believed_or_seen(self, parser: str, proxies: tuple[str, ...]) -> None:
        with Scene(*proxies, parser=parser) as scene:
            for _ in range(3):  # read, recalled, recalled
                scope = scene.get(CLAIMS + "X-Mine: 1\r\n")
                assert (scope["client"], scope["scheme"], scope["root_path"]) == (PEER, "http", "")
                assert (scope["path"], scope["raw_path"]) == ("/x", b"/x")
                assert scope["headers"] == [(b"host", b"a"), (b"x-mine", b"1")]

    def test_a_unix_peer_is_nobody_in_particular(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser, ends=UNIX_ENDS) as scene:
            scope = scene.get(CLAIMS)
            assert (scope["client"], scope["scheme"], names(scope)) == (None, "http", [b"host"])

    @pytest.mark.parametrize("proxies", [("unix",), ("unix", "0.0.0.0/0", "::/0")])
    def test_a_tcp_peer_whose_address_is_lost_is_not_taken_for_one_on_a_unix_socket(
        self, parser: str, proxies: tuple[str, ...]
    ) -> None:
        # uvloop cannot tell the address of a client that has reset its connection, and still reads what it sent.
        with Scene(*proxies, parser=parser, ends={**TCP_ENDS, "peername": None}) as scene:
            scope = scene.get(CLAIMS)
            assert (scope["client"], scope["scheme"], names(scope)) == (None, "http", [b"host"])

    def test_it_cannot_choose_the_scheme_by_an_absolute_target(self, parser: str) -> None:
        with Scene(parser=parser) as scene:
            assert scene.get(target="https://a/x")["scheme"] == "http"

    def test_a_believed_host_of_its_own_leads_nowhere(self, parser: str) -> None:
        with Scene(parser=parser) as scene:
            scene.get("X-Forwarded-Host: shop.example\r\n")
            assert not scene.elsewhere.scopes

    @every("name", [*ALIASES, *BELIEVABLE, b"x-forwarded-anything"])
    def test_no_spelling_of_a_name_gets_through(self, parser: str, name: bytes) -> None:
        text = name.decode()
        spellings = {text, text.upper(), text.title(), text.replace("-", "_"), text.replace("-", ".")}
        with Scene(parser=parser, ambiguous="pass") as scene:
            for spelling in sorted(spellings):
                assert names(scene.get(f"{spelling}: 203.0.113.9\r\n")) == [b"host"], spelling

    def test_trailers_say_nothing(self, parser: str) -> None:
        request = (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n"
            b"X-Forwarded-For: 203.0.113.9\r\nX_Forwarded_Proto: https\r\n\r\n"
        )
        for proxies, ambiguous in (((), "drop"), (("127.0.0.1",), "pass"), ((), "refuse")):
            with Scene(*proxies, parser=parser, ambiguous=ambiguous) as scene:
                assert scene.wire.send(request).startswith(b"HTTP/1.1 200 ")
                [scope] = scene.recorder.scopes
                assert (scope["client"], scope["scheme"]) == (PEER, "http")
                assert names(scope) == [b"host", b"transfer-encoding"]


@EVERY_PARSER
class TestTrusted:
    @pytest.mark.parametrize(
        ("proxies", "ends"),
        [
            (("127.0.0.1",), TCP_ENDS),
            (("127.0.0.0/8",), TCP_ENDS),
            (("::1",), {"peername": ("::1", 5, 0, 0), "sockname": ("::1", 80, 0, 0)}),
            (("10.1.0.0/16",), {"peername": ("::ffff:10.1.2.3", 5, 0, 0), "sockname": ("::ffff:10.1.2.3", 8, 0, 0)}),
            (("unix",), UNIX_ENDS),
        ],
    )
    def test_it_is_believed_for_each_request_anew(self, parser: str, proxies: tuple[str, ...], ends: Any) -> None:
        with Scene(*proxies, parser=parser, ends=ends) as scene:
            direct = scene.get()["client"]
            for number in (1, 1, 2, 2):  # recalled as a whole, then with other fields
                scope = scene.get(f"X-Forwarded-For: 203.0.113.{number}\r\nX-Forwarded-Proto: https\r\n")
                assert (scope["client"], scope["scheme"]) == ((f"203.0.113.{number}", 0), "https")
                # The same fields with another request line, which is not read anew.
                scope = scene.get(f"X-Forwarded-For: 203.0.113.{number}\r\nX-Forwarded-Proto: https\r\n", "/other")
                assert (scope["client"], scope["scheme"]) == ((f"203.0.113.{number}", 0), "https")
            scope = scene.get()
            assert (scope["client"], scope["scheme"]) == (direct, "http")

    def test_routing_and_application_see_the_host_that_is_believed(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser) as scene:
            for _ in range(2):
                scope = scene.get("X-Forwarded-Host: Shop.Example.\r\nX-Forwarded-Port: 8443\r\n")
            assert len(scene.elsewhere.scopes) == 2
            assert dict(scope["headers"])[b"host"] == b"Shop.Example.:8443"
            assert names(scope).count(b"host") == 1

    def test_a_host_of_the_target_is_overridden_too(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser) as scene:
            scope = scene.get("X-Forwarded-Host: shop.example\r\n", "http://b/x")
            assert len(scene.elsewhere.scopes) == 1
            assert dict(scope["headers"])[b"host"] == b"shop.example"

    def test_a_host_is_found_where_http_1_0_has_none(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser) as scene:
            scene.wire.send(b"GET / HTTP/1.0\r\nX-Forwarded-Host: shop.example\r\n\r\n")
            assert [dict(scope["headers"])[b"host"] for scope in scene.elsewhere.scopes] == [b"shop.example"]

    @pytest.mark.parametrize(
        ("endpoint", "root_path", "path"),
        [
            ({}, "/outside", "/outside/shop/x"),
            ({"root_path": "/shop"}, "/outside/shop", "/outside/shop/x"),
            ({"strip": "/shop"}, "/outside", "/outside/x"),
        ],
    )
    def test_a_prefix_belongs_before_root_path_and_path(
        self, parser: str, endpoint: dict[str, str], root_path: str, path: str
    ) -> None:
        with Scene("127.0.0.1", parser=parser, endpoint=endpoint) as scene:
            for _ in range(2):
                scope = scene.get("X-Forwarded-Prefix: /outside/\r\n", "/shop/x")
                assert (scope["root_path"], scope["path"]) == (root_path, path)
                assert scope["raw_path"] == b"/outside/shop/x"
                assert scope["path"].startswith(scope["root_path"])

    def test_a_prefix_changes_nothing_about_the_route(self, parser: str) -> None:
        recorder, other = Recorder(), Recorder()
        table = Router(
            [Route((), "/", Endpoint(recorder, "root")), Route((), "/admin", Endpoint(other, "admin"))],
            *(Endpoint(app, "serverd") for app in (builtin.not_found, builtin.misdirected, builtin.options)),
        )
        with Scene("127.0.0.1", parser=parser) as scene:
            scene.wire.service.router = table
            scene.wire.send(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /admin\r\n\r\n")
            assert len(recorder.scopes) == 1
            assert not other.scopes

    def test_what_is_not_among_its_headers_is_removed(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser, headers=("x-forwarded-for",)) as scene:
            scope = scene.get(CLAIMS)
            assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 0), "http")
            assert names(scope) == [b"host", b"x-forwarded-for", b"x-real-ip"]

    def test_the_scope_of_one_request_is_not_that_of_the_next(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser) as scene:
            first = scene.get(CLAIMS)
            expected = list(first["headers"])
            first["headers"].clear()
            first["headers"].append((b"x-forged", b"1"))
            assert scene.get(CLAIMS)["headers"] == expected

    def test_pipelined_requests_have_each_their_own_client(self, parser: str) -> None:
        with Scene("127.0.0.1", parser=parser) as scene:
            requests = [
                f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{number}\r\n\r\n" for number in (1, 2, 2, 3)
            ]
            scene.wire.send("".join(requests).encode())
            assert [scope["client"][0][-1] for scope in scene.recorder.scopes] == ["1", "2", "2", "3"]


class TestReload:
    """Whom to believe is decided when a connection is opened."""

    def test_a_connection_goes_on_by_the_measure_it_began_with_and_the_next_by_the_new_one(self) -> None:
        with Scene() as scene:
            scene.adopt("127.0.0.1")
            assert scene.get(CLAIMS)["client"] == PEER
            scene.wire.lose()
            scene.wire.connect()
            assert scene.get(CLAIMS)["client"] == ("203.0.113.9", 0)
            scene.adopt()
            assert scene.get(CLAIMS)["client"] == ("203.0.113.9", 0)
            scene.wire.lose()
            scene.wire.connect()
            assert scene.get(CLAIMS)["client"] == PEER

    def test_the_rule_for_ambiguous_names_too(self) -> None:
        with Scene() as scene:
            scene.adopt(ambiguous="pass")
            assert names(scene.get("A_B: 1\r\n")) == [b"host"]
            scene.wire.lose()
            scene.wire.connect()
            assert names(scene.get("A_B: 1\r\n")) == [b"host", b"a_b"]


@EVERY_PARSER
class TestAmbiguousNames:
    FIELDS = "A_B: 1\r\nC.D: 2\r\nE-F: 3\r\n"

    @pytest.mark.parametrize(
        ("rule", "expected"), [("drop", [b"host", b"e-f"]), ("pass", [b"host", b"a_b", b"c.d", b"e-f"])]
    )
    def test_they_are_dropped_or_passed(self, parser: str, rule: str, expected: list[bytes]) -> None:
        with Scene(parser=parser, ambiguous=rule) as scene:
            assert [names(scene.get(self.FIELDS)) for _ in range(3)] == [expected] * 3

    @every("slowly", [False, True])
    @every("name", ["A_B", "A.B", "_", ".", "Content_Length", "X_Forwarded_For"])
    def test_they_are_refused(self, parser: str, name: str, slowly: bool) -> None:
        with Scene(parser=parser, ambiguous="refuse") as scene:
            request = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\n\r\n".encode()
            answer = scene.wire.send_slowly(request) if slowly else scene.wire.send(request)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert scene.wire.closed
            assert not scene.recorder.scopes

    @every("rule", ["drop", "pass"])
    @every("field", ["Transfer_Encoding: chunked", "Content_Length: 5", "Connection_: close"])
    def test_they_never_frame(self, parser: str, rule: str, field: str) -> None:
        with Scene(parser=parser, ambiguous=rule) as scene:
            scene.get(field + "\r\n")
            scene.get()  # the connection goes on where the head ended
            assert scene.recorder.bodies == [b"", b""]

    @pytest.mark.parametrize("rule", ["drop", "pass", "refuse"])
    def test_in_trailers_they_reach_nobody(self, parser: str, rule: str) -> None:
        with Scene(parser=parser, ambiguous=rule) as scene:
            request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA_B: 1\r\n\r\n"
            assert scene.wire.send(request).startswith(b"HTTP/1.1 200 ")
            assert names(scene.recorder.scopes[0]) == [b"host", b"transfer-encoding"]
            scene.get()


# What an untrusted client may try

notable_names = st.sampled_from([*BELIEVABLE, *ALIASES, b"x-forwarded-ssl"]).flatmap(
    lambda name: st.sampled_from([name, name.upper(), name.title(), name.replace(b"-", b"_"), name.replace(b"-", b".")])
)
claims = st.sampled_from(
    [
        b"203.0.113.9",
        b"203.0.113.9, 127.0.0.1",
        b"[2001:db8::1]:443",
        b"https",
        b"wss",
        b"for=203.0.113.9;proto=https",
        b"unix:",
        b"443",
        b"on",
        b"",
    ]
)
values = claims | st.binary(max_size=20)
forgery = st.lists(st.tuples(notable_names, values), min_size=1, max_size=4).map(
    lambda fields: b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
)
proxy_header = st.sampled_from(
    [
        b"PROXY TCP4 203.0.113.9 203.0.113.8 1 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(range(12)),
    ]
)
absolute = st.just(b"GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n")
honest = st.just(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\n\r\n")
requests = st.lists(forgery | absolute | honest | proxy_header | message | damaged(), min_size=1, max_size=5)
LISTENERS = [
    ((), TCP_ENDS),
    (("10.0.0.0/8", "unix"), TCP_ENDS),
    (("unix",), {**TCP_ENDS, "peername": None}),
    (("0.0.0.0/0", "::/0"), UNIX_ENDS),
]


@examples(600)
@given(
    st.sampled_from(sorted(PARSERS)),
    st.sampled_from(LISTENERS),
    st.sampled_from(["drop", "pass", "refuse"]),
    requests,
    st.integers(1, 200),
)
def test_no_byte_of_an_untrusted_client_changes_client_or_scheme(
    parser: str, listener: tuple[tuple[str, ...], dict[str, Any]], ambiguous: str, sent: list[bytes], size: int
) -> None:
    proxies, ends = listener
    with Scene(*proxies, parser=parser, ends=ends, ambiguous=ambiguous) as scene:
        for data in sent:
            scene.wire.send_slowly(data, size)
        expected = ends["peername"] if isinstance(ends["peername"], tuple) else None
        server = ends["sockname"] if isinstance(ends["sockname"], tuple) else (ends["sockname"], None)
        for scope in scene.recorder.scopes + scene.elsewhere.scopes:
            assert (scope["client"], scope["scheme"]) == (expected, "http")
            assert (scope["root_path"], scope["server"]) == ("", server)
            for name in names(scope):
                assert not name.replace(b"_", b"-").replace(b".", b"-").startswith((b"x-forwarded-", b"forwarded"))
