"""The tables of states: what they allow, and that everything else raises."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import product
from typing import Any

import pytest

from serverd.supervisor.states import (
    PHASES,
    STEPS,
    WORKERS,
    Phase,
    PhaseEvent,
    StateError,
    Step,
    StepEvent,
    WorkerEvent,
    WorkerState,
    advance,
)
from tests.support.every import every

TABLES: list[tuple[Mapping[Any, Any], type[Enum], type[Enum]]] = [
    (WORKERS, WorkerState, WorkerEvent),
    (PHASES, Phase, PhaseEvent),
    (STEPS, Step, StepEvent),
]
CELLS = [(table, state, event) for table, states, inputs in TABLES for state, event in product(states, inputs)]


@every(("table", "state", "event"), CELLS, ids=[f"{state}-{event}" for _, state, event in CELLS])
def test_an_event_leads_where_the_table_says_or_is_an_error(table: Mapping[Any, Any], state: Enum, event: Enum) -> None:
    if (state, event) in table:
        assert advance(table, state, event) is table[state, event]
    else:
        with pytest.raises(StateError, match="cannot happen in"):
            advance(table, state, event)


def test_every_state_of_a_worker_but_the_last_ends_when_it_exits() -> None:
    for state in WorkerState:
        if state is not WorkerState.GONE:
            assert advance(WORKERS, state, WorkerEvent.EXIT) is WorkerState.GONE


def test_a_worker_is_draining_by_its_word_alone() -> None:
    ways = {key for key, state in WORKERS.items() if state is WorkerState.DRAINING}
    assert {event for state, event in ways if state is not WorkerState.DRAINING} == {WorkerEvent.DRAINING}


@pytest.mark.parametrize("state", [WorkerState.DRAINING, WorkerState.LEAVING, WorkerState.GONE])
def test_a_worker_that_has_left_does_not_say_that_it_is_draining(state: WorkerState) -> None:
    assert (state, WorkerEvent.DRAINING) not in WORKERS


def test_a_worker_brings_applications_up_only_before_it_is_ready() -> None:
    ways = {(state, after) for (state, event), after in WORKERS.items() if event is WorkerEvent.STARTING}
    states = {WorkerState.STARTING, WorkerState.TOLD, WorkerState.KILLED}
    assert ways == {(state, state) for state in states}


def test_nothing_follows_the_end_of_a_worker_or_of_the_supervisor() -> None:
    assert [key for key in WORKERS if key[0] is WorkerState.GONE] == []
    assert [key for key in PHASES if key[0] is Phase.STOPPED] == []


def test_a_transaction_can_be_aborted_at_every_step() -> None:
    assert {advance(STEPS, step, StepEvent.ABORT) for step in Step} == {Step.IDLE}


@pytest.mark.parametrize(("table", "states", "inputs"), TABLES, ids=["worker", "phase", "step"])
def test_every_state_is_reached_and_every_event_used(
    table: Mapping[Any, Any], states: type[Enum], inputs: type[Enum]
) -> None:
    first = next(iter(states))
    assert {*table.values(), first} == set(states)
    assert {event for _, event in table} == set(inputs)
