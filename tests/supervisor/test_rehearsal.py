"""A start that ends where it would commit: what is decided, in virtual time."""

from __future__ import annotations

import pytest

from serverd.messages import Failed, Ready
from serverd.supervisor import events
from serverd.supervisor.actions import CommitSockets, Complain, ConfigureLogging, Exit, Rehearsed, SetTitle
from tests.supervisor.scene import HUP, TERM, Scene, make_generation, said


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.fleet.is_rehearsal = True
    return scene


def test_it_stops_where_a_start_would_commit(scene: Scene) -> None:
    scene.happens(events.Begin())
    first, second = scene.is_prepared()
    assert not any(isinstance(action, Rehearsed) for action in scene.happens(said(first, Ready(0))))
    actions = scene.happens(said(second, Ready(0)))
    assert any(isinstance(action, Rehearsed) for action in actions)
    assert not any(isinstance(action, CommitSockets | SetTitle | ConfigureLogging) for action in actions)
    scene.exits(first)
    assert scene.exits(second)[-1] == Exit(0)
    assert scene.fleet.committed is None
    assert scene.notified == []


def test_what_fails_a_start_fails_it(scene: Scene) -> None:
    scene.happens(events.Begin())
    (worker,) = scene.is_prepared(make_generation(workers=1))
    assert Complain("no\nway") in scene.happens(said(worker, Failed("no", "way")))
    assert scene.exits(worker, status=3)[-1] == Exit(3)


def test_the_operator_can_end_it_and_nothing_is_reloaded_in_it(scene: Scene) -> None:
    scene.happens(events.Begin())
    (worker,) = scene.is_prepared(make_generation(workers=1))
    scene.happens(HUP)
    actions = scene.happens(TERM)
    assert not any(isinstance(action, Rehearsed) for action in actions)
    assert scene.exits(worker)[-1] == Exit(0)
