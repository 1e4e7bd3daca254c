"""What a service manager is told, in virtual time: exactly when something changes, and each reload with both ends."""

from __future__ import annotations

import pytest

from serverd.messages import Failed
from serverd.supervisor import events
from serverd.supervisor.actions import Action, Notice, Notify, StartLoader
from serverd.supervisor.policy import decide
from serverd.supervisor.worker import LATE_AFTER
from tests.supervisor.scene import HUP, TERM, USR1, Scene, make_generation, said

BOTH = "generation 1, 2 of 2 workers serving"
ONE = "generation 1, 1 of 2 workers serving"


@pytest.fixture
def scene() -> Scene:
    return Scene()


def told(scene: Scene) -> list[tuple[Notice | None, str]]:
    """Return what has been told since this was asked last; no notice: only the text is new."""
    notices = [(one.notice, one.text) for one in scene.notified]
    scene.notified.clear()
    return notices


def test_it_is_ready_with_the_commit_and_not_before(scene: Scene) -> None:
    scene.happens(events.Begin())
    first, second = scene.is_prepared()
    scene.are_ready(first)
    assert told(scene) == []
    scene.are_ready(second)
    assert told(scene) == [(Notice.READY, BOTH)]


def test_nothing_is_told_when_nothing_changes(scene: Scene) -> None:
    scene.serves()
    told(scene)
    scene.passes(100)
    scene.happens(USR1)
    assert told(scene) == []


def test_workers_that_do_not_serve_are_counted(scene: Scene) -> None:
    first, second = scene.serves()
    told(scene)
    scene.exits(first, status=-9)
    assert told(scene) == [(None, ONE)]
    scene.are_ready(3)
    assert told(scene) == [(None, BOTH)]
    scene.silent = {second}
    scene.passes(LATE_AFTER)
    assert told(scene) == [(None, ONE)]


def test_a_reload_ends_when_nothing_older_is_in_reach(scene: Scene) -> None:
    old = scene.serves()
    told(scene)
    scene.happens(HUP)
    assert told(scene) == [(Notice.RELOADING, BOTH)]
    scene.are_ready(*scene.is_prepared())
    assert told(scene) == [(None, "generation 2, 2 of 2 workers serving")]
    scene.drains(*old)
    assert told(scene) == [(Notice.READY, "generation 2, 2 of 2 workers serving")]


def test_a_reload_that_running_workers_adopt_ends_when_the_last_has(scene: Scene) -> None:
    workers = scene.serves()
    scene.proposes()
    scene.accept(*workers)
    scene.adopted(workers[0])
    assert [notice for notice, _ in told(scene)] == [Notice.READY, Notice.RELOADING, None]
    scene.adopted(workers[1])
    assert told(scene) == [(Notice.READY, "generation 2, 2 of 2 workers serving")]


@pytest.mark.parametrize("failure", ["load", "bind", "worker"])
def test_a_reload_that_fails_has_both_ends_too(scene: Scene, failure: str) -> None:
    scene.serves()
    told(scene)
    scene.happens(HUP)
    match failure:
        case "load":
            scene.happens(events.LoadFailed("no"))
        case "bind":
            scene.happens(events.Loaded(make_generation()))
            scene.happens(events.BindFailed("no"))
        case "worker":
            scene.happens(said(scene.is_prepared()[0], Failed("no")))
    (begun, text), (ended, outcome) = told(scene)
    assert (begun, text, ended) == (Notice.RELOADING, BOTH, Notice.READY)
    assert outcome.startswith(f"{BOTH}; last reload failed, generation 1 goes on serving: no")


def test_a_failure_is_forgotten_when_the_next_reload_succeeds(scene: Scene) -> None:
    old = scene.serves()
    scene.happens(HUP)
    scene.happens(events.LoadFailed("no"))
    scene.reloaded()
    scene.drains(*old)
    assert told(scene)[-1] == (Notice.READY, "generation 2, 2 of 2 workers serving")


def test_the_end_of_a_reload_is_told_before_the_beginning_of_one_that_was_queued(scene: Scene) -> None:
    scene.serves()
    scene.happens(HUP)
    scene.happens(HUP)
    told(scene)
    decided: list[Action] = decide(scene.fleet, events.LoadFailed("no"), scene.now)
    order = [action for action in decided if isinstance(action, Notify | StartLoader)]
    text = f"{BOTH}; last reload failed, generation 1 goes on serving: no"
    assert order == [Notify(Notice.READY, text), StartLoader(), Notify(Notice.RELOADING, text)]


@pytest.mark.parametrize("delay", [0.0, 5.0], ids=["at once", "after a delay"])
def test_the_end_is_told_when_it_is_asked_for(scene: Scene, delay: float) -> None:
    workers = scene.serves(make_generation(shutdown_delay=delay))
    told(scene)
    scene.happens(TERM)
    assert told(scene) == [(Notice.STOPPING, "stopping")]
    scene.passes(delay)
    scene.exits(*workers)
    assert told(scene) == []


def test_a_start_that_fails_was_never_ready(scene: Scene) -> None:
    scene.happens(events.Begin())
    scene.happens(events.LoadFailed("no"))
    assert told(scene) == []
