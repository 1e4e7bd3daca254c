"""What the server answers itself: fixed responses, redirects, 404, 421, OPTIONS *."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.asgi import builtin
from serverd.asgi.router import Router
from serverd.asgi.scope import Endpoint
from serverd.generation import (
    App,
    AppTarget,
    Generation,
    Limits,
    Listener,
    Logging,
    Mount,
    RedirectTarget,
    RespondTarget,
    Server,
)
from serverd.worker.serving import Serving
from tests.support.applications import Recorder
from tests.support.every import every
from tests.support.wire import StillLoop, Wire


def routes(*mounts: Mount, **apps: Any) -> Router:
    """Return the routes that a worker makes of these mounts."""
    generation = Generation(
        "server.toml",
        Server(),
        (Listener("web", (), 1, Limits()), Listener("other", (), 1, Limits())),
        tuple(App(name, "m:app", "/") for name in apps),
        mounts,
        Logging(),
    )
    loop = StillLoop()
    serving = Serving(loop, generation, {name: Endpoint(app, name) for name, app in apps.items()})
    loop.close()
    return serving._services["web"].router


def mount(target: Any, path: str = "/", hosts: tuple[str, ...] = (), listeners: tuple[str, ...] = ("web",)) -> Mount:
    return Mount(path, hosts, listeners, target)


def answer(
    router: Router | Any, target: str = "/", host: str = "a", method: str = "GET", version: str = "1.1"
) -> bytes:
    with Wire(router) as wire:
        fields = f"Host: {host}\r\n" if host else ""
        data = wire.send(f"{method} {target} HTTP/{version}\r\n{fields}\r\n".encode())
        assert wire.closed is (version == "1.0")
        return data


class TestRespond:
    """`respond = {status, body, headers}`."""

    def test_it_sends_status_headers_and_body(self) -> None:
        target = RespondTarget(418, "téa", (("X-Name", "välue"), ("Content-Type", "text/html")))
        data = answer(routes(mount(target)))
        assert data.startswith(b"HTTP/1.1 418 I'm a Teapot\r\nx-name: v\xe4lue\r\ncontent-type: text/html\r\n")
        assert b"content-length: 4\r\n" in data
        assert data.endswith(b"\r\n\r\nt\xc3\xa9a")

    def test_a_body_without_a_type_is_text(self) -> None:
        assert b"content-type: text/plain; charset=utf-8\r\n" in answer(routes(mount(RespondTarget(200, "ok", ()))))

    def test_no_body_has_no_type(self) -> None:
        data = answer(routes(mount(RespondTarget(200, "", ()))))
        assert b"content-type" not in data
        assert b"content-length: 0\r\n" in data

    def test_head_gets_the_length_and_no_body(self) -> None:
        data = answer(routes(mount(RespondTarget(200, "ok", ()))), method="HEAD")
        assert b"content-length: 2\r\n" in data
        assert data.endswith(b"\r\n\r\n")

    def test_it_answers_again_and_again(self) -> None:
        router = routes(mount(RespondTarget(200, "ok", ())))
        with Wire(router) as wire:
            assert len({wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)}) == 1

    def test_a_request_body_is_read_and_thrown_away(self) -> None:
        with Wire(routes(mount(RespondTarget(200, "ok", ())))) as wire:
            data = wire.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            assert data.count(b"HTTP/1.1 200 OK") == 2


class TestRedirect:
    """`redirect = "URL"`: 307, with {host} and {uri}."""

    @every(
        ("location", "target", "host", "expected"),
        [
            pytest.param("https://b/", "/x?y", "a", b"https://b/", id="fixed"),
            pytest.param("https://{host}{uri}", "/x?y=%20", "a", b"https://a/x?y=%20", id="host and uri"),
            pytest.param("https://{host}{uri}", "/", "A.Example.:8000", b"https://a.example/", id="normalised host"),
            pytest.param("https://{host}:8443{uri}", "/x", "[::1]:80", b"https://[::1]:8443/x", id="IPv6 and a port"),
            pytest.param("https://b{uri}", "//evil.example/x", "a", b"https://b//evil.example/x", id="two slashes"),
            pytest.param("https://b{uri}", "/%0d%0aX:y", "a", b"https://b/%0d%0aX:y", id="encoded CR LF"),
            pytest.param("https://b{uri}", "/{host}", "a", b"https://b/{host}", id="nothing is expanded twice"),
            pytest.param("https://b{uri}", "/{uri}?{uri}", "a", b"https://b/{uri}?{uri}", id="nor itself"),
            pytest.param("https://b{uri}", "http://c:1/x?y", "a", b"https://b/x?y", id="absolute target"),
            pytest.param("https://{host}/", "http://c:1/x?y", "a", b"https://c/", id="authority of the target"),
            pytest.param("/é", "/", "a", b"/\xc3\xa9", id="not ASCII"),
            pytest.param("https://b/{other}{", "/", "a", b"https://b/{other}{", id="other braces"),
        ],
    )
    def test_the_location_is_filled_in_one_pass(self, location: str, target: str, host: str, expected: bytes) -> None:
        data = answer(routes(mount(RedirectTarget(location))), target, host)
        head = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: " + expected + b"\r\ncontent-length: 0\r\n"
        assert data.startswith(head)

    def test_a_client_that_names_no_host_is_sent_to_the_address_it_came_to(self) -> None:
        router = routes(mount(RedirectTarget("https://{host}{uri}")))
        assert b"\r\nlocation: https://127.0.0.1/x\r\n" in answer(router, "/x", host="", version="1.0")

    def test_every_method_is_redirected(self) -> None:
        for method in ("HEAD", "POST", "OPTIONS", "DELETE"):
            assert answer(routes(mount(RedirectTarget("/x"))), method=method).startswith(b"HTTP/1.1 307 ")


class TestServer:
    """404, 421 and OPTIONS *, which no mount answers."""

    def test_a_path_without_a_mount_is_404(self) -> None:
        data = answer(routes(mount(RespondTarget(200, "ok", ()), "/shop")), "/shopping")
        assert data.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert data.endswith(b"\r\n\r\nNot Found\n")

    def test_a_host_without_a_mount_is_421(self) -> None:
        data = answer(routes(mount(RespondTarget(200, "ok", ()), hosts=("b",))))
        assert data.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")

    def test_a_mount_of_another_listener_does_not_answer(self) -> None:
        data = answer(routes(mount(RespondTarget(200, "ok", ()), listeners=("other",))))
        assert data.startswith(b"HTTP/1.1 421 ")

    @pytest.mark.parametrize("method", ["OPTIONS"])
    def test_options_asterisk_is_204_and_allows(self, method: str) -> None:
        recorder = Recorder()
        data = answer(routes(mount(AppTarget("app", "")), app=recorder), "*", method=method)
        assert data.startswith(b"HTTP/1.1 204 No Content\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
        assert b"content-length" not in data
        assert not recorder.scopes

    def test_options_of_a_path_is_the_application_s(self) -> None:
        recorder = Recorder()
        answer(routes(mount(AppTarget("app", "")), app=recorder), "/x", method="OPTIONS")
        assert recorder.scopes[0]["method"] == "OPTIONS"

    def test_http_1_0_without_a_host_reaches_a_mount_for_any_host(self) -> None:
        assert b" 200 OK" in answer(builtin.respond(200, b"ok", []), host="", version="1.0")


class TestApps:
    """What a mount gives to its application."""

    def test_the_mount_decides_about_root_path_and_prefix(self) -> None:
        recorder = Recorder()
        table = routes(
            mount(AppTarget("app", "/shop"), "/shop"),
            mount(AppTarget("app", "", strip_prefix=True), "/blog"),
            mount(AppTarget("app", "", strip_prefix=True), "/"),
            app=recorder,
        )
        for target in ("/shop/x", "/blog/x", "/x"):
            answer(table, target)
        assert [(scope["root_path"], scope["path"]) for scope in recorder.scopes] == [
            ("/shop", "/shop/x"),
            ("", "/x"),
            ("", "/x"),
        ]
