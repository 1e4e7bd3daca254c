"""The connection scope of a request (ASGI HTTP specification, "HTTP connection scope")."""

from __future__ import annotations

import contextvars
from typing import Any
from unittest.mock import ANY

import pytest

from serverd.asgi.scope import Endpoint, Peer
from tests.support.applications import Recorder, hello
from tests.support.wire import PARSERS, Wire


def scope_of(
    request: bytes,
    endpoint: dict[str, Any] | None = None,
    parser: str = "httptools",
    ends: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the scope that an application gets for a request."""
    recorder = Recorder()
    with Wire(Endpoint(recorder, "test", **(endpoint or {})), parser, ends=ends) as wire:
        wire.send(request)
    (scope,) = recorder.scopes
    return scope


def get(target: str = "/", version: str = "1.1", *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/{version}", "Host: a", *fields, "", ""]).encode("latin-1")


@pytest.mark.parametrize("parser", PARSERS)
def test_it_has_every_key_of_the_specification_and_no_other(parser: str) -> None:
    scope = scope_of(get("/caf%C3%A9/%2F?q=%20", "1.1", "X-Name: \xe9", "x-name: 2"), parser=parser)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/café//",
        "raw_path": b"/caf%C3%A9/%2F",
        "query_string": b"q=%20",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x-name", b"\xe9"), (b"x-name", b"2")],
        "client": ("127.0.0.1", 54321),
        "server": ("127.0.0.1", 8000),
        "state": {"request_id": scope["state"]["request_id"]},
        "extensions": {
            "http.response.trailers": {},
            "http.response.early_hint": {},
            "http.response.pathsend": {},
        },
    }


def test_its_values_have_the_types_of_the_specification() -> None:
    scope = scope_of(get())
    for key in ("type", "http_version", "method", "scheme", "path", "root_path"):
        assert type(scope[key]) is str, key
    for key in ("raw_path", "query_string"):
        assert type(scope[key]) is bytes, key
    assert type(scope["headers"]) is list
    assert all(type(part) is bytes for field in scope["headers"] for part in field)
    assert [type(part) for part in scope["client"]] == [str, int]
    assert [type(part) for part in scope["server"]] == [str, int]
    assert type(scope["state"]) is dict


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_it_tells_the_version(version: str) -> None:
    assert scope_of(get("/", version))["http_version"] == version


@pytest.mark.parametrize(
    ("ends", "client", "server"),
    [
        pytest.param(
            {"peername": ("10.0.0.1", 1), "sockname": ("10.0.0.2", 2)}, ("10.0.0.1", 1), ("10.0.0.2", 2), id="IPv4"
        ),
        pytest.param(
            {"peername": ("::1", 1, 0, 0), "sockname": ("fe80::1", 2, 0, 3)}, ("::1", 1), ("fe80::1", 2), id="IPv6"
        ),
        pytest.param(
            {"peername": ("::ffff:10.0.0.1", 1, 0, 0), "sockname": ("::ffff:10.0.0.2", 2, 0, 0)},
            ("10.0.0.1", 1),
            ("10.0.0.2", 2),
            id="IPv4 on a dual-stack socket",
        ),
        pytest.param({"peername": "", "sockname": "/run/a.sock"}, None, ("/run/a.sock", None), id="unix"),
        pytest.param({"peername": "/tmp/b", "sockname": "/run/a.sock"}, None, ("/run/a.sock", None), id="unix, bound"),
        pytest.param({"peername": None, "sockname": ("::1", 2, 0, 0)}, None, ("::1", 2), id="the peer has gone"),
        pytest.param({"peername": None, "sockname": None}, None, None, id="nothing known"),
    ],
)
def test_it_tells_both_ends(ends: dict[str, Any], client: Any, server: Any) -> None:
    scope = scope_of(get(), ends=ends)
    assert (scope["client"], scope["server"]) == (client, server)


def test_an_absolute_target_gives_the_path_only() -> None:
    scope = scope_of(get("http://b:8000/x?y"))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/x", b"/x", b"y")
    assert scope["headers"] == [(b"host", b"b:8000")]
    assert scope["scheme"] == "http"


def test_the_state_is_a_shallow_copy_for_each_request() -> None:
    shared: list[int] = []
    state = {"shared": shared, "number": 1}
    recorder = Recorder()
    with Wire(Endpoint(recorder, "test", state=state)) as wire:
        wire.send(get())
        recorder.scopes[0]["state"]["number"] = 2
        recorder.scopes[0]["state"]["new"] = 3
        recorder.scopes[0]["state"]["shared"].append(4)
        wire.send(get())
    assert recorder.scopes[1]["state"] == {"shared": [4], "number": 1, "request_id": ANY}
    assert recorder.scopes[1]["state"]["shared"] is shared
    assert state == {"shared": [4], "number": 1}


def test_what_an_application_does_to_its_scope_is_never_seen_by_the_next_request() -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append((dict(scope), list(scope["headers"]), dict(scope["asgi"]), dict(scope["extensions"])))
        scope["headers"].append((b"x-user", b"admin"))
        scope["headers"][0] = (b"host", b"evil")
        scope["asgi"]["version"] = "9"
        scope["extensions"]["x"] = {}
        scope["path"] = "/changed"
        await hello(scope, receive, send)

    with Wire(application) as wire:
        for cut in (0, 0, 0, 10, 0):
            wire.send(get()[:cut])
            wire.send(get()[cut:])
        wire.send(get("/other"))
        wire.send(get())
    assert len(seen) == 7
    for scope, headers, asgi, extensions in seen:
        assert headers == [(b"host", b"a")]
        assert asgi == {"version": "3.0", "spec_version": "2.3"}
        assert len(extensions) == 3
        assert scope["path"] in ("/", "/other")


variable = contextvars.ContextVar("variable", default="fresh")


def test_each_request_has_a_fresh_context() -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("used")
        await hello(scope, receive, send)

    token = variable.set("of the test")
    try:
        with Wire(application) as wire:
            wire.send(get() * 2)
            wire.send(get())
    finally:
        variable.reset(token)
    assert seen == ["fresh"] * 3


class TestMounts:
    """ASGI HTTP: `path` includes `root_path`; serverd: `strip_prefix` for those that do not know it."""

    def test_the_path_includes_the_root_path(self) -> None:
        scope = scope_of(get("/shop/x"), {"root_path": "/shop"})
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "/shop/x", b"/shop/x")

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            ("/shop", "/"),
            ("/shop/", "/"),
            ("/shop/x", "/x"),
            ("/shop//x", "//x"),
            ("/sho%70/x", "/x"),
            ("/./shop/x", "/x"),
            ("//shop/x", "/x"),
            ("/a/../shop/x/", "/x/"),
            ("/shopping/../shop/x", "/x"),
            ("/shop%2Fx", "/x"),
            ("/shop/y/../x", "/y/../x"),
        ],
    )
    def test_a_prefix_is_stripped_on_a_segment_boundary(self, target: str, path: str) -> None:
        scope = scope_of(get(target), {"strip": "/shop"})
        assert scope["path"] == path
        assert scope["raw_path"] == target.encode()


@pytest.mark.parametrize(
    ("client", "shown"),
    [(("192.0.2.1", 7), "192.0.2.1:7"), (("2001:db8::1", 7), "[2001:db8::1]:7"), (None, "a local client")],
)
def test_lines_of_the_log_speak_of_a_client_by_its_address(client: tuple[str, int] | None, shown: str) -> None:
    assert str(Peer(client, None)) == shown
