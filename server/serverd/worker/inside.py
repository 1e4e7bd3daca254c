"""What a worker knows of itself and, by asking, of the server: its counters, how it stands, and the builtin mounts.

`process` makes it and feeds it; `serving` takes from it what its services and routes need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from serverd.asgi.types import Application
from serverd.generation import Generation
from serverd.messages import Ask
from serverd.worker import pages
from serverd.worker.counting import Counters
from serverd.worker.enquiry import Enquiry
from serverd.worker.observers import Observers
from serverd.worker.standing import Standing

__all__ = ["Inside"]


class Inside:
    """The inside of one worker."""

    def __init__(
        self,
        generation: Generation,
        counted: int | None = None,
        ask: Callable[[Ask], bool] = lambda _: False,
        down: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Begin with a generation.

        `counted` is the descriptor of the counters' file, `ask` sends a question to the supervisor, `down` names the
        applications that are not up.
        """
        self.counters = Counters(generation, counted)
        self.observers = Observers(self.counters)
        self.standing = Standing(down)
        self.enquiry = Enquiry(ask)
        self.builtins: Mapping[str, Application] = {
            "health": pages.health(self.standing),
            "metrics": pages.metrics(self.enquiry),
            "status": pages.status(self.enquiry, self.standing),
        }
