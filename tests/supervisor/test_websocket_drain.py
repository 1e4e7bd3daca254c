"""What a worker is told about the end of its WebSockets: whether others serve on, in virtual time.

What it makes of that is shown in tests/worker/test_websocket_drain.py.
"""

from __future__ import annotations

import pytest

from serverd.generation import Recycle
from serverd.messages import Drain, Failed
from serverd.supervisor import actions, events
from serverd.supervisor.fleet import UNREADY_PATIENCE
from tests.supervisor.scene import HUP, INT, TERM, TTOU, USR2, Scene, asked, make_generation, said


@pytest.fixture
def scene() -> Scene:
    return Scene()


def told(scene: Scene) -> dict[int, bool]:
    """Return, for each worker that the last event has drained, whether it was told that others serve on."""
    return {
        action.worker: action.message.replaced
        for action in scene.actions
        if isinstance(action, actions.Send) and isinstance(action.message, Drain)
    }


class TestReplaced:
    """1012: the client may come again at once (RFC 6455 §11.7, registered later)."""

    def test_by_a_reload(self, scene: Scene) -> None:
        old = scene.serves()
        scene.reloaded(make_generation())
        assert told(scene) == dict.fromkeys(old, True)

    def test_by_a_generation_that_goes_on_serving_when_a_reload_fails(self, scene: Scene) -> None:
        scene.serves()
        first, second = scene.reloads()
        scene.are_ready(first)
        scene.happens(said(second, Failed("no module", "Traceback")))
        assert told(scene) == {first: True}

    def test_by_the_successor_of_a_worker_that_is_recycled(self, scene: Scene) -> None:
        first, _ = scene.serves(make_generation(recycle=Recycle(requests=10)))
        scene.beats_once(first, requests=10)
        scene.are_ready(3)
        assert told(scene) == {first: True}

    @pytest.mark.parametrize("event", [TTOU, asked(1, "scale", 2)], ids=["TTOU", "scale"])
    def test_by_those_that_stay_when_the_workers_become_fewer(self, scene: Scene, event: events.Event) -> None:
        *_, last = scene.serves(make_generation(workers=3))
        scene.happens(event)
        assert told(scene) == {last: True}

    def test_by_another_supervisor(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(USR2)
        assert told(scene) == {}
        scene.happens(events.SuccessorReady(77))
        assert told(scene) == dict.fromkeys(workers, True)


class TestStopped:
    """1001: nobody serves any more."""

    @pytest.mark.parametrize("event", [TERM, INT, asked(1, "stop")], ids=["TERM", "INT", "stop"])
    def test_by_the_end_of_the_server(self, scene: Scene, event: events.Event) -> None:
        workers = scene.serves()
        scene.happens(event)
        assert told(scene) == dict.fromkeys(workers, False)

    def test_after_the_delay_of_the_shutdown(self, scene: Scene) -> None:
        workers = scene.serves(make_generation(shutdown_delay=3.0))
        scene.happens(TERM)
        assert told(scene) == {}
        scene.passes(3.5)
        assert told(scene) == dict.fromkeys(workers, False)

    def test_during_a_reload_both_generations_are(self, scene: Scene) -> None:
        workers = scene.serves()
        scene.happens(HUP)
        workers += scene.is_prepared(make_generation(umask=1))
        scene.are_ready(workers[-1])
        scene.happens(TERM)
        assert told(scene) == dict.fromkeys(workers, False)
        scene.passes(UNREADY_PATIENCE)
        assert scene.killed() == [workers[-2]]  # it has never served anybody

    def test_when_the_first_start_fails(self, scene: Scene) -> None:
        scene.happens(events.Begin())
        first, second = scene.is_prepared()
        scene.are_ready(first)
        scene.happens(said(second, Failed("no module", "Traceback")))
        assert told(scene) == {first: False}
