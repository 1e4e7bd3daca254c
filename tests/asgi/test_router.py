"""Routing: the most specific mount wins in any order, and no spelling of a path or host walks around one."""

from __future__ import annotations

import random
import time
from itertools import permutations
from typing import Any

import pytest

from serverd.asgi.router import Route, Router, normalise_path
from serverd.asgi.scope import Endpoint
from tests.support.applications import Recorder
from tests.support.every import every
from tests.support.wire import PARSERS, Wire


async def unused(scope: Any, receive: Any, send: Any) -> None: ...


UNMOUNTED, UNSERVED, OPTIONS = (Endpoint(unused, name) for name in ("404", "421", "options"))


def route(name: str) -> Route:
    """Return a route from "host/path" or "/path", with an endpoint of that name."""
    host, _, path = name.partition("/")
    return Route((host,) if host else (), "/" + path, Endpoint(unused, name))


def router(*names: str) -> Router:
    return Router([route(name) for name in names], UNMOUNTED, UNSERVED, OPTIONS)


def find(table: Router, host: str | None, path: str) -> str:
    return table.find(host, normalise_path(path)).name


MOUNTS = (
    "/",
    "/shop",
    "/shop/admin",
    "a.example/",
    "a.example/shop",
    "*.example/",
    "*.a.example/deep",
)

EXPECTED = [
    ("other", "/", "/"),
    ("other", "/x", "/"),
    ("other", "/shop", "/shop"),
    ("other", "/shop/", "/shop"),
    ("other", "/shop/x", "/shop"),
    ("other", "/shopping", "/"),
    ("other", "/sho", "/"),
    ("other", "/Shop", "/"),
    ("other", "/shop/admin", "/shop/admin"),
    ("other", "/shop/admin/x/y", "/shop/admin"),
    ("other", "/shop/administrator", "/shop"),
    ("other", "/x/shop", "/"),
    (None, "/shop", "/shop"),
    ("", "/shop", "/shop"),
    ("a.example", "/", "a.example/"),
    ("a.example", "/shop/x", "a.example/shop"),
    ("a.example", "/shop/admin", "a.example/shop"),
    ("b.example", "/shop", "*.example/"),
    ("x.b.example", "/shop", "*.example/"),
    ("example", "/shop", "/shop"),
    ("x.a.example", "/deep/x", "*.a.example/deep"),
    ("x.a.example", "/deeper", "*.example/"),
    ("x.a.example", "/", "*.example/"),
    ("axexample", "/", "/"),
]


class TestSpecificity:
    """configuration.md: exact host over wildcard over any, then the longest path; order never matters."""

    @every("order", [*list(permutations(MOUNTS))[:: 5040 // 20]], ids=lambda _: "order")
    def test_the_most_specific_mount_wins_in_any_order(self, order: tuple[str, ...]) -> None:
        table = router(*order)
        for host, path, expected in EXPECTED:
            assert find(table, host, path) == expected, (host, path)

    def test_a_mount_may_have_several_hosts(self) -> None:
        endpoint = Endpoint(unused, "both")
        table = Router([Route(("a", "*.b"), "/", endpoint)], UNMOUNTED, UNSERVED, OPTIONS)
        assert [find(table, host, "/") for host in ("a", "x.b", "b", "c")] == ["both", "both", "421", "421"]

    def test_the_longest_wildcard_wins(self) -> None:
        table = router("*.example/", "*.b.example/", "*.a.b.example/")
        assert find(table, "x.a.b.example", "/") == "*.a.b.example/"
        assert find(table, "a.b.example", "/") == "*.b.example/"
        assert find(table, "b.example", "/") == "*.example/"


class TestNotFound:
    """RFC 9110 §15.5.5, §15.5.20."""

    @pytest.mark.parametrize(
        ("mounts", "host", "path", "expected"),
        [
            pytest.param(["/shop"], "a", "/", "404", id="any host is served, this path is not"),
            pytest.param(["/shop"], "a", "/shopping", "404", id="no segment boundary"),
            pytest.param(["a/shop"], "a", "/", "404", id="the host is served, this path is not"),
            pytest.param(["*.b/shop"], "a.b", "/", "404", id="a wildcard serves the host"),
            pytest.param(["a/"], "b", "/", "421", id="another host"),
            pytest.param(["*.b/"], "b", "/", "421", id="a wildcard does not serve its own name"),
            pytest.param(["a/"], None, "/", "421", id="no host"),
            pytest.param(["a/"], "", "/", "421", id="an empty host"),
            pytest.param([], "a", "/", "421", id="no mount at all"),
            pytest.param(["a/", "/shop"], "b", "/", "404", id="some path is served under any host"),
        ],
    )
    def test_404_is_for_a_path_and_421_for_a_host(
        self, mounts: list[str], host: str | None, path: str, expected: str
    ) -> None:
        assert find(router(*mounts), host, path) == expected

    def test_options_asterisk_is_answered_by_the_server(self) -> None:
        assert router("/").find("a", "*") is OPTIONS
        assert router("a/").find("b", "*") is OPTIONS


class TestNormalisation:
    """RFC 3986 §5.2.4."""

    @every(
        ("path", "expected"),
        [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a//", "/a/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/../../..", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/...", "/..."),
            ("/.a", "/.a"),
            ("/a.", "/a."),
            ("/a..", "/a.."),
            ("/..a", "/..a"),
            ("/.../", "/.../"),
            ("/a/.../b", "/a/.../b"),
            ("*", "*"),
        ],
    )
    def test_dot_segments_and_empty_segments_go(self, path: str, expected: str) -> None:
        assert normalise_path(path) == expected
        assert normalise_path(expected) == expected

    def test_it_never_climbs_and_is_final(self) -> None:
        source = random.Random(1)
        for _ in range(5000):
            path = "/" + "".join(source.choice("/.a") for _ in range(source.randrange(12)))
            normal = normalise_path(path)
            assert normal.startswith("/")
            assert "//" not in normal
            assert not {".", ".."} & set(normal.split("/"))
            assert normalise_path(normal) == normal


@pytest.mark.parametrize("parser", PARSERS)
class TestSpellings:
    """protocol.md: mounts are matched on the decoded path after removing dot segments; one path for everything."""

    def answer(self, target: str, host: str, parser: str, mounts: tuple[str, ...]) -> tuple[str, Any]:
        recorders = {name: Recorder() for name in mounts}
        routes = []
        for name, recorder in recorders.items():
            host_part, _, path = name.partition("/")
            routes.append(Route((host_part,) if host_part else (), "/" + path, Endpoint(recorder, name)))
        with Wire(Router(routes, UNMOUNTED, UNSERVED, OPTIONS), parser) as wire:
            wire.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        for name, recorder in recorders.items():
            if recorder.scopes:
                return name, recorder.scopes[0]["path"]
        return "none", None

    @pytest.mark.parametrize(
        ("target", "mount"),
        [
            ("/admin", "/admin"),
            ("/admin/", "/admin"),
            ("/%61dmin", "/admin"),
            ("/adm%69n/x", "/admin"),
            ("//admin", "/admin"),
            ("/./admin", "/admin"),
            ("/public/../admin", "/admin"),
            ("/public/..//admin", "/admin"),
            ("/%2e%2e/admin", "/admin"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/.%2E/admin", "/admin"),
            ("/public%2f..%2fadmin", "/admin"),
            ("/%2fadmin", "/admin"),
            ("/admin%2fx", "/admin"),
            ("/admin/../admin", "/admin"),
            ("/admin/..", "/"),
            ("/admin/../public", "/public"),
            ("/public", "/public"),
            ("/public/admin", "/public"),
            ("/ADMIN", "/"),
            ("/administrator", "/"),
            ("/admin%20", "/"),
            ("/admin;x", "/"),
            ("/admin.", "/"),
            ("/%252e%252e/admin", "/"),
            ("/public/%252e%252e/admin", "/public"),
            ("/admin%5cx", "/"),
            ("/public%5c..%5cadmin", "/"),
            ("/admin?x=/public", "/admin"),
            ("http://b/admin", "/admin"),
            ("http://b/public/../admin", "/admin"),
        ],
    )
    def test_no_spelling_walks_around_a_mount(self, target: str, mount: str, parser: str) -> None:
        assert self.answer(target, "a", parser, ("/", "/admin", "/public"))[0] == mount

    def test_the_application_gets_what_the_client_sent(self, parser: str) -> None:
        assert self.answer("/public/%2e%2e//admin", "a", parser, ("/", "/admin"))[1] == "/public/..//admin"

    @pytest.mark.parametrize(
        ("host", "mount"),
        [
            ("a.example", "a.example/"),
            ("A.EXAMPLE", "a.example/"),
            ("a.example.", "a.example/"),
            ("a.example:8000", "a.example/"),
            ("a.example.:8000", "a.example/"),
            ("b.example", "*.example/"),
            ("X.B.Example:1", "*.example/"),
            ("example", "/"),
            ("[::1]", "[::1]/"),
            ("[::1]:80", "[::1]/"),
            ("[0:0::0:1]", "[::1]/"),
            ("[::2]", "/"),
            ("127.0.0.1:8000", "/"),
        ],
    )
    def test_no_spelling_of_a_host_reaches_another_mount(self, host: str, mount: str, parser: str) -> None:
        mounts = ("/", "a.example/", "*.example/", "[::1]/")
        assert self.answer("/", host, parser, mounts)[0] == mount
        assert self.answer(f"http://{host}/", "other", parser, mounts)[0] == mount


class TestManyMounts:
    """performance.md: routing among 1,000 mounts."""

    def test_each_of_a_thousand_mounts_is_found(self) -> None:
        names = [f"/app{number}/v{number % 7}" for number in range(500)]
        names += [f"h{number}.example/p{number}" for number in range(500)]
        table = router(*names)
        for name in names:
            host, _, path = name.partition("/")
            assert find(table, host or "any", f"/{path}/x/y") == name

    def test_a_thousand_mounts_cost_what_ten_cost(self) -> None:
        def cost(count: int) -> float:
            table = router(*(f"/app{number}" for number in range(count)))
            best = float("inf")
            for _ in range(20):
                begin = time.perf_counter()
                for _ in range(200):
                    table.find("a", "/app5/some/path")
                best = min(best, time.perf_counter() - begin)
            return best

        assert cost(1000) < 5 * cost(10), "it should be one dictionary look-up per segment"

    def test_a_long_path_costs_no_more_than_the_deepest_mount(self) -> None:
        table = router("/a/b", "/")
        path = "/x" * 30_000
        begin = time.process_time()
        for _ in range(100):
            assert table.find("a", path).name == "/"
        assert time.process_time() - begin < 0.1
