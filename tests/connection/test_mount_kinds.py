"""One path for routing and serving, against every kind of mount, and what never becomes a tunnel.

How paths are normalised is shown in tests/asgi/test_router.py; here it is what each kind of target makes of them.
"""

from __future__ import annotations

import pytest

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
from serverd.worker.routes import make_router
from tests.support.applications import Recorder
from tests.support.every import every
from tests.support.wire import PARSERS, Wire

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))
LISTENER = Listener("web", (), 1, Limits())


class Scene:
    """A mount of each kind, and one at the root for whatever none of them takes."""

    def __init__(self, parser: str = "httptools", trace: bool = False) -> None:
        self.recorders = {name: Recorder() for name in ("root", "app", "strip")}
        mounts = (
            Mount("/", (), ("web",), AppTarget("root", "")),
            Mount("/app", (), ("web",), AppTarget("app", "/app"), trace=trace),
            Mount("/strip", (), ("web",), AppTarget("strip", "", strip_prefix=True)),
            Mount("/fixed", (), ("web",), RespondTarget(200, "fixed", ())),
            Mount("/away", (), ("web",), RedirectTarget("https://{host}{uri}")),
        )
        apps = tuple(App(name, "m:app", "/") for name in self.recorders)
        generation = Generation("server.toml", Server(), (LISTENER,), apps, mounts, Logging())
        endpoints = {name: Endpoint(recorder, name) for name, recorder in self.recorders.items()}
        self.wire = Wire(make_router(generation, LISTENER, endpoints), parser)

    def get(self, target: str, host: str = "a") -> tuple[str, str]:
        """Return which mount has answered, and the path or location that it has made of the target."""
        with self.wire as wire:
            answer = wire.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        for name, recorder in self.recorders.items():
            for scope in recorder.scopes:
                assert scope["raw_path"] == target.partition("?")[0].encode()
                return name, scope["path"]
        head, _, body = answer.decode().partition("\r\n\r\n")
        if " 307 " in head:
            return "away", next(line for line in head.split("\r\n") if line.startswith("location: "))[10:]
        return ("fixed" if body == "fixed" else head.split(" ")[1]), ""


@EVERY_PARSER
@every("mount", ["app", "strip", "fixed", "away"])
@every(
    ("spelling", "below"),
    [
        ("/{0}", "/"),
        ("/{0}/", "/"),
        ("/{0}/x", "/x"),
        ("//{0}/x", "/x"),
        ("/./{0}/x", "/x"),
        ("/%2e/{0}/x", "/x"),
        ("/y/../{0}/x", "/x"),
        ("/y/%2E%2e/{0}/x", "/x"),
        ("/y%2f..%2f{0}%2fx", "/x"),
        ("/{0}/../{0}/x", "/x"),
        ("/{0}/%2e%2e/{0}/x", "/x"),
        ("/{0}/../../{0}/x", "/x"),
        ("/{0}/y/../x", "/y/../x"),
        ("/{0}//x", "//x"),
        ("/{0}/%252e%252e/x", "/%2e%2e/x"),
        ("/{0}/x%5cy", "/x\\y"),
        ("/{0}?/../root", "/"),
    ],
)
def test_a_spelling_of_its_path_reaches_a_mount_whatever_it_is(
    parser: str, mount: str, spelling: str, below: str
) -> None:
    target = spelling.format(mount)
    name, made = Scene(parser).get(target)
    assert name == mount
    if mount == "strip":
        assert made == below
    elif mount == "away":
        assert made == f"https://a{target}"


@EVERY_PARSER
@every("mount", ["app", "strip", "fixed", "away"])
@every(
    "spelling",
    ["/{0}foo", "/{0}.", "/{0};x", "/{0}%20", "/{0}%5cx", "/%5c{0}", "/{0}/..", "/{0}/%2e%2e/x", "/x/{0}", "/%252f{0}"],
)
def test_what_only_looks_like_its_path_does_not(parser: str, mount: str, spelling: str) -> None:
    assert Scene(parser).get(spelling.format(mount))[0] == "root"


@EVERY_PARSER
@pytest.mark.parametrize("mount", ["app", "strip", "fixed", "away"])
def test_a_nul_is_refused_before_any_mount(parser: str, mount: str) -> None:
    assert Scene(parser).get(f"/{mount}/%00")[0] == "400"


@EVERY_PARSER
@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("A.Example", "https://a.example/away"),
        ("a.example:8000", "https://a.example/away"),
        ("a.example.", "https://a.example/away"),
        ("[0:0:0::1]:80", "https://[::1]/away"),
    ],
)
def test_a_redirect_names_the_host_in_one_form(parser: str, host: str, location: str) -> None:
    assert Scene(parser).get("/away", host) == ("away", location)


@EVERY_PARSER
@every("slowly", [False, True])
@every("target", ["a:443", "/app", "http://a/"])
def test_connect_is_501_and_the_end(parser: str, slowly: bool, target: str) -> None:
    scene = Scene(parser)
    with scene.wire as wire:
        request = f"CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        answer = wire.send_slowly(request) if slowly else wire.send(request)
        assert answer.startswith(b"HTTP/1.1 501 ")
        assert wire.closed
        assert wire.send(b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    assert not any(recorder.scopes for recorder in scene.recorders.values())


@EVERY_PARSER
@every(
    ("trace", "path", "status"),
    [
        (False, "/app", b"405"),
        (True, "/app", b"200"),
        (True, "/y/../app/x", b"200"),
        (True, "/strip", b"405"),
        (True, "/app/../strip", b"405"),
        (True, "/", b"405"),
        (True, "/fixed", b"405"),
        (True, "/away", b"405"),
    ],
)
def test_trace_reaches_those_that_asked_for_it(parser: str, trace: bool, path: str, status: bytes) -> None:
    scene = Scene(parser, trace)
    with scene.wire as wire:
        assert wire.send(f"TRACE {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).startswith(b"HTTP/1.1 %b " % status)
