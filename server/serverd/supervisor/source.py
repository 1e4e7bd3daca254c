"""Where the configuration comes from: a file, or the options of a command in the place of one.

Said once, at the start, and the same for every reading, and for the supervisor that takes our place. `cli` and
`embed` make it, `reading` and `supervisor` use it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Source", "Watched"]


@dataclass(frozen=True, slots=True)
class Watched:
    """What --reload looks at beside the configuration."""

    folders: tuple[str, ...] = ()  # absolute; none: those of the applications
    include: tuple[str, ...] = ()  # patterns of names and of paths below a folder, beside *.py
    exclude: tuple[str, ...] = ()  # the same, which win


@dataclass(frozen=True, slots=True)
class Source:
    """One configuration to serve."""

    path: str  # absolute; of options, one that does not exist and by which the control socket is found
    arguments: tuple[str, ...]  # of the command `serverd` that serves it
    options: bytes = field(default=b"", repr=False)  # as the loader takes them; b"": it is a file
    watched: Watched | None = None  # None: no --reload
    called: str = ""  # by people; "": it is a file

    @classmethod
    def of_file(cls, path: str, watched: Watched | None = None, arguments: tuple[str, ...] = ()) -> Self:
        """Return the source that is the file at `path`; `arguments` are what was asked for beside it."""
        absolute = os.path.abspath(path)
        return cls(absolute, ("-c", absolute, *arguments), watched=watched)

    @property
    def title(self) -> str:
        """What people are told that the server serves: the file, or what the options are called."""
        return self.called or self.path

    @property
    def loader_arguments(self) -> tuple[str, ...]:
        """What the program that reads it is started with; `options` is what it finds in its standard input."""
        what = "--options" if self.options else self.path
        return (what,) if self.watched is None else (what, "--reload")
