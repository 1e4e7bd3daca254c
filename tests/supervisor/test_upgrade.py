"""Another supervisor in the place of this one, in virtual time: it serves, it fails, or it is given up."""

from __future__ import annotations

import pytest

from serverd.supervisor import actions, events
from serverd.supervisor.states import Phase, Step
from serverd.supervisor.transaction import LOAD_PATIENCE
from tests.supervisor.scene import HUP, QUIT, TERM, TTIN, USR2, Scene, asked, make_generation


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_another_supervisor_is_started_while_this_one_serves(scene: Scene) -> None:
    scene.serves()
    scene.happens(USR2)
    assert scene.actions == [
        actions.Log("info", "upgrading: starting another supervisor on the same sockets"),
        actions.StartSuccessor(),
    ]
    assert scene.fleet.is_ready


def test_when_it_serves_this_one_drains_and_leaves_the_sockets_to_it(scene: Scene) -> None:
    workers = scene.serves()
    scene.happens(asked(1, "upgrade"))
    scene.happens(events.SuccessorReady(77))
    assert scene.actions[0] == actions.HandOn(77)
    assert scene.logged() == "upgraded: supervisor 77 serves, leaving, draining up to 30 s"
    assert scene.replies() == [actions.Reply(1, True, "upgraded: supervisor 77 serves")]
    assert scene.drained() == workers
    assert scene.actions[-1] == actions.CloseSockets(kept=True)
    assert actions.StopSuccessor() not in scene.actions
    assert scene.exits(*workers)[-1] == actions.Exit(0)


@pytest.mark.parametrize("again", [TERM, QUIT])
def test_even_when_it_is_then_told_to_stop_at_once(scene: Scene, again: events.Event) -> None:
    workers = scene.serves()
    scene.happens(USR2)
    scene.happens(events.SuccessorReady(77))
    scene.happens(again)
    assert scene.killed() == workers
    assert scene.actions[-1] == actions.CloseSockets(kept=True)
    assert actions.StopSuccessor() not in scene.actions


def test_the_service_manager_hears_nothing_of_the_end_because_the_service_goes_on(scene: Scene) -> None:
    workers = scene.serves()
    scene.happens(USR2)
    before = list(scene.notified)
    scene.happens(events.SuccessorReady(77))
    scene.exits(*workers)
    assert scene.notified == before


def test_one_that_fails_changes_nothing(scene: Scene) -> None:
    workers = scene.serves()
    scene.happens(asked(1, "upgrade"))
    scene.happens(events.SuccessorFailed("it exited with status 3"))
    text = "upgrade failed, this supervisor goes on serving: it exited with status 3"
    assert scene.actions == [actions.Log("error", text), actions.Reply(1, False, text)]
    assert scene.fleet.step is Step.IDLE
    assert set(scene.fleet.workers) == set(workers)
    assert scene.awaited() is None
    scene.happens(USR2)  # may be tried again
    assert actions.StartSuccessor() in scene.actions


def test_of_a_report_the_first_line_is_told_and_the_rest_shown_below(scene: Scene) -> None:
    scene.serves()
    scene.happens(asked(1, "upgrade"))
    scene.happens(events.SuccessorFailed("server.toml:7: app shop: boom\nTraceback\n  its own"))
    text = "upgrade failed, this supervisor goes on serving: server.toml:7: app shop: boom"
    detail = "Traceback\n  its own"
    assert scene.actions == [actions.Log("error", text, detail), actions.Reply(1, False, text, detail)]


def test_one_that_takes_too_long_is_killed(scene: Scene) -> None:
    scene.serves(make_generation(start_timeout=10.0))
    scene.happens(USR2)
    scene.passes(LOAD_PATIENCE + 9)
    assert scene.actions == []
    scene.passes(1)
    assert actions.StopSuccessor() in scene.actions
    assert scene.logged() == "upgrade failed, this supervisor goes on serving: it did not serve within 40 s"
    assert scene.happens(events.SuccessorFailed("it was killed by SIGKILL")) == []
    assert scene.happens(events.SuccessorReady(77)) == []  # said before the signal came
    assert scene.fleet.phase is Phase.SERVING


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.IDLE], ids=lambda step: step.value)
def test_during_a_transaction_it_is_refused(scene: Scene, step: Step) -> None:
    scene.reaches(step)
    scene.happens(USR2)
    assert scene.logged() == f"USR2 ignored: {scene.fleet.occupation}"
    scene.happens(asked(1, "upgrade"))
    assert scene.replies() == [actions.Reply(1, False, scene.fleet.occupation)]


@pytest.mark.parametrize("delay", [0.0, 5.0], ids=["stopping", "delaying"])
def test_when_the_server_stops_it_is_refused(scene: Scene, delay: float) -> None:
    scene.serves(make_generation(shutdown_delay=delay))
    scene.happens(TERM)
    scene.happens(USR2)
    assert scene.logged() == "USR2 ignored: the server is stopping"


def test_a_reload_meanwhile_is_queued_until_it_has_failed(scene: Scene) -> None:
    scene.serves()
    scene.happens(USR2)
    scene.happens(HUP)
    assert scene.logged() == "reload queued: HUP received before the upgrade has been decided on"
    scene.happens(events.SuccessorFailed("no"))
    assert scene.actions[-1] == actions.StartLoader()


def test_that_such_a_reload_is_not_done_when_it_has_succeeded_is_logged(scene: Scene) -> None:
    scene.serves()
    scene.happens(USR2)
    scene.happens(HUP)
    scene.happens(events.SuccessorReady(77))
    assert "the reload that was asked for meanwhile is not done, ask the new supervisor for it" in scene.logged()


def test_who_asked_for_that_reload_is_told_when_it_has_succeeded(scene: Scene) -> None:
    scene.serves()
    scene.happens(USR2)
    scene.happens(asked(1, "reload"))
    scene.happens(events.SuccessorReady(77))
    assert scene.replies() == [actions.Reply(1, False, "another supervisor has taken over")]


@pytest.mark.parametrize("delay", [0.0, 5.0], ids=["at once", "after a delay"])
def test_a_stop_meanwhile_kills_the_successor(scene: Scene, delay: float) -> None:
    workers = scene.serves(make_generation(shutdown_delay=delay))
    scene.happens(asked(1, "upgrade"))
    scene.happens(TERM)
    assert actions.StopSuccessor() in scene.actions
    assert [(reply.client, reply.ok) for reply in scene.replies()] == [(1, False)]
    assert scene.happens(events.SuccessorReady(77)) == []
    scene.passes(delay)
    scene.exits(*workers)
    assert scene.exit_code() == 0


def test_a_worker_that_crashes_meanwhile_is_replaced(scene: Scene) -> None:
    first, _ = scene.serves()
    scene.happens(USR2)
    scene.exits(first, status=-9)
    assert scene.spawned() == [0]
    scene.happens(TTIN)
    assert scene.logged() == "TTIN ignored: an upgrade is under way"
