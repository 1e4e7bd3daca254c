"""How a worker comes to know how everything stands: it asks the supervisor, rarely, for however many want to know.

One question is under way at a time and its answer serves everybody for a second, so that nobody who scrapes or watches
can make the supervisor work. `process` makes the enquiry and hands it what the supervisor says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from serverd.messages import Ask, Told

__all__ = ["Enquiry", "NoAnswer"]

# Seconds for which an answer is as good as a new one.
FRESH = 1.0
# Seconds for the supervisor to answer, which takes milliseconds unless the machine is overwhelmed.
PATIENCE = 5.0


class NoAnswer(Exception):
    """The supervisor has not answered in time."""


class Enquiry:
    """Questions to the supervisor."""

    def __init__(self, ask: Callable[[Ask], bool]) -> None:
        """Prepare; `ask` sends a question and returns whether it could be sent."""
        self._ask = ask
        self._number = 0
        self._answer: asyncio.Future[dict[str, Any]] | None = None  # the one that is waited for, or the last
        self._answered_at = 0.0

    async def report(self) -> dict[str, Any]:
        """Return the supervisor's report, at most FRESH seconds old; raises NoAnswer."""
        loop = asyncio.get_running_loop()
        answer = self._answer
        if answer is None or (answer.done() and loop.time() - self._answered_at >= FRESH):
            self._number += 1
            self._answer = answer = loop.create_future()
            if not self._ask(Ask(self._number)):
                self._answer = None
                raise NoAnswer
        try:
            # Shielded: whoever gives up takes it from nobody else.
            return await asyncio.wait_for(asyncio.shield(answer), PATIENCE)
        except TimeoutError:
            if self._answer is answer:
                self._answer = None  # it may be lost: the next one asks again
            raise NoAnswer from None

    def on_told(self, told: Told) -> None:
        """Take an answer; one that is late is nobody's."""
        answer = self._answer
        if told.number == self._number and answer is not None and not answer.done():
            self._answered_at = answer.get_loop().time()
            answer.set_result(told.report)
