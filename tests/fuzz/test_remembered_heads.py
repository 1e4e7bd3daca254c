"""Requests of one connection, and each on a connection of its own: wire and scopes are the same.

Whatever a connection remembers of heads (`http1_head`, `http2_head`, `forwarded`, `intake`, `asgi.scope`), it may save
time and nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint, Peer
from serverd.connection.http1 import Http1Connection
from serverd.connection.http2 import Http2Connection
from serverd.generation import Limits, Listener
from tests.protocol.http2_peer import ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, settings
from tests.support.applications import respond
from tests.support.fuzzing import examples
from tests.support.wire import KEY, PARSERS, MemoryTransport, Wire, pieces_of, router_to

LIMITS = Limits(request_line=60, header_size=220, header_count=8, body_size=20)
FIELDS = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto")

lines = st.sampled_from([
    b"GET /a HTTP/1.1", b"GET /a HTTP/1.1", b"GET /b HTTP/1.1", b"HEAD /a HTTP/1.1", b"GET /a HTTP/1.0",
    b"GET /b HTTP/1.0", b"PUT /m HTTP/1.0", b"POST /m/./x?q HTTP/1.1",
    b"GET /m/%2e%2e/a HTTP/1.1", b"GET //m HTTP/1.1", b"GET http://other/a HTTP/1.1",
    b"GET http://a HTTP/1.1", b"GET http://OTHER/a HTTP/1.1", b"PUT http://b/m HTTP/1.0",
    b"OPTIONS * HTTP/1.1", b"TRACE /a HTTP/1.1", b"BREW /a HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
    b"GET /a HTTP/1.2", b"GET  /a HTTP/1.1", b"GET /a\nb HTTP/1.1", b"GET /%zz HTTP/1.1", b"get /a HTTP/1.1",
    b"GET /" + b"x" * 60 + b" HTTP/1.1", b"\r\nGET /a HTTP/1.1",
])  # fmt: skip
hosts = st.sampled_from(
    [b"Host: a", b"Host: a", b"Host: a", b"host: a", b"Host: A:80", b"Host: other", b"Host:", b"X: no host"]
)
# Half of the requests are good: the others end the connection.
good = st.sampled_from([[], [b"Accept: */*"], [b"X-Forwarded-For: 192.0.2.1"], [b"Content-Length: 0", b"X_Y: 1"]])
fields = good | st.lists(
    st.sampled_from([
        b"Accept: */*", b"Accept: */* ", b"accept: */*", b"Connection: close", b"Connection: keep-alive",
        b"Content-Length: 0", b"Content-Length: 3", b"content-length: 3", b"Content-Length: 03",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: x, chunked", b" folded",
        b"Transfer-Encoding : chunked", b"Expect: 100-continue", b"Expect: else", b"Upgrade: h2c", b"X_Y: 1",
        b"X: a\nY: b",
        b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-For: 192.0.2.2, 127.0.0.1", b"X-Forwarded-Host: other",
        b"X-Forwarded-Proto: https", b"X-Forwarded-Prefix: /p", b"X-Real-IP: 1.2.3.4", b"X-Request-ID: mine",
        b"X: " + b"x" * 120,
    ]),
    max_size=3,
)  # fmt: skip
bodies = st.sampled_from([b"", b"", b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"03\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Draw requests, most of which have been there before in the whole or in a part, and where they are cut."""
    parts = draw(st.lists(st.tuples(lines, hosts, fields, bodies), min_size=1, max_size=3))
    order = draw(st.lists(st.tuples(*[st.integers(0, len(parts) - 1)] * 2), min_size=2, max_size=6))
    requests = []
    for of_line, of_rest in order:
        line, (_, host, more, body) = parts[of_line][0], parts[of_rest]
        requests.append(b"\r\n".join([line, host, *more, b"", body]))
    size = sum(map(len, requests))
    return requests, draw(st.lists(st.integers(0, size), max_size=6))


class Site:
    """An application that spoils its scope once it has been seen."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        state = {**scope["state"], "request_id": ""}
        seen = {name: value.copy() if hasattr(value, "copy") else value for name, value in scope.items()}
        seen = {**seen, "state": state, "tls": scope["extensions"].get("tls", {}).copy(), "order": list(scope)}
        self.scopes.append(seen)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        seen["body"] = body
        is_session = scope["type"] == "websocket"
        scope["headers"].append((b"content-length", b"7"))
        scope["headers"].sort()
        scope["extensions"].get("tls", {}).clear()
        for name in ("state", "extensions", "asgi"):
            scope[name].clear()
            scope[name]["spoilt"] = True
        for name in scope:
            scope[name] = "/spoilt"
        scope["spoilt"] = True
        if is_session:
            await send({"type": "websocket.close"})
        else:
            await respond(send, seen["path"].encode() + b"|" + body)


def mounts_to(scopes: list[Any], generation: int = 0) -> Router:
    """Return the routes of a site, as a generation has them; their applications leave what they see in `scopes`."""
    site, below = Site(), Site()
    site.scopes = below.scopes = scopes
    state = {"shared": generation}
    table = router_to(Endpoint(site, "site", state=state))
    prefix = f"/{generation}" if generation else ""
    return Router(
        [
            Route((), "/", Endpoint(site, "site", state=state, root_path=prefix)),
            Route((), "/m", Endpoint(below, "below", root_path="/m", strip="/m")),
            Route(("other",), "/", Endpoint(below, "below")),
        ],
        table._unmounted,
        table._unserved,
        table._options,
    )


def listener(trusted: bool, limits: Limits) -> Listener:
    proxies = ("127.0.0.1",) if trusted else ()
    return Listener("web", (), 1, limits, trusted_proxies=proxies, forwarded_headers=FIELDS)


def served(pieces: list[bytes], parser: str, trusted: bool) -> tuple[bytes, list[Any], bool]:
    """Return what is answered to the pieces on a new connection, the scopes, and whether it is ready for more."""
    scopes: list[Any] = []
    mounts = mounts_to(scopes)
    with Wire(mounts, parser, LIMITS) as wire:
        wire.service.adopt(mounts, listener(trusted, LIMITS), wire.service.parser)
        wire.lose()
        wire.connect()
        answer = b""
        for piece in pieces:
            answer += wire.send(piece)
        # Whether a body is asked for depends on when it comes.
        answer = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        return answer, scopes, wire.connection.idle and not wire.closed


@given(st.sampled_from(sorted(PARSERS)), streams(), st.booleans())
@examples(300)
def test_a_head_means_what_it_means_on_a_connection_of_its_own(
    parser: str, drawn: tuple[list[bytes], list[int]], trusted: bool
) -> None:
    requests, cuts = drawn
    expected, scopes = b"", list[Any]()
    for number, request in enumerate(requests):
        answer, seen, goes_on = served([request], parser, trusted)
        expected += answer
        scopes += seen
        if not goes_on:
            del requests[number + 1 :]
            break
    answer, seen, _ = served(pieces_of(b"".join(requests), cuts), parser, trusted)
    assert answer == expected
    assert seen == scopes


# Requests that come one by one, all of them good, most of them like one before: what `asgi.scope` begins with.

TLS: dict[str, object] = {"tls_version": 0x0304, "client_cert_name": None}
PEERS = {
    "in the clear": Peer(("127.0.0.1", 1), ("127.0.0.1", 80)),
    "over TLS": Peer(("127.0.0.1", 2), ("127.0.0.1", 443), "https", TLS, frozenset(("a", "other"))),
}
SESSION = (
    (b"upgrade", b"websocket"), (b"connection", b"upgrade"),
    (b"sec-websocket-key", KEY), (b"sec-websocket-version", b"13"),
)  # fmt: skip


class Asked(NamedTuple):
    """A request, and the generation that is there when it comes."""

    method: str
    version: str  # 1.0 and 1.1 are the same in HTTP/2
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    generation: int


asked = st.builds(
    Asked,
    st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "TRACE"]),
    st.sampled_from(["1.1", "1.1", "1.0"]),
    st.sampled_from([
        "/", "/?a", "/?b", "/a", "/%61", "*", "http://other/a", "http://a/m/x",
        "/m", "/m/", "/m/x?q", "/m/%2e%2e/a", "/m/./x", "/m/../m/x", "/x/../m", "//m",
    ]),
    st.sampled_from([
        (),
        ((b"accept", b"*/*"), (b"x_y", b"1")),
        ((b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-prefix", b"/p")),
        ((b"x-forwarded-host", b"other"),),
        SESSION,
    ]),
    st.sampled_from([0, 0, 0, 1]),
).map(lambda one: one._replace(method="OPTIONS") if one.target == "*" else one)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> list[Asked]:
    """Draw requests that differ from one another in one thing, and come again."""
    first = draw(asked)
    near = [first]
    for other in draw(st.lists(asked, min_size=1, max_size=4)):
        name = draw(st.sampled_from(["target", "target", "target", "method", "version", "fields", "generation"]))
        one = first._replace(**{name: getattr(other, name)})
        if one.target == "*":
            one = one._replace(method="OPTIONS")
        near.append(one)
    return draw(st.lists(st.sampled_from(near), min_size=4, max_size=12))


class Talk(Wire):
    """A connection of either protocol from one of `PEERS`, to two generations of a site."""

    def __init__(self, protocol: str, peer: str, trusted: bool) -> None:
        self.protocol, self.peer = protocol, PEERS[peer]
        self.scopes: list[Any] = []
        self.generations = [mounts_to(self.scopes, number) for number in range(2)]
        self.is_open = False
        super().__init__(self.generations[0])
        self.listener = listener(trusted, Limits())
        self.service.adopt(self.generations[0], self.listener, self.service.parser)
        self.is_open = True
        self.connect()

    def connect(self) -> None:
        """Open a connection, once the service is complete."""
        if not self.is_open:
            return
        made = Http2Connection if self.protocol == "h2" else Http1Connection
        self.connection: Any = made(self.service, self.peer)
        self.transport = MemoryTransport(self.connection, self.loop, self.ends)
        self.connection.connection_made(self.transport)
        self.encoder = hpack.Encoder()
        self.number = 1
        if self.protocol == "h2":
            self.send(PREFACE + settings() + frame(SETTINGS, ACK))

    def ask(self, one: Asked) -> list[Any]:
        """Send a request; return the scopes of it, which are one or none."""
        self.service.adopt(self.generations[one.generation], self.listener, self.service.parser)
        if self.connection.closed:
            self.connect()
        self.loop.call_soon(self.transport.deliver, self.block(one) if self.protocol == "h2" else text(one))
        self.settle()
        self.received()
        found = self.scopes[:]
        self.scopes.clear()
        return found

    def block(self, one: Asked) -> bytes:
        """Return the request as HEADERS, which leave the table as it is."""
        host, target = b"a", one.target.encode()
        if target.startswith(b"http://"):
            host, _, target = target[7:].partition(b"/")
            target = b"/" + target
        fields = [(b":method", one.method.encode()), (b":scheme", b"http"), (b":path", target), (b":authority", host)]
        fields += [(name, value) for name, value in one.fields if (name, value) not in SESSION]
        block = self.encoder.encode([hpack.NeverIndexedHeaderTuple(*item) for item in fields])
        self.number += 2
        return frame(HEADERS, END_HEADERS | END_STREAM, self.number - 2, block)


def text(one: Asked) -> bytes:
    """Return the request as HTTP/1 has it, on a connection that goes on."""
    lines = [f"{one.method} {one.target} HTTP/{one.version}".encode(), b"host: a"]
    if one.fields is not SESSION:
        lines.append(b"connection: keep-alive")
    return b"\r\n".join([*lines, *(b": ".join(item) for item in one.fields), b"", b""])


@pytest.mark.parametrize("protocol", ["http/1", "h2"])
@given(conversations(), st.sampled_from(sorted(PEERS)), st.booleans())
@examples(200)
def test_a_scope_says_of_a_request_what_it_says_of_one_that_comes_alone(
    protocol: str, drawn: list[Asked], peer: str, trusted: bool
) -> None:
    with Talk(protocol, peer, trusted) as talk:
        got = [talk.ask(one) for one in drawn]
    alone: dict[Asked, Any] = {}
    for one in set(drawn):
        with Talk(protocol, peer, trusted) as talk:
            alone[one] = talk.ask(one)
    assert got == [alone[one] for one in drawn]
