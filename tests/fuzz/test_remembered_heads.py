"""Requests of one connection, and each on a connection of its own: wire and scopes are the same.

Whatever a connection remembers of heads (`http1_head`, `forwarded`, `intake`), it may save time and nothing else.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Limits, Listener
from tests.support.applications import respond
from tests.support.fuzzing import examples
from tests.support.wire import PARSERS, Wire, pieces_of, router_to

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
        seen = {**scope, "headers": [*scope["headers"]], "extensions": {**scope["extensions"]}, "state": state}
        self.scopes.append(seen)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        seen["body"] = body
        scope["headers"].append((b"content-length", b"7"))
        scope["headers"].sort()
        scope["state"]["spoilt"] = scope["extensions"]["spoilt"] = True
        scope.update(path="/spoilt", client=None, root_path="/spoilt")
        await respond(send, seen["path"].encode() + b"|" + body)


def served(pieces: list[bytes], parser: str, trusted: bool) -> tuple[bytes, list[Any], bool]:
    """Return what is answered to the pieces on a new connection, the scopes, and whether it is ready for more."""
    site, below = Site(), Site()
    table = router_to(Endpoint(site, "site", state={"shared": 1}))
    mounts = Router(
        [
            Route((), "/", Endpoint(site, "site", state={"shared": 1})),
            Route((), "/m", Endpoint(below, "below", root_path="/m", strip="/m")),
            Route(("other",), "/", Endpoint(below, "below")),
        ],
        table._unmounted,
        table._unserved,
        table._options,
    )
    below.scopes = site.scopes
    with Wire(mounts, parser, LIMITS) as wire:
        proxies = ("127.0.0.1",) if trusted else ()
        listener = Listener("web", (), 1, LIMITS, trusted_proxies=proxies, forwarded_headers=FIELDS)
        wire.service.adopt(mounts, listener, wire.service.parser)
        wire.lose()
        wire.connect()
        answer = b""
        for piece in pieces:
            answer += wire.send(piece)
        # Whether a body is asked for depends on when it comes.
        answer = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        return answer, site.scopes, wire.connection.idle and not wire.closed


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
