"""What has changed on disk, for --reload: a process that watches, and what it says.

The watcher is a process of its own, because it needs a library that the supervisor shall not hold (`dev.watcher`). It
is started anew when there is something else to watch. `reading` owns the one instance.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
from collections.abc import Callable
from typing import Any

from serverd.generation import Generation
from serverd.supervisor import events
from serverd.supervisor.source import Watched
from serverd.supervisor.spawn import Process, spawn_program
from serverd.supervisor.wording import why_no_process

__all__ = ["ChangeWatch"]

log = logging.getLogger("serverd.supervisor")

_READ_SIZE = 65536
_LONGEST_LINE = 65536  # of the watcher, which names a few files
_REAP_PATIENCE = 5.0  # s for a watcher that was killed


class ChangeWatch:
    """The watcher, and what it watches: the folders of the applications and the files of the configuration."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        emit: Callable[[events.Event], None],
        command: tuple[str, ...],
        path: str,
        watched: Watched,
    ) -> None:
        self._selector = selector
        self._emit = emit
        self._command = command
        self._path = path
        self._watched = watched
        self._task: dict[str, Any] = {}  # of the watcher, without the time
        self._read_at = 0.0
        self._process: Process | None = None
        self._output = -1
        self._said = b""

    def note_reading(self, now: float) -> None:
        """Remember when a reading has begun, in seconds since the epoch: what changes later has to be read again."""
        self._read_at = now

    def follow(self, generation: Generation | None) -> None:
        """Watch what `generation` was made of; None: it could not be read, and what mends it is to be seen as well."""
        files = list(generation.files) if generation else [*self._task.get("files", ()), *self._supposed_files()]
        folders = self._watched.folders or (
            [app.directory for app in generation.apps] if generation else self._task.get("folders", ())
        )
        task = {
            "folders": sorted(set(folders)),
            "files": sorted(set(files)),
            "include": self._watched.include,
            "exclude": self._watched.exclude,
        }
        if task != self._task:
            self.close()
            self._task = task
            self._start()

    def _supposed_files(self) -> list[str]:
        """Return what a configuration that cannot be read may consist of."""
        folder = os.path.dirname(self._path)
        return [self._path, *(os.path.join(folder, pattern) for pattern in ("*.toml", "*/*.toml", "*.env"))]

    def _start(self) -> None:
        told = json.dumps({**self._task, "since": self._read_at}).encode()
        try:
            self._process, self._output = spawn_program(self._command, (), told)
        except OSError as error:
            log.error("changes are not seen, HUP reloads: no process for the watcher: %s", why_no_process(error))
            return
        self._selector.register(self._output, selectors.EVENT_READ, self._on_output)

    def _on_output(self, _: int) -> None:
        if self._process is None:  # it has been closed since select returned
            return
        try:
            data = os.read(self._output, _READ_SIZE)
        except BlockingIOError:
            return
        self._said += data
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                self._emit(events.FilesChanged(str(json.loads(line))))
        if not data or len(self._said) > _LONGEST_LINE:
            log.error("changes are not seen any more, HUP reloads: the watcher has ended")
            self.close()

    def close(self) -> None:
        """End the watcher, if there is one."""
        if self._process is None:
            return
        self._selector.unregister(self._output)
        os.close(self._output)
        self._process.kill()
        self._process.reap_within(_REAP_PATIENCE)
        self._process.close()
        self._process, self._said = None, b""
