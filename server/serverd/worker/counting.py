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
from time import perf_counter

from serverd.asgi.cycle import Cycle
from serverd.asgi.scope import Peer
from serverd.asgi.session import Session
from serverd.connection.http1 import Http1Connection
from serverd.connection.http2 import Http2Connection
from serverd.connection.service import Service
from serverd.connection.websocket import WebSocketConnection
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

_OPEN = {
    Http1Connection: counters.OPEN_HTTP1,
    Http2Connection: counters.OPEN_HTTP2,
    WebSocketConnection: counters.OPEN_WEBSOCKET,
}
_REFUSAL_AT = {status: place for place, status in enumerate(REFUSALS, counters.FIRST_REFUSAL)}


class MountCounts:
    """The observer of one mount."""

    __slots__ = ("_first_class", "_heard", "_memory", "place")

    def __init__(self, memory: memoryview[int], place: int) -> None:
        """Prepare to add to the row at `place`."""
        self._memory = memory
        self.place = place
        self._first_class = place + class_at(0)
        self._heard: dict[Session, tuple[int, int]] = {}  # messages of open sessions that have been added

    def on_exchange(self, cycle: Cycle) -> None:
        """Count a request that has ended."""
        # Hot path: for each request, so names of the module and no more additions than needed; benchmarks/ "plain GET".
        memory = self._memory
        took = perf_counter() - cycle.began
        place = self._first_class + cycle.status // 100 * CLASS_WIDTH
        # First, and alone what says that there was a request: what follows may be cut off.
        memory[place + bisect_left(BOUNDS, took)] += 1
        memory[place + MICROSECONDS] += int(took * 1e6)
        memory[place + SENT] += cycle.sent
        if cycle.received:
            memory[place + RECEIVED] += cycle.received

    def on_session(self, session: Session) -> None:
        """Count a WebSocket that has ended."""
        self.hear(session)
        del self._heard[session]

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
    """The observer of one listener."""

    __slots__ = ("_place", "row")

    def __init__(self, memory: memoryview[int], place: int) -> None:
        """Prepare to add to the row at `place`."""
        self.row = memory[place : place + counters.LISTENER_WIDTH]

    def on_refusal(self, peer: Peer, status: int, reason: str) -> None:
        """Count what was answered without having been a request."""
        self.row[_REFUSAL_AT.get(status, _REFUSAL_AT[0])] += 1


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
        self._mounts: dict[Key, MountCounts] = {}
        self._listeners: dict[str, ListenerCounts] = {}

    def has_room(self, generation: Generation) -> bool:
        """Return whether all that is new in a generation could be counted."""
        return self._chart.has_room(generation)

    def adopt(self, generation: Generation) -> None:
        """Count for another generation, for which there is room, as well."""
        self._chart.adopt(generation)

    def mount(self, key: Key) -> MountCounts:
        """Return the observer of a mount."""
        known = self._mounts.get(key)
        if known is None:
            known = self._mounts[key] = MountCounts(self._memory, self._chart.place_of_mount(key))
        return known

    def listener(self, name: str) -> ListenerCounts:
        """Return the observer of a listener."""
        known = self._listeners.get(name)
        if known is None:
            known = self._listeners[name] = ListenerCounts(self._memory, self._chart.place_of_listener(name))
        return known

    def look(self, services: Iterable[Service]) -> None:
        """Write down what is in flight and what is open on these services, which are all there are."""
        opened: Counter[tuple[str, int]] = Counter()
        in_flight: Counter[int] = Counter()
        sessions: Counter[int] = Counter()
        elsewhere = self.mount(ELSEWHERE)
        for service in services:
            opened.update((service.name, _OPEN.get(type(one), counters.OPEN_OTHER)) for one in service.connections)
            for cycle in (*service.exchanges, *service.answers):
                in_flight[_counts_of(cycle, elsewhere).place] += 1
            for session in list(service.sessions.open):
                counts = _counts_of(session, elsewhere)
                counts.hear(session)
                sessions[counts.place] += 1
        for name, listener in self._listeners.items():
            for column in counters.LISTENER_GAUGES:
                listener.row[column] = opened[name, column]
        for counts in self._mounts.values():
            self._memory[counts.place + counters.IN_FLIGHT] = in_flight[counts.place]
            self._memory[counts.place + counters.SESSIONS_OPEN] = sessions[counts.place]


def _counts_of(cycle: Cycle, elsewhere: MountCounts) -> MountCounts:
    observer = cycle.endpoint.observer
    return observer if isinstance(observer, MountCounts) else elsewhere
