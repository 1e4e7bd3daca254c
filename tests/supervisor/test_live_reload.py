"""A generation that running workers adopt, in virtual time: proposed, accepted, committed, adopted; or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverd.config.expiry import KEPT
from serverd.generation import Certificate, Logging, Recycle, Tls
from serverd.messages import Accepted, Adopt, Adopted, Declined, Draining, Failed
from serverd.supervisor import actions, events
from serverd.supervisor.backoff import Backoff
from serverd.supervisor.states import Phase, Step
from serverd.supervisor.transaction import ANSWER_PATIENCE
from serverd.supervisor.worker import CUT_PATIENCE
from tests.supervisor.scene import HUP, TERM, Scene, asked, make_generation, said

# Differs from what `Scene.serves` serves in nothing that an application sees.
LIVE = make_generation(date_header=False)


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestAdoption:
    def test_it_is_proposed_to_every_worker_and_none_is_started(self, scene: Scene) -> None:
        workers = scene.serves()
        assert scene.proposes(LIVE) == workers
        assert scene.spawned() == []
        assert scene.fleet.step is Step.PROPOSING
        assert scene.fleet.candidate is not None
        proposed = [action for action in scene.actions if isinstance(action, actions.SendProposal)]
        assert [action.generation.number for action in proposed] == [2, 2]

    def test_it_is_committed_when_the_last_has_accepted_and_told_when_the_last_has_adopted(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        assert scene.accept(second) == []
        scene.accept(first)
        assert [one for one in scene.actions if isinstance(one, actions.Send)] == [
            actions.Send(first, Adopt(2)),
            actions.Send(second, Adopt(2)),
        ]
        last = max(n for n, action in enumerate(scene.actions) if isinstance(action, actions.Send))
        assert last < scene.actions.index(actions.CommitSockets())
        assert actions.SetTitle("serverd: supervisor /etc/server.toml (generation 2)") in scene.actions
        assert scene.drained() == []
        assert scene.logged() == ""
        assert scene.adopted(first) == []
        told = "reloaded: generation 2 is serving, adopted by the running workers: server.date_header: true -> false"
        assert scene.adopted(second) == [actions.Log("info", told)]
        assert set(scene.fleet.workers) == {first, second}
        assert scene.fleet.step is Step.IDLE
        assert scene.awaited() is None

    def test_renewed_certificates_never_need_new_workers(self, scene: Scene) -> None:
        workers = scene.serves()
        assert scene.fleet.committed is not None
        scene.happens(events.CertificatesChanged())
        scene.happens(events.Loaded(scene.fleet.committed))  # what there was before is there again
        scene.happens(events.SocketsOpened())
        assert scene.asked_to_adopt() == workers
        assert {one.is_renewal for one in scene.actions if isinstance(one, actions.SendProposal)} == {True}
        for worker in workers:
            scene.accept(worker)
        scene.adopted(workers[0])
        told = "reloaded: generation 2 is serving, adopted by the running workers: nothing has changed"
        assert scene.adopted(workers[1]) == [actions.Log("info", told)]
        assert scene.proposes(LIVE) == workers
        assert {one.is_renewal for one in scene.actions if isinstance(one, actions.SendProposal)} == {False}

    def test_a_renewal_that_a_failing_reload_would_have_brought_along_follows_by_itself(self, scene: Scene) -> None:
        scene.reaches(Step.RETIRING)
        scene.happens(events.CertificatesChanged())
        scene.happens(HUP)
        retiring = [one.number for one in scene.fleet.workers.values() if one.is_leaving]
        assert actions.StartLoader(None) in scene.exits(*retiring)
        decided = scene.happens(events.LoadFailed("server.toml:1: no"))
        assert actions.StartLoader(scene.fleet.committed) in decided
        assert actions.StartLoader(scene.fleet.committed) not in scene.happens(events.LoadFailed("no"))
        assert scene.fleet.step is Step.IDLE

    def test_what_a_renewal_has_failed_for_is_no_warning_of_the_next_one(self, scene: Scene) -> None:
        scene.serves()
        assert scene.fleet.committed is not None
        scene.happens(events.CertificatesChanged())
        scene.happens(events.LoadFailed("server.toml:5: a.key does not exist"))
        scene.happens(events.CertificatesChanged())
        told = (
            "server.toml:5: a.key does not exist",
            "server.toml:6: b.key does not exist",
            "server.toml:6: b.crt expires",
        )
        warnings = (f"{told[0]}{KEPT}", f"{told[1]}{KEPT}", told[2])
        scene.happens(events.Loaded(replace(scene.fleet.committed, warnings=warnings)))
        logged = [one.message for one in scene.actions if isinstance(one, actions.Log) and one.level == "warning"]
        assert logged == [*warnings[1:]]

    def test_what_a_renewal_has_failed_for_is_complained_of_once(self, scene: Scene) -> None:
        scene.serves()
        committed = scene.fleet.committed
        assert committed is not None

        def fails(*refused: str) -> list[actions.Log]:
            """Return what is logged of a renewal that fails; what is wrong is the same, in words."""
            scene.happens(events.CertificatesChanged())
            decided = scene.happens(events.LoadFailed("server.toml:5: a.key does not fit", refused))
            return [one for one in decided if isinstance(one, actions.Log)]

        complaint = actions.Log(
            "error", "reload failed, generation 1 goes on serving: server.toml:5: a.key does not fit"
        )
        known = "nothing is renewed: what cannot be used is as it was when that was said, and nothing else is new"
        assert fails("one") == [complaint]
        assert fails("one") == [actions.Log("info", known)]
        assert fails("another") == [complaint], "the same words, of other files"
        assert fails("one") == [complaint], "it was mended, or something else, in between"
        assert fails("one", "two") == [complaint]
        assert fails("two") == [actions.Log("info", known)], "one is as it was before"
        assert fails() == [complaint], "it was not the files"
        assert fails("two") == [actions.Log("info", known)]
        assert scene.fleet.outcome is not None
        assert not scene.fleet.outcome.ok, "status goes on telling of it"

        scene.happens(HUP)
        decided = scene.happens(events.LoadFailed("server.toml:5: a.key does not fit"))
        assert complaint in decided, "whoever asks is answered"
        assert fails("two") == [actions.Log("info", known)]
        scene.happens(HUP)
        scene.happens(events.Loaded(LIVE))  # in which OpenSSL only will find the same fault
        scene.happens(events.BindFailed("server.toml:5: a.key does not fit"))
        assert fails("two") == [actions.Log("info", known)], "nothing was mended"
        workers = scene.proposes(LIVE)
        scene.accept(*workers)
        for worker in workers:
            scene.adopted(worker)
        assert [one.level for one in fails("two")] == ["error"], "it was, in between"

    def test_what_was_said_as_a_warning_is_not_complained_of(self, scene: Scene) -> None:
        workers = scene.serves()
        assert scene.fleet.committed is not None
        pair = Certificate("cert", "key", kept="server.toml:5: a.key does not fit", refused="one")
        [listener] = scene.fleet.committed.listeners
        kept = replace(scene.fleet.committed, listeners=(replace(listener, tls=Tls("main", (pair,))),))
        scene.happens(events.CertificatesChanged())
        scene.happens(events.Loaded(kept))
        scene.happens(events.SocketsOpened())
        scene.accept(*workers)
        for worker in workers:
            scene.adopted(worker)
        scene.happens(events.CertificatesChanged())
        decided = scene.happens(events.LoadFailed(pair.kept, (pair.refused,)))
        assert {one.level for one in decided if isinstance(one, actions.Log)} == {"info"}

    def test_logging_changes_with_the_commit(self, scene: Scene) -> None:
        workers = scene.serves()
        logging = Logging(level="debug")
        scene.proposes(replace(make_generation(), logging=logging))
        assert actions.ConfigureLogging(logging) not in scene.actions
        scene.accept(*workers)
        assert actions.ConfigureLogging(logging) in scene.actions

    def test_the_running_workers_follow_what_they_have_adopted(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(make_generation(recycle=Recycle(requests=10)))
        scene.accept(first, second)
        scene.adopted(first, second)
        scene.beats_once(first, requests=10)
        assert scene.spawned() == [0]
        (spawn,) = [action for action in scene.actions if isinstance(action, actions.Spawn)]
        assert spawn.generation.number == 2

    def test_more_workers_are_started_beside_those_that_run(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(make_generation(workers=4))
        assert scene.spawned() == []
        scene.accept(first, second)
        assert scene.spawned() == [2, 3]
        assert scene.drained() == []
        assert scene.covers() == {first: (2, 3), second: (2, 3)}
        scene.adopted(first, second)
        assert "reloaded: generation 2 is serving" in scene.logged()

    def test_of_fewer_workers_the_superfluous_ones_adopt_and_drain(self, scene: Scene) -> None:
        first, second, third = scene.serves(make_generation(workers=3))
        scene.proposes(make_generation(workers=1))
        scene.accept(first, second, third)
        assert scene.told_to_adopt() == [first, second, third]
        assert scene.drained() == [second, third]
        assert scene.covers() == {first: (1, 2)}
        scene.adopted(first)
        scene.drains(second)
        assert scene.logged() == ""
        scene.drains(third)  # without a word about its adoption: it accepts nothing any more
        assert "reloaded: generation 2 is serving" in scene.logged()

    def test_a_worker_that_dies_before_it_has_adopted_is_replaced_by_one_of_the_new_generation(
        self, scene: Scene
    ) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first, second)
        scene.adopted(first)
        scene.exits(second, status=-9)
        assert "reloaded: generation 2 is serving" in scene.logged()
        assert [one.generation.number for one in scene.actions if isinstance(one, actions.Spawn)] == [2]

    def test_a_worker_that_does_not_adopt_is_killed_as_late_as_if_it_had_been_replaced(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first, second)
        scene.adopted(first)
        scene.passes(29 + CUT_PATIENCE)
        assert scene.killed() == []
        scene.passes(1)
        assert scene.killed() == [second]
        assert scene.logged() == "worker 1 (pid 102) has not adopted generation 2 in time, killing it"
        scene.exits(second, status=-9)
        assert "reloaded: generation 2 is serving" in scene.logged()

    def test_what_is_said_of_an_earlier_generation_is_no_adoption(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first, second)
        scene.happens(said(first, Adopted(1)))
        scene.adopted(second)
        assert scene.logged() == ""
        assert scene.fleet.unannounced

    def test_a_reload_that_is_queued_begins_when_the_last_has_adopted(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.happens(asked(1, "reload"))
        scene.happens(events.Loaded(LIVE))
        scene.happens(events.SocketsOpened())
        scene.happens(asked(2, "reload"))
        assert "reload queued" in scene.logged()
        scene.accept(first, second)
        scene.adopted(first)
        assert actions.StartLoader() not in scene.actions
        scene.adopted(second)
        assert [reply.client for reply in scene.replies()] == [1]
        assert scene.actions[-1] == actions.StartLoader()
        scene.happens(events.LoadFailed("no"))
        assert [(reply.client, reply.ok) for reply in scene.replies()] == [(2, False)]

    def test_the_next_reload_with_new_workers_does_not_say_that_they_adopted_it(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.proposes(LIVE)
        scene.accept(*workers)
        scene.adopted(*workers)
        scene.reloaded(LIVE)
        scene.drains(*workers)
        assert scene.logged() == "reloaded: generation 3 is serving"

    def test_nothing_changed_means_that_the_code_may_have_and_needs_new_workers(self, scene: Scene) -> None:
        scene.serves()
        assert len(scene.reloads()) == 2
        assert scene.logged() == "starting new workers: the configuration is unchanged, so the code may have changed"

    def test_what_applications_see_needs_new_workers(self, scene: Scene) -> None:
        scene.serves()
        scene.reloads(make_generation())
        assert scene.spawned() == [0, 1]
        assert scene.logged() == "starting new workers: server.umask: unset -> 0001"


class TestRefusal:
    def test_one_worker_that_declines_is_enough_for_new_ones(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first)
        scene.happens(said(second, Declined(2, "shop/main.py has changed since it was imported")))
        assert scene.logged() == "starting new workers: shop/main.py has changed since it was imported"
        # What was proposed is taken back: nobody else would close those sockets.
        assert [one for one in scene.actions if isinstance(one, actions.SendSockets)] == [
            actions.SendSockets(first, 1),
            actions.SendSockets(second, 1),
        ]
        assert scene.spawned() == [0, 1]
        assert scene.fleet.step is Step.PREPARING
        scene.are_ready(3, 4)
        assert scene.drained() == [first, second]
        assert scene.drains(first, second) == [actions.Log("info", "reloaded: generation 2 is serving")]

    def test_no_answer_in_time_means_new_workers(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first)
        scene.silent = {second}
        scene.passes(ANSWER_PATIENCE)
        assert "starting new workers: not every worker has answered within 5 s" in scene.logged()
        assert scene.spawned() == [0, 1]

    @pytest.mark.parametrize("answer", [Accepted(2), Declined(2, "changed")], ids=["accepted", "declined"])
    def test_an_answer_that_comes_too_late_means_nothing(self, scene: Scene, answer: Accepted | Declined) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.happens(said(first, Declined(2, "changed")))
        assert scene.happens(said(second, answer)) == []
        assert not scene.fleet.workers[second].has_accepted

    @pytest.mark.parametrize("answer", [Accepted(1), Declined(1, "changed"), Accepted(9)], ids=str)
    def test_an_answer_to_another_proposal_means_nothing(self, scene: Scene, answer: Accepted | Declined) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(second)
        assert scene.happens(said(first, answer)) == []
        assert scene.fleet.step is Step.PROPOSING

    def test_new_workers_that_fail_then_leave_the_old_ones_serving(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.happens(said(first, Declined(2, "changed")))
        scene.happens(said(3, Failed("no module")))
        assert scene.logged() == "reload failed, generation 1 goes on serving: no module"
        assert actions.RollbackSockets() in scene.actions
        scene.exits(3, 4)
        assert set(scene.fleet.workers) == {first, second}
        assert {worker.generation.number for worker in scene.fleet.workers.values()} == {1}
        assert scene.proposes(LIVE) == [first, second]  # the next may be adopted


class TestMeanwhile:
    """While a generation is proposed, workers come and go as always."""

    def test_a_worker_that_starts_is_asked_when_it_is_ready(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.exits(second, status=-9)
        assert scene.proposes(LIVE) == [first]
        scene.accept(first)
        assert scene.told_to_adopt() == []
        scene.are_ready(3)
        assert scene.asked_to_adopt() == [3]
        scene.accept(3)
        assert scene.told_to_adopt() == [first, 3]

    def test_one_that_crashes_is_replaced_by_one_of_the_generation_that_serves_which_is_asked_then(
        self, scene: Scene
    ) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(second)
        scene.exits(first, status=-9)
        assert [one.generation.number for one in scene.actions if isinstance(one, actions.Spawn)] == [1]
        assert scene.told_to_adopt() == []
        scene.are_ready(3)
        scene.accept(3)
        assert scene.told_to_adopt() == [second, 3]

    @pytest.mark.parametrize("leaves", ["hangs up", "hangs", "is killed"])
    def test_one_that_is_on_its_way_out_after_it_accepted_is_not_counted_on(self, scene: Scene, leaves: str) -> None:
        first, second = scene.serves(make_generation(hang_timeout=2.0))
        scene.proposes(make_generation(hang_timeout=2.0, date_header=False))
        scene.accept(first)
        match leaves:
            case "hangs up":
                scene.happens(events.ChannelClosed(first))
            case "hangs":
                scene.silent = {first}
                scene.passes(2)
            case "is killed":
                scene.happens(events.WorkerBroke(first, "sent nonsense"))
        scene.accept(second)
        assert scene.told_to_adopt() == []
        scene.exits(first, status=-9)
        scene.are_ready(3)
        scene.accept(3)
        assert scene.told_to_adopt() == [second, 3]

    def test_a_slot_that_waits_too_long_makes_it_new_workers(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(second)
        scene.fleet.slots[0].backoff = Backoff(8.0)
        scene.exits(first, status=1)
        scene.passes(ANSWER_PATIENCE)
        assert scene.fleet.step is Step.PREPARING
        assert scene.fleet.slots[0].due is not None
        assert scene.told_to_adopt() == []

    def test_one_that_somebody_else_told_to_leave_is_not_asked_again_and_needs_no_sockets(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.happens(said(first, Draining()))
        scene.happens(said(second, Declined(2, "changed")))
        assert [one.worker for one in scene.actions if isinstance(one, actions.SendSockets)] == [second]

    def test_one_that_drains_since_before_the_commit_is_waited_for(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        scene.are_ready(3)
        assert scene.drained() == [first]
        scene.proposes(make_generation(recycle=Recycle(requests=10), date_header=False))
        scene.accept(second, 3)
        assert scene.told_to_adopt() == [second, 3]
        scene.adopted(second, 3)
        assert scene.logged() == ""  # the one that was told may not have heard of it yet
        scene.drains(first)
        assert "reloaded: generation 2 is serving" in scene.logged()
        assert scene.fleet.step is Step.RETIRING
        scene.exits(first)
        assert scene.fleet.step is Step.IDLE

    def test_a_stop_ends_it(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.happens(asked(1, "reload"))
        scene.happens(events.Loaded(LIVE))
        scene.happens(events.SocketsOpened())
        scene.happens(TERM)
        assert scene.replies() == [actions.Reply(1, False, "the server stops")]
        assert scene.drained() == [first, second]
        assert scene.happens(said(first, Accepted(2))) == []
        assert scene.exits(first, second)[-1] == actions.Exit(0)

    def test_a_stop_between_commit_and_adoption_announces_nothing(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.accept(first, second)
        scene.happens(TERM)
        assert scene.adopted(first, second) == []
        assert scene.fleet.workers[first].deadline is not None
        assert scene.exits(first, second)[-1] == actions.Exit(0)

    def test_during_the_delay_of_a_stop_it_is_brought_to_its_end(self, scene: Scene) -> None:
        first, second = scene.serves(make_generation(shutdown_delay=10.0))
        scene.proposes(make_generation(shutdown_delay=10.0, date_header=False))
        scene.happens(TERM)
        scene.accept(first, second)
        scene.adopted(first, second)
        assert "reloaded: generation 2 is serving" in scene.logged()
        assert scene.fleet.phase is Phase.DELAYING
        scene.passes(10)
        assert scene.drained() == [first, second]

    def test_a_second_wish_is_queued(self, scene: Scene) -> None:
        first, second = scene.serves()
        scene.proposes(LIVE)
        scene.happens(HUP)
        assert scene.logged() == "reload queued: HUP received before the last generation has been decided on"
        scene.accept(first, second)
        scene.adopted(first, second)
        assert scene.actions[-1] == actions.StartLoader()
