"""The life of a worker: receive a generation, bring it up, say ready, serve, drain, end.

Everything it learns comes over the channel; everything it decides is told there. `entry` calls it, in a process that
was spawned or forked for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from setproctitle import setproctitle

from serverd.asgi.calling import REQUEST_ID
from serverd.errors import AppError, ConfigError, reason_of
from serverd.generation import Generation
from serverd.messages import (
    Accepted,
    Adopt,
    Adopted,
    Beat,
    Cover,
    Declined,
    Drain,
    Draining,
    Failed,
    Inspect,
    Message,
    Propose,
    Ready,
    Reopen,
    SocketGrant,
    Sockets,
    Start,
    Told,
    Unready,
)
from serverd.observe import logs
from serverd.observe.access import AccessLog
from serverd.parent import die_with_parent
from serverd.worker.applications import SHUTDOWN_TIMEOUT, Applications, Imported
from serverd.worker.channel import Channel, close_all
from serverd.worker.identities import Identities, make_identities
from serverd.worker.inside import Inside
from serverd.worker.last_resort import LastResort, arm_end
from serverd.worker.loop import run_on_loop
from serverd.worker.memory import relieve_allocator, relieve_collector
from serverd.worker.observers import Observers
from serverd.worker.offspring import set_apart
from serverd.worker.pulse import Pulse
from serverd.worker.serving import Serving
from serverd.worker.start_up import stack_shown
from serverd.worker.watchdog import Watchdog

__all__ = ["run"]

log = logging.getLogger("serverd.worker")

_STANDARD_ERROR = 2

# Seconds that lines of the access log wait for others, to be written together.
_ACCESS_LOG_DELAY = 0.01


def run(channel: Channel, imported: Imported | None = None) -> int:
    """Run a worker on `channel` until it is drained; return the exit code: 0, or AppError's if an application fails.

    `imported` is what a preloader had imported before this process was forked.
    """
    received = channel.receive()
    if imported is not None:
        # As `__main__` does for others: a fork forgets it. By now the supervisor is the parent, as the process in
        # between has ended before the supervisor could know of this one.
        die_with_parent(signal.SIGKILL)
    # The kernel tells only of a death that comes after it was asked to.
    if received is None or channel.has_ended:
        return 0
    start, fds = received
    assert isinstance(start, Start)  # the first message, always
    logs.configure(start.generation.logging, sys.stderr, REQUEST_ID.get)
    worker = _Worker(channel, start, fds, imported)
    return run_on_loop(start.generation.server.loop, worker.run)


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A generation that may be adopted, with its sockets."""

    generation: Generation
    grants: tuple[SocketGrant, ...]
    fds: list[int]
    identities: Identities


class _Worker:
    """One run of a worker."""

    def __init__(self, channel: Channel, start: Start, fds: list[int], imported: Imported | None) -> None:
        self._channel = channel
        self._start = start
        self._fds = fds
        self._generation: Generation = start.generation
        counted = fds.pop() if start.counted else None
        self._applications = Applications(start.generation, channel.send, imported, start.slot)
        self._inside = Inside(start.generation, counted, channel.offer, self._applications.down)
        self._identities: Identities = {}
        self._proposal: _Proposal | None = None
        self._descriptors: Callable[[], list[int]] = lambda: fds  # of the sockets that clients come to

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._access_log = AccessLog(self._generation.access_log, partial(loop.call_later, _ACCESS_LOG_DELAY))
        try:
            return await self._live(loop)
        finally:
            self._access_log.close()

    async def _live(self, loop: asyncio.AbstractEventLoop) -> int:
        self._drain: asyncio.Future[Drain] = loop.create_future()  # set when a drain is asked for
        self._orders: asyncio.Queue[tuple[Message, list[int]] | None] = asyncio.Queue()  # None: time to drain
        self._channel.watch(loop, self._on_message)
        loop.add_signal_handler(signal.SIGTERM, self._ask_for_drain)
        set_apart(lambda: self._descriptors())  # before any application can fork
        self._show("starting")
        bring_up = asyncio.ensure_future(self._bring_up())
        await asyncio.wait((bring_up, self._drain), return_when=asyncio.FIRST_COMPLETED)
        if not bring_up.done():
            # Nobody wants this generation any more, and its start-up may take for ever.
            bring_up.cancel()
            await asyncio.wait({bring_up})
            await self._applications.shut_down()
            return 0
        if not bring_up.result():
            await self._applications.shut_down()
            return AppError.exit_code
        self._inside.observers = Observers(self._inside.counters, self._access_log, self._start.slot)
        serving = Serving(
            loop,
            self._generation,
            self._applications.endpoints,
            self._start.slot,
            self._identities,
            self._inside,
        )
        self._applications.on_change = serving.reroute
        if not self._drain.done():
            await self._serve(loop, serving)
        drain = await self._drain
        self._show("draining")
        end = loop.time() + drain.timeout
        arm_end(self._generation.server.hang_timeout + drain.timeout + SHUTDOWN_TIMEOUT)
        self._applications.give_up()
        self._inside.standing.drain()
        await serving.close()
        self._channel.send(Draining())
        await serving.drain(drain.timeout, drain.replaced)
        await self._applications.shut_down(max(end - loop.time(), SHUTDOWN_TIMEOUT))
        return 0

    async def _bring_up(self) -> bool:
        """Bring the applications up, with a way to see what a start-up that hangs is doing."""
        try:
            self._identities = make_identities(self._generation)
        except ConfigError as error:
            summary, _, others = str(error).partition("\n")
            self._channel.send(Failed(summary, others))
            return False
        server = self._generation.server
        # One slot after the other, all of them within one margin.
        with stack_shown(server.start_timeout, lead=2 - self._start.slot / server.workers):
            return await self._applications.bring_up()

    async def _serve(self, loop: asyncio.AbstractEventLoop, serving: Serving) -> None:
        """Say ready, and do what the supervisor says until it is time to drain."""
        logs.keep(self._generation.logging, sys.stderr, REQUEST_ID.get)
        await serving.open(self._start.sockets, self._fds)
        self._descriptors = serving.descriptors
        relieve_collector()
        relieve_allocator()
        pulse = Pulse(loop, serving, serving.in_flight, self._on_beat)
        server = self._generation.server
        self._watchdog = Watchdog(loop, server, serving.in_flight, self._channel, pulse.note_lag)
        self._applications.sources.remember()
        # From here on there is something in flight, which is finished also when the supervisor is killed.
        die_with_parent(signal.SIGTERM)
        self._watchdog.start()
        pulse.start()
        self._last_resort = LastResort()
        self._last_resort.arm(server)
        self._channel.send(Ready(os.getpid()))
        self._show("ready")
        while (order := await self._orders.get()) is not None:
            await self._obey(serving, *order)
        self._withdraw()

    def _on_beat(self, beat: Beat) -> None:
        self._channel.offer(beat)
        self._last_resort.arm(self._generation.server)
        self._applications.sources.remember()  # what has been imported since

    # What the supervisor says.

    def _on_message(self, message: Message | None, fds: list[int]) -> None:
        if message is None:
            self._ask_for_drain(replaced=False)  # it has gone: the port must become free
        elif isinstance(message, Drain):
            self._ask_for_drain(message)
        elif isinstance(message, Reopen):
            self._reopen(*fds)
        elif isinstance(message, Told):
            self._inside.enquiry.on_told(message)
        elif isinstance(message, Unready):
            self._inside.standing.stop_soon()
        elif self._drain.done():
            close_all(fds)
        else:
            self._orders.put_nowait((message, fds))

    def _ask_for_drain(self, drain: Drain | None = None, *, replaced: bool = True) -> None:
        """Have the worker drain as it is told to, else as configured; one that is ended by itself is `replaced`."""
        if not self._drain.done():
            self._drain.set_result(drain or Drain(self._generation.server.graceful_timeout, replaced))
            self._orders.put_nowait(None)

    def _reopen(self, error: int, access: int) -> None:
        """Log to these from now on; standard error keeps its number, so that everybody who has it does."""
        os.dup2(error, _STANDARD_ERROR)
        os.close(error)
        logs.configure(self._generation.logging, sys.stderr, REQUEST_ID.get)
        self._access_log.reopen(access)

    async def _obey(self, serving: Serving, message: Message, fds: list[int]) -> None:
        """Do what `message` says; one after the other, and no longer once it is time to drain."""
        if self._drain.done():
            close_all(fds)
        elif isinstance(message, Propose):
            self._propose(message, fds)
        elif isinstance(message, Adopt):
            await self._adopt(serving, message.number)
        elif isinstance(message, Inspect):
            self._inspect()
        else:
            try:
                if isinstance(message, Sockets):
                    self._withdraw()  # the complete list holds none of a proposal's
                    await serving.hold(message.sockets, fds)
                elif isinstance(message, Cover):
                    await serving.cover(message.slots)
            except OSError as error:
                log.error("cannot accept on a socket, which is left to the other workers: %s", reason_of(error))

    def _propose(self, proposal: Propose, fds: list[int]) -> None:
        """Tell whether the generation can be served by the applications as they are, and keep it if so."""
        self._withdraw()
        generation = proposal.generation
        reason = None if proposal.is_renewal else self._applications.sources.change()
        if {app.name for app in generation.apps} != self._applications.endpoints.keys():
            reason = "it has other applications"
        if reason is None and not self._inside.counters.has_room(generation):
            reason = "there is no more room for its mounts and listeners among the counters"
        identities: Identities = {}
        try:
            identities = make_identities(generation, self._identities)
        except ConfigError as error:
            close_all(fds)
            self._channel.send(Declined(generation.number, str(error), final=True))
            return
        if reason is None:
            self._proposal = _Proposal(generation, proposal.sockets, fds, identities)
            self._channel.send(Accepted(generation.number))
        else:
            close_all(fds)
            self._channel.send(Declined(generation.number, reason))

    def _inspect(self) -> None:
        reason = self._applications.sources.change()
        if reason is not None:
            self._channel.send(Declined(self._generation.number, reason))

    def _withdraw(self) -> None:
        """Forget the proposal there is: its sockets must not stay open here when they are closed elsewhere."""
        if self._proposal is not None:
            close_all(self._proposal.fds)
            self._proposal = None

    async def _adopt(self, serving: Serving, number: int) -> None:
        proposal, self._proposal = self._proposal, None
        assert proposal is not None  # nothing is committed that was not accepted
        assert proposal.generation.number == number
        self._generation = proposal.generation
        logs.configure(self._generation.logging, sys.stderr, REQUEST_ID.get)
        self._access_log.adopt(self._generation.access_log)
        self._applications.adopt(self._generation)
        self._watchdog.adopt(self._generation.server)
        self._identities = proposal.identities
        await serving.adopt(self._generation, proposal.grants, proposal.fds, self._identities)
        self._channel.send(Adopted(number))
        self._show("ready")

    def _show(self, state: str) -> None:
        """Show the state in the process list."""
        setproctitle(f"serverd: worker {self._start.slot} (generation {self._generation.number}) ({state})")
