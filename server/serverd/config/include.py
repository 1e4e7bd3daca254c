"""Which files an `include` list names.

Pure name matching over the file system; the files are opened by `load`, the only caller.
"""

from __future__ import annotations

import glob
import os
from itertools import islice
from pathlib import PurePath

from serverd.config.document import Entry
from serverd.config.models import File
from serverd.config.report import Problem

__all__ = ["included_files"]

MOST_FILES = 1000  # of all patterns together, and on the way to the files of one


def included_files(main: Entry[File], problems: list[Problem]) -> list[str]:
    """Return the absolute paths that `include` matches, in the order of patterns and then of names, each once.

    A pattern without wildcard must name a file; one with wildcards may match nothing, and passes over the
    main file itself. As in a shell, "*" matches no hidden file.
    """
    found: dict[str, None] = {}
    for number, pattern in main.elements("include", main.model.include):
        names = _matches(pattern, main.document.directory)
        if number >= MOST_FILES or len(found) + len(names) > MOST_FILES:
            problems.append(main.refusal("include", f"leads to more than {MOST_FILES} files or folders", number))
            break
        others = [name for name in names if not _is_same(name, main.document.path)]
        if not names and not glob.has_magic(pattern):
            problems.append(main.refusal("include", "does not exist (expected a file, or a pattern with *)", number))
        elif not others and not glob.has_magic(pattern):
            problems.append(main.refusal("include", "is this file itself (expected another file)", number))
        found.update(dict.fromkeys(others))
    return list(found)


def _matches(pattern: str, folder: str) -> list[str]:
    """Return the sorted paths that `pattern` matches; when there are more than MOST_FILES, as many and one.

    Folder by folder, so that a pattern that leads all over the file system is given up early.
    """
    found = [folder]
    for part in PurePath(pattern).parts:
        names = ((base, name) for base in found for name in glob.glob(part, root_dir=base))
        found = [os.path.normpath(os.path.join(base, name)) for base, name in islice(names, MOST_FILES + 1)]
        if len(found) > MOST_FILES:
            break
    return sorted(found)


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # whoever reads it will tell
        return False
