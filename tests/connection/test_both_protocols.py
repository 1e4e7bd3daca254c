"""What does not depend on the protocol, over HTTP/1.1 and HTTP/2: whom to believe, limits, timeouts, drain.

A `Client` is one connection by either protocol. Where the protocols differ by design, the test that needs it says so:
HTTP/1.1 ends a connection where HTTP/2 ends a stream, for it has no other way to say that a message is not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.generation import Limits, Listener
from tests.protocol.http2_peer import HEADERS, frame
from tests.support.applications import Manual, Recorder, hello
from tests.support.http2 import Answer, Http2Wire
from tests.support.wire import Wire, router_to

Fields = Iterable[tuple[bytes, bytes]]


class Client:
    """One connection to an application: requests one after the other, and what the last one was answered."""

    wire: Wire

    def __init__(self, application: Any, limits: Limits | None = None) -> None:
        raise NotImplementedError

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: Any) -> None:
        self.wire.__exit__(*error)

    def request(
        self, method: bytes = b"GET", path: bytes = b"/", fields: Fields = (), length: int = 0, body: bytes = b""
    ) -> None:
        """Send a request with `body` as the first part of `length` bytes."""
        raise NotImplementedError

    def more(self, body: bytes) -> None:
        """Send more of the body."""
        raise NotImplementedError

    def hear(self) -> None:
        """Take in what has been answered."""

    @property
    def status(self) -> int:
        """The status of the last request's answer, 0 while there is none."""
        raise NotImplementedError

    @property
    def header(self) -> dict[bytes, bytes]:
        """The fields of the last request's answer."""
        raise NotImplementedError

    @property
    def is_cut(self) -> bool:
        """Whether the last answer was visibly broken off."""
        raise NotImplementedError


class Http1Client(Client):
    """By HTTP/1.1."""

    def __init__(self, application: Any, limits: Limits | None = None) -> None:
        self.wire = Wire(application, limits=limits)
        self.answer = b""

    def request(
        self, method: bytes = b"GET", path: bytes = b"/", fields: Fields = (), length: int = 0, body: bytes = b""
    ) -> None:
        lines = [b"%b %b HTTP/1.1" % (method, path), b"host: a", *(b"%b: %b" % field for field in fields)]
        if length:
            lines.append(b"content-length: %d" % length)
        self.answer = self.wire.send(b"\r\n".join([*lines, b"", b""]) + body)

    def more(self, body: bytes) -> None:
        self.answer += self.wire.send(body)

    def hear(self) -> None:
        self.wire.settle()
        self.answer += self.wire.received()

    @property
    def status(self) -> int:
        return int(self.answer[9:12] or b"0")

    @property
    def header(self) -> dict[bytes, bytes]:
        lines = self.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return {name: value for name, _, value in (line.partition(b": ") for line in lines)}

    @property
    def is_cut(self) -> bool:
        return self.wire.closed and not self.answer.endswith(b"0\r\n\r\n")


class H2Client(Client):
    """By HTTP/2."""

    wire: Http2Wire

    def __init__(self, application: Any, limits: Limits | None = None) -> None:
        self.wire = Http2Wire(application, limits)
        self.answer = Answer(0)

    def request(
        self, method: bytes = b"GET", path: bytes = b"/", fields: Fields = (), length: int = 0, body: bytes = b""
    ) -> None:
        if length:
            fields = [*fields, (b"content-length", b"%d" % length)]
        self.answer = self.wire.open(method.decode(), path.decode(), fields, end=not length)
        self.wire.exchange()
        if body:
            self.more(body)

    def more(self, body: bytes) -> None:
        self.wire.upload(self.answer, body, end=False)

    def hear(self) -> None:
        self.wire.exchange()

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def header(self) -> dict[bytes, bytes]:
        return self.answer.header

    @property
    def is_cut(self) -> bool:
        return self.answer.reset is not None


Connect = Callable[..., Client]


@pytest.fixture(params=[Http1Client, H2Client], ids=["HTTP/1.1", "HTTP/2"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Return what connects a client of one protocol."""
    made: Connect = request.param
    return made


def advance(client: Client, seconds: float) -> None:
    """Let time pass."""
    sent = client.wire.advance(seconds)
    if isinstance(client, Http1Client):
        client.answer += sent


def believing(connect: Connect, application: Any, **listener: Any) -> Client:
    """Connect to a listener with these settings."""
    client = connect(application)
    service = client.wire.service
    service.adopt(service.router, Listener("web", (), 1, Limits(), **listener), service.parser)
    client.wire.lose()
    client.wire.connect()
    return client


class TestRoutes:
    def test_a_request_that_comes_again_takes_the_routes_of_its_time(self, connect: Connect) -> None:
        before, after = Recorder(), Recorder()
        with connect(before) as client:
            service = client.wire.service
            for recorder, adopted in ((before, None), (after, router_to(Endpoint(after, "after")))):
                if adopted is not None:
                    service.adopt(adopted, Listener("web", (), 1, Limits()), service.parser)
                for path in (b"/a/../b", b"/a", b"/a", b"/a/../b"):  # read, and recalled
                    client.request(path=path)
                    assert client.status == 200
                assert [scope["path"] for scope in recorder.scopes] == ["/a/../b", "/a", "/a", "/a/../b"]

    @pytest.mark.parametrize("target", [b"/api/../shop", b"//shop", b"/shop/x"])
    def test_the_path_below_a_mount_is_the_same_each_time(self, connect: Connect, target: bytes) -> None:
        recorder = Recorder()
        ours = Endpoint(builtin.not_found, "serverd")
        shop = Endpoint(recorder, "shop", root_path="/shop", strip="/shop")
        with connect(Router([Route((), "/shop", shop)], ours, ours, ours)) as client:
            for _ in range(3):
                client.request(path=target)
            first, *others = [scope["path"] for scope in recorder.scopes]
            assert first == ("/x" if target.endswith(b"x") else "/")
            assert others == [first, first]


class TestBelief:
    SAYS = ((b"x-forwarded-for", b"203.0.113.1"), (b"x-forwarded-proto", b"https"), (b"x-mine", b"1"))

    @pytest.mark.parametrize(
        ("proxies", "client_address", "scheme"),
        [((), "127.0.0.1", "http"), (("127.0.0.1",), "203.0.113.1", "https"), (("10.0.0.0/8",), "127.0.0.1", "http")],
    )
    def test_only_a_trusted_proxy_speaks_for_others(
        self, connect: Connect, proxies: tuple[str, ...], client_address: str, scheme: str
    ) -> None:
        recorder = Recorder()
        with believing(connect, recorder, trusted_proxies=proxies) as client:
            for path in (b"/", b"/", b"/other"):  # read, and known again
                client.request(path=path, fields=self.SAYS)
                scope = recorder.scopes[-1]
                assert (scope["client"][0], scope["scheme"]) == (client_address, scheme)
                names = {name for name, _ in scope["headers"]}
                assert (b"x-forwarded-for" in names) == bool(client_address == "203.0.113.1")
                assert b"x-mine" in names

    def test_headers_that_are_not_named_are_removed(self, connect: Connect) -> None:
        recorder = Recorder()
        with believing(
            connect, recorder, trusted_proxies=("127.0.0.1",), forwarded_headers=("x-forwarded-proto",)
        ) as client:
            client.request(fields=self.SAYS)
        [scope] = recorder.scopes
        assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "https")
        assert b"x-forwarded-for" not in {name for name, _ in scope["headers"]}

    @pytest.mark.parametrize(("rule", "status", "passed"), [("drop", 200, 0), ("pass", 200, 1), ("refuse", 400, 0)])
    def test_ambiguous_names_follow_the_rule(self, connect: Connect, rule: str, status: int, passed: int) -> None:
        recorder = Recorder()
        with believing(connect, recorder, ambiguous_headers=rule) as client:
            client.request(fields=[(b"x_name", b"1")])
            assert client.status == status
        assert sum((b"x_name", b"1") in scope["headers"] for scope in recorder.scopes) == passed


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "fields", "path", "status"),
        [
            (Limits(request_line=64), (), b"/" + b"a" * 80, 414),
            (Limits(header_count=5), [(b"x-%d" % number, b"1") for number in range(8)], b"/", 431),
            # By design: an HTTP/2 list of twice the size is a bomb, and ends the connection.
            (Limits(header_size=1024), [(b"x-long", b"a" * 1200)], b"/", 431),
            (Limits(), [(b"expect", b"something")], b"/", 417),
        ],
        ids=["request line", "count", "size", "expectation"],
    )
    def test_a_head_beyond_a_limit_is_answered(
        self, connect: Connect, limits: Limits, fields: Fields, path: bytes, status: int
    ) -> None:
        with connect(hello, limits) as client:
            client.request(path=path, fields=fields)
            assert client.status == status

    def test_an_unknown_method_is_answered_501(self, connect: Connect) -> None:
        with connect(hello) as client:
            client.request(b"BREW")
            assert client.status == 501

    def test_a_body_that_is_announced_too_large_is_answered_413(self, connect: Connect) -> None:
        recorder = Recorder()
        with connect(recorder, Limits(body_size=10)) as client:
            client.request(b"POST", length=11)
            assert client.status == 413
        assert recorder.scopes == []

    def test_a_body_of_just_the_limit_is_read(self, connect: Connect) -> None:
        recorder = Recorder()
        with connect(recorder, Limits(body_size=10)) as client:
            client.request(b"POST", length=10, body=b"x" * 4)
            client.more(b"x" * 6)
            if isinstance(client, H2Client):
                client.wire.upload(client.answer, b"", end=True)  # a body has an end beside its length
            assert client.status == 200
        assert recorder.bodies == [b"x" * 10]

    def test_a_request_beyond_concurrency_is_answered_503_and_tried_again_in_time(self, connect: Connect) -> None:
        manual = Manual()
        with connect(manual, Limits(concurrency=1)) as client:
            client.request()
            client.wire.connect()
            first = manual.call
            client.request()
            assert client.status == 503
            assert client.header[b"retry-after"] == b"1"
            first.finish()
            client.hear()
            client.request()
            assert (client.status, len(manual.calls)) == (0, 2)  # there is room now
            manual.call.finish()


class TestTimeouts:
    def test_a_head_that_does_not_become_complete_ends_the_connection(self, connect: Connect) -> None:
        recorder = Recorder()
        with connect(recorder, Limits(header_timeout=5)) as client:
            begun = b"GET / HTTP/1.1\r\nhost: a" if isinstance(client, Http1Client) else frame(HEADERS, 0, 1, b"\x82")
            for _ in range(5):  # however it comes
                client.wire.send(begun[:2])
                begun = begun[2:]
                advance(client, 0.5)
                assert not client.wire.closed
            advance(client, 4)
            assert client.wire.closed
        assert recorder.scopes == []

    def test_a_client_that_does_not_read_is_given_up_after_send_timeout(self, connect: Connect) -> None:
        manual = Manual()
        with connect(manual, Limits(send_timeout=5)) as client:
            client.request()
            client.wire.transport.room = 0
            client.wire.run(manual.call.start())
            task = client.wire.run(manual.call.body(bytes(1_000_000), True))
            advance(client, 3)
            assert not task.done()
            client.wire.transport.take(1000)  # every byte gives it more time
            advance(client, 3)
            assert not client.wire.closed
            advance(client, 5)
            assert client.wire.transport.closed
            assert client.wire.transport.reset
            assert task.done()

    def test_a_body_that_somebody_waits_for_in_vain_is_a_408(self, connect: Connect) -> None:
        recorder = Recorder()
        with connect(recorder, Limits(body_timeout=5)) as client:
            client.request(b"POST", length=10, body=b"half")
            advance(client, 3)
            assert client.status == 0
            advance(client, 4)
            assert client.status == 408

    def test_a_request_without_an_answer_in_time_is_a_504_and_the_connection_goes_on(self, connect: Connect) -> None:
        manual = Manual()
        with connect(manual) as client:
            for _ in range(2):
                client.request()
                [exchange] = client.wire.service.exchanges
                exchange.expire()
                client.hear()
                assert client.status == 504
                assert not client.wire.closed

    def test_one_whose_response_has_begun_is_cut_visibly(self, connect: Connect) -> None:
        manual = Manual()
        with connect(manual) as client:
            client.request()
            client.wire.run(manual.call.start())
            client.wire.run(manual.call.body(b"half", True))
            [exchange] = client.wire.service.exchanges
            exchange.expire()
            client.hear()
            assert client.status == 200
            assert client.is_cut
            # By design: HTTP/1.1 has only the end of the connection to say so.
            assert client.wire.closed == isinstance(client, Http1Client)

    def test_an_idle_connection_ends_after_keep_alive(self, connect: Connect) -> None:
        with connect(hello, Limits(keep_alive_timeout=5)) as client:
            client.request()
            advance(client, 3)
            assert not client.wire.closed
            client.request()
            assert client.status == 200
            advance(client, 3)
            assert not client.wire.closed
            advance(client, 5)
            assert client.wire.closed


class TestDrain:
    def test_a_request_in_flight_is_answered_and_the_connection_ends(self, connect: Connect) -> None:
        manual = Manual()
        with connect(manual) as client:
            client.request()
            sent = client.wire.drain()
            assert sent == b""
            client.wire.run(manual.call.respond())
            manual.call.finish()
            client.hear()
            advance(client, 3)
            assert client.status == 200
            assert client.wire.closed

    def test_an_idle_connection_ends_soon(self, connect: Connect) -> None:
        with connect(hello) as client:
            client.request()
            client.wire.drain()
            advance(client, 3)
            assert client.wire.closed
