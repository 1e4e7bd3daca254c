"""The turn of the event loop in which applications begin one after the other, and their responses leave together.

What was read in one turn has its applications begin in the next, in a row. A system call behind each would have the
kernel and Python turn each other out of every cache: what is said in a few words waits for those that follow. Whoever
is the last, or has nobody to wait for, sends at once.

An application that computes after its response, and awaits nothing, keeps everybody waiting; of the responses that are
held, too. No more than one such: the next that is held finds that the time has passed.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Final, Protocol

__all__ = ["HOLD", "Sender", "Turn"]

log = logging.getLogger("serverd.connection")

# Seconds that responses are held in the course of things: enough for a hundred small applications, or ten large ones.
HOLD = 0.002


class Sender(Protocol):
    """Who holds something back."""

    def send_held(self) -> None:
        """Send it, if it has not left already."""


# Where `create_task` is from that makes the tasks of asyncio; a loop in which we are embedded may have one of its own.
_USUAL_MAKERS: Final = ("asyncio.base_events", "uvloop.loop")


class Turn:
    """Who begins, and who holds something, among the connections of a listener."""

    __slots__ = ("_held", "_since", "begun", "created", "is_usual", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # Without a factory, its tasks are those of asyncio; unless somebody has put a function in the place of that.
        create = loop.create_task
        self.is_usual = create.__module__ in _USUAL_MAKERS and not hasattr(create, "__wrapped__")
        # Tasks of applications that there were, and those of them that have taken their first step. Who embeds us may
        # cancel one before that, and then it never does.
        self.created = 0
        self.begun = 0
        self._held: list[Sender] = []
        self._since = 0.0  # when the first of them was held, on the clock of `perf_counter`

    @property
    def goes_on(self) -> bool:
        """Whether what is sent now should be held: another application begins, or something is held before it."""
        return self.created > self.begun or bool(self._held)

    def hold(self, sender: Sender) -> None:
        """Have `send_held` called before this turn ends: now, if nobody else begins in it."""
        held = self._held
        held.append(sender)
        if self.created <= self.begun:
            self.end()
        elif len(held) == 1:
            self._since = perf_counter()
            self.loop.call_soon(self._on_turn, self.created)  # those that follow may have nothing to send yet
        elif perf_counter() - self._since > HOLD:
            self.end()

    def _on_turn(self, created: int) -> None:
        """End it, behind the first step of everybody who was there when so many were."""
        # A loop calls in the order in which it was asked to: whoever has not begun by now never will.
        self.begun = max(self.begun, created)
        self.end()

    def end(self) -> None:
        """Have everything sent that is held."""
        held = self._held
        self._held = []
        for sender in held:
            try:
                sender.send_held()
            except Exception:
                # It must not take along what others hold, nor be told to the application that happens to send.
                log.exception("no response of those held: this is a bug of serverd")
