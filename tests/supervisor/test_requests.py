"""What the operator wants, in virtual time: by signal or through the control socket."""

from __future__ import annotations

import pytest

from serverd.messages import Declined, Failed, Inspect
from serverd.supervisor import actions, events
from serverd.supervisor.states import Phase, Step
from serverd.supervisor.worker import CUT_PATIENCE
from tests.supervisor.scene import HUP, INT, QUIT, TERM, USR1, Scene, asked, make_generation, said


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestStop:
    @pytest.mark.parametrize(("event", "name"), [(TERM, "TERM"), (INT, "INT")])
    def test_workers_drain_and_the_last_exit_ends_it(self, scene: Scene, event: events.Event, name: str) -> None:
        workers = scene.serves()
        scene.happens(event)
        assert scene.logged() == f"stopping: {name} received, draining up to 30 s"
        assert scene.drained() == workers
        assert scene.actions[-1] == actions.CloseSockets()
        scene.exits(*workers)
        assert scene.logged() == "stopped"
        assert scene.exit_code() == 0

    @pytest.mark.parametrize("second", [TERM, INT, QUIT])
    def test_a_second_signal_kills(self, scene: Scene, second: events.Event) -> None:
        workers = scene.serves()
        scene.happens(TERM)
        scene.happens(second)
        assert scene.killed() == workers
        assert "stopping at once" in scene.logged()
        assert scene.happens(TERM) == []
        assert scene.exits(*workers, status=-9)[-1] == actions.Exit(0)

    def test_quit_kills_at_once(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(QUIT)
        assert scene.logged() == "stopping at once: QUIT received"
        assert scene.killed() == workers
        assert scene.exits(*workers, status=-9)[-1] == actions.Exit(0)

    def test_workers_that_outlive_the_graceful_timeout_are_killed(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(TERM)
        scene.exits(workers[0])
        assert scene.passes(30) == []
        scene.passes(CUT_PATIENCE)
        assert scene.killed() == [workers[1]]
        assert scene.exits(workers[1], status=-9)[-1] == actions.Exit(0)

    def test_a_worker_that_dies_meanwhile_is_not_replaced(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(TERM)
        scene.exits(workers[0], status=-9)
        assert scene.spawned() == []

    def test_a_slot_that_waits_for_its_worker_gets_none(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        scene.exits(2, status=1)
        scene.happens(TERM)
        assert scene.exit_code() == 0

    def test_while_the_configuration_is_read_it_stops_the_loader(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(TERM)
        assert actions.StopLoader() in scene.actions
        assert scene.logged() == "stopping: TERM received\nstopped"
        assert scene.exit_code() == 0

    def test_while_the_first_workers_start_it_is_no_failure(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        workers = scene.is_prepared()
        scene.happens(INT)
        assert scene.drained() == workers
        assert scene.exits(*workers)[-1] == actions.Exit(0)

    def test_during_a_reload_both_generations_drain(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.happens(TERM)
        assert scene.drained() == [*old, *new]
        assert scene.exits(*old, *new)[-1] == actions.Exit(0)

    def test_while_a_generation_retires_its_workers_are_not_told_twice(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.are_ready(*new)
        scene.happens(TERM)
        assert scene.drained() == new
        assert scene.exits(*old, *new)[-1] == actions.Exit(0)

    def test_a_failed_start_that_is_then_told_to_stop_kills_and_still_says_three(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(said(first, Failed("no", "")))
        scene.happens(TERM)
        assert set(scene.killed()) == {first, second}
        assert scene.exits(first, second, status=-9)[-1] == actions.Exit(3)


class TestDelay:
    """TERM with shutdown_delay: load balancers hear of it before the listeners close."""

    def test_it_goes_on_serving_and_is_not_ready_any_more(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(shutdown_delay=10.0))
        assert scene.fleet.is_ready
        scene.happens(TERM)
        assert scene.logged() == "not ready any more: TERM received, stopping in 10 s (shutdown_delay)"
        assert not scene.fleet.is_ready
        assert scene.drained() == []
        scene.exits(first, status=-9)
        assert scene.spawned() == [0]
        assert scene.covers() == {second: (0,)}
        scene.are_ready(3)
        scene.passes(9.9)
        assert scene.drained() == []
        scene.passes(0.1)
        assert scene.logged() == "stopping, draining up to 30 s"
        assert scene.drained() == [second, 3]
        assert scene.exits(second, 3)[-1] == actions.Exit(0)

    def test_the_supervisor_wakes_up_for_its_end(self, scene: Scene) -> None:
        scene.serves(make_generation(shutdown_delay=1.0))
        scene.happens(TERM)
        assert scene.fleet.deadline() == scene.now + 1

    @pytest.mark.parametrize("second", [TERM, INT, QUIT])
    def test_a_second_signal_stops_at_once(self, scene: Scene, second: events.Event) -> None:
        workers = scene.serves(make_generation(shutdown_delay=10.0))
        scene.happens(TERM)
        scene.happens(second)
        assert scene.killed() == workers
        assert scene.awaited() is None

    def test_a_reload_that_is_under_way_comes_to_its_end_and_no_other_begins(self, scene: Scene) -> None:
        old = scene.serves(make_generation(shutdown_delay=10.0))
        new = scene.reloads(make_generation(shutdown_delay=10.0))
        scene.happens(HUP)
        scene.happens(TERM)
        scene.are_ready(*new)
        scene.drains(*old)
        assert scene.logged() == "reloaded: generation 2 is serving"
        scene.exits(*old)
        assert actions.StartLoader() not in scene.actions
        assert scene.fleet.phase is Phase.DELAYING
        scene.happens(HUP)
        assert scene.logged() == "HUP ignored: the server is stopping"
        scene.passes(10)
        assert scene.drained() == new

    def test_it_is_over_while_a_reload_is_under_way(self, scene: Scene) -> None:
        old = scene.serves(make_generation(shutdown_delay=10.0))
        new = scene.reloads(make_generation(shutdown_delay=10.0))
        scene.happens(TERM)
        scene.passes(10)
        assert scene.drained() == [*old, *new]
        assert scene.exits(*old, *new)[-1] == actions.Exit(0)


def test_usr1_reopens_the_logs_whenever_it_comes(scene: Scene) -> None:
    scene.happens(events.Begin())
    assert scene.happens(USR1) == [actions.ReopenLogs()]
    scene.is_prepared()
    assert scene.happens(USR1) == [actions.ReopenLogs()]
    assert scene.happens(asked(1, "reopen")) == [actions.ReopenLogs(1)]


class TestControlSocket:
    def test_status_is_told_at_any_time(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        assert scene.happens(asked(1, "status")) == [actions.ReplyStatus(1)]
        scene.is_prepared()
        scene.happens(TERM)
        assert scene.happens(asked(2, "status")) == [actions.ReplyStatus(2)]

    @pytest.mark.parametrize("command", ["reload", "scale", "upgrade"])
    def test_before_anything_serves_nothing_else_is_possible_but_stop(self, scene: Scene, command: str) -> None:
        scene.happens(events.Begin())
        scene.happens(asked(1, command, 3))
        (reply,) = scene.replies()
        assert not reply.ok
        assert reply.text.startswith("the server is starting")
        scene.happens(asked(2, "stop"))
        assert scene.replies()[-1] == actions.Reply(2, True, "stopping", end=False)
        assert scene.exit_code() == 0

    def test_a_reload_is_answered_when_it_has_succeeded(self, scene: Scene) -> None:
        old = scene.serves()
        scene.happens(asked(1, "reload"))
        assert scene.logged() == "reloading: asked for on the control socket"
        scene.are_ready(*scene.is_prepared())
        assert scene.replies() == []
        scene.drains(*old)
        assert scene.replies() == [actions.Reply(1, True, "generation 2 is serving")]

    def test_a_reload_is_answered_with_why_it_failed_and_the_traceback(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(asked(1, "reload"))
        new, _ = scene.is_prepared()
        scene.happens(said(new, Failed("app shop: boom", "Traceback")))
        text = "reload failed, generation 1 goes on serving: app shop: boom"
        assert scene.replies() == [actions.Reply(1, False, text, "Traceback")]

    def test_who_asks_during_a_reload_waits_for_the_next(self, scene: Scene) -> None:
        scene.serves()
        for client in (1, 2, 3):
            scene.happens(asked(client, "reload"))
        scene.happens(events.LoadFailed("one"))
        assert [(reply.client, reply.text[-3:]) for reply in scene.replies()] == [(1, "one")]
        assert scene.actions[-1] == actions.StartLoader()
        scene.happens(events.LoadFailed("two"))
        assert [(reply.client, reply.text[-3:]) for reply in scene.replies()] == [(2, "two"), (3, "two")]
        assert actions.StartLoader() not in scene.actions

    def test_a_signal_answers_nobody(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(HUP)
        scene.happens(events.LoadFailed("no"))
        assert scene.replies() == []

    def test_a_plan_is_made_without_a_reload_and_the_workers_are_asked_about_their_code(self, scene: Scene) -> None:
        first, second = scene.serves()
        asks = [actions.Send(first, Inspect()), actions.Send(second, Inspect()), actions.ReplyPlan(1)]
        assert scene.happens(asked(1, "reload", dry_run=True)) == asks
        assert scene.fleet.step is Step.IDLE
        assert scene.fleet.outdated() == ""
        assert scene.happens(said(second, Declined(1, "shop.py has changed"))) == []
        assert scene.fleet.outdated() == "shop.py has changed"
        scene.happens(asked(1, "reload", dry_run=True))
        assert scene.fleet.outdated() == ""  # it may have been put back

    def test_a_stop_is_answered_at_once_and_ends_when_everything_has(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(asked(1, "stop"))
        assert scene.logged() == "stopping: asked for on the control socket, draining up to 30 s"
        assert scene.replies() == [actions.Reply(1, True, "stopping", end=False)]
        scene.exits(*workers)
        assert scene.exit_code() == 0

    def test_a_second_stop_stops_at_once_as_a_second_signal_does(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(asked(1, "stop"))
        scene.happens(asked(2, "stop"))
        assert scene.killed() == workers
        assert scene.replies() == [actions.Reply(2, True, "stopping", end=False)]

    @pytest.mark.parametrize("event", [TERM, QUIT])
    def test_who_waits_when_the_server_stops_is_told(self, scene: Scene, event: events.Event) -> None:
        scene.serves()
        scene.happens(asked(1, "reload"))
        scene.happens(asked(2, "reload"))
        scene.happens(event)
        assert scene.replies() == [actions.Reply(client, False, "the server stops") for client in (1, 2)]

    def test_a_start_that_fails_answers_nobody_twice(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(asked(1, "reload"))
        scene.happens(events.LoadFailed("no"))
        assert scene.replies() == []
        assert scene.exit_code() == 3
