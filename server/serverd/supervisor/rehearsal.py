"""A start that ends where it would commit, and leaves nothing behind: what `serverd check` finds out.

The decisions are those of a start (`policy`, with a fleet that `is_rehearsal`), and so are loader, preloader and
worker; only the hands are others: addresses are tried and let go (`net.trial`), files are looked at, and what a
supervisor logs or complains of becomes a finding. The worker is given no socket, so that it comes up, says ready and
accepts nothing.

All that is wrong is to be found at once. So what a start would give up for is noted and the rehearsal goes on: sockets
that cannot be had, and applications, each of which may be down in the worker. `cli` calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from serverd.control.running import Running, find_running
from serverd.control.socket_file import SocketFile
from serverd.errors import OperatorError
from serverd.generation import Generation, Logging
from serverd.messages import AppDown, Loaded, LoadFailed, Start
from serverd.net.trial import Trial
from serverd.observe.logs import LogFile
from serverd.supervisor import actions, events
from serverd.supervisor.children import Children
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.handle import LoaderHandle
from serverd.supervisor.limits import raise_descriptor_limit
from serverd.supervisor.loop import Loop
from serverd.supervisor.pid_file import PidFile
from serverd.supervisor.source import Source
from serverd.supervisor.spawn import Commands, Surroundings

__all__ = ["Finding", "Rehearsal", "Report"]

Examine = Callable[[Generation], tuple[Iterable[str], Iterable[str]]]
"""Returns what is wrong with a generation, and what is odd, that the supervisor cannot see: that of its TLS."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: a line with its place in the configuration, and what explains it."""

    text: str
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What a rehearsal has found."""

    generation: Generation | None = None  # as it was read; None: it is not valid
    invalid: str = ""  # the report of the loader about what is not valid
    problems: list[Finding] = field(default_factory=list)  # for which a start would fail
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    is_complete: bool = False  # nothing was broken off

    @property
    def is_good(self) -> bool:
        """Whether a start would succeed, for all that is known."""
        return self.is_complete and not (self.invalid or self.problems)


class Rehearsal:
    """One rehearsal of the configuration at `path`; `examine` is asked as soon as it has been read."""

    def __init__(self, path: str, examine: Examine, *, lifespan: bool = True, commands: Commands | None = None) -> None:
        """Prepare; without `lifespan` the applications are imported and not started."""
        self._path = path
        self._examine = examine
        self._lifespan = lifespan
        self.report = Report()
        self._loop = Loop(Fleet(is_rehearsal=True), self._perform, lambda: self._children.reap(set()))
        self._children = Children(self._loop.selector, self._hear, commands or Commands())
        self._loader: LoaderHandle | None = None
        self._down: set[str] = set()  # applications that a finding tells of

    def run(self) -> Report:
        """Return what was found; not complete when a signal has ended it."""
        raise_descriptor_limit()
        with self._loop:
            try:
                self._loop.run()
            finally:
                self._children.close()
        return self.report

    def _perform(self, action: actions.Action) -> None:
        perform = _PERFORM.get(type(action))  # what is missing would change something, or tell of it
        if perform is not None:
            perform(self, action)

    def _hear(self, event: events.Event) -> None:
        """Take what a child says or does; of an application that is down, only the first word."""
        if isinstance(event, events.WorkerSaid) and isinstance(event.message, AppDown):
            self._note_down(event.message)
        else:
            self._loop.emit(event)

    def _note_down(self, message: AppDown) -> None:
        if message.app in self._down:
            return
        self._down.add(message.app)
        assert self.report.generation is not None  # there is a worker
        may_be_down = {app.name for app in self.report.generation.apps if app.on_failure == "unavailable"}
        found = self.report.warnings if message.app in may_be_down else self.report.problems
        found.append(Finding(message.summary, message.detail.rstrip("\n")))

    # The hands

    def _start_loader(self, _: actions.StartLoader) -> None:
        self._loader = self._children.start_loader(Source.of_file(self._path), self._on_loaded)

    def _stop_loader(self, _: actions.StopLoader) -> None:
        if self._loader is not None:
            self._children.stop_loader(self._loader)

    def _on_loaded(self, outcome: Loaded | LoadFailed) -> None:
        self._loader = None
        if isinstance(outcome, LoadFailed):
            self.report.invalid = outcome.report
            self._loop.emit(outcome)
            return
        generation = self.report.generation = outcome.generation
        problems, warnings = self._examine(generation)
        self.report.problems += map(Finding, problems)
        self.report.warnings += map(Finding, warnings)
        self._loop.emit(Loaded(self._rehearsed(generation)))

    def _rehearsed(self, generation: Generation) -> Generation:
        """Return the generation as the worker gets it: one that goes on where a start would be given up."""
        listeners = generation.listeners
        if self.report.problems:  # of TLS, for which it would not even try the applications
            listeners = tuple(replace(one, tls=None) for one in listeners)
        apps = (replace(app, on_failure="unavailable") for app in generation.apps)
        return replace(
            generation,
            server=replace(generation.server, workers=1),
            listeners=listeners,
            apps=tuple(app if self._lifespan else replace(app, lifespan="off") for app in apps),
            logging=Logging(level="warning", format="text"),
        )

    def _open_sockets(self, _: actions.OpenSockets) -> None:
        generation = self.report.generation
        assert generation is not None  # it has been read
        running = find_running(generation.source, generation.control_socket)
        holder = f"the running server (process {running.pid})" if running else ""
        trial = Trial(generation, running.urls if running else (), holder)
        self.report.problems += map(Finding, trial.problems)
        self.report.notes += map(Finding, trial.notes)
        self._look_at_files(generation, running)
        self._loop.emit(events.SocketsOpened())

    def _look_at_files(self, generation: Generation, running: Running | None) -> None:
        looks: list[Callable[[], None]] = []
        if generation.control_socket and running is None:
            looks.append(lambda: SocketFile.examine(generation.control_socket))
        for path in filter(None, (generation.logging.file, generation.access_log.file)):
            looks.append(partial(LogFile.examine, path))
        if generation.server.pid_file:
            looks.append(PidFile(generation.server.pid_file).examine)
        for look in looks:
            try:
                look()
            except OperatorError as error:
                self.report.problems.append(Finding(str(error)))

    def _surroundings(self, generation: Generation) -> Surroundings:
        return Surroundings(generation.server.account, generation.server.umask)

    def _start_preloader(self, action: actions.StartPreloader) -> None:
        self._children.start_preloader(action.generation, self._surroundings(action.generation))

    def _spawn(self, action: actions.Spawn) -> None:
        title = f"serverd: worker of a check of {self._path}"
        self._children.spawn(action.worker, action.preloader, title, self._surroundings(action.generation))
        self._children.send(action.worker, Start(action.generation, action.slot, ()))

    # What is told

    def _log(self, action: actions.Log) -> None:
        if action.level in {"warning", "error"}:
            self.report.warnings.append(Finding(action.message, action.detail))

    def _complain(self, action: actions.Complain) -> None:
        if not self.report.invalid:
            text, _, detail = action.text.partition("\n")
            self.report.problems.append(Finding(text, detail))
        self.report.is_complete = True  # as far as it could go

    def _note_success(self, _: actions.Rehearsed) -> None:
        self.report.is_complete = True


_PERFORM: dict[type[actions.Action], Callable[[Rehearsal, Any], None]] = {
    actions.StartLoader: Rehearsal._start_loader,
    actions.StopLoader: Rehearsal._stop_loader,
    actions.OpenSockets: Rehearsal._open_sockets,
    actions.StartPreloader: Rehearsal._start_preloader,
    actions.StopPreloader: lambda rehearsal, action: rehearsal._children.stop_preloader(action.generation),
    actions.Spawn: Rehearsal._spawn,
    actions.Send: lambda rehearsal, action: rehearsal._children.send(action.worker, action.message),
    actions.Kill: lambda rehearsal, action: rehearsal._children.kill(action.worker),
    actions.Log: Rehearsal._log,
    actions.Complain: Rehearsal._complain,
    actions.Rehearsed: Rehearsal._note_success,
}
