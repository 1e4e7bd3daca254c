"""The counters of a worker: integers that are added to memory which the supervisor reads.

What is where says `observe/counters`. A request is added when it has ended, before the last of its response leaves:
whatever ends the worker, nobody has had a response that is not counted. What is open is written with every beat, so
that nothing has to be counted down; what is new of sessions that go on is added then, too. `inside` owns the counters.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from serverd.asgi.cycle import Cycle
from serverd.asgi.observer import UNOBSERVED, Observer, RefusalObserver
from serverd.asgi.refusal import Refusal
from serverd.asgi.session import Session
from serverd.connection.service import Service
from serverd.generation import Generation
from serverd.observe import counters
from serverd.observe.counters import (
    BOUNDS,
    CLASS_WIDTH,
    ELSEWHERE,
    MICROSECONDS,
    RECEIVED,
    REFUSALS,
    SENT,
    Chart,
    Key,
    class_at,
)

__all__ = ["Counters", "ListenerCounts", "MountCounts"]

Heard = dict[Session, tuple[int, int]]
"""How many messages of sessions that are open have been added: received, and sent."""

_REFUSAL_AT = {status: place for place, status in enumerate(REFUSALS, counters.FIRST_REFUSAL)}


class MountCounts:
    """The observer of one mount: counts, and then tells the next one."""

    __slots__ = ("_first_class", "_heard", "_memory", "_next", "place")

    def __init__(self, memory: memoryview[int], place: int, heard: Heard, following: Observer) -> None:
        """Prepare to add to the row at `place`; `heard` is of all mounts, `following` is told as well."""
        self._memory = memory
        self.place = place
        self._first_class = place + class_at(0)
        self._heard = heard
        self._next = None if following is UNOBSERVED else following

    def on_exchange(self, cycle: Cycle) -> None:
        """Count a request that has ended."""
        # Hot path: for each request, so names of the module, and no needless addition; benchmarks/ "plain GET".
        memory = self._memory
        took = cycle.ended - cycle.began
        place = self._first_class + cycle.status // 100 * CLASS_WIDTH
        # First, and alone what says that there was a request: what follows may be cut off.
        memory[place + bisect_left(BOUNDS, took)] += 1
        memory[place + MICROSECONDS] += int(took * 1e6)
        memory[place + SENT] += cycle.sent
        if cycle.received:
            memory[place + RECEIVED] += cycle.received
        if self._next is not None:
            self._next.on_exchange(cycle)

    def on_session(self, session: Session) -> None:
        """Count a WebSocket that has ended."""
        self.hear(session)
        del self._heard[session]
        if self._next is not None:
            self._next.on_session(session)

    def hear(self, session: Session) -> None:
        """Add what is new of a WebSocket."""
        memory, place = self._memory, self.place
        before = self._heard.get(session)
        if before is None:
            memory[place + counters.SESSIONS] += 1
        received, sent = before or (0, 0)
        memory[place + counters.MESSAGES_RECEIVED] += session.messages_received - received
        memory[place + counters.MESSAGES_SENT] += session.messages_sent - sent
        self._heard[session] = session.messages_received, session.messages_sent


class ListenerCounts:
    """The observer of what one listener refuses: counts, and then tells the next one."""

    __slots__ = ("_next", "_row")

    def __init__(self, row: memoryview[int], following: RefusalObserver) -> None:
        """Prepare to add to the row of the listener; `following` is told as well."""
        self._row = row
        self._next = following

    def on_refusal(self, refusal: Refusal) -> None:
        """Count what is answered without having been a request."""
        self._row[_REFUSAL_AT.get(refusal.status, _REFUSAL_AT[0])] += 1
        self._next.on_refusal(refusal)


class Counters:
    """All counters of one worker."""

    def __init__(self, generation: Generation, descriptor: int | None = None) -> None:
        """Begin with what the generation has; in the file of `descriptor`, which is closed, or in memory of our own."""
        self._chart = Chart(generation)
        if descriptor is None:
            memory = memoryview(bytearray(self._chart.size))
        else:
            memory = memoryview(mmap.mmap(descriptor, self._chart.size))
            os.close(descriptor)
        self._memory = memory.cast("q")
        self._heard: Heard = {}
        self._busy: set[int] = set()  # where the rows begin in which, at the last look, something was in flight

    def has_room(self, generation: Generation) -> bool:
        """Return whether all that is new in a generation could be counted."""
        return self._chart.has_room(generation)

    def adopt(self, generation: Generation) -> None:
        """Count for another generation, for which there is room, as well."""
        self._chart.adopt(generation)

    def mount(self, key: Key, following: Observer = UNOBSERVED) -> MountCounts:
        """Return the observer of a mount; `following` is told after it."""
        return MountCounts(self._memory, self._chart.place_of_mount(key), self._heard, following)

    def row_of(self, listener: str) -> memoryview[int]:
        """Return the row of a listener."""
        place = self._chart.place_of_listener(listener)
        return self._memory[place : place + counters.LISTENER_WIDTH]

    def look(self, services: Iterable[Service]) -> None:
        """Write down what is in flight and what is open on these services, which are all there are."""
        opened: Counter[tuple[str, int]] = Counter()
        in_flight: Counter[int] = Counter()
        sessions: Counter[int] = Counter()
        elsewhere = self.mount(ELSEWHERE)
        for service in services:
            opened.update((service.name, one.speaks) for one in service.connections)
            for cycle in (*service.exchanges, *service.answers):
                in_flight[_counts_of(cycle, elsewhere).place] += 1
            for session in list(service.sessions.open):
                counts = _counts_of(session, elsewhere)
                counts.hear(session)
                sessions[counts.place] += 1
        for name in self._chart.listeners:
            row = self.row_of(name)
            for column in counters.LISTENER_GAUGES:
                row[column] = opened[name, column]
        # Of most mounts nothing is in flight: not to touch their rows keeps the memory of thousands from being taken.
        busy = in_flight.keys() | sessions.keys()
        for place in busy | self._busy:
            self._memory[place + counters.IN_FLIGHT] = in_flight[place]
            self._memory[place + counters.SESSIONS_OPEN] = sessions[place]
        self._busy = busy


def _counts_of(cycle: Cycle, elsewhere: MountCounts) -> MountCounts:
    observer = cycle.endpoint.observer
    return observer if isinstance(observer, MountCounts) else elsewhere
