"""The lives of a worker, of the supervisor and of a reload, each as a table: state x event -> state.

An absent entry is an error, and raises. The tables say what may follow what; why something happens
is decided in `policy` and those it hands events to (`workers`, `requests`, `transaction`, `upgrade`), and done
through `fleet` and `worker`, which hold the states. No I/O, no time.

    worker       STARTING -> READY -> TOLD -> DRAINING -> GONE      HUNG, LEAVING and KILLED are the shorter ways out
    phase        STARTING -> SERVING -> DELAYING -> STOPPING -> STOPPED
    step         IDLE -> LOADING -> OPENING -> [PRELOADING] -> PREPARING -> RETIRING -> IDLE     new workers
                 IDLE -> LOADING -> OPENING -> PROPOSING -> RETIRING -> IDLE                     running workers
                 IDLE -> UPGRADING -> RETIRING                                                    a new supervisor
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

__all__ = [
    "PHASES",
    "STEPS",
    "WORKERS",
    "Phase",
    "PhaseEvent",
    "StateError",
    "Step",
    "StepEvent",
    "WorkerEvent",
    "WorkerState",
    "advance",
]


class StateError(Exception):
    """An event came in a state that has no entry for it: a bug of ours."""


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"  # spawned; imports the applications and runs their start-up
    READY = "ready"  # it said so, and accepts connections
    HUNG = "hung"  # its event loop does not turn; it has been asked for its stacks, and is killed next
    TOLD = "told"  # to drain; until it hears of it, it accepts connections
    DRAINING = "draining"  # it said so: accepts nothing more, finishes what is in flight and exits
    LEAVING = "leaving"  # it said it cannot serve, or hung up: it exits by itself
    KILLED = "killed"  # SIGKILL is sent, not yet reaped
    GONE = "gone"  # reaped, or never spawned


class WorkerEvent(Enum):
    """What moves a worker through its life."""

    STARTING = "starting"  # its message Starting
    READY = "ready"  # its message Ready
    LEAVE = "leave"  # its message Failed, or the end of its channel
    HANG = "hang"  # no beat for hang_timeout
    DRAIN = "drain"  # the message Drain is sent to it
    DRAINING = "draining"  # its message Draining
    KILL = "kill"  # SIGKILL is sent to it
    EXIT = "exit"  # it is reaped, or could not be spawned


WORKERS: Mapping[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (WorkerState.STARTING, WorkerEvent.STARTING): WorkerState.STARTING,  # once for each application
    (WorkerState.STARTING, WorkerEvent.READY): WorkerState.READY,
    (WorkerState.STARTING, WorkerEvent.LEAVE): WorkerState.LEAVING,
    (WorkerState.STARTING, WorkerEvent.DRAIN): WorkerState.TOLD,
    (WorkerState.STARTING, WorkerEvent.DRAINING): WorkerState.DRAINING,  # told by somebody else's signal
    (WorkerState.STARTING, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.STARTING, WorkerEvent.EXIT): WorkerState.GONE,
    (WorkerState.READY, WorkerEvent.LEAVE): WorkerState.LEAVING,
    (WorkerState.READY, WorkerEvent.HANG): WorkerState.HUNG,
    (WorkerState.READY, WorkerEvent.DRAIN): WorkerState.TOLD,
    (WorkerState.READY, WorkerEvent.DRAINING): WorkerState.DRAINING,  # the same
    (WorkerState.READY, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.READY, WorkerEvent.EXIT): WorkerState.GONE,
    # It may come to itself in the last moment: too late, but nothing that it says is an error.
    (WorkerState.HUNG, WorkerEvent.DRAINING): WorkerState.HUNG,
    (WorkerState.HUNG, WorkerEvent.LEAVE): WorkerState.HUNG,
    (WorkerState.HUNG, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.HUNG, WorkerEvent.EXIT): WorkerState.GONE,
    # What a worker said may cross what it is told, so everything it says is still heard after DRAIN
    # and KILL, and changes nothing but that DRAINING answers DRAIN.
    (WorkerState.TOLD, WorkerEvent.STARTING): WorkerState.TOLD,
    (WorkerState.TOLD, WorkerEvent.READY): WorkerState.TOLD,
    (WorkerState.TOLD, WorkerEvent.DRAINING): WorkerState.DRAINING,
    (WorkerState.TOLD, WorkerEvent.LEAVE): WorkerState.TOLD,
    (WorkerState.TOLD, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.TOLD, WorkerEvent.EXIT): WorkerState.GONE,
    (WorkerState.DRAINING, WorkerEvent.LEAVE): WorkerState.DRAINING,
    (WorkerState.DRAINING, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.DRAINING, WorkerEvent.EXIT): WorkerState.GONE,
    (WorkerState.LEAVING, WorkerEvent.LEAVE): WorkerState.LEAVING,  # Failed, then the end of the channel
    (WorkerState.LEAVING, WorkerEvent.KILL): WorkerState.KILLED,
    (WorkerState.LEAVING, WorkerEvent.EXIT): WorkerState.GONE,
    (WorkerState.KILLED, WorkerEvent.STARTING): WorkerState.KILLED,
    (WorkerState.KILLED, WorkerEvent.READY): WorkerState.KILLED,
    (WorkerState.KILLED, WorkerEvent.DRAINING): WorkerState.KILLED,
    (WorkerState.KILLED, WorkerEvent.LEAVE): WorkerState.KILLED,
    (WorkerState.KILLED, WorkerEvent.EXIT): WorkerState.GONE,
}


class Phase(Enum):
    """Where the supervisor is in its life."""

    STARTING = "starting"  # no generation has been committed yet
    SERVING = "serving"  # a generation is committed
    DELAYING = "delaying"  # asked to stop: not ready any more, and serving until shutdown_delay has passed
    STOPPING = "stopping"  # every worker has been told to drain
    KILLING = "killing"  # every worker has been killed, not all are reaped
    STOPPED = "stopped"  # no worker is left


class PhaseEvent(Enum):
    """What moves the supervisor through its life."""

    COMMIT = "commit"  # a generation is committed
    DELAY = "delay"  # asked to stop after shutdown_delay
    STOP = "stop"  # asked to stop, the delay has passed, or the first generation failed
    KILL = "kill"  # asked to stop at once
    EMPTY = "empty"  # the last worker is reaped


PHASES: Mapping[tuple[Phase, PhaseEvent], Phase] = {
    (Phase.STARTING, PhaseEvent.COMMIT): Phase.SERVING,
    (Phase.STARTING, PhaseEvent.STOP): Phase.STOPPING,
    (Phase.STARTING, PhaseEvent.KILL): Phase.KILLING,
    (Phase.SERVING, PhaseEvent.COMMIT): Phase.SERVING,
    (Phase.SERVING, PhaseEvent.DELAY): Phase.DELAYING,
    (Phase.SERVING, PhaseEvent.STOP): Phase.STOPPING,
    (Phase.SERVING, PhaseEvent.KILL): Phase.KILLING,
    (Phase.DELAYING, PhaseEvent.COMMIT): Phase.DELAYING,  # of a reload that had begun
    (Phase.DELAYING, PhaseEvent.STOP): Phase.STOPPING,
    (Phase.DELAYING, PhaseEvent.KILL): Phase.KILLING,
    (Phase.STOPPING, PhaseEvent.KILL): Phase.KILLING,
    (Phase.STOPPING, PhaseEvent.EMPTY): Phase.STOPPED,
    (Phase.KILLING, PhaseEvent.EMPTY): Phase.STOPPED,
}


class Step(Enum):
    """How far the transaction is that brings a new generation, or a new supervisor; the first start is one, too."""

    IDLE = "idle"  # none is under way: all workers are of the committed generation
    LOADING = "loading"  # the loader reads the configuration
    OPENING = "opening"  # the sockets are being opened
    PROPOSING = "proposing"  # the running workers are asked whether they can serve it
    PRELOADING = "preloading"  # the preloader imports the applications
    PREPARING = "preparing"  # the new workers are starting
    RETIRING = "retiring"  # committed or rolled back; workers of the other generation drain
    UPGRADING = "upgrading"  # another supervisor is starting on our sockets


class StepEvent(Enum):
    """What moves a transaction."""

    LOAD = "load"  # it begins
    LOADED = "loaded"  # the configuration is valid
    PROPOSE = "propose"  # every socket is there, and the applications would not see a difference
    PRELOAD = "preload"  # every socket is there; applications are to be imported once
    PREPARE = "prepare"  # new workers can start
    COMMIT = "commit"  # every worker is ready, or has accepted
    ROLLBACK = "rollback"  # something failed
    RETIRED = "retired"  # the last worker of the other generation is reaped
    UPGRADE = "upgrade"  # the other supervisor is started
    ABORT = "abort"  # the supervisor stops


STEPS: Mapping[tuple[Step, StepEvent], Step] = {
    (Step.IDLE, StepEvent.LOAD): Step.LOADING,
    (Step.LOADING, StepEvent.LOADED): Step.OPENING,
    (Step.LOADING, StepEvent.ROLLBACK): Step.RETIRING,
    (Step.OPENING, StepEvent.PROPOSE): Step.PROPOSING,
    (Step.OPENING, StepEvent.PRELOAD): Step.PRELOADING,
    (Step.OPENING, StepEvent.PREPARE): Step.PREPARING,
    (Step.OPENING, StepEvent.ROLLBACK): Step.RETIRING,
    (Step.PROPOSING, StepEvent.COMMIT): Step.RETIRING,
    (Step.PROPOSING, StepEvent.ROLLBACK): Step.RETIRING,  # a worker has declined for good
    (Step.PROPOSING, StepEvent.PRELOAD): Step.PRELOADING,  # a worker has declined
    (Step.PROPOSING, StepEvent.PREPARE): Step.PREPARING,  # the same
    (Step.PRELOADING, StepEvent.PREPARE): Step.PREPARING,
    (Step.PRELOADING, StepEvent.ROLLBACK): Step.RETIRING,
    (Step.PREPARING, StepEvent.COMMIT): Step.RETIRING,
    (Step.PREPARING, StepEvent.ROLLBACK): Step.RETIRING,
    (Step.RETIRING, StepEvent.RETIRED): Step.IDLE,
    (Step.IDLE, StepEvent.UPGRADE): Step.UPGRADING,
    (Step.UPGRADING, StepEvent.ROLLBACK): Step.RETIRING,
    **{(step, StepEvent.ABORT): Step.IDLE for step in Step},
}


S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def advance(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state that follows `state` upon `event`.

    Raises StateError when the table has no entry.
    """
    try:
        return table[state, event]
    except KeyError:
        raise StateError(f"{event} cannot happen in {state}") from None
