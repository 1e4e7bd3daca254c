"""What the supervisor decides, in virtual time: starting, reloading, replacing, stopping."""

from __future__ import annotations

import random
import re
import signal
from dataclasses import replace
from itertools import product

import pytest

from serverd.supervisor import actions, events
from serverd.supervisor.fleet import CUT_PATIENCE, LEAVE_PATIENCE, UNREADY_PATIENCE, WHAT_LIMIT, Fleet
from serverd.supervisor.policy import decide
from serverd.supervisor.states import Phase, StateError, Step, WorkerState
from serverd.supervisor.transaction import LOAD_PATIENCE
from serverd.supervisor.wording import describe_exit
from tests.supervisor.scene import HUP, INT, QUIT, TERM, Scene, make_generation


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestStart:
    def test_it_begins_with_reading_the_configuration(self, scene: Scene) -> None:
        assert scene.happens(events.Begin()) == [actions.StartLoader()]
        assert scene.fleet.deadline() == scene.now + LOAD_PATIENCE

    def test_sockets_come_before_workers_and_the_generation_is_number_one(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        *_, last = scene.happens(events.Loaded(make_generation()))
        assert isinstance(last, actions.OpenSockets)
        assert last.generation.number == 1
        scene.happens(events.SocketsOpened())
        assert scene.spawned() == [0, 1]

    def test_warnings_of_the_configuration_are_logged(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(events.Loaded(replace(make_generation(), warnings=("nobody mounts on spare",))))
        assert actions.Log("warning", "nobody mounts on spare") in scene.actions

    def test_it_is_committed_when_the_last_worker_is_ready(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        assert scene.happens(events.WorkerReady(second)) == []
        scene.happens(events.WorkerReady(first))
        assert actions.CommitSockets() in scene.actions
        assert actions.SetTitle("serverd: supervisor /etc/server.toml (generation 1)") in scene.actions
        assert scene.logged() == "ready: generation 1, 2 workers"
        assert scene.fleet.phase is Phase.SERVING
        assert scene.fleet.step is Step.IDLE
        assert scene.fleet.deadline() is None

    def test_a_single_worker_is_called_one(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        assert scene.logged() == "ready: generation 1, 1 worker"

    def test_a_wrong_configuration_ends_it_with_the_report(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(events.LoadFailed("server.toml:1: what is this\n   1 | x"))
        assert actions.Complain("server.toml:1: what is this\n   1 | x") in scene.actions
        assert scene.exit_code() == 3

    def test_a_loader_that_takes_too_long_is_stopped_and_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.passes_until_deadline()
        assert actions.StopLoader() in scene.actions
        assert actions.Complain("the configuration could not be read within 30 s") in scene.actions
        assert scene.exit_code() == 3

    def test_addresses_that_cannot_be_bound_end_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(events.Loaded(make_generation()))
        scene.happens(events.BindFailed("server.toml:3: cannot bind"))
        assert actions.Complain("server.toml:3: cannot bind") in scene.actions
        assert scene.exit_code() == 3

    def test_an_application_that_fails_ends_it_with_its_traceback_after_the_others_have_left(
        self, scene: Scene
    ) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(events.WorkerFailed(first, "server.toml:7: app shop: no module", "Traceback\n  boom\n"))
        assert actions.Complain("server.toml:7: app shop: no module\nTraceback\n  boom") in scene.actions
        assert actions.CloseSockets() in scene.actions
        assert scene.drained() == [second]
        assert scene.exit_code() is None
        scene.exits(second)
        scene.exits(first, status=3)
        assert scene.exit_code() == 3
        assert scene.logged() == ""

    def test_the_same_failure_of_another_worker_is_not_told_twice(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(events.WorkerFailed(first, "no module", ""))
        scene.happens(events.WorkerFailed(second, "no module", ""))
        assert [type(action) for action in scene.actions] == [actions.Log]
        assert scene.actions[0] == actions.Log(
            "debug", f"worker 1 (pid {100 + second}) failed while it was leaving: no module"
        )

    @pytest.mark.parametrize(
        ("status", "told"),
        [(-11, "was killed by SIGSEGV"), (1, "exited with status 1"), (0, "exited with status 0")],
    )
    def test_a_worker_that_dies_before_it_is_ready_ends_it(self, scene: Scene, status: int, told: str) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.exits(first, status=status)
        assert actions.Complain(f"worker 0 (pid {100 + first}) {told} before it was ready") in scene.actions
        assert scene.exits(second)[-1] == actions.Exit(3)

    def test_a_worker_that_dies_before_the_others_are_ready_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(events.WorkerReady(first))
        scene.exits(first, status=-9)
        complaint = f"worker 0 (pid {100 + first}) was killed by SIGKILL before all workers were ready"
        assert actions.Complain(complaint) in scene.actions
        assert scene.exits(second)[-1] == actions.Exit(3)

    def test_a_worker_that_is_not_ready_in_time_is_killed_and_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared(make_generation(start_timeout=7.0))
        scene.happens(events.WorkerReady(second))
        scene.passes(7)
        assert scene.killed() == [first]
        assert scene.drained() == [second]
        complaint = f"worker 0 (pid {100 + first}) was not ready within 7 s (start_timeout)"
        assert actions.Complain(complaint) in scene.actions
        assert scene.logged() == ""
        scene.exits(second)
        assert scene.exits(first, status=-9)[-1] == actions.Exit(3)

    def test_the_application_that_a_worker_said_it_brings_up_is_blamed_once(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        workers = scene.is_prepared(make_generation(start_timeout=2.0))
        for worker in workers:
            assert scene.happens(events.WorkerStarting(worker, "server.toml:3: apps.shop")) == []
            assert scene.happens(events.WorkerStarting(worker, "server.toml:6: apps.h")) == []
        scene.passes(2)
        assert scene.killed() == workers
        told = [action for action in scene.actions if isinstance(action, actions.Complain | actions.Log)]
        assert told == [actions.Complain("server.toml:6: apps.h: not up within 2 s (start_timeout)")]
        assert scene.exits(*workers, status=-9)[-1] == actions.Exit(3)
        assert scene.logged() == ""

    def test_what_a_worker_says_that_it_brings_up_is_kept_in_part(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, _ = scene.is_prepared()
        scene.happens(events.WorkerStarting(first, "x" * 1_000_000))
        scene.passes(60)
        assert actions.Complain(f"{'x' * WHAT_LIMIT}: not up within 60 s (start_timeout)") in scene.actions

    def test_a_machine_without_room_for_a_process_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.has_room = False
        first, second = scene.is_prepared()
        scene.happens(events.SpawnFailed(first, "cannot allocate memory"))
        assert actions.Complain("worker 0 could not be spawned: cannot allocate memory") in scene.actions
        assert scene.happens(events.SpawnFailed(second, "cannot allocate memory"))[-1] == actions.Exit(3)


class TestReload:
    def test_the_new_workers_start_beside_the_old_ones_which_drain_when_it_is_committed(self, scene: Scene) -> None:
        old = scene.serves()
        scene.happens(HUP)
        assert scene.logged() == "reloading: HUP received"
        new = scene.is_prepared()
        assert scene.drained() == []
        scene.happens(events.WorkerReady(new[0]))
        assert scene.actions == []
        scene.happens(events.WorkerReady(new[1]))
        assert scene.drained() == old
        assert scene.logged() == ""
        assert scene.fleet.step is Step.RETIRING
        scene.drains(*old)
        assert scene.logged() == "reloaded: generation 2 is serving"
        scene.exits(*old)
        assert scene.fleet.step is Step.IDLE
        assert set(scene.fleet.workers) == set(new)

    def test_old_workers_drain_before_the_sockets_that_only_they_have_are_closed(self, scene: Scene) -> None:
        scene.serves()
        for worker in scene.reloads():
            scene.happens(events.WorkerReady(worker))
        kinds = [type(action) for action in scene.actions]
        assert kinds.index(actions.SendDrain) < kinds.index(actions.CommitSockets)

    def test_the_number_of_workers_may_change(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        new = scene.reloads(make_generation(workers=3))
        assert len(new) == 3
        for worker in new:
            scene.happens(events.WorkerReady(worker))
        assert sorted(scene.fleet.slots) == [0, 1, 2]

    @pytest.mark.parametrize(
        ("report", "detail"),
        [("server.toml:1: wrong", ""), ("server.toml:1: wrong\n   1 | x", "server.toml:1: wrong\n   1 | x")],
        ids=["one line", "several lines"],
    )
    def test_a_wrong_configuration_leaves_the_old_generation_serving(
        self, scene: Scene, report: str, detail: str
    ) -> None:
        old = scene.serves()
        scene.happens(HUP)
        assert scene.happens(events.LoadFailed(report)) == [
            actions.Log("error", "reload failed, generation 1 goes on serving: server.toml:1: wrong", detail)
        ]
        assert scene.fleet.step is Step.IDLE
        assert set(scene.fleet.workers) == set(old)

    def test_an_address_that_cannot_be_bound_leaves_the_old_generation_serving(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(HUP)
        scene.happens(events.Loaded(make_generation()))
        scene.happens(events.BindFailed("cannot bind"))
        assert scene.logged() == "reload failed, generation 1 goes on serving: cannot bind"
        assert actions.RollbackSockets() not in scene.actions  # a prepare that fails has left nothing open
        assert scene.fleet.step is Step.IDLE

    def test_a_loader_that_takes_too_long_leaves_the_old_generation_serving(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(HUP)
        scene.passes(LOAD_PATIENCE)
        assert scene.actions[0] == actions.StopLoader()
        assert "reload failed, generation 1 goes on serving" in scene.logged()
        assert scene.fleet.deadline() is None

    def test_an_application_that_fails_rolls_back(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.happens(events.WorkerFailed(new[0], "server.toml:7: app shop: no module", "Traceback"))
        text = "reload failed, generation 1 goes on serving: server.toml:7: app shop: no module"
        assert scene.actions[0] == actions.Log("error", text, "Traceback")
        assert actions.RollbackSockets() in scene.actions
        assert scene.drained() == [new[1]]
        assert scene.fleet.step is Step.RETIRING
        scene.exits(*new)
        assert scene.fleet.step is Step.IDLE
        assert set(scene.fleet.workers) == set(old)

    def test_new_workers_that_were_ready_are_drained_because_they_have_accepted_connections(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads(make_generation(graceful_timeout=12.0))
        scene.happens(events.WorkerReady(first))
        scene.exits(second, status=-11)
        assert actions.SendDrain(first, 12.0) in scene.actions
        assert scene.fleet.workers[first].deadline == scene.now + 12 + CUT_PATIENCE

    def test_new_workers_that_were_not_ready_get_little_time(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.exits(second, status=1)
        assert scene.drained() == [first]
        scene.passes(UNREADY_PATIENCE)
        assert scene.killed() == [first]

    def test_a_worker_whose_ready_crossed_its_drain_gets_the_time_of_a_ready_one(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.exits(second, status=1)
        scene.happens(events.WorkerReady(first))
        assert scene.fleet.workers[first].deadline == scene.now + 30 + CUT_PATIENCE
        assert scene.fleet.workers[first].state is WorkerState.TOLD

    def test_a_worker_that_is_not_ready_in_time_is_killed_and_rolls_back(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(events.WorkerReady(second))
        scene.passes(60)
        assert scene.killed() == [first]
        assert scene.drained() == [second]
        reason = f"worker 0 (pid {100 + first}) was not ready within 60 s (start_timeout)"
        assert scene.logged() == f"reload failed, generation 1 goes on serving: {reason}"

    def test_workers_that_hang_together_are_killed_together_and_the_application_is_blamed_once(
        self, scene: Scene
    ) -> None:
        scene.serves()
        new = scene.reloads()
        for worker in new:
            scene.happens(events.WorkerStarting(worker, "server.toml:6: apps.h"))
        scene.passes(60)
        assert scene.killed() == new
        reason = "server.toml:6: apps.h: not up within 60 s (start_timeout)"
        assert scene.logged() == f"reload failed, generation 1 goes on serving: {reason}"

    def test_a_worker_that_failed_after_it_was_told_to_leave_is_no_warning(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(events.WorkerFailed(first, "no module", ""))
        scene.happens(events.WorkerFailed(second, "no module", ""))
        scene.exits(second, status=3)
        assert scene.actions == [actions.Log("debug", f"worker 1 (pid {100 + second}) exited with status 3")]
        scene.exits(first, status=3)
        assert scene.logged() == ""

    @pytest.mark.parametrize(("says_failed", "status"), [(False, 3), (True, 1), (True, -11)])
    def test_any_other_end_of_a_worker_that_was_told_to_leave_is_one(
        self, scene: Scene, says_failed: bool, status: int
    ) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(events.WorkerFailed(first, "no module", ""))
        if says_failed:
            scene.happens(events.WorkerFailed(second, "no module", ""))
        scene.exits(second, status=status)
        assert scene.logged() == f"worker 1 (pid {100 + second}) {describe_exit(status)} while draining"

    def test_a_rolled_back_generation_keeps_its_number_for_itself(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.happens(events.WorkerFailed(new[0], "no", ""))
        scene.exits(*new)
        scene.reloaded()
        scene.drains(*old)
        assert scene.logged() == "reloaded: generation 3 is serving"

    def test_workers_that_do_not_drain_are_killed_after_the_graceful_timeout_and_a_little(self, scene: Scene) -> None:
        old = scene.serves()
        for worker in scene.reloads():
            scene.happens(events.WorkerReady(worker))
        assert scene.passes(30) == []
        scene.passes(CUT_PATIENCE)
        assert scene.killed() == old
        assert f"worker 0 (pid {100 + old[0]}) of generation 1 did not exit in time while draining" in scene.logged()

    def test_a_worker_that_crashes_while_draining_is_not_replaced(self, scene: Scene) -> None:
        old = scene.serves()
        for worker in scene.reloads():
            scene.happens(events.WorkerReady(worker))
        scene.exits(old[0], status=-11)
        assert scene.spawned() == []
        assert scene.logged() == f"worker 0 (pid {100 + old[0]}) was killed by SIGSEGV while draining"


class TestAnnouncement:
    """The line that a deploy script waits for: from then on, no new connection reaches the old code."""

    SAID = "reloaded: generation 2 is serving"

    def test_it_comes_with_the_last_old_worker_that_accepts_no_more_and_only_once(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.reloaded()
        assert scene.drains(first) == []
        assert scene.drains(second) == [actions.Log("info", self.SAID)]
        assert scene.exits(first) == [actions.Log("debug", "worker 0 (pid 101) exited with status 0")]
        assert scene.exits(second) == [actions.Log("debug", "worker 1 (pid 102) exited with status 0")]

    @pytest.mark.parametrize("status", [0, -9])
    def test_a_worker_that_is_gone_accepts_no_more_either(self, scene: Scene, status: int) -> None:
        first, second = scene.serves()
        scene.reloaded()
        scene.drains(first)
        scene.exits(second, status=status)
        assert self.SAID in scene.logged()

    def test_it_comes_before_a_queued_reload_begins(self, scene: Scene) -> None:
        old = scene.serves()
        scene.reloaded()
        scene.happens(HUP)
        scene.exits(*old)
        assert scene.actions[-2:] == [actions.Log("info", self.SAID), actions.StartLoader()]

    def test_it_comes_with_the_commit_when_no_old_worker_lives(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        scene.exits(2, status=1)  # the next one waits for the backoff
        scene.reloaded(make_generation(workers=1))
        assert scene.logged() == self.SAID

    def test_a_worker_that_drained_before_the_commit_is_not_waited_for(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.drains(first)
        scene.reloaded()
        assert scene.drained() == [second]
        assert scene.drains(second) == [actions.Log("info", self.SAID)]

    def test_a_worker_that_starts_may_accept_before_it_hears_of_its_drain(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.reloads()
        scene.exits(first, status=-9)
        for worker in (3, 4):
            scene.happens(events.WorkerReady(worker))
        assert scene.drains(second) == []
        assert scene.happens(events.WorkerReady(5)) == []
        assert scene.drains(5) == [actions.Log("info", self.SAID)]

    def test_a_worker_that_fails_or_hangs_up_is_waited_for_until_it_is_gone(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.happens(events.ChannelClosed(first))
        scene.reloaded()
        scene.happens(events.ChannelClosed(second))
        scene.exits(second)
        assert scene.logged() == ""
        scene.passes(LEAVE_PATIENCE)
        assert scene.killed() == [first]
        assert self.SAID not in scene.logged()
        scene.exits(first, status=-9)
        assert scene.logged() == self.SAID

    def test_a_worker_that_does_not_hear_is_killed_and_waited_for_until_it_is_gone(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.reloaded()
        scene.drains(first)
        scene.exits(first)
        scene.passes(30 + CUT_PATIENCE)
        assert scene.killed() == [second]
        assert self.SAID not in scene.logged()
        assert scene.drains(second) == []  # crossed the signal
        scene.exits(second, status=-9)
        assert scene.logged() == self.SAID

    @pytest.mark.parametrize("event", [TERM, INT, QUIT])
    def test_a_stop_takes_it_back(self, scene: Scene, event: events.Event) -> None:
        old = scene.serves()
        new = scene.reloaded()
        scene.happens(event)
        assert scene.fleet.step is Step.IDLE
        logged = [scene.logged()]
        for worker in (*old, *new):
            scene.drains(worker)
            logged.append(scene.logged())
            scene.exits(worker)
            logged.append(scene.logged())
        assert "reloaded" not in "\n".join(logged)
        assert scene.exit_code() == 0

    def test_a_generation_that_is_rolled_back_announces_nothing(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(events.WorkerReady(first))
        scene.happens(events.WorkerFailed(second, "no", ""))
        assert scene.drained() == [first]
        assert scene.drains(first) == []
        scene.exits(first, second)
        assert scene.logged() == ""

    def test_a_start_announces_nothing(self, scene: Scene) -> None:
        first, _ = scene.serves()
        assert scene.drains(first) == []

    def test_a_worker_of_the_new_generation_is_not_waited_for(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloaded()
        scene.exits(new[0], status=-9)
        assert scene.spawned() == [0]
        scene.drains(*old)
        assert scene.logged() == self.SAID


class TestQueuedReload:
    @pytest.mark.parametrize("step", [Step.LOADING, Step.OPENING, Step.PREPARING, Step.RETIRING])
    def test_a_reload_during_a_reload_begins_after_it(self, scene: Scene, step: Step) -> None:
        old = scene.serves()
        stages = {
            Step.LOADING: lambda: scene.happens(HUP),
            Step.OPENING: lambda: scene.happens(events.Loaded(make_generation())),
            Step.PREPARING: lambda: scene.happens(events.SocketsOpened()),
            Step.RETIRING: lambda: [scene.happens(events.WorkerReady(new)) for new in (3, 4)],
        }
        queued = False
        for stage, enter in stages.items():
            enter()
            if stage is step:
                scene.happens(HUP)
                queued = True
                assert "reload queued: HUP received" in scene.logged()
        assert queued
        assert actions.StartLoader() not in scene.actions
        scene.exits(old[0])
        assert actions.StartLoader() not in scene.actions
        scene.exits(old[1])
        assert scene.actions[-1] == actions.StartLoader()

    def test_it_begins_after_a_reload_that_failed_too(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(HUP)
        scene.happens(HUP)
        scene.happens(events.LoadFailed("no"))
        assert scene.actions[-1] == actions.StartLoader()

    def test_many_are_as_good_as_one(self, scene: Scene) -> None:
        scene.serves()
        for _ in range(5):
            scene.happens(HUP)
        scene.happens(events.LoadFailed("no"))
        assert scene.actions[-1] == actions.StartLoader()
        scene.happens(events.LoadFailed("no"))
        assert actions.StartLoader() not in scene.actions

    def test_it_waits_for_a_start_that_is_under_way(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(HUP)
        for worker in scene.is_prepared():
            scene.happens(events.WorkerReady(worker))
        assert scene.actions[-1] == actions.StartLoader()

    def test_it_is_dropped_when_the_supervisor_stops(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(TERM)
        assert scene.happens(HUP) == []
        scene.exits(*workers)
        assert scene.exit_code() == 0


class TestReplacement:
    def test_a_dead_worker_is_replaced_in_its_slot_at_once(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.exits(second, status=-9)
        assert scene.spawned() == [1]
        assert scene.logged() == f"worker 1 (pid {100 + second}) was killed by SIGKILL, starting another"

    def test_the_replacement_is_announced_when_it_is_ready(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.exits(second, status=-9)
        scene.happens(events.WorkerReady(3))
        assert scene.logged() == "worker 1 (pid 103) is ready"
        assert scene.fleet.deadline() is None

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
        scene.happens(events.WorkerReady(2))
        scene.passes(60)
        scene.exits(2, status=1)
        assert scene.spawned() == [0]

    def test_a_replacement_that_fails_is_told_with_its_traceback_and_tried_again(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=-9)
        scene.happens(events.WorkerFailed(2, "app shop: boom", "Traceback"))
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
        scene.happens(events.WorkerStarting(3, "server.toml:6: apps.h"))
        scene.passes(60)
        reason = "server.toml:6: apps.h: not up within 60 s (start_timeout)"
        assert scene.logged() == f"worker 0 (pid 103) cannot serve: {reason}, killing it"

    def test_the_old_generation_is_kept_complete_while_a_new_one_is_prepared(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.exits(old[0], status=-9)
        assert [a.generation.number for a in scene.actions if isinstance(a, actions.Spawn)] == [1]
        for worker in new:
            scene.happens(events.WorkerReady(worker))
        assert set(scene.drained()) == {old[1], 5}

    def test_a_slot_that_waits_is_forgotten_when_a_new_generation_is_committed(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.exits(1, status=1)
        scene.exits(2, status=1)
        scene.happens(HUP)
        (new,) = scene.is_prepared(make_generation(workers=1))
        scene.happens(events.WorkerReady(new))
        assert scene.fleet.deadline() is None

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
        scene.happens(events.WorkerReady(first))
        assert scene.killed() == [first]

    def test_a_worker_that_is_ready_and_starts_again_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(events.WorkerStarting(first, "server.toml:6: apps.h"))
        assert scene.killed() == [first]
        assert "said that it is starting at the wrong time" in scene.logged()

    def test_a_worker_that_hangs_up_without_exiting_is_killed(self, scene: Scene) -> None:
        first, _ = scene.serves()
        assert scene.happens(events.ChannelClosed(first)) == []
        scene.passes(LEAVE_PATIENCE)
        assert scene.killed() == [first]
        assert "did not exit by itself" in scene.logged()

    def test_a_worker_that_somebody_else_told_to_stop_is_replaced(self, scene: Scene) -> None:
        first, _ = scene.serves()
        assert scene.drains(first) == []
        scene.happens(events.ChannelClosed(first))
        scene.exits(first, status=0)
        assert scene.spawned() == [0]

    def test_one_that_somebody_else_told_to_stop_and_that_does_not_is_killed_and_replaced(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(graceful_timeout=12.0))
        scene.drains(first)
        scene.passes(12 + CUT_PATIENCE)
        assert scene.killed() == [first]
        scene.exits(first, status=-9)
        assert scene.spawned() == [0]

    @pytest.mark.parametrize("is_ready", [True, False])
    def test_one_that_somebody_else_told_to_stop_is_no_part_of_a_new_generation(
        self, scene: Scene, is_ready: bool
    ) -> None:
        scene.serves()
        first, second = scene.reloads()
        if is_ready:
            scene.happens(events.WorkerReady(first))
        scene.drains(first)
        assert scene.happens(events.WorkerReady(second)) == []
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
        scene.happens(events.WorkerReady(first))
        assert scene.killed() == [first]


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
        for worker in new:
            scene.happens(events.WorkerReady(worker))
        scene.happens(TERM)
        assert scene.drained() == new
        assert scene.exits(*old, *new)[-1] == actions.Exit(0)

    def test_a_failed_start_that_is_then_told_to_stop_kills_and_still_says_three(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(events.WorkerFailed(first, "no", ""))
        scene.happens(TERM)
        assert set(scene.killed()) == {first, second}
        assert scene.exits(first, second, status=-9)[-1] == actions.Exit(3)


LATER = [
    (signal.SIGUSR1, "USR1 ignored: there is nothing to reopen yet"),
    (signal.SIGUSR2, "USR2 ignored: the supervisor cannot be replaced yet"),
    (signal.SIGTTIN, "TTIN ignored: no worker can be added by a signal yet"),
    (signal.SIGTTOU, "TTOU ignored: no worker can be removed by a signal yet"),
]


@pytest.mark.parametrize(("number", "told"), LATER, ids=lambda value: str(value)[:4])
@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase is not Phase.STOPPED], ids=lambda phase: phase.value
)
def test_signals_that_later_features_will_use_are_ignored_with_a_line(
    phase: Phase, number: signal.Signals, told: str
) -> None:
    scene, worker = fleet_with_worker(WorkerState.STARTING, phase)
    assert scene.happens(events.SignalReceived(number)) == [actions.Log("info", told)]
    assert scene.fleet.phase is phase
    assert scene.fleet.workers[worker].state is WorkerState.STARTING


def fleet_with_worker(state: WorkerState, phase: Phase) -> tuple[Scene, int]:
    """Return a scene in `phase` whose first worker is in `state`; it serves when the phase allows."""
    scene = Scene()
    if phase is Phase.STARTING:
        scene.happens(events.Begin())
        worker = scene.is_prepared()[0]
    else:
        worker = scene.serves()[0]
    scene.fleet.phase = phase
    scene.fleet.workers[worker].state = state
    return scene, worker


SAID = [
    lambda number: events.WorkerStarting(number, "server.toml:6: apps.h"),
    lambda number: events.WorkerReady(number),
    lambda number: events.WorkerDraining(number),
    lambda number: events.WorkerFailed(number, "summary", "detail"),
    lambda number: events.WorkerBroke(number, "sent nonsense"),
    lambda number: events.ChannelClosed(number),
    lambda number: events.WorkerExited(number, 0),
    lambda number: events.WorkerExited(number, -9),
    lambda number: events.SpawnFailed(number, "no memory"),
]
ALIVE = [state for state in WorkerState if state is not WorkerState.GONE]
PHASES_WITH_WORKERS = [phase for phase in Phase if phase is not Phase.STOPPED]


@pytest.mark.parametrize("phase", PHASES_WITH_WORKERS, ids=lambda phase: phase.value)
@pytest.mark.parametrize("state", ALIVE, ids=lambda state: state.value)
def test_whatever_a_worker_does_in_whatever_state_never_breaks_the_supervisor(state: WorkerState, phase: Phase) -> None:
    for said in SAID:
        scene, worker = fleet_with_worker(state, phase)
        scene.happens(said(worker))
        assert worker not in scene.fleet.workers or scene.fleet.workers[worker].state in ALIVE


@pytest.mark.parametrize(("state", "phase"), list(product(ALIVE, PHASES_WITH_WORKERS)), ids=lambda value: value.value)
def test_a_deadline_that_passes_never_breaks_the_supervisor(state: WorkerState, phase: Phase) -> None:
    scene, worker = fleet_with_worker(state, phase)
    scene.fleet.workers[worker].deadline = scene.now
    scene.happens(events.Tick())
    if state is not WorkerState.KILLED and state is not WorkerState.READY:
        assert worker in scene.killed()


@pytest.mark.parametrize("event", [events.Loaded(make_generation()), events.SocketsOpened()])
def test_an_event_that_nobody_waits_for_is_a_bug_and_raises(scene: Scene, event: events.Event) -> None:
    scene.serves()
    with pytest.raises(StateError):
        decide(scene.fleet, event, scene.now)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exited with status 0"), (3, "exited with status 3"), (-15, "was killed by SIGTERM"), (-63, "signal 63")],
)
def test_the_end_of_a_process_is_told_in_words(status: int, words: str) -> None:
    assert describe_exit(status).endswith(words)


class World:
    """A world that does what the fleet wants, with dice: the events it offers are those that could happen."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.fleet = Fleet()
        self.now = 0.0
        self.loading = False
        self.alive: set[int] = set()
        self.said_ready: set[int] = set()
        self.said_draining: set[int] = set()
        self.generations: dict[int, int] = {}  # by worker
        self.announced: list[int] = []  # generations, in order
        self.told: set[int] = set()  # to drain, or killed
        self.killed: set[int] = set()
        self.exit_code: int | None = None

    def happens(self, event: events.Event) -> None:
        queue = [event]
        while queue:
            for action in decide(self.fleet, queue.pop(0), self.now):
                queue += self.perform(action)
        self.check()

    def perform(self, action: actions.Action) -> list[events.Event]:
        match action:
            case actions.StartLoader():
                assert not self.loading
                self.loading = True
            case actions.StopLoader():
                self.loading = False
            case actions.OpenSockets():
                failed = self.fleet.committed is not None and self.dice.random() < 0.2
                return [events.BindFailed("cannot bind") if failed else events.SocketsOpened()]
            case actions.Spawn(worker, _, generation):
                self.generations[worker] = generation.number
                if self.fleet.committed is not None and self.dice.random() < 0.1:
                    return [events.SpawnFailed(worker, "no memory")]
                self.alive.add(worker)
                return [events.WorkerSpawned(worker, worker)]
            case actions.SendDrain(worker):
                self.told.add(worker)
            case actions.Kill(worker):
                self.killed.add(worker)
            case actions.Log(_, message) if found := re.match(r"(?:ready|reloaded): generation (\d+)", message):
                self.announced.append(int(found[1]))
                older = {worker for worker in self.alive if self.generations[worker] < self.announced[-1]}
                assert older <= self.said_draining
                assert self.fleet.phase is Phase.SERVING
            case actions.Exit(code):
                self.exit_code = code
        return []

    def check(self) -> None:
        generations = {worker.generation.number for worker in self.fleet.workers.values()}
        assert len(generations) <= 2
        assert set(self.fleet.workers) == self.alive
        assert self.announced == sorted(set(self.announced))
        if self.fleet.phase is Phase.SERVING and self.fleet.committed is not None:
            if self.fleet.step is not Step.RETIRING:
                assert self.announced[-1] == self.fleet.committed.number
            for number, slot in self.fleet.slots.items():
                holders = [
                    worker
                    for worker in self.fleet.workers.values()
                    if self.fleet.is_committed(worker) and worker.slot == number
                ]
                assert len(holders) == (0 if slot.due is not None else 1)

    def choices(self) -> list[events.Event]:
        """Return what could happen next."""
        found: list[events.Event] = [HUP, events.Tick()]
        if self.loading:
            found += [events.Loaded(make_generation(self.dice.choice([1, 2, 3]))), events.LoadFailed("no")]
        for worker in sorted(self.alive):
            found += [events.WorkerExited(worker, -9 if worker in self.killed else self.dice.choice([0, 1, -11]))]
            if worker not in self.said_ready:
                found += [events.WorkerStarting(worker, "apps.h")]
                found += [events.WorkerReady(worker)] * 3 + [events.WorkerFailed(worker, "no", "")]
            if worker not in self.said_draining:
                likely = worker in self.told or self.dice.random() < 0.1  # by somebody else's signal
                found += [events.WorkerDraining(worker)] * (2 if likely else 0)
            found += [events.ChannelClosed(worker)] if self.dice.random() < 0.1 else []
        return found

    def step(self, event: events.Event) -> None:
        match event:
            case events.Loaded() | events.LoadFailed():
                self.loading = False
            case events.WorkerReady(worker) | events.WorkerFailed(worker):
                self.said_ready.add(worker)
            case events.WorkerDraining(worker):
                self.said_draining.add(worker)
            case events.WorkerExited(worker):
                self.alive.discard(worker)
            case events.Tick():
                self.now += self.dice.choice([0.1, 1.0, 40.0])
        self.happens(event)


@pytest.mark.parametrize("seed", range(60))
def test_in_any_order_of_events_no_slot_is_lost_and_at_most_two_generations_live(seed: int) -> None:
    world = World(seed)
    world.happens(events.Begin())
    for _ in range(300):
        if world.exit_code is not None:
            break
        world.step(world.dice.choice(world.choices()))
    if world.exit_code is None:
        if world.fleet.phase in {Phase.STARTING, Phase.SERVING}:
            world.step(TERM)
        for worker in sorted(world.alive):
            by_itself = {WorkerState.LEAVING, WorkerState.DRAINING}
            assert worker in world.told | world.killed or world.fleet.workers[worker].state in by_itself
            world.step(events.WorkerExited(worker, 0))
    assert world.exit_code in {0, 3}
