"""The readings of the configuration, one after the other, and the look at what they depend on with --reload.

Loaders are processes (`children`), and so is the watcher (`changes`). `supervisor` owns the one instance.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from serverd.generation import Generation
from serverd.messages import Loaded, LoadFailed
from serverd.supervisor import events
from serverd.supervisor.beginning import Begun
from serverd.supervisor.changes import ChangeWatch
from serverd.supervisor.children import Children
from serverd.supervisor.handle import LoaderHandle
from serverd.supervisor.source import Source
from serverd.supervisor.transaction import LOAD_PATIENCE

__all__ = ["Reading"]


class Reading:
    """What reads `source`, and the one reading whose outcome the transaction waits for."""

    def __init__(
        self,
        source: Source,
        children: Children,
        selector: selectors.BaseSelector,
        emit: Callable[[events.Event], None],
        watcher: tuple[str, ...],
        begun: Begun | None,
    ) -> None:
        """`begun`: the first reading, if somebody has begun it."""
        self._begun = begun
        self.source = source
        self._children = children
        self._emit = emit
        self._loader: LoaderHandle | None = None
        watched = source.watched
        self._changes = None if watched is None else ChangeWatch(selector, emit, watcher, source.path, watched)

    def start(self, renewed: Generation | None) -> None:
        """Begin to read; brings Loaded or LoadFailed. Of a generation to be `renewed` only the certificates."""
        begun, self._begun = self._begun, None
        if self._changes is not None:
            self._changes.note_reading(time.time() if begun is None else begun.since)
        if begun is not None:
            self._loader = self._children.take_loader(begun.process, begun.output, self._on_loaded)
            return
        self._loader = self._children.start_loader(self.source, self._on_loaded, renewed=renewed)

    def stop(self) -> None:
        """Give the reading up."""
        if self._loader is not None:
            self._children.stop_loader(self._loader)
            self._loader = None

    def try_out(self, on_outcome: Callable[[Loaded | LoadFailed], None]) -> None:
        """Read for somebody who only asks."""
        self._children.start_loader(self.source, on_outcome, time.monotonic() + LOAD_PATIENCE)

    def close(self) -> None:
        """End the watcher, and a reading that has begun and that nobody has asked for."""
        if self._begun is not None:
            self._begun.process.kill()
        if self._changes is not None:
            self._changes.close()

    def _on_loaded(self, outcome: Loaded | LoadFailed) -> None:
        self._loader = None
        if self._changes is not None:
            self._changes.follow(outcome.generation if isinstance(outcome, Loaded) else None)
        self._emit(outcome)
