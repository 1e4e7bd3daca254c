"""The builtin mounts over a connection in memory: who may ask, what is answered, and when a page stops."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.generation import BuiltinTarget, Generation, Limits, Listener, Logging, Mount, Server
from serverd.messages import Ask, Told
from serverd.observe import page
from serverd.observe.counters import BOUNDS
from serverd.protocol.trust import Trust
from serverd.worker.inside import Inside
from serverd.worker.pages import WATCHERS
from serverd.worker.routes import make_router
from tests.support.counted import mount_row, report_of
from tests.support.wire import Wire

KINDS = ("health", "metrics", "status")
LISTENER = Listener("web", (), 1, Limits())


class Scene:
    """The builtin mounts, below /in and, for health, at the root; the supervisor answers at once, or is silent."""

    def __init__(self) -> None:
        mounts = tuple(Mount(f"/in/{kind}", (), ("web",), BuiltinTarget(kind)) for kind in KINDS)
        root = Mount("/", (), ("web",), BuiltinTarget("health"))
        generation = Generation("server.toml", Server(), (LISTENER,), (), (*mounts, root), Logging())
        self.down: list[str] = []
        self.asked = 0
        self.silent = False
        self.inside = Inside(generation, ask=self.ask, down=lambda: self.down)
        self.wire = Wire(make_router(generation, LISTENER, {}, self.inside))

    def ask(self, question: Ask) -> bool:
        self.asked += 1
        if not self.silent:
            report = report_of({("shop", "/"): mount_row({2: [7] + [0] * len(BOUNDS)})})
            self.wire.loop.call_soon(self.inside.enquiry.on_told, Told(question.number, report))
        return True

    def request(self, target: str, *fields: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Return status, fields and body of a response; the body of one that goes on is what there is of it."""
        lines = [f"{method} {target} HTTP/1.1", "Host: a", *fields, "", ""]
        answer = self.wire.send("\r\n".join(lines).encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    with scene.wire:
        yield scene


@pytest.mark.parametrize("base", ["/in/health", "/in/health/", ""])
def test_health_is_live_while_it_answers_and_ready_while_nothing_speaks_against_it(scene: Scene, base: str) -> None:
    paths = ["/livez", "/readyz", ""] if not base.endswith("/") else [""]
    for path in paths:
        status, fields, body = scene.request(f"{base}{path}" or "/")
        assert (status, body) == (200, b"ok\n")
        assert fields["cache-control"] == "no-store"


def test_an_application_that_is_down_takes_readiness_and_not_life(scene: Scene) -> None:
    scene.down = ["shop", "blog"]
    assert scene.request("/readyz")[::2] == (503, b"not ready: apps blog, shop are down\n")
    assert scene.request("/livez")[0] == 200
    scene.down = ["shop"]
    assert scene.request("/")[::2] == (503, b"not ready: app shop is down\n")
    scene.down = []
    assert scene.request("/readyz")[0] == 200


def test_readiness_ends_when_the_server_is_about_to_stop_and_when_the_worker_drains(scene: Scene) -> None:
    scene.inside.standing.stop_soon()
    assert scene.request("/in/health/readyz")[::2] == (503, b"not ready: the server is about to stop\n")
    scene.inside.standing.drain()
    assert scene.request("/in/health")[::2] == (503, b"not ready: this worker is draining\n")
    assert scene.request("/in/health/livez")[0] == 200


@pytest.mark.parametrize("target", ["/x", "/in/health/x", "/in/metrics/x", "/in/status/x", "/in/health/livez/x"])
def test_there_is_nothing_else_below(scene: Scene, target: str) -> None:
    assert scene.request(target)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
@pytest.mark.parametrize("target", ["/livez", "/in/health", "/in/metrics", "/in/status", "/in/status/events"])
def test_nothing_but_reading_is_allowed(scene: Scene, method: str, target: str) -> None:
    status, fields, _ = scene.request(target, method=method)
    assert status == 405
    assert "GET, HEAD" in fields["allow"]


@pytest.mark.parametrize("target", ["/livez", "/in/metrics", "/in/status", "/in/status/status.json"])
def test_head_is_what_get_would_be(scene: Scene, target: str) -> None:
    status, fields, body = scene.request(target, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(fields["content-length"]) == int(scene.request(target)[1]["content-length"]) > 0


def test_metrics_come_in_the_format_that_is_asked_for(scene: Scene) -> None:
    _, fields, body = scene.request("/in/metrics")
    assert fields["content-type"].startswith("text/plain; version=0.0.4")
    assert b'serverd_requests_total{app="shop",mount="/",status="2xx"} 7.0\n' in body
    _, fields, body = scene.request("/in/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert fields["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert fields["vary"] == "accept"


@pytest.mark.parametrize(
    ("target", "fields", "is_html"),
    [
        ("/in/status", [], True),
        ("/in/status/", ["Accept: text/html,application/xhtml+xml,application/json;q=0.1"], True),
        ("/in/status", ["Accept: application/json"], False),
        ("/in/status?format=json", ["Accept: text/html"], False),
        ("/in/status?format=html", ["Accept: application/json"], True),
        ("/in/status/status.json", [], False),
    ],
)
def test_status_is_a_page_for_browsers_and_json_for_scripts(
    scene: Scene, target: str, fields: list[str], is_html: bool
) -> None:
    status, answered, body = scene.request(target, *fields)
    assert status == 200
    if is_html:
        assert answered["content-security-policy"] == page.POLICY
        assert b'data-events="/in/status/events"' in body
    else:
        assert answered["content-type"] == "application/json"
        assert json.loads(body)["apps"][0]["requests"] == 7


@pytest.mark.parametrize("target", ["/in/metrics", "/in/status", "/in/status/status.json"])
def test_a_supervisor_that_is_silent_is_an_answer_as_well(scene: Scene, target: str) -> None:
    scene.silent = True
    assert scene.wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()) == b""
    assert scene.wire.advance(6).startswith(b"HTTP/1.1 503 ")
    assert scene.request("/livez")[0] == 200


def test_whoever_scrapes_a_thousand_times_a_second_asks_the_supervisor_once(scene: Scene) -> None:
    for _ in range(100):
        scene.request("/in/metrics")
    assert scene.asked == 1


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]


def watch(scene: Scene) -> list[dict[str, Any]]:
    answer = scene.wire.send(b"GET /in/status/events HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-type: text/event-stream" in answer
    return events(answer)


def test_a_page_is_told_once_a_second_what_has_changed(scene: Scene) -> None:
    (first,) = watch(scene)
    assert first["sample"]["apps"]["shop"]["requests"] == 7
    assert len(events(scene.wire.advance(1))) == 1
    assert len(events(scene.wire.advance(3))) == 3
    assert scene.asked == 5


def test_while_the_supervisor_is_silent_a_page_waits(scene: Scene) -> None:
    watch(scene)
    scene.silent = True
    assert events(scene.wire.advance(8)) == []
    scene.silent = False
    assert len(events(scene.wire.advance(8))) >= 1


def test_a_page_is_sent_elsewhere_when_the_worker_drains(scene: Scene) -> None:
    watch(scene)
    scene.inside.standing.drain()
    scene.wire.settle()
    assert scene.wire.received().endswith(b"0\r\n\r\n")
    assert not scene.wire.service.answers


def test_so_many_pages_are_watched_and_no_more_and_one_that_is_closed_makes_room(scene: Scene) -> None:
    for _ in range(WATCHERS):
        watch(scene)
        first = scene.wire.transport
        scene.wire.connect()
    assert scene.request("/in/status/events")[0] == 503
    first.abort()
    scene.wire.advance(2)
    assert len(watch(scene)) == 1


def test_a_page_has_to_come_again_after_ten_minutes(scene: Scene) -> None:
    watch(scene)
    told = scene.wire.advance(605)
    assert len(events(told)) == pytest.approx(600, abs=2)
    assert told.endswith(b"0\r\n\r\n")


def test_one_that_reads_too_slowly_gives_its_place_up_then_as_well(scene: Scene) -> None:
    scene.wire.transport.room = 0
    watch(scene)
    for _ in range(25):
        scene.wire.advance(20)
        scene.wire.take(1)
    assert len(scene.wire.service.answers) == 1
    for _ in range(6):
        scene.wire.advance(20)
        scene.wire.take(1)
    assert not scene.wire.service.answers
    assert not scene.wire.closed, "what is on its way has the time of any answer"
    scene.wire.transport.room = float("inf")
    scene.wire.take()
    assert scene.request("/livez")[0] == 200


def test_the_library_and_the_page_are_for_whoever_is_asked_for_them() -> None:
    code = (
        "import sys, serverd.worker.process, serverd.supervisor.supervisor\n"
        "print([name for name in ('prometheus_client', 'serverd.observe.page') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    "target",
    ["//in/health/livez", "/in//health/livez", "/./in/health/%6civez", "/x/../in/health/livez/", "/in/health/./livez"],
)
def test_a_page_is_found_however_its_path_is_spelled(scene: Scene, target: str) -> None:
    scene.down = ["shop"]  # so that only livez is ok
    assert scene.request(target)[::2] == (200, b"ok\n")


def test_behind_a_proxy_that_takes_a_prefix_off_the_page_leads_to_its_events(scene: Scene) -> None:
    scene.wire.service.trust = Trust(["127.0.0.1"], [b"x-forwarded-prefix"])
    scene.wire.connect()
    status, _, body = scene.request("/in/status", "X-Forwarded-Prefix: /behind")
    assert status == 200
    assert b'data-events="/behind/in/status/events"' in body
    assert scene.request("/in/health/livez", "X-Forwarded-Prefix: /behind")[::2] == (200, b"ok\n")
    assert scene.request("/in/health/nope", "X-Forwarded-Prefix: /behind")[0] == 404
