"""A generation whose applications are imported once, in a process that its workers are forked from; in virtual time."""

from __future__ import annotations

import pytest

from serverd.messages import Declined, Failed
from serverd.supervisor import actions, events
from serverd.supervisor.actions import Spawn, StartPreloader, StopPreloader
from serverd.supervisor.states import Phase, Step
from tests.supervisor.scene import HUP, QUIT, TERM, Scene, make_generation, renewed, said

PRELOAD = make_generation(preload=True)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def preloaders(scene: Scene) -> list[StartPreloader | StopPreloader]:
    """Return what the last event did to preloaders."""
    return [action for action in scene.actions if isinstance(action, StartPreloader | StopPreloader)]


def serves(scene: Scene) -> list[int]:
    """Let a generation with a preloader be committed; return its workers."""
    scene.happens(events.Begin())
    scene.is_prepared(PRELOAD)
    scene.happens(events.Preloaded())
    workers = list(scene.fleet.workers)
    scene.are_ready(*workers)
    return workers


def reloads(scene: Scene) -> None:
    """Let the next generation come as far as its preloader."""
    scene.happens(HUP)
    scene.is_prepared(renewed(PRELOAD))
    assert scene.fleet.step is Step.PRELOADING


def test_workers_come_after_the_preloader(scene: Scene) -> None:
    scene.happens(events.Begin())
    assert scene.is_prepared(PRELOAD) == []
    assert scene.fleet.candidate is not None
    assert scene.actions == [StartPreloader(scene.fleet.candidate)]
    scene.happens(events.Preloaded())
    assert scene.spawned() == [0, 1]
    scene.are_ready(1, 2)
    assert scene.fleet.phase is Phase.SERVING
    assert preloaders(scene) == []


def test_an_application_that_cannot_be_imported_ends_the_start(scene: Scene) -> None:
    scene.happens(events.Begin())
    scene.is_prepared(PRELOAD)
    scene.happens(events.PreloadFailed("server.toml:7: app shop: no module", "Traceback"))
    assert actions.Complain("server.toml:7: app shop: no module\nTraceback") in scene.actions
    assert preloaders(scene) == [StopPreloader(1)]
    assert scene.exit_code() == 3


def test_at_a_reload_it_is_rolled_back(scene: Scene) -> None:
    workers = serves(scene)
    reloads(scene)
    scene.happens(events.PreloadFailed("server.toml:7: app shop: no module", "Traceback"))
    assert scene.logged() == "reload failed, generation 1 goes on serving: server.toml:7: app shop: no module"
    assert preloaders(scene) == [StopPreloader(2)]
    assert actions.RollbackSockets() in scene.actions
    assert set(scene.fleet.workers) == set(workers)
    scene.happens(TERM)
    assert preloaders(scene) == [StopPreloader(1)]


def test_one_that_takes_too_long_is_rolled_back(scene: Scene) -> None:
    serves(scene)
    reloads(scene)
    scene.passes(60)
    reason = "the applications were not imported within 60 s (start_timeout)"
    assert scene.logged() == f"reload failed, generation 1 goes on serving: {reason}"
    assert preloaders(scene) == [StopPreloader(2)]


def test_the_one_of_the_generation_before_ends_with_the_commit(scene: Scene) -> None:
    serves(scene)
    reloads(scene)
    scene.happens(events.Preloaded())
    scene.are_ready(3)
    assert preloaders(scene) == []
    scene.are_ready(4)
    assert preloaders(scene) == [StopPreloader(1)]


def test_it_ends_with_a_generation_that_has_none(scene: Scene) -> None:
    serves(scene)
    scene.reloaded(make_generation())
    assert preloaders(scene) == [StopPreloader(1)]


def test_workers_that_fail_end_it(scene: Scene) -> None:
    serves(scene)
    reloads(scene)
    scene.happens(events.Preloaded())
    scene.happens(said(3, Failed("database is down")))
    assert preloaders(scene) == [StopPreloader(2)]


def test_one_that_dies_while_its_workers_start_rolls_back(scene: Scene) -> None:
    serves(scene)
    reloads(scene)
    scene.happens(events.Preloaded())
    scene.happens(events.PreloadFailed("the preloader was killed by SIGKILL"))
    assert scene.drained() == [3, 4]
    assert "reload failed" in scene.logged()


def test_one_that_dies_later_is_not_worth_a_rollback(scene: Scene) -> None:
    serves(scene)
    assert scene.happens(events.PreloadFailed("the preloader was killed by SIGKILL")) == []


def test_a_generation_that_running_workers_adopt_keeps_the_one_that_is_there(scene: Scene) -> None:
    workers = serves(scene)
    scene.proposes(make_generation(preload=True, date_header=False))
    scene.accept(*workers)
    scene.adopted(*workers)
    assert preloaders(scene) == []
    assert scene.fleet.committed is not None
    assert scene.fleet.committed.number == 2
    scene.happens(HUP)
    scene.is_prepared(renewed(PRELOAD))
    scene.happens(events.Preloaded())
    scene.are_ready(3, 4)
    assert preloaders(scene) == [StopPreloader(1)]


def forked_from(scene: Scene) -> list[int]:
    """Return the generations whose preloaders the last event has workers forked from; 0 is none."""
    return [action.preloader for action in scene.actions if isinstance(action, Spawn)]


def test_workers_are_forked_from_the_preloader_that_imported_what_they_serve(scene: Scene) -> None:
    scene.happens(events.Begin())
    scene.is_prepared(PRELOAD)
    scene.happens(events.Preloaded())
    assert forked_from(scene) == [1, 1]
    scene.are_ready(1, 2)
    reloads(scene)
    scene.exits(1, status=-9)
    assert forked_from(scene) == [1]
    scene.happens(events.Preloaded())
    assert forked_from(scene) == [2, 2]
    scene.are_ready(3)  # the one for worker 1, of generation 1
    scene.exits(2, status=-9)
    assert forked_from(scene) == [1]


def test_what_running_workers_adopt_is_forked_from_the_preloader_that_stays(scene: Scene) -> None:
    workers = serves(scene)
    scene.proposes(make_generation(preload=True, date_header=False))
    scene.accept(*workers)
    scene.adopted(*workers)
    scene.exits(workers[0], status=-9)
    assert forked_from(scene) == [1]


def test_without_a_preloader_nothing_is_forked(scene: Scene) -> None:
    serves(scene)
    scene.reloaded(make_generation())
    assert scene.fleet.preloaders == set()
    scene.exits(3, status=-9)
    assert forked_from(scene) == [0]


def test_a_generation_that_a_worker_declines_gets_one(scene: Scene) -> None:
    first, _ = serves(scene)
    scene.proposes(make_generation(preload=True, date_header=False))
    scene.happens(said(first, Declined(2, "shop.py has changed")))
    assert [type(action) for action in preloaders(scene)] == [StartPreloader]
    assert scene.spawned() == []


@pytest.mark.parametrize("stop", [TERM, QUIT], ids=["TERM", "QUIT"])
def test_a_stop_ends_all_of_them(scene: Scene, stop: events.Event) -> None:
    serves(scene)
    reloads(scene)
    scene.happens(stop)
    assert preloaders(scene) == [StopPreloader(1), StopPreloader(2)]
    assert scene.happens(events.Preloaded()) == []
