"""Bringing applications up, and those that may be down: 503, tries with growing waits, up again. In virtual time."""

from __future__ import annotations

import asyncio
import decimal
import gc
import importlib
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd.generation import App, AppTarget, Generation, Limits, Listener, Logging, Mount, Server
from serverd.messages import AppDown, AppUp, Failed, Message, Starting
from serverd.worker.applications import Applications, Imported
from serverd.worker.apps import load_app
from serverd.worker.serving import Serving
from serverd.worker.sources import Sources
from tests.support.wire import StillLoop, Wire

GOOD = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": %r})
"""
LIFESPAN = """
import asyncio, pathlib, sys
loads = sys.modules.setdefault("larder_loads", [])
loads.append(1)
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if (pathlib.Path(__file__).parent / "hang").exists():
            await asyncio.Event().wait()
        assert (pathlib.Path(__file__).parent / "database").exists(), "no database"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        print("shut down")
"""

PRECISE = """
import decimal
from contextvars import ContextVar
decimal.setcontext(decimal.Context(prec=6))
PLACE = ContextVar("place", default="nowhere")
PLACE.set("import")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert PLACE.get() == "import"
        PLACE.set("lifespan")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    seen = f"{PLACE.get()} {decimal.getcontext().prec}".encode()
    PLACE.set("request")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen})
"""


class Scene:
    """The applications of a worker whose code lies in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = StillLoop()
        self.told: list[Message] = []

    def make(self, *apps: tuple[str, str], on_failure: str = "unavailable", **server: Any) -> None:
        """Make the applications; `apps` are names and targets."""
        self.generation = Generation(
            "server.toml",
            Server(**server),
            (Listener("web", (), 1, Limits()),),
            tuple(
                App(name, target, str(self.directory), on_failure=on_failure, source="server.toml:7")
                for name, target in apps
            ),
            tuple(Mount(f"/{name}", (), ("web",), AppTarget(name, f"/{name}")) for name, _ in apps),
            Logging(),
        )
        self.applications = Applications(self.generation, self.told.append)

    def write(self, name: str, source: str) -> None:
        file = self.directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)

    def settle(self) -> None:
        for _ in range(30):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = self.loop.create_task(coroutine)
        self.settle()
        return task.result()

    def bring_up(self) -> bool:
        """Bring the applications up and build the routes."""
        up: bool = self.run(self.applications.bring_up())
        if up:
            self.serving = Serving(self.loop, self.generation, self.applications.endpoints)
            self.applications.on_change = self.serving.reroute
        return up

    def advance(self, seconds: float) -> None:
        self.loop.now += seconds
        self.settle()

    def get(self, path: str) -> bytes:
        """Return the response to a request; it is made on a wire whose clock is ours."""
        with Wire(self.serving._services["web"].router) as wire:
            wire.loop.now = self.loop.now
            return wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    def news(self) -> list[Message]:
        """Return what the supervisor was told since the last call, Starting apart."""
        news = [message for message in self.told if not isinstance(message, Starting)]
        self.told.clear()
        return news

    def close(self) -> None:
        self.run(self.applications.shut_down(1.0))
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    before, path = set(sys.modules), list(sys.path)
    scene = Scene(tmp_path)
    yield scene
    scene.close()
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_an_application_that_fails_is_down_and_the_others_serve(scene: Scene) -> None:
    scene.write("larder_bad.py", "raise RuntimeError('no settings')")
    scene.write("larder_good.py", GOOD % b"good")
    scene.make(("bad", "larder_bad:app"), ("good", "larder_good:app"))
    assert scene.bring_up()
    assert scene.told[0] == Starting("server.toml:7: apps.bad")
    [down] = scene.news()
    assert isinstance(down, AppDown)
    assert (down.app, down.retry) == ("bad", 1.0)
    assert down.summary == "server.toml:7: apps.bad: importing 'larder_bad' failed: RuntimeError: no settings"
    assert 'larder_bad.py", line 1' in down.detail
    assert scene.applications.down() == ["bad"]
    assert scene.get("/good").endswith(b"good")
    answer = scene.get("/bad/page")
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in answer


def test_the_waits_grow_and_retry_after_counts_down(scene: Scene) -> None:
    scene.write("larder_bad.py", "1 / 0")
    scene.make(("bad", "larder_bad:app"))
    scene.bring_up()
    waits = []
    for _ in range(8):
        [down] = scene.news()
        assert isinstance(down, AppDown)
        waits.append(down.retry)
        scene.advance(down.retry)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert b"\r\nretry-after: 60\r\n" in scene.get("/bad")
    scene.advance(10.5)
    assert b"\r\nretry-after: 50\r\n" in scene.get("/bad")  # 49.5 s, rounded up


def test_an_application_that_is_mended_comes_up(scene: Scene) -> None:
    scene.write("larder_bad.py", "1 / 0")
    scene.make(("bad", "larder_bad:app"))
    scene.bring_up()
    scene.write("larder_bad.py", GOOD % b"done")
    scene.news()
    scene.advance(1.0)
    assert scene.news() == [AppUp("bad")]
    assert scene.get("/bad").endswith(b"done")
    scene.advance(100.0)
    assert scene.news() == []


def test_a_package_that_failed_halfway_is_imported_again_without_its_good_parts(scene: Scene) -> None:
    """A part that was imported stays imported, because not everything can be twice; Python does the same."""
    scene.write("larder/__init__.py", "import larder.metrics\n")
    scene.write("larder/metrics.py", "import sys\nsys.modules.setdefault('larder_count', []).append(1)\n")
    scene.write("larder/main.py", "import larder.missing\n" + GOOD % b"up..")
    scene.make(("larder", "larder.main:app"))
    scene.bring_up()
    scene.write("larder/missing.py", "")
    scene.advance(1.0)
    assert scene.news()[1:] == [AppUp("larder")]
    assert sys.modules["larder_count"] == [1]  # type: ignore[comparison-overlap]
    assert scene.get("/larder").endswith(b"up..")


def test_a_part_that_was_mended_is_imported_anew(scene: Scene) -> None:
    scene.write("larder/__init__.py", "")
    scene.write("larder/shelf.py", "jam = None\n")
    scene.write("larder/main.py", "from larder import shelf\nassert shelf.jam, 'no jam'\n" + GOOD % b"up..")
    scene.make(("larder", "larder.main:app"))
    scene.bring_up()
    scene.write("larder/shelf.py", "jam = 'plum jam'\n")
    scene.advance(1.0)
    assert scene.news()[1:] == [AppUp("larder")]


def test_a_lifespan_that_fails_is_run_again_and_nothing_is_imported_twice(scene: Scene) -> None:
    scene.write("larder_life.py", LIFESPAN)
    scene.make(("life", "larder_life:app"))
    scene.bring_up()
    [down] = scene.news()
    assert isinstance(down, AppDown)
    assert "no database" in down.detail
    (scene.directory / "database").touch()
    scene.advance(1.0)
    assert scene.news() == [AppUp("life")]
    assert len(sys.modules["larder_loads"]) == 1  # type: ignore[arg-type]


def test_an_application_that_came_up_late_is_shut_down_like_any_other(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.write("larder_life.py", LIFESPAN)
    scene.make(("life", "larder_life:app"))
    scene.bring_up()
    (scene.directory / "database").touch()
    scene.advance(1.0)
    scene.run(scene.applications.shut_down(1.0))
    assert capsys.readouterr().out == "shut down\n"


def test_a_start_up_that_hangs_is_taken_for_down_before_the_worker_is_given_up_and_goes_on(scene: Scene) -> None:
    scene.write("larder_life.py", LIFESPAN.replace("await asyncio.Event().wait()", "await asyncio.sleep(100)"))
    scene.write("larder_good.py", GOOD % b"good")
    (scene.directory / "hang").touch()
    (scene.directory / "database").touch()
    scene.make(("life", "larder_life:app"), ("good", "larder_good:app"), start_timeout=60.0)
    task = scene.loop.create_task(scene.applications.bring_up())
    scene.settle()
    assert not task.done()
    scene.advance(45.0)
    assert task.result() is True
    [down] = scene.news()
    assert isinstance(down, AppDown)
    assert down.summary == "server.toml:7: apps.life: not up after 45 s, its start-up goes on"
    scene.advance(55.0)
    assert scene.news() == [AppUp("life")]


def test_nothing_is_tried_any_more_once_it_is_given_up(scene: Scene) -> None:
    scene.write("larder_bad.py", "1 / 0")
    scene.make(("bad", "larder_bad:app"))
    scene.bring_up()
    scene.news()
    scene.applications.give_up()
    scene.advance(1000.0)
    assert scene.news() == []
    assert scene.get("/bad").startswith(b"HTTP/1.1 503 ")


FRAMEWORK = """
import asyncio, sys
trace = sys.modules.setdefault("larder_trace", [])
async def app(scope, receive, send):
    \"\"\"As Starlette does it: whatever ends it, it says first that it has failed.\"\"\"
    started = False
    await receive()
    try:
        for _ in range(2):
            await asyncio.sleep(0)
        trace.append("start-up")
        await send({"type": "lifespan.startup.complete"})
        started = True
        await receive()
        trace.append("shutdown")
    except BaseException as error:
        await send({"type": f"lifespan.{'shutdown' if started else 'startup'}.failed", "message": repr(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize("on_failure", ["exit", "unavailable"])
@pytest.mark.parametrize("turns", range(16))
def test_what_has_started_is_shut_down_however_early_the_drain_comes(
    scene: Scene, turns: int, on_failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.write("larder_first.py", FRAMEWORK)
    scene.write("larder_second.py", FRAMEWORK)
    scene.make(("first", "larder_first:app"), ("second", "larder_second:app"), on_failure=on_failure)
    bring_up = scene.loop.create_task(scene.applications.bring_up())
    for _ in range(turns):
        scene.loop.call_soon(scene.loop.stop)
        scene.loop.run_forever()
    bring_up.cancel()
    scene.run(asyncio.wait({bring_up}))
    scene.run(scene.applications.shut_down(1.0))
    assert not asyncio.all_tasks(scene.loop)
    gc.collect()  # asyncio complains of an exception that nobody retrieved when its task goes
    assert not scene.loop.failures
    assert not caplog.records
    trace: Any = sys.modules.get("larder_trace", [])
    assert trace.count("start-up") == trace.count("shutdown")
    if turns == 15:
        assert trace.count("start-up") == 2  # late enough: all cases lie between none and all


def test_a_try_that_failed_leaves_nothing_to_shut_down(scene: Scene) -> None:
    scene.write("larder_life.py", LIFESPAN)
    scene.make(("life", "larder_life:app"))
    scene.bring_up()
    for _ in range(5):
        scene.advance(60.0)
    assert scene.applications._lifespans == []


def test_an_application_that_must_not_fail_ends_the_start(scene: Scene) -> None:
    scene.write("larder_bad.py", "1 / 0")
    scene.make(("bad", "larder_bad:app"), on_failure="exit")
    assert not scene.bring_up()
    [failed] = scene.news()
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError" in failed.summary


def test_what_is_told_of_a_failure_is_bounded(scene: Scene) -> None:
    scene.write("larder_bad.py", "raise RuntimeError('x' * 1_000_000 + 'the end')")
    scene.make(("bad", "larder_bad:app"))
    scene.bring_up()
    [down] = scene.news()
    assert isinstance(down, AppDown)
    assert len(down.summary) == 2_000
    assert len(down.detail) == 100_000
    assert down.detail.rstrip().endswith("the end")


def test_the_next_try_goes_by_the_settings_of_the_generation_that_was_adopted(scene: Scene) -> None:
    scene.write("larder_bad.py", "1 / 0")
    scene.make(("bad", "larder_bad:app"))
    scene.bring_up()
    [old] = scene.generation.apps
    scene.news()
    scene.applications.adopt(
        Generation(
            "", Server(), (), (App(old.name, old.target, old.directory, source="server.toml:99"),), (), Logging()
        )
    )
    scene.advance(1.0)
    [down] = scene.news()
    assert isinstance(down, AppDown)
    assert down.summary.startswith("server.toml:99: apps.bad: ")


def preload(scene: Scene) -> None:
    """Import the applications as a preloader does, and hand them over."""
    sources = Sources(app.directory for app in scene.generation.apps)
    applications = {app.name: load_app(app) for app in scene.generation.apps}
    sources.remember()
    scene.applications = Applications(scene.generation, scene.told.append, Imported(applications, sources))


@pytest.mark.parametrize("on_failure", ["exit", "unavailable"])
def test_requests_find_what_was_set_in_the_context_of_the_import_and_nothing_later(
    on_failure: str, scene: Scene
) -> None:
    scene.write("larder_precise.py", PRECISE)
    scene.make(("precise", "larder_precise:app"), on_failure=on_failure)
    assert scene.bring_up()
    for _ in range(2):
        assert b"import 6" in scene.get("/precise")
    assert decimal.getcontext().prec == 28  # it is nobody else's


def test_what_was_imported_before_the_fork_is_not_imported_again(scene: Scene) -> None:
    scene.write("larder_good.py", GOOD % b"good")
    scene.make(("good", "larder_good:app"), on_failure="exit")
    preload(scene)
    scene.write("larder_good.py", "1 / 0")
    del sys.modules["larder_good"]
    assert scene.bring_up()
    assert scene.get("/good").endswith(b"good")
    assert scene.applications.sources.change() == "larder_good.py has changed since it was imported"


def test_one_that_was_imported_before_the_fork_and_is_down_is_imported_anew_when_it_is_mended(scene: Scene) -> None:
    scene.write("larder_life.py", LIFESPAN)
    scene.make(("life", "larder_life:app"))
    preload(scene)
    scene.bring_up()
    scene.write("larder_life.py", LIFESPAN.replace('.exists(), "no database"', ""))
    scene.news()
    scene.advance(1.0)
    assert scene.news() == [AppUp("life")]
    assert len(sys.modules["larder_loads"]) == 2  # type: ignore[arg-type]
