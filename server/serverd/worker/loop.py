"""The event loop of a worker: which one it is, and that no application ends it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["run_on_loop"]

log = logging.getLogger("serverd.worker")

# Seconds that tasks which outlive everything have to end when they are cancelled.
_CANCEL_TIMEOUT = 1.0


def run_on_loop(name: str, main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `main` to its end on a new loop; `name` is "uvloop", "asyncio" or "auto". Return what it returns."""
    runner = asyncio.Runner(loop_factory=_factory(name))
    code = _run_to_the_end(runner.get_loop(), main())
    if runner.run(_cancel_leftovers()):
        runner.close()  # waits for every task, which is why a stubborn one is left to the end of the process
    return code


def _run_to_the_end(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, int]) -> int:
    """Run the worker to its end, whatever the tasks of its applications do to the loop."""
    task = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            # sys.exit() in a task leaves the loop, loop.stop() stops it: neither is an application's to do.
            if task.done():
                raise
            log.error("an application has stopped the event loop, which goes on: %r", error)


async def _cancel_leftovers() -> bool:
    """Cancel the tasks that the applications have left behind; return whether all of them ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, stubborn = await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT)
    for task in stubborn:
        log.warning("left behind: task %s does not end when it is cancelled", task.get_name())
    return not stubborn


def _factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop" or (name == "auto" and importlib.util.find_spec("uvloop")):
        import uvloop  # only where it is used: not every platform has it

        return uvloop.new_event_loop
    return asyncio.new_event_loop
