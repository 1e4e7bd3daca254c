"""--reload as decisions: a change wants new workers, and a first start that fails waits for one."""

from __future__ import annotations

import pytest

from serverd.supervisor import events
from serverd.supervisor.actions import Complain, Exit, Log, StartLoader, StopLoader
from serverd.supervisor.events import Event
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.policy import decide
from serverd.supervisor.transaction import LOAD_PATIENCE

CHANGED = events.FilesChanged("shop.py changed")


def begin(*then: Event, **how: bool) -> tuple[Fleet, list[object]]:
    fleet = Fleet(**how)
    actions: list[object] = []
    for event in (events.Begin(), *then):
        actions += decide(fleet, event, 0.0)
    return fleet, actions


def test_a_first_reading_that_fails_is_waited_out_and_tried_again_at_the_next_change() -> None:
    fleet, actions = begin(events.LoadFailed("server.toml:1: no"), watches_files=True)
    assert not any(isinstance(action, Complain | Exit) for action in actions)
    assert any(
        isinstance(action, Log) and "waiting for a change: server.toml:1: no" in action.message for action in actions
    )
    assert any(isinstance(action, StartLoader) for action in decide(fleet, CHANGED, 1.0))


@pytest.mark.parametrize("how", [{"watches_files": False}, {"watches_files": True, "has_file": False}])
def test_without_reload_or_a_file_that_could_change_it_ends(how: dict[str, bool]) -> None:
    _, actions = begin(events.LoadFailed("no"), **how)
    assert [action.code for action in actions if isinstance(action, Exit)] == [3]


def test_a_first_reading_that_takes_too_long_is_given_up_and_not_heard_of_later() -> None:
    fleet, _ = begin(watches_files=True)
    assert StopLoader() in decide(fleet, events.Tick(), LOAD_PATIENCE)
    assert any(isinstance(action, StartLoader) for action in decide(fleet, CHANGED, LOAD_PATIENCE + 1.0))


def test_changes_during_a_reading_are_one_reading_more() -> None:
    fleet, _ = begin(CHANGED, CHANGED, watches_files=True)
    loaders = [action for action in decide(fleet, events.LoadFailed("no"), 1.0) if isinstance(action, StartLoader)]
    assert len(loaders) == 1
