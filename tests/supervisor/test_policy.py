"""What the supervisor decides, whatever happens whenever, in virtual time: every state and event, and the dice."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import ModuleType

import pytest

from serverd.messages import (
    FROM_WORKER,
    Accepted,
    Adopt,
    Adopted,
    AppDown,
    AppUp,
    Ask,
    Beat,
    Blocked,
    Cover,
    Declined,
    Drain,
    Draining,
    Failed,
    FromWorker,
    Inspect,
    Ready,
    Starting,
)
from serverd.supervisor import actions, events, policy, supervisor
from serverd.supervisor.policy import decide
from serverd.supervisor.states import Phase, StateError, Step, WorkerState
from serverd.supervisor.wording import describe_exit
from tests.supervisor.scene import HUP, INT, QUIT, TERM, TTIN, TTOU, USR1, USR2, Scene, asked, make_generation, said
from tests.supervisor.world import World
from tests.support.every import every


def kinds(module: ModuleType, base: type) -> set[type]:
    """Return the classes of a module that derive from `base`."""
    found = (one for one in vars(module).values() if isinstance(one, type) and issubclass(one, base))
    return {one for one in found if one is not base}


EVENTS = {*kinds(events, events.Happening), events.Loaded, events.LoadFailed}

MESSAGES: list[FromWorker] = [
    Starting("server.toml:6: apps.h"),
    Ready(0),
    Beat(3, 1, 2, 1000, 0.1, ("GET / shop 3 s",)),
    Blocked(2.0, ("GET / shop 3 s",)),
    Ask(1),
    AppDown("shop", "server.toml:7: app shop: no module", "Traceback", 1.0),
    AppDown("unknown", "no such app", "", 1.0),
    AppUp("shop"),
    Accepted(2),
    Declined(2, "shop.py has changed"),
    Adopted(2),
    Draining(),
    Failed("summary", "detail"),
]
DEEDS: list[Callable[[int], events.Event]] = [
    *(lambda number, message=message: said(number, message) for message in MESSAGES),
    lambda number: events.WorkerBroke(number, "sent nonsense"),
    lambda number: events.ChannelClosed(number),
    lambda number: events.WorkerExited(number, 0),
    lambda number: events.WorkerExited(number, -9),
    lambda number: events.SpawnFailed(number, "no memory"),
]
OTHERS = [
    events.Tick(),
    *(HUP, TERM, INT, QUIT, USR1, USR2, TTIN, TTOU),
    *(asked(1, "reload"), asked(1, "reload", dry_run=True), asked(1, "status"), asked(1, "upgrade"), asked(1, "stop")),
    *(asked(1, "scale", 1), asked(1, "scale", 5), asked(1, "scale", 0)),
    *(events.SuccessorReady(9), events.SuccessorFailed("gone"), events.PreloadFailed("no module")),
    *(events.SlotsOpened(3, 7), events.SlotsFailed("too many open files", 7)),
]
ALIVE = [state for state in WorkerState if state is not WorkerState.GONE]
# What brings the supervisor to a phase from SERVING. STARTING has tests of its own below.
PHASES = {Phase.SERVING: None, Phase.DELAYING: TERM, Phase.STOPPING: TERM, Phase.KILLING: QUIT}


def reached(phase: Phase, step: Step) -> tuple[Scene, list[int]]:
    """Return a scene that has come to `phase` from `step`, and its first workers."""
    scene = Scene()
    workers = scene.reaches(step, shutdown_delay=3.0 if phase is Phase.DELAYING else 0.0)
    if PHASES[phase] is not None:
        scene.happens(PHASES[phase])
    assert scene.fleet.phase is phase
    return scene, workers


def test_every_message_of_a_worker_is_tried() -> None:
    assert {type(message) for message in MESSAGES} == set(FROM_WORKER)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.value)
@every("step", Step)
@every("state", ALIVE)
def test_whatever_a_worker_does_in_whatever_state_never_breaks_the_supervisor(
    state: WorkerState, step: Step, phase: Phase
) -> None:
    begin, _ = reached(phase, step)
    kept = pickle.dumps(begin)  # to come there again takes three times as long
    for deed in DEEDS:
        for worker in begin.fleet.workers:  # of both generations, where there are two
            scene = pickle.loads(kept)
            scene.fleet.workers[worker].state = state
            scene.happens(deed(worker))
            assert worker not in scene.fleet.workers or scene.fleet.workers[worker].state in ALIVE


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.value)
@every("step", Step)
@every("event", OTHERS)
def test_whatever_is_wanted_at_whatever_step_never_breaks_the_supervisor(
    event: events.Event, step: Step, phase: Phase
) -> None:
    scene, workers = reached(phase, step)
    scene.happens(event)
    scene.exits(*workers)  # may end it


@every("event", OTHERS, ids=str)
def test_whatever_is_wanted_during_the_start_never_breaks_the_supervisor(event: events.Event) -> None:
    for steps in range(4):
        scene = Scene()
        begin = [events.Begin(), events.Loaded(make_generation()), events.SocketsOpened(), said(1, Ready(0))]
        for happened in begin[: steps + 1]:
            scene.happens(happened)
        scene.happens(event)


@pytest.mark.parametrize("state", ALIVE, ids=lambda state: state.value)
@every("deed", DEEDS)
def test_whatever_a_worker_does_during_the_start_never_breaks_the_supervisor(
    deed: Callable[[int], events.Event], state: WorkerState
) -> None:
    scene = Scene()
    scene.happens(events.Begin())
    first, _ = scene.is_prepared()
    scene.fleet.workers[first].state = state
    scene.happens(deed(first))


@every("phase", PHASES, ids=lambda phase: phase.value)
@every("state", ALIVE, ids=lambda state: state.value)
def test_a_deadline_that_passes_never_breaks_the_supervisor(state: WorkerState, phase: Phase) -> None:
    scene, (worker, _) = reached(phase, Step.IDLE)
    scene.fleet.workers[worker].state = state
    scene.fleet.workers[worker].deadline = scene.now
    scene.happens(events.Tick())
    if state not in {WorkerState.KILLED, WorkerState.READY}:
        assert worker in scene.killed()


@pytest.mark.parametrize(
    "event", [events.Loaded(make_generation()), events.SocketsOpened(), events.Preloaded(), events.LoadFailed("no")]
)
def test_an_event_that_nobody_waits_for_is_a_bug_and_raises(event: events.Event) -> None:
    scene = Scene()
    scene.serves()
    with pytest.raises(StateError):
        decide(scene.fleet, event, scene.now)


@every(
    ("step", "event"),
    [
        (Step.LOADING, events.Loaded(make_generation())),
        (Step.LOADING, events.LoadFailed("no")),
        (Step.OPENING, events.SocketsOpened()),
        (Step.OPENING, events.BindFailed("no")),
        (Step.PRELOADING, events.Preloaded()),
        (Step.PRELOADING, events.PreloadFailed("no")),
    ],
    ids=str,
)
@every("stop", [TERM, QUIT], ids=["TERM", "QUIT"])
def test_what_was_under_way_when_the_stop_came_leads_nowhere(
    step: Step, event: events.Event, stop: events.Event
) -> None:
    scene = Scene()
    workers = scene.reaches(step)
    scene.happens(stop)
    assert scene.happens(event) == []
    scene.exits(*workers)
    assert scene.exit_code() == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exited with status 0"), (3, "exited with status 3"), (-15, "was killed by SIGTERM"), (-63, "signal 63")],
)
def test_the_end_of_a_process_is_told_in_words(status: int, words: str) -> None:
    assert describe_exit(status).endswith(words)


@pytest.mark.parametrize("seed", range(100))
def test_in_any_order_of_events_no_slot_is_lost_and_at_most_two_generations_live(seed: int) -> None:
    world = World(seed)
    world.happens(events.Begin())
    world.runs(400)
    if world.exit_code is None and world.fleet.phase in {Phase.STARTING, Phase.SERVING}:
        world.step(TERM)
    # Nobody exits by itself, but whoever is asked to long enough is killed.
    world.is_left_alone()
    assert world.exit_code in {0, 3}


def test_the_dice_let_everything_happen() -> None:
    messages = (*FROM_WORKER, Adopt, Cover, Drain, Inspect)
    everything = {*EVENTS, *kinds(actions, actions.Action), *messages}
    missing = {kind.__name__ for kind in everything - {events.WorkerSaid, actions.Send, actions.Rehearsed}}
    for seed in range(40):
        world = World(seed)
        world.happens(events.Begin())
        world.runs(400)
        missing -= world.seen.keys()
        if not missing:
            break
    assert missing == set()


def test_every_event_is_decided_upon_and_every_action_performed() -> None:
    assert policy._HANDLERS.keys() == EVENTS
    assert supervisor._PERFORM.keys() == kinds(actions, actions.Action) - {actions.Rehearsed}
