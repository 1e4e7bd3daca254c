"""What is done about what happens to a worker, in virtual time: it crashes, fails, hangs, talks nonsense."""

from __future__ import annotations

import pytest

from serverd.messages import AppDown, AppUp, Ask, Beat, Blocked, Draining, Failed, Ready, Starting
from serverd.supervisor import actions, events
from serverd.supervisor.actions import Tell
from serverd.supervisor.states import Phase, Step
from serverd.supervisor.worker import CUT_PATIENCE, LATE_AFTER
from serverd.supervisor.workers import ASK_REST, LEAVE_PATIENCE, STACKS_PATIENCE
from tests.supervisor.scene import HUP, TERM, TTOU, Scene, make_generation, renewed, said


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestReplacement:
    def test_a_dead_worker_is_replaced_in_its_slot_at_once(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.exits(second, status=-9)
        assert scene.spawned() == [1]
        assert (
            scene.logged() == f"worker 1 (pid {100 + second}) was killed by SIGKILL (out of memory?), starting another"
        )

    def test_the_replacement_is_announced_when_it_is_ready(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.exits(second, status=-9)
        scene.happens(said(3, Ready(0)))
        assert scene.logged() == "worker 1 (pid 103) is ready"
        assert scene.awaited() is None

    def test_a_worker_that_keeps_dying_waits_longer_and_longer(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        waits = []
        for worker in range(2, 14):
            scene.exits(worker, status=1)
            assert scene.spawned() == []
            deadline = scene.fleet.deadline()
            assert deadline is not None
            waits.append(deadline - scene.now)
            scene.passes_until_deadline()
            assert scene.spawned() == [0]
        assert waits[:3] == pytest.approx([0.1, 0.2, 0.4])
        assert waits[-1] == pytest.approx(30)

    def test_the_wait_is_told(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        for worker in (1, 2, 3):
            scene.exits(worker, status=1)
            if worker < 3:
                scene.passes(0.2)
        assert scene.logged() == "worker 0 (pid 103) exited with status 1, starting another in 0.2 s"

    def test_long_service_makes_up_for_early_deaths(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        scene.happens(said(2, Ready(0)))
        scene.passes(60)
        scene.exits(2, status=1)
        assert scene.spawned() == [0]

    def test_a_replacement_that_fails_is_told_with_its_traceback_and_tried_again(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=-9)
        scene.happens(said(2, Failed("app shop: boom", "Traceback")))
        assert scene.actions == [actions.Log("error", "worker 0 (pid 102) cannot serve: app shop: boom", "Traceback")]
        scene.exits(2, status=3)
        scene.passes_until_deadline()
        assert scene.spawned() == [0]

    def test_a_replacement_that_cannot_be_spawned_is_tried_again(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=-9)
        scene.happens(events.SpawnFailed(2, "resource temporarily unavailable"))
        assert "worker 0 could not be spawned: resource temporarily unavailable, starting another" in scene.logged()
        scene.passes_until_deadline()
        assert scene.spawned() == [0]

    def test_a_replacement_that_is_not_ready_in_time_is_killed_and_tried_again(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=-9)
        scene.passes(60)
        assert scene.killed() == [2]
        assert scene.logged() == "worker 0 (pid 102) was not ready within 60 s (start_timeout), killing it"
        scene.exits(2, status=-9)
        scene.passes_until_deadline()
        assert scene.spawned() == [0]
        scene.happens(said(3, Starting("server.toml:6: apps.h")))
        scene.passes(60)
        reason = "server.toml:6: apps.h: not up within 60 s (start_timeout)"
        assert scene.logged() == f"worker 0 (pid 103) cannot serve: {reason}, killing it"

    def test_the_old_generation_is_kept_complete_while_a_new_one_is_prepared(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.exits(old[0], status=-9)
        assert [a.generation.number for a in scene.actions if isinstance(a, actions.Spawn)] == [1]
        scene.are_ready(*new)
        assert set(scene.drained()) == {old[1], 5}

    def test_a_slot_that_waits_is_forgotten_when_a_new_generation_is_committed(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        scene.exits(2, status=1)
        scene.reloaded(make_generation(workers=1))
        assert scene.awaited() is None

    def test_a_worker_that_talks_nonsense_is_killed_and_replaced(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(events.WorkerBroke(first, "sent what is no message of its: b'x'"))
        assert scene.killed() == [first]
        assert "worker 0 (pid 101) sent what is no message of its: b'x', killing it" in scene.logged()
        scene.happens(events.ChannelClosed(first))
        scene.exits(first, status=-9)
        assert scene.spawned() == [0]

    def test_a_worker_that_says_ready_twice_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, Ready(0)))
        assert scene.killed() == [first]

    def test_a_worker_that_is_ready_and_starts_again_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, Starting("server.toml:6: apps.h")))
        assert scene.killed() == [first]
        assert "said that it is starting at the wrong time" in scene.logged()

    def test_a_worker_that_hangs_up_without_exiting_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(events.ChannelClosed(first))
        assert scene.logged() == ""
        assert scene.spawned() == []
        scene.passes(LEAVE_PATIENCE)
        assert scene.killed() == [first]
        assert "did not exit by itself" in scene.logged()

    def test_a_worker_that_somebody_else_told_to_stop_is_replaced(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.drains(first)
        assert scene.spawned() == [0]
        told = "worker 0 (pid 101) leaves without having been told, as after SIGTERM, starting another"
        assert scene.logged() == told
        scene.happens(events.ChannelClosed(first))
        scene.exits(first, status=0)
        assert scene.spawned() == []
        assert scene.logged() == ""

    def test_one_that_somebody_else_told_to_stop_and_that_does_not_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(graceful_timeout=12.0))
        scene.drains(first)
        scene.are_ready(3)
        scene.passes(12 + CUT_PATIENCE)
        assert scene.killed() == [first]
        scene.exits(first, status=-9)
        assert scene.spawned() == []
        assert scene.fleet.slots[0].restarts == 1

    @pytest.mark.parametrize("is_ready", [True, False])
    def test_one_that_somebody_else_told_to_stop_is_no_part_of_a_new_generation(
        self, scene: Scene, is_ready: bool
    ) -> None:
        scene.serves()
        first, second = scene.reloads()
        if is_ready:
            scene.happens(said(first, Ready(0)))
        scene.drains(first)
        assert scene.logged() == ""
        assert scene.fleet.slots[0].restarts == 0  # which is of the generation that serves
        assert scene.happens(said(second, Ready(0))) == []
        scene.exits(first)
        assert "reload failed, generation 1 goes on serving: worker 0 (pid 103) exited with status 0" in scene.logged()
        assert scene.drained() == [second]

    def test_a_worker_that_says_draining_twice_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.drains(first, first)
        assert scene.killed() == [first]
        assert "worker 0 (pid 101) said that it is draining at the wrong time, killing it" in scene.logged()

    def test_a_worker_that_is_ready_again_after_its_drain_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(TERM)
        scene.drains(first)
        scene.happens(said(first, Ready(0)))
        assert scene.killed() == [first]


class TestExplanation:
    """What the log says about the end of a worker."""

    @pytest.mark.parametrize(
        ("status", "told"),
        [
            (-9, "was killed by SIGKILL (out of memory? 300 MiB resident at its last beat)"),
            (-11, "was killed by SIGSEGV"),
            (7, "exited with status 7"),
            (0, "exited with status 0"),
        ],
    )
    def test_a_worker_that_beat_is_explained_with_the_memory_it_held(
        self, scene: Scene, status: int, told: str
    ) -> None:
        first, _ = scene.serves()
        scene.beats_once(first, rss=300 * 2**20)
        scene.exits(first, status=status)
        assert scene.logged() == f"worker 0 (pid 101) {told}, starting another"
        assert scene.fleet.slots[0].last_exit == f"worker 0 (pid 101) {told}"
        assert scene.fleet.slots[0].restarts == 1

    def test_one_that_we_killed_did_not_run_out_of_memory(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(events.WorkerBroke(first, "sent nonsense"))
        scene.exits(first, status=-9)
        assert scene.logged() == "worker 0 (pid 101) was killed: it sent nonsense, starting another"


class TestHang:
    def test_it_is_asked_for_its_stacks_and_killed_a_little_later_with_the_requests_in_flight(
        self, scene: Scene
    ) -> None:
        first, _ = scene.serves(make_generation(hang_timeout=10.0))
        scene.happens(said(first, Beat(5, 1, 1, 0, 0.0, ("GET /slow shop 1 s",))))
        scene.silent = {first}
        scene.passes(10)
        assert actions.RequestStacks(first) in scene.actions
        assert scene.killed() == []
        scene.passes(STACKS_PATIENCE)
        text = "worker 0 (pid 101) hangs: its event loop has not turned for 10.5 s (hang_timeout), killing it"
        wanted = [actions.LogStacks(first, text, ("GET /slow shop 1 s",)), actions.Kill(first)]
        assert [action for action in scene.actions if isinstance(action, actions.LogStacks | actions.Kill)] == wanted
        scene.exits(first, status=-9)
        assert scene.spawned() == [0]
        why = "it hangs: its event loop has not turned for 10.5 s (hang_timeout)"
        assert scene.fleet.slots[0].last_exit == f"worker 0 (pid 101) was killed: {why}"

    def test_the_requests_are_those_that_it_named_last(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, Beat(5, 1, 1, 0, 0.0, ("GET /before shop 1 s",))))
        scene.happens(said(first, Blocked(2.0, ("GET /after shop 2 s",))))
        scene.silent = {first}
        scene.passes(31)
        (stacks,) = [action for action in scene.actions if isinstance(action, actions.LogStacks)]
        assert stacks.requests == ("GET /after shop 2 s",)

    def test_a_beat_in_the_last_moment_saves_it(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(hang_timeout=10.0))
        scene.silent = {first}
        scene.passes(9.9)
        scene.beats_once(first)
        scene.passes(9.9)
        assert not [action for action in scene.actions if isinstance(action, actions.RequestStacks)]

    def test_a_beat_after_that_does_not(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(hang_timeout=10.0))
        scene.silent = {first}
        scene.passes(10)
        scene.beats_once(first)
        scene.silent = {first}
        scene.passes(STACKS_PATIENCE)
        assert scene.killed() == [first]
        (stacks,) = [action for action in scene.actions if isinstance(action, actions.LogStacks)]
        assert "has not turned for 10.5 s" in stacks.message

    def test_the_supervisor_wakes_up_for_it(self, scene: Scene) -> None:
        (first,) = scene.serves(make_generation(workers=1, hang_timeout=10.0))
        began = scene.now
        assert scene.fleet.deadline() == began + LATE_AFTER
        scene.silent = {first}
        scene.passes(LATE_AFTER)
        assert scene.fleet.deadline() == began + 10
        scene.passes(10 - LATE_AFTER)
        assert scene.fleet.deadline() == began + 10 + STACKS_PATIENCE
        scene.passes(STACKS_PATIENCE)
        assert scene.fleet.deadline() is None  # what is killed ends

    def test_without_a_hang_timeout_nobody_is_killed(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(hang_timeout=0.0))
        scene.silent = {first, second}
        scene.passes(1000)
        assert scene.killed() == []
        assert scene.fleet.deadline() is None

    def test_a_worker_that_starts_does_not_beat_and_does_not_hang(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(hang_timeout=10.0))
        scene.exits(first, status=1)
        scene.passes(50)
        assert scene.killed() == []

    def test_a_supervisor_that_was_asleep_hears_the_beats_that_waited_before_it_judges(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(hang_timeout=10.0))
        scene.now += 100
        scene.beats_once(first)
        scene.beats_once(second)
        assert scene.happens(events.Tick()) == []

    def test_workers_that_were_frozen_together_with_the_supervisor_are_not_killed(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(hang_timeout=10.0))
        scene.sleeps(100)
        assert not [action for action in scene.actions if isinstance(action, actions.RequestStacks)]
        scene.beats_once(first)
        scene.silent = {second}
        scene.passes(11)
        assert scene.killed() == [second]

    def test_one_that_hangs_while_the_others_of_a_new_generation_start_rolls_back(self, scene: Scene) -> None:
        scene.serves()
        new, _ = scene.reloads(make_generation(hang_timeout=10.0))
        scene.are_ready(new)
        scene.silent = {new}
        scene.passes(11)
        assert scene.killed() == [new]
        scene.exits(new, status=-9)
        assert "reload failed, generation 1 goes on serving: worker 0" in scene.logged()

    def test_a_new_generation_is_not_committed_while_one_of_its_workers_is_late(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.are_ready(first)
        scene.silent = {first}
        scene.passes(LATE_AFTER)
        scene.are_ready(second)
        assert scene.fleet.step is Step.PREPARING
        scene.beats_once(first)
        assert scene.fleet.step is Step.RETIRING

    def test_a_stop_kills_it_all_the_same_and_gets_its_stacks(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(hang_timeout=10.0))
        scene.silent = {first}
        scene.passes(10)
        scene.happens(TERM)
        assert scene.drained() == [second]
        scene.passes(STACKS_PATIENCE)
        assert scene.killed() == [first]
        assert scene.exits(second, first)[-1] == actions.Exit(0)


class TestApplications:
    DOWN = AppDown("shop", "server.toml:7: app shop: no module", "Traceback", 2.0)

    def test_one_that_is_down_is_told_once_with_its_traceback(self, scene: Scene) -> None:
        first, second = scene.serves()
        text = "server.toml:7: app shop: no module: answering 503, next try in 2 s"
        assert scene.happens(said(first, self.DOWN)) == [actions.Log("error", text, "Traceback")]
        for worker in (first, second, first):  # what fails in one fails in all, and fails again
            scene.happens(said(worker, self.DOWN))
            assert scene.logged() == ""

    def test_another_failure_is_told_anew(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, self.DOWN))
        scene.happens(said(first, AppDown("shop", "server.toml:7: app shop: no database", "Traceback", 4.0)))
        assert scene.logged() == "server.toml:7: app shop: no database: answering 503, next try in 4 s"

    def test_it_is_up_again_when_it_is_up_in_every_worker(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.happens(said(first, self.DOWN))
        scene.happens(said(second, self.DOWN))
        scene.happens(said(second, AppUp("shop")))
        assert scene.logged() == ""
        scene.happens(said(first, AppUp("shop")))
        assert scene.logged() == "app shop is up again"
        assert scene.happens(said(first, AppUp("shop"))) == []

    def test_a_failure_after_that_is_told_anew(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, self.DOWN))
        scene.happens(said(first, AppUp("shop")))
        scene.happens(said(first, self.DOWN))
        assert scene.logged().startswith("server.toml:7: app shop: no module")

    def test_one_that_may_be_down_does_not_keep_a_worker_from_being_ready(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(said(first, self.DOWN))
        scene.are_ready(first, second)
        assert scene.fleet.phase is Phase.SERVING

    def test_a_worker_that_names_one_that_does_not_exist_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(said(first, AppDown("blog", "no", "", 1.0)))
        assert scene.killed() == [first]


class TestAsking:
    """A worker wants to know how everything stands, for a builtin mount."""

    def test_it_is_told_with_the_number_of_its_question(self, scene: Scene) -> None:
        first, second = scene.serves()
        assert scene.happens(said(first, Ask(7))) == [Tell(first, 7)]
        assert scene.happens(said(second, Ask(1))) == [Tell(second, 1)]

    def test_one_that_asks_all_the_time_is_told_twice_a_second_and_no_more(self, scene: Scene) -> None:
        first, *_ = scene.serves()
        told = 0
        for number in range(1000):
            told += len(scene.happens(said(first, Ask(number))))
            scene.now += 0.002
        assert told == pytest.approx(2 / ASK_REST, abs=1)

    def test_one_that_drains_may_ask_as_well(self, scene: Scene) -> None:
        first, *_ = scene.serves()
        scene.happens(said(first, Draining()))
        assert scene.happens(said(first, Ask(1))) == [Tell(first, 1)]


class TestTotals:
    """What is counted of workers and reloads for good, whatever becomes of the slots."""

    def test_restarts_are_counted_beyond_the_slots_that_they_were_in(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(workers=2))
        scene.exits(first, second, status=-9)
        assert scene.fleet.restarts == 2
        scene.happens(TTOU)
        assert scene.fleet.restarts == 2

    def test_reloads_are_counted_by_how_they_ended(self, scene: Scene) -> None:
        old = scene.serves(make_generation())
        new = scene.reloads(renewed(make_generation()))
        scene.are_ready(*new)
        scene.drains(*old)
        scene.exits(*old)
        scene.happens(HUP)
        scene.happens(events.LoadFailed("no"))
        assert (scene.fleet.reloads, scene.fleet.failed_reloads) == (1, 1)
