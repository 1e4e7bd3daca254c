"""The coroutine in which an application is called, and what follows when it ends.

Never compiled (tools/backend.py): it is the task that Python and debuggers look at, and the frame that tracebacks of
the application begin with; and of one that returns nothing to await, Python says better than mypyc what is wrong. That
costs nothing: a request has one. Called by `cycle`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serverd.asgi.cycle import Cycle
    from serverd.asgi.turn import Turn

__all__ = ["REQUEST_ID", "call"]

# The id of the request that an application is called for, in its task and what that starts; for its log lines.
REQUEST_ID = ContextVar("request_id", default="")


async def call(cycle: Cycle, turn: Turn) -> None:
    """Run the application of a cycle, which is about to begin in `turn`, to its end; tell the cycle how it came."""
    turn.begun += 1
    REQUEST_ID.set(cycle.request_id)
    try:
        await cycle.endpoint.application(cycle.scope, cycle.receive, cycle.send)
    except BaseException as error:
        # Also SystemExit and a cancellation of its own making: a request never ends a process.
        cycle.on_failure(error)
    else:
        cycle.on_return()
    finally:
        cycle.forget()
