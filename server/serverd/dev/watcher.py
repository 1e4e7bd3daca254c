"""The watcher process: `python -m serverd.dev.watcher` says what has changed, one line of JSON for each change.

What to watch is one JSON object in its standard input: "folders" of applications, all below them that fits "include"
or is Python, unless it fits "exclude" or is what editors and caches leave behind; "files" of the configuration,
which may have wildcards; "since", a time: what was written later, and before the watching began, has changed, too.
`supervisor/changes` starts it for --reload. Several changes at once are one line.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from serverd.parent import die_with_parent, leave_group_signals

__all__ = ["Wanted", "main"]

_ALWAYS = ("*.py",)
# As uvicorn has it, and folders full of files that nobody edits.
_NEVER = (".*", "*.py[cod]", "~*", "*~", "__pycache__", "node_modules", "site-packages")
_DEBOUNCE = 1600  # ms: changes that follow one another are one, up to so long
_STEP = 50  # ms without a further change that end it
_FIRST_LOOK = 100  # ms until the watching has begun for sure
_LOOK_INTERVAL = 1.0  # s between two looks at every file, where the kernel's events are of no use


@dataclass(frozen=True, slots=True)
class Wanted:
    """What counts as a change."""

    folders: Sequence[str]
    files: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def has(self, path: str) -> bool:
        """Return whether a change of the file at `path`, absolute, counts."""
        return self.is_configuration(path) or any(self._is_source(path, folder) for folder in self.folders)

    def is_configuration(self, path: str) -> bool:
        """Return whether the file is one of the configuration."""
        return any(path == pattern or fnmatch.fnmatchcase(path, pattern) for pattern in self.files)

    def _is_source(self, path: str, folder: str) -> bool:
        if not path.startswith(os.path.join(folder, "")):
            return False
        relative = os.path.relpath(path, folder)
        # A pattern may name a folder, too, and then is about all that is in it.
        parts = relative.split(os.sep)
        above = [os.sep.join(parts[:length]) for length in range(1, len(parts) + 1)]
        if _fits([relative, parts[-1]], self.include):
            return not _fits([*parts, *above], self.exclude)
        return _fits(parts[-1:], _ALWAYS) and not _fits([*parts, *above], (*_NEVER, *self.exclude))

    def outer_folders(self) -> list[str]:
        """Return the folders, which have to be there, that the files of the configuration are in."""
        folders = {os.path.dirname(pattern.partition("*")[0].partition("?")[0]) for pattern in self.files}
        return sorted(filter(os.path.isdir, folders))

    def newer(self, since: float) -> Iterator[str]:
        """Yield the files that count and were written after `since`."""
        for path in (*self._inner_files(), *self._outer_files()):
            if self.has(path) and _written(path) > since:
                yield path

    def written(self, *, deep: bool) -> dict[str, float]:
        """Return when each file that counts was written: those of the applications, or of the configuration."""
        paths = self._inner_files() if deep else self._outer_files()
        return {path: _written(path) for path in paths if self.has(path)}

    def _inner_files(self) -> Iterator[str]:
        for folder in self.folders:
            for place, below, names in os.walk(folder):
                below[:] = [name for name in below if not _fits([name], _NEVER)]  # large, and nothing counts there
                yield from (os.path.join(place, name) for name in names)

    def _outer_files(self) -> Iterator[str]:
        for folder in self.outer_folders():
            with contextlib.suppress(OSError):  # it has gone
                yield from (os.path.join(folder, name) for name in os.listdir(folder))


def _fits(names: Iterable[str], patterns: Iterable[str]) -> bool:
    listed = tuple(patterns)
    return any(fnmatch.fnmatchcase(name, pattern.rstrip("/")) for name in names for pattern in listed)


def _is_at(descriptor: int, folder: str) -> bool:
    """Return whether the folder that is open is what the path leads to."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except OSError:
        return False


def _written(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


class _Teller:
    """Tells the supervisor; from more than one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, paths: Iterable[str]) -> None:
        """Say that these files have changed."""
        shown = sorted({os.path.relpath(path) for path in paths}, key=lambda path: (path.startswith(".."), path))
        if not shown:
            return
        more = f" and {len(shown) - 1} more" if len(shown) > 1 else ""
        with self._lock:
            sys.stdout.write(json.dumps(f"{shown[0]}{more} changed") + "\n")
            sys.stdout.flush()


Tell = Callable[[Iterable[str]], None]


def _watch(wanted: Wanted, folders: Sequence[str], tell: Tell, *, deep: bool) -> Iterator[None]:
    """Watch, and yield once when the watching has begun."""
    has_begun = False
    before = wanted.written(deep=deep)
    # The library fails where a name is no UTF-8, and sees nothing of a folder that takes the place of another.
    with contextlib.suppress(Exception):
        for _ in _watch_events(folders, wanted.has if deep else wanted.is_configuration, tell, deep=deep):
            has_begun = True
            yield
    if not has_begun:
        yield
    while True:
        now = wanted.written(deep=deep)
        tell(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        before = now
        time.sleep(_LOOK_INTERVAL)


def _watch_events(folders: Sequence[str], counts: Callable[[str], bool], tell: Tell, *, deep: bool) -> Iterator[None]:
    """Watch by the events of the kernel, and yield once when the watching has begun."""
    from watchfiles import watch

    has_begun = False
    # Kept open, so that what takes the place of one cannot have its inode.
    opened = [(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), folder) for folder in folders]
    for changes in watch(
        *folders,
        watch_filter=lambda _, path: counts(path),
        debounce=_DEBOUNCE,
        step=_STEP,
        rust_timeout=_FIRST_LOOK,
        yield_on_timeout=True,
        raise_interrupt=False,
        recursive=deep,
        ignore_permission_denied=True,
    ):
        tell(path for _, path in changes)
        if not all(_is_at(*one) for one in opened):  # of which the kernel tells nothing
            return
        if not has_begun:
            has_begun = True
            yield


def main() -> int:
    """Watch until the supervisor ends this process."""
    leave_group_signals()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # when a service manager tells the whole group; SIGKILL ends us
    die_with_parent(signal.SIGKILL)
    told = json.loads(sys.stdin.buffer.read())
    since = told.pop("since")
    wanted = Wanted(**told)
    teller = _Teller()
    watches = [
        (wanted.folders, True),
        (wanted.outer_folders(), False),
    ]
    begun = threading.Barrier(sum(bool(places) for places, _ in watches) or 1, lambda: teller.tell(wanted.newer(since)))

    def run(places: Sequence[str], deep: bool) -> None:
        for _ in _watch(wanted, places, teller.tell, deep=deep):
            begun.wait()

    threads = [threading.Thread(target=run, args=watch, daemon=True) for watch in watches if watch[0]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
