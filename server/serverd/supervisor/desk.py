"""Where questions are answered: of clients of the control socket, and of workers for their builtin mounts.

It reads the fleet, what is open and what has been counted, and decides nothing. `supervisor` performs its replies
through it.
"""

from __future__ import annotations

import time
from typing import Any

from serverd.messages import Loaded, LoadFailed, Told
from serverd.supervisor import answers, report, status
from serverd.supervisor.actions import Reply, ReplyPlan, ReplyStatus, Tell
from serverd.supervisor.children import Children
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.holdings import Holdings
from serverd.supervisor.reading import Reading

__all__ = ["Desk"]


class Desk:
    """What one supervisor answers."""

    def __init__(self, fleet: Fleet, holdings: Holdings, children: Children, reading: Reading) -> None:
        """Begin to answer for what the configuration that `reading` reads is served by."""
        self._reading = reading
        self._fleet = fleet
        self._holdings = holdings
        self._children = children
        self._started = time.monotonic()

    def reply(self, action: Reply) -> None:
        """Tell a client how its request ended."""
        self._holdings.control.reply(action.client, answers.outcome(action), end=action.end)

    def reply_status(self, action: ReplyStatus) -> None:
        """Tell a client how everything stands."""
        document = self._describe()
        document["apps"] = status.with_counts(document["apps"], self._children.ledger.total())
        self._holdings.control.reply(action.client, document)

    def reply_plan(self, action: ReplyPlan) -> None:
        """Read the configuration, and then tell a client what a reload would do."""

        def reply(outcome: Loaded | LoadFailed) -> None:
            plan = answers.plan(self._fleet.committed, outcome, self._fleet.outdated())
            self._holdings.control.reply(action.client, plan)

        self._reading.try_out(reply)

    def reply_reopened(self, client: int, failures: list[str]) -> None:
        """Tell a client whether the log files could be opened anew."""
        self._holdings.control.reply(client, answers.reopened(failures))

    def tell(self, action: Tell) -> None:
        """Answer a worker."""
        document = report.make_report(
            self._fleet, self._describe(), self._holdings.bindings.queues(), self._children.ledger.total()
        )
        self._children.send(action.worker, Told(action.number, document))

    def _describe(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            **answers.identity(self._reading.source.title, now - self._started, self._holdings.bindings.places()),
            **status.describe(self._fleet, now, time.time()),
        }
