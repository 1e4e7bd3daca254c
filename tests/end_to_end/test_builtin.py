"""Builtin mounts of a real server: what was counted, come what may, health, and the status page in a browser."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.support.browser import CHROMEDRIVER, CHROMIUM, browsing
from tests.support.client import Client, get
from tests.support.control import status, wait_until
from tests.support.load import Load
from tests.support.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGURATION = """\
[server]
workers = 2
shutdown_delay = "{delay}"

[listeners.web]
bind = "127.0.0.1:0"
limits = {{ keep_alive_timeout = "{keep_alive}s" }}

[listeners.inside]
bind = "127.0.0.1:0"

[apps.hello]
app = "hello:app"
directory = "{examples}/hello"

[[mounts]]
app = "hello"
listeners = ["web"]

[[mounts]]
path = "/health"
builtin = "health"
listeners = ["inside"]

[[mounts]]
path = "/metrics"
builtin = "metrics"
listeners = ["inside"]

[[mounts]]
path = "/status"
builtin = "status"
listeners = ["inside"]
"""


STRANGE_PATH = "/<img src=x onerror='window.forged = 1'>\"&amp;\u2028"
STRANGE = f"""
[apps.constructor]
app = "hello:app"
directory = "{EXAMPLES}/hello"

[[mounts]]
path = {json.dumps(STRANGE_PATH)}
app = "constructor"
listeners = ["web"]
"""


def configuration(delay: str = "0s", keep_alive: int = 75) -> str:
    return CONFIGURATION.format(delay=delay, keep_alive=keep_alive, examples=EXAMPLES)


def metrics(server: Server) -> dict[tuple[Any, ...], float]:
    """Return all metrics by name and labels."""
    response = get(server.address("inside"), "/metrics")
    assert response.status == 200
    families = text_string_to_metric_families(response.body.decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def requests(found: dict[tuple[Any, ...], float]) -> float:
    """Return how many requests of the application were counted."""
    labels = (("app", "hello"), ("mount", "/"), ("status", "2xx"))
    counted = found["serverd_requests_total", *labels]
    assert found["serverd_request_duration_seconds_count", *labels] == counted
    return counted


def kill(server: Server, *pids: int) -> None:
    """Kill workers and wait until others are ready in their places."""
    restarts = sum(slot["restarts"] for slot in status(server)["slots"])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        found = status(server)
        is_new = sum(slot["restarts"] for slot in found["slots"]) == restarts + len(pids)
        return is_new and [one["state"] for one in found["workers"]] == ["ready", "ready"]

    wait_until(replaced)


def test_counters_of_two_workers_across_reloads_and_kills_are_what_the_clients_have_counted(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(configuration())
    with Load(server.address(), fresh=1, keep_alive=3) as load:
        for reload in range(1, 4):  # new workers, adopted, new workers: each before a kill, and behind one
            load.wait_for_answers(20)
            if reload == 2:  # the running workers adopt it, and count on in the same memory
                (tmp_path / "server.toml").write_text(configuration(keep_alive=70 + reload))
            line = server.reload()
            assert ("adopted by the running workers" in line.message) is (reload == 2)
            load.wait_for_answers(20)
            kill(server, server.workers()[-1])
        load.wait_for_answers(20)
    found = metrics(server)
    # A request that a kill has cut may have ended and been counted, only nobody got the answer. Nobody got an answer
    # that was not counted.
    assert load.answered <= requests(found) <= load.answered + len(load.failures)
    assert len(load.failures) <= 3 * 4, "more than one request of each client was cut by a kill"
    assert found["serverd_reloads_total", ("result", "ok")] == 3
    assert found["serverd_worker_restarts_total",] == 3
    assert found["serverd_generation",] == 4
    assert found["serverd_workers", ("state", "ready")] == 2


def test_what_clients_at_rest_have_counted_is_exact_after_a_kill_of_every_worker(serve: Serve) -> None:
    server = serve(configuration())
    before = metrics(server)
    builtin = [(("app", ""), ("mount", f"/{name}"), ("status", "2xx")) for name in ("health", "metrics", "status")]
    assert [before["serverd_requests_total", *labels] for labels in builtin] == [0, 0, 0]
    with Client(server.address()) as kept:
        for _ in range(20):
            assert kept.request("GET", "/").status == 200
    for _ in range(20):
        assert get(server.address(), "/").status == 200
    kill(server, *server.workers())
    assert get(server.address(), "/").status == 200
    after = metrics(server)
    assert requests(after) == 41
    # A scrape is counted when it has ended, so it tells of those before it.
    assert [after["serverd_requests_total", *labels] for labels in builtin] == [0, 1, 0]
    by_protocol = [
        after["serverd_connections_total", ("listener", "web"), ("protocol", one)] for one in ("http/1.1", "h2")
    ]
    assert by_protocol == [22, 0]


def test_readiness_goes_down_before_anything_else_does(serve: Serve) -> None:
    server = serve(configuration(delay="60s"))
    inside = server.address("inside")
    assert get(inside, "/health/readyz").status == get(inside, "/health/livez").status == 200
    server.send_signal(signal.SIGTERM)
    wait_until(lambda: get(inside, "/health/readyz").status == 503)
    server.wait_for("not ready any more: TERM received")
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)  # one that comes now has to know as well
    wait_until(lambda: len(status(server)["workers"]) == 2)
    wait_until(lambda: all(one["state"] == "ready" for one in status(server)["workers"]))
    for _ in range(6):
        response = get(inside, "/health")
        assert (response.status, response.body) == (503, b"not ready: the server is about to stop\n")
        assert get(inside, "/health/livez").status == 200
        assert get(server.address(), "/").status == 200
    assert server.stop() == 0


needs_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver are not both installed"
)


@needs_browser
def test_the_status_page_is_live_in_a_browser(serve: Serve) -> None:
    server = serve(configuration())
    host, port = server.address("inside")
    for _ in range(3):
        get(server.address(), "/")
    with browsing() as browser:
        browser.open(f"http://{host}:{port}/status")
        assert browser.run("return document.querySelector('.app h3').innerText") == "hello"
        counted = "Number(document.querySelector('.app .mounts td.number').innerText.replace(/\\D/g, ''))"
        assert browser.run(f"return {counted}") == 3
        get(server.address(), "/")
        browser.wait_for(f"{counted} === 4")
        browser.wait_for("document.querySelector('figure[data-app=hello] path.edge')")
        assert "requests now" in browser.text()
        # What an operator may call a mount and an application is text to the page.
        server.file.write_text(configuration() + STRANGE)
        server.reload()
        get(server.address(), quote(STRANGE_PATH))
        browser.wait_for("document.querySelector('figure[data-app=constructor] path.edge')")
        browser.wait_for(f"document.querySelector('main').innerText.includes({json.dumps(STRANGE_PATH)})")
        assert browser.run("return [document.querySelectorAll('main img').length, window.forged]") == [0, None]
        browser.wait_for("document.querySelector('#generation').innerText === '2'")
        seen = browser.run("return Number(document.body.dataset.live)")
        browser.wait_for(f"Number(document.body.dataset.live) > {seen} + 1")  # it has found another worker
        assert "Live." in browser.text()
        # EventSource says in the console that it has to connect again; the policy has kept nothing from running.
        assert [line for line in browser.complaints() if "Security Policy" in line] == []
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(f"return {width}") == 0, "something is wider than the page"
        server.kill()
        browser.wait_for("document.body.classList.contains('stale')")
        assert "does not answer" in browser.text()


@needs_browser
def test_the_status_page_can_be_read_without_javascript_and_in_the_dark(serve: Serve) -> None:
    server = serve(configuration())
    host, port = server.address("inside")
    get(server.address(), "/")
    with browsing("--blink-settings=scriptEnabled=false,preferredColorScheme=0") as browser:
        browser.open(f"http://{host}:{port}/status")
        text = browser.text()
        for part in ("serverd", "ready", "hello", "up", "web", f"http://{host}:{server.port}", "Generation"):
            assert part in text, part
        assert "Live." not in text
        colours = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        assert browser.run(colours) == ["rgb(230, 235, 231)", "rgb(19, 23, 21)"]
