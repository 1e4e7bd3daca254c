"""Which worker has which slot, in virtual time: covering, recycling, scaling."""

from __future__ import annotations

import pytest

from serverd.generation import Recycle
from serverd.messages import Failed
from serverd.supervisor import actions, events
from serverd.supervisor.staffing import MEMORY_REST
from serverd.supervisor.states import Phase, Step, WorkerState
from serverd.supervisor.worker import CUT_PATIENCE, LATE_AFTER
from tests.supervisor.scene import HUP, TERM, TTIN, TTOU, Scene, asked, make_generation, said

MIB = 2**20


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestCover:
    """Connections come to the sockets of every slot that was ever served: somebody has to accept them."""

    def test_the_others_accept_in_the_place_of_one_that_is_late_until_it_beats_again(self, scene: Scene) -> None:
        first, second, third = scene.serves(make_generation(workers=3))
        scene.silent = {second}
        scene.passes(LATE_AFTER - 0.1)
        assert scene.covers() == {}
        scene.passes(0.1)
        assert scene.covers() == {first: (1,), third: (1,)}
        scene.passes(5)
        assert scene.covers() == {}  # told once
        scene.beats_once(second)
        assert scene.covers() == {first: (), third: ()}

    def test_the_list_is_complete_whenever_it_changes(self, scene: Scene) -> None:
        workers = scene.serves(make_generation(workers=4))
        scene.silent = {workers[1]}
        scene.passes(LATE_AFTER)
        scene.exits(workers[3], status=-9)
        assert scene.covers() == {workers[0]: (1, 3), workers[2]: (1, 3)}
        scene.are_ready(5)
        assert scene.covers() == {workers[0]: (1,), workers[2]: (1,), 5: (1,)}

    def test_a_slot_whose_worker_crashed_is_covered_until_the_next_is_ready(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.exits(first, status=-11)
        assert scene.covers() == {second: (0,)}
        scene.are_ready(3)
        assert scene.covers() == {second: ()}

    def test_a_slot_that_waits_is_covered(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.exits(first, 3, status=1)
        assert scene.fleet.slots[0].due is not None
        assert scene.fleet.workers[second].covers == (0,)
        scene.exits(second, status=1)
        scene.passes_until_deadline()
        scene.are_ready(4)  # in the slot of the second
        assert scene.slots_of(4) == [1]
        assert scene.covers() == {4: (0,)}

    def test_a_worker_that_leaves_untold_is_covered_at_once(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.drains(first)
        assert scene.covers() == {second: (0,)}

    def test_when_all_are_late_whoever_comes_back_first_covers_the_others(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.silent = {first, second}
        scene.passes(LATE_AFTER)
        assert scene.covers() == {}
        scene.beats_once(second)
        assert scene.covers() == {second: (0,)}
        scene.beats_once(first)
        assert scene.covers() == {second: ()}

    def test_a_hung_one_is_covered_until_its_successor_is_ready(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(hang_timeout=5.0))
        scene.silent = {first}
        scene.passes(6)
        assert scene.covers() == {second: (0,)}
        scene.exits(first, status=-9)
        assert scene.covers() == {}
        scene.are_ready(3)
        assert scene.covers() == {second: ()}

    def test_a_slot_that_is_scaled_away_is_covered_for_good(self, scene: Scene) -> None:
        first, second, _ = scene.serves(make_generation(workers=3))
        scene.happens(TTOU)
        assert scene.covers() == {first: (2,), second: (2,)}

    def test_slots_that_a_new_generation_does_not_have_are_covered_by_its_workers(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=3))
        (new,) = scene.reloaded(make_generation(workers=1))
        assert scene.covers() == {new: (1, 2)}

    def test_workers_of_a_generation_that_is_only_prepared_cover_nothing(self, scene: Scene) -> None:
        first, second = scene.serves()
        new, _ = scene.reloads()
        scene.are_ready(new)
        scene.exits(first, status=-9)
        assert scene.covers() == {
            second: (0,)
        }  # although the new one accepts there too, as long as it is not rolled back

    def test_nothing_is_covered_once_the_supervisor_stops(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.happens(TERM)
        scene.exits(first)
        assert scene.covers() == {}


class TestRecycle:
    def test_the_successor_is_ready_before_the_old_one_drains(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=9)
        assert scene.spawned() == []
        scene.beats_once(first, requests=10)
        assert scene.logged() == "worker 0 (pid 101) is recycled: it has had 10 requests"
        assert scene.spawned() == [0]
        assert scene.drained() == []
        assert scene.beats_once(first, requests=11) == []  # told once
        scene.are_ready(3)
        assert scene.drained() == [first]
        assert scene.covers() == {}  # the slot was served all the time
        scene.drains(first)
        scene.exits(first)
        assert scene.logged() == ""
        assert set(scene.fleet.workers) == {second, 3}
        assert scene.fleet.slots[0].restarts == 0

    def test_it_is_one_at_a_time_even_when_all_are_due(self, scene: Scene) -> None:
        workers = scene.serves(make_generation(workers=3, recycle=Recycle(requests=10)))
        for worker in workers:
            scene.beats_once(worker, requests=10)
        assert {worker.slot for worker in scene.fleet.workers.values() if worker.state is WorkerState.STARTING} == {0}
        for new, old in zip((4, 5, 6), workers, strict=True):
            assert scene.fleet.workers[new].slot == scene.fleet.workers[old].slot
            scene.are_ready(new)
            assert scene.drained() == [old]
            assert scene.spawned() == []  # before the old one is gone
            scene.drains(old)
            assert scene.spawned() == []
            scene.exits(old)
        assert set(scene.fleet.workers) == {4, 5, 6}

    def test_by_lifetime(self, scene: Scene) -> None:
        began = scene.now
        scene.serves(make_generation(recycle=Recycle(lifetime=1.0)))
        assert scene.fleet.deadline() == began + 1  # the supervisor wakes up for it
        scene.reloaded(make_generation(recycle=Recycle(lifetime=100.0)))
        scene.exits(1, 2)
        scene.passes(99.9)
        assert scene.spawned() == []
        scene.passes(0.1)
        assert scene.spawned() == [0]
        assert "worker 0 (pid 103) is recycled: it has served for 100 s" in scene.logged()

    def test_by_memory(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(memory=100 * MIB)))
        scene.passes(MEMORY_REST)
        scene.beats_once(first, rss=100 * MIB)
        assert scene.spawned() == []
        scene.beats_once(first, rss=101 * MIB)
        assert scene.logged() == "worker 0 (pid 101) is recycled: it holds 101 MiB, more than 100 MiB"
        assert scene.spawned() == [0]

    def test_by_memory_not_as_fast_as_workers_start(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(memory=100 * MIB)))
        scene.beats_once(first, rss=200 * MIB)
        scene.passes(MEMORY_REST - 0.5)
        assert scene.spawned() == []
        scene.passes(0.5)
        assert scene.spawned() == [0]

    def test_without_a_limit_never(self, scene: Scene) -> None:
        first, _ = scene.serves()
        scene.beats_once(first, requests=10**9, rss=2**40)
        scene.passes(10**4)
        assert scene.spawned() == []

    def test_the_jitter_differs_from_worker_to_worker_and_is_bounded(self, scene: Scene) -> None:
        workers = scene.serves(make_generation(workers=16, recycle=Recycle(requests=100, jitter=50)))
        limits = [scene.fleet.workers[worker].request_limit() for worker in workers]
        assert len(set(limits)) > 12
        assert 100 <= min(limits) < 110
        assert 140 < max(limits) <= 150

    def test_a_successor_that_cannot_start_is_tried_again_later_while_the_old_one_serves(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        waits = []
        for successor in range(3, 8):
            scene.happens(said(successor, Failed("no module")))
            scene.exits(successor, status=3)
            due = scene.fleet.slots[0].due
            waits.append(0.0 if due is None else due - scene.now)
            if due is not None:
                scene.passes_until_deadline()
            assert scene.fleet.workers[successor + 1].slot == 0
        assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8])
        assert scene.fleet.workers[first].state is WorkerState.READY
        scene.are_ready(8)
        assert scene.drained() == [first]

    def test_a_worker_that_dies_while_its_successor_starts_is_succeeded_by_it(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        scene.exits(first, status=-11)
        assert scene.logged() == "worker 0 (pid 101) was killed by SIGSEGV, its successor has its slot"
        assert scene.spawned() == []
        assert scene.covers() == {second: (0,)}
        assert scene.fleet.slots[0].restarts == 1
        scene.are_ready(3)
        assert scene.covers() == {second: ()}

    def test_a_worker_that_dies_before_its_successor_is_started_is_replaced_as_always(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.happens(HUP)
        scene.beats_once(first, requests=10)
        scene.exits(first, status=-11)
        assert scene.logged() == "worker 0 (pid 101) was killed by SIGSEGV, starting another"
        assert scene.spawned() == [0]

    def test_one_that_does_not_leave_in_time_is_killed_and_no_crash(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        scene.are_ready(3)
        scene.passes(30 + CUT_PATIENCE)
        assert scene.killed() == [first]
        scene.exits(first, status=-9)
        assert scene.logged() == ""
        assert scene.spawned() == []
        assert scene.fleet.slots[0].restarts == 0

    def test_it_waits_for_a_worker_that_starts_in_another_slot(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.exits(second, status=-9)
        scene.beats_once(first, requests=10)
        assert scene.spawned() == []
        scene.are_ready(3)
        assert scene.spawned() == [0]

    @pytest.mark.parametrize(
        "step", [step for step in Step if step not in {Step.IDLE, Step.RETIRING}], ids=lambda step: step.value
    )
    def test_during_a_transaction_none_is_recycled(self, scene: Scene, step: Step) -> None:
        first, _ = scene.reaches(step, recycle=Recycle(requests=10))
        scene.beats_once(first, requests=10)
        assert scene.spawned() == []

    def test_after_a_reload_that_failed_it_is_made_up_for(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.happens(HUP)
        scene.beats_once(first, requests=10)
        scene.happens(events.LoadFailed("no"))
        assert scene.spawned() == [0]

    def test_a_successor_that_is_ready_during_a_reload_takes_its_place_all_the_same(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        scene.happens(HUP)
        scene.are_ready(3)
        assert scene.drained() == [first]


class TestScale:
    def test_one_more(self, scene: Scene) -> None:
        first, second = scene.serves()
        assert scene.happens(TTIN) == [
            actions.Log("info", "scaling from 2 workers to 3"),
            actions.GrowSockets(3),
        ]
        scene.happens(events.SlotsOpened(3))
        # Everybody gets the new sockets, and accepts on them until the new worker does.
        assert [action for action in scene.actions if isinstance(action, actions.SendSockets)] == [
            actions.SendSockets(first, 1),
            actions.SendSockets(second, 1),
        ]
        assert scene.replies() == []  # nobody waits
        assert scene.fleet.growing == 0
        assert scene.spawned() == [2]
        assert scene.covers() == {first: (2,), second: (2,)}
        scene.are_ready(3)
        assert scene.covers() == {first: (), second: ()}

    def test_one_less_drains_the_last_and_covers_its_sockets(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.happens(TTOU)
        assert scene.logged() == "scaling from 2 workers to 1"
        assert scene.drained() == [second]
        assert scene.covers() == {first: (1,)}
        scene.drains(second)
        scene.exits(second)
        assert set(scene.fleet.workers) == {first}

    def test_one_that_is_scaled_away_and_does_not_leave_is_killed_and_not_replaced(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.happens(TTOU)
        scene.passes(30 + CUT_PATIENCE)
        assert scene.killed() == [second]
        scene.exits(second, status=-9)
        assert scene.spawned() == []

    def test_one_that_crashed_when_it_was_scaled_away_is_not_replaced(self, scene: Scene) -> None:
        _, second = scene.serves()
        scene.happens(events.ChannelClosed(second))
        scene.happens(TTOU)
        scene.exits(second, status=-11)
        assert scene.spawned() == []

    def test_none_less_than_one(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.happens(TTOU)
        assert scene.logged() == "TTOU ignored: the number of workers can be 1 to 1024"

    @pytest.mark.parametrize("count", [0, 1025])
    def test_a_wish_out_of_bounds_is_refused(self, scene: Scene, count: int) -> None:
        scene.serves()
        refused = actions.Reply(7, False, "the number of workers can be 1 to 1024")
        assert scene.happens(asked(7, "scale", count)) == [refused]

    @pytest.mark.parametrize(("count", "drained"), [(1, [2]), (2, [])])
    def test_a_client_that_wants_fewer_or_as_many_is_answered_at_once(
        self, scene: Scene, count: int, drained: list[int]
    ) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", count))
        assert scene.drained() == drained
        assert scene.replies() == [actions.Reply(7, True, f"scaling to {'1 worker' if count == 1 else '2 workers'}")]

    def test_a_client_that_wants_more_is_answered_when_there_are_sockets(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", 4))
        assert scene.replies() == []
        scene.happens(events.SlotsOpened(4, 7))
        assert scene.replies() == [actions.Reply(7, True, "scaling to 4 workers")]
        assert scene.spawned() == [2, 3]

    def test_without_sockets_everything_stays(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", 4))
        scene.happens(events.SlotsFailed("too many open files", 7))
        assert scene.replies() == [actions.Reply(7, False, "cannot scale", "too many open files")]
        assert actions.Log("error", "cannot scale", "too many open files") in scene.actions
        assert scene.spawned() == []
        scene.happens(TTIN)
        assert actions.GrowSockets(3) in scene.actions

    def test_two_wishes_at_once_add_up(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(TTIN)
        scene.happens(TTIN)
        assert actions.GrowSockets(4) in scene.actions
        scene.happens(events.SlotsOpened(3))
        scene.happens(events.SlotsOpened(4))
        assert sorted(scene.fleet.slots) == [0, 1, 2, 3]

    def test_the_last_wish_counts(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", 5))
        scene.happens(TTOU)
        assert scene.logged() == "scaling from 5 workers to 4"
        scene.happens(asked(8, "scale", 1))
        scene.happens(events.SlotsOpened(5, 7))
        assert scene.replies() == [actions.Reply(7, False, "not scaled: something else was asked for meanwhile")]
        assert scene.happens(events.SlotsOpened(4)) == []
        assert sorted(scene.fleet.slots) == [0]
        assert scene.spawned() == []

    @pytest.mark.parametrize(("before", "is_wanted"), [(4, True), (5, False)], ids=["the same", "another number"])
    def test_of_two_wishes_before_there_are_sockets_the_last_is_told_that_it_is_fulfilled(
        self, scene: Scene, before: int, is_wanted: bool
    ) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", before))
        scene.happens(asked(8, "scale", 4))
        scene.happens(events.SlotsOpened(before, 7))
        assert [(reply.client, reply.ok) for reply in scene.replies()] == [(7, is_wanted)]
        scene.happens(events.SlotsOpened(4, 8))
        assert scene.replies() == [actions.Reply(8, True, "scaling to 4 workers")]
        assert sorted(scene.fleet.slots) == [0, 1, 2, 3]

    def test_sockets_that_come_when_the_supervisor_stops_are_for_nobody(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(asked(7, "scale", 5))
        scene.happens(TERM)
        scene.happens(events.SlotsOpened(5, 7))
        assert scene.spawned() == []
        assert [reply.ok for reply in scene.replies()] == [False]

    @pytest.mark.parametrize(
        "step", [step for step in Step if step not in {Step.IDLE, Step.RETIRING}], ids=lambda step: step.value
    )
    def test_during_a_transaction_it_is_refused(self, scene: Scene, step: Step) -> None:
        scene.reaches(step)
        scene.happens(TTIN)
        assert scene.logged() == f"TTIN ignored: {scene.fleet.occupation}"
        scene.happens(asked(7, "scale", 1))
        assert scene.replies() == [actions.Reply(7, False, scene.fleet.occupation)]

    def test_while_an_older_generation_drains_it_is_possible(self, scene: Scene) -> None:
        scene.reaches(Step.RETIRING)
        scene.happens(TTOU)
        assert scene.drained() == [4]

    def test_before_anything_serves_it_is_refused(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        scene.happens(TTIN)
        assert scene.logged() == "TTIN ignored: the server is starting"

    def test_a_reload_keeps_the_number_while_the_file_says_what_it_said(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(TTOU)
        assert len(scene.fleet.slots) == 1
        assert len(scene.reloaded()) == 1
        assert sorted(scene.fleet.slots) == [0]

    def test_a_file_that_says_another_number_wins(self, scene: Scene) -> None:
        scene.serves()
        scene.happens(TTOU)
        assert len(scene.reloaded(make_generation(workers=3))) == 3
        assert sorted(scene.fleet.slots) == [0, 1, 2]

    def test_a_reload_that_running_workers_adopt_keeps_the_number_too(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(TTIN)
        scene.happens(events.SlotsOpened(3))
        scene.are_ready(3)
        scene.proposes()
        scene.accept(*workers, 3)
        assert sorted(scene.fleet.slots) == [0, 1, 2]
        assert scene.drained() == []

    def test_a_slot_that_is_added_is_replaced_like_any_other(self, scene: Scene) -> None:
        scene.serves(make_generation(workers=1))
        scene.happens(TTIN)
        scene.happens(events.SlotsOpened(2))
        scene.exits(2, status=1)
        assert scene.spawned() == [1]
        assert scene.fleet.phase is Phase.SERVING
