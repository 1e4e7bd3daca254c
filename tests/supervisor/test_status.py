"""How everything stands, as a document: what an operator sees of each situation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverd.control.status_text import describe_size
from serverd.generation import Recycle
from serverd.messages import AppDown, AppUp, Beat
from serverd.observe.counters import CLASSES, MOUNT_WIDTH, SESSIONS, Tally, class_at
from serverd.supervisor import events
from serverd.supervisor.status import describe, with_counts
from serverd.supervisor.worker import LATE_AFTER
from tests.supervisor.scene import HUP, TERM, Scene, make_generation, said

WALL = 1_700_000_000.0


@pytest.fixture
def scene() -> Scene:
    return Scene()


def status(scene: Scene) -> dict[str, Any]:
    """Return the document, after a trip through JSON as strict as it gets."""
    document: dict[str, Any] = json.loads(json.dumps(describe(scene.fleet, scene.now, WALL), allow_nan=False))
    return document


def test_before_anything_serves_there_is_a_document_all_the_same(scene: Scene) -> None:
    scene.happens(events.Begin())
    found = status(scene)
    assert (found["phase"], found["step"], found["ready"], found["generation"]) == ("starting", "loading", False, None)
    assert found["workers"] == found["slots"] == found["apps"] == []
    assert found["last_reload"] is None


def test_a_worker_is_shown_with_what_it_said_last(scene: Scene) -> None:
    (first,) = scene.serves(make_generation(workers=1))
    scene.passes(12)
    scene.happens(said(first, Beat(70, 3, 5, 1000, 0.01234, ("GET / shop 1 s",))))
    assert status(scene)["workers"] == [
        {
            "slot": 0,
            "pid": 101,
            "generation": 1,
            "state": "ready",
            "age": 12.0,
            "requests": 70,
            "in_flight": 3,
            "connections": 5,
            "rss": 1000,
            "lag": 0.012,
            "late": False,
            "covers": [],
            "recycle": None,
        }
    ]


@pytest.mark.parametrize("lag", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("number", [10**4000, -(10**4000)])
def test_numbers_that_cannot_be_are_made_ones_that_can_be_shown(scene: Scene, number: int, lag: float) -> None:
    (first,) = scene.serves(make_generation(workers=1))
    scene.happens(said(first, Beat(number, number, number, number, lag)))
    (worker,) = status(scene)["workers"]
    assert {worker[key] for key in ("requests", "in_flight", "connections", "rss")} == {2**63 if number > 0 else 0}
    assert worker["lag"] == (2**63 if lag > 0 else 0)
    assert "MiB" not in describe_size(worker["rss"])  # and it is shown to people as well


def test_two_generations_are_shown_slot_by_slot(scene: Scene) -> None:
    scene.serves()
    scene.reloads()
    found = status(scene)
    assert [(one["slot"], one["generation"], one["state"]) for one in found["workers"]] == [
        (0, 1, "ready"),
        (0, 2, "starting"),
        (1, 1, "ready"),
        (1, 2, "starting"),
    ]
    assert (found["phase"], found["step"], found["ready"]) == ("serving", "preparing", True)


def test_a_late_worker_and_who_covers_it_are_shown(scene: Scene) -> None:
    first, second = scene.serves()
    scene.silent = {second}
    scene.passes(LATE_AFTER)
    assert [(one["late"], one["covers"]) for one in status(scene)["workers"]] == [(False, [1]), (True, [])]
    assert status(scene)["ready"]
    scene.silent = {first, second}
    scene.passes(LATE_AFTER)
    assert not status(scene)["ready"]


def test_why_a_worker_is_recycled_is_shown(scene: Scene) -> None:
    first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
    scene.beats_once(first, requests=12)
    assert status(scene)["workers"][0]["recycle"] == "it has had 12 requests"


def test_a_slot_tells_what_happened_in_it_and_how_long_it_waits(scene: Scene) -> None:
    scene.serves(make_generation(workers=1))
    scene.exits(1, 2, status=1)
    scene.passes_until_deadline()
    scene.exits(3, status=1)
    assert status(scene)["slots"] == [
        {"slot": 0, "restarts": 3, "last_exit": "worker 0 (pid 103) exited with status 1", "waits": 0.2}
    ]


def test_an_application_that_is_down_is_shown_with_its_failure(scene: Scene) -> None:
    first, _ = scene.serves()
    assert status(scene)["apps"] == [{"name": "shop", "target": "shop:app", "state": "up", "failure": None}]
    scene.happens(said(first, AppDown("shop", "no module", "Traceback", 1.0)))
    (app,) = status(scene)["apps"]
    assert app["state"] == "unavailable"
    assert app["failure"] == {"summary": "no module", "detail": "Traceback"}
    scene.happens(said(first, AppUp("shop")))
    assert status(scene)["apps"][0]["state"] == "up"


def test_an_application_that_fails_is_shown_with_its_errors(scene: Scene) -> None:
    scene.serves()
    rows = {key: [0] * MOUNT_WIDTH for key in (("shop", "/"), ("shop", "/api"), ("other", "/o"))}
    rows["shop", "/"][class_at(CLASSES.index("2xx"))] = 5
    rows["shop", "/api"][class_at(CLASSES.index("5xx")) + 3] = 2
    rows["other", "/o"][class_at(CLASSES.index("5xx"))] = 9
    rows["shop", "/api"][SESSIONS] = 3
    (app,) = with_counts(status(scene)["apps"], Tally(rows))
    assert (app["name"], app["requests"], app["errors"]) == ("shop", 10, 2)


def test_how_the_last_reload_ended_is_shown_with_the_time_of_the_day(scene: Scene) -> None:
    old = scene.serves()
    assert status(scene)["last_reload"] is None
    scene.reloaded()
    scene.drains(*old)
    scene.passes(60)
    assert status(scene)["last_reload"] == {"ok": True, "at": WALL - 60, "message": "generation 2 is serving"}
    scene.exits(*old)
    scene.happens(HUP)
    scene.happens(events.LoadFailed("server.toml:1: wrong"))
    text = "generation 2 goes on serving: server.toml:1: wrong"
    assert status(scene)["last_reload"] == {"ok": False, "at": WALL, "message": text}


def test_a_server_that_is_to_stop_is_not_ready_while_it_still_serves(scene: Scene) -> None:
    scene.serves(make_generation(shutdown_delay=5.0))
    scene.happens(TERM)
    found = status(scene)
    assert (found["phase"], found["ready"]) == ("delaying", False)
    assert [one["state"] for one in found["workers"]] == ["ready", "ready"]
