"""How a generation comes to serve, in virtual time: the first start, reloads with new workers, queued ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverd.messages import Drain, Failed, Ready, Starting
from serverd.supervisor import actions, events
from serverd.supervisor.fleet import UNREADY_PATIENCE
from serverd.supervisor.states import Phase, Step, WorkerState
from serverd.supervisor.transaction import LOAD_PATIENCE
from serverd.supervisor.wording import describe_exit
from serverd.supervisor.worker import CUT_PATIENCE
from serverd.supervisor.workers import LEAVE_PATIENCE, WHAT_LIMIT
from tests.supervisor.scene import HUP, INT, QUIT, TERM, Scene, make_generation, said


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestStart:
    def test_it_begins_with_reading_the_configuration(self, scene: Scene) -> None:
        assert scene.happens(events.Begin()) == [actions.StartLoader()]
        assert scene.fleet.deadline() == scene.now + LOAD_PATIENCE

    def test_sockets_come_before_workers_and_the_generation_is_number_one(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        generation = make_generation()
        first, last = scene.happens(events.Loaded(generation))
        assert first == actions.ConfigureLogging(generation.logging)  # what fails from here on is told as it says
        assert last == actions.OpenSockets(replace(generation, number=1), 2)
        scene.happens(events.SocketsOpened())
        assert scene.spawned() == [0, 1]

    def test_warnings_of_the_configuration_are_logged(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(events.Loaded(replace(make_generation(), warnings=("nobody mounts on spare",))))
        assert actions.Log("warning", "nobody mounts on spare") in scene.actions

    def test_it_is_committed_when_the_last_worker_is_ready(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        assert scene.happens(said(second, Ready(0))) == []
        scene.happens(said(first, Ready(0)))
        assert actions.CommitSockets() in scene.actions
        assert actions.SetTitle("serverd: supervisor /etc/server.toml (generation 1)") in scene.actions
        assert scene.logged() == "ready: generation 1, 2 workers"
        assert scene.fleet.phase is Phase.SERVING
        assert scene.fleet.step is Step.IDLE
        assert scene.awaited() is None

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
        scene.happens(said(first, Failed("server.toml:7: app shop: no module", "Traceback\n  boom\n")))
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
        scene.happens(said(first, Failed("no module", "")))
        scene.happens(said(second, Failed("no module", "")))
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

    def test_a_worker_that_dies_while_it_brings_up_an_application_names_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, _ = scene.is_prepared()
        scene.happens(said(first, Starting("server.toml:7: apps.shop")))
        scene.exits(first, status=7)
        how = f"worker 0 (pid {100 + first}) exited with status 7 before it was ready"
        assert actions.Complain(f"{how} (bringing up server.toml:7: apps.shop)") in scene.actions

    def test_a_worker_that_dies_before_the_others_are_ready_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.happens(said(first, Ready(0)))
        scene.exits(first, status=-9)
        complaint = f"worker 0 (pid {100 + first}) was killed by SIGKILL (out of memory?) before all workers were ready"
        assert actions.Complain(complaint) in scene.actions
        assert scene.exits(second)[-1] == actions.Exit(3)

    def test_a_worker_that_is_not_ready_in_time_is_killed_and_ends_it(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared(make_generation(start_timeout=7.0))
        scene.happens(said(second, Ready(0)))
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
            assert scene.happens(said(worker, Starting("server.toml:3: apps.shop"))) == []
            assert scene.happens(said(worker, Starting("server.toml:6: apps.h"))) == []
        scene.passes(2)
        assert scene.killed() == workers
        told = [action for action in scene.actions if isinstance(action, actions.Complain | actions.Log)]
        assert told == [actions.Complain("server.toml:6: apps.h: not up within 2 s (start_timeout)")]
        assert scene.exits(*workers, status=-9)[-1] == actions.Exit(3)
        assert scene.logged() == ""

    def test_what_a_worker_says_that_it_brings_up_is_kept_in_part(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, _ = scene.is_prepared()
        scene.happens(said(first, Starting("x" * 1_000_000)))
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
        scene.happens(said(new[0], Ready(0)))
        assert scene.actions == []
        scene.happens(said(new[1], Ready(0)))
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
        scene.are_ready(*scene.reloads())
        last_drain = max(n for n, action in enumerate(scene.actions) if isinstance(action, actions.Send))
        assert last_drain < scene.actions.index(actions.CommitSockets())

    def test_the_number_of_workers_may_change(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        new = scene.reloads(make_generation(workers=3))
        assert len(new) == 3
        scene.are_ready(*new)
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
        assert scene.awaited() is None

    def test_an_application_that_fails_rolls_back(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.happens(said(new[0], Failed("server.toml:7: app shop: no module", "Traceback")))
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
        scene.happens(said(first, Ready(0)))
        scene.exits(second, status=-11)
        assert actions.Send(first, Drain(12.0, replaced=True)) in scene.actions
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
        scene.happens(said(first, Ready(0)))
        assert scene.fleet.workers[first].deadline == scene.now + 30 + CUT_PATIENCE
        assert scene.fleet.workers[first].state is WorkerState.TOLD

    def test_a_worker_that_is_not_ready_in_time_is_killed_and_rolls_back(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(said(second, Ready(0)))
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
            scene.happens(said(worker, Starting("server.toml:6: apps.h")))
        scene.passes(60)
        assert scene.killed() == new
        reason = "server.toml:6: apps.h: not up within 60 s (start_timeout)"
        assert scene.logged() == f"reload failed, generation 1 goes on serving: {reason}"

    def test_a_worker_that_failed_after_it_was_told_to_leave_is_no_warning(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.happens(said(first, Failed("no module", "")))
        scene.happens(said(second, Failed("no module", "")))
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
        scene.happens(said(first, Failed("no module", "")))
        if says_failed:
            scene.happens(said(second, Failed("no module", "")))
        scene.exits(second, status=status)
        assert scene.logged() == f"worker 1 (pid {100 + second}) {describe_exit(status)} while draining"

    def test_a_rolled_back_generation_keeps_its_number_for_itself(self, scene: Scene) -> None:
        old = scene.serves()
        new = scene.reloads()
        scene.happens(said(new[0], Failed("no", "")))
        scene.exits(*new)
        scene.reloaded()
        scene.drains(*old)
        assert scene.logged() == "reloaded: generation 3 is serving"

    def test_workers_that_do_not_drain_are_killed_after_the_graceful_timeout_and_a_little(self, scene: Scene) -> None:
        old = scene.serves()
        scene.are_ready(*scene.reloads())
        assert scene.passes(30) == []
        scene.passes(CUT_PATIENCE)
        assert scene.killed() == old
        assert f"worker 0 (pid {100 + old[0]}) of generation 1 did not exit in time while draining" in scene.logged()

    def test_a_worker_that_crashes_while_draining_is_not_replaced(self, scene: Scene) -> None:
        old = scene.serves()
        scene.are_ready(*scene.reloads())
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
        scene.are_ready(3)  # in its slot
        scene.reloaded()
        assert scene.drained() == [second, 3]
        assert scene.drains(second) == []
        assert scene.drains(3) == [actions.Log("info", self.SAID)]

    def test_a_worker_that_starts_may_accept_before_it_hears_of_its_drain(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.reloads()
        scene.exits(first, status=-9)
        for worker in (3, 4):
            scene.happens(said(worker, Ready(0)))
        assert scene.drains(second) == []
        assert scene.happens(said(5, Ready(0))) == []
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
        scene.happens(said(first, Ready(0)))
        scene.happens(said(second, Failed("no", "")))
        assert scene.drained() == [first]
        assert scene.drains(first) == []
        scene.exits(first, second)
        assert scene.logged() == ""

    def test_a_start_announces_nothing(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.drains(first)
        assert "reloaded" not in scene.logged()

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
            Step.RETIRING: lambda: [scene.happens(said(new, Ready(0))) for new in (3, 4)],
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
            scene.happens(said(worker, Ready(0)))
        assert scene.actions[-1] == actions.StartLoader()

    def test_it_is_dropped_when_the_supervisor_stops(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(TERM)
        assert scene.happens(HUP) == [actions.Log("warning", "HUP ignored: the server is stopping")]
        scene.exits(*workers)
        assert scene.exit_code() == 0
