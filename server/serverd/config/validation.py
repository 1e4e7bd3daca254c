"""A document against its model: every problem at once, and all that is sound of each listener, tls table, app, mount.

What has a problem is cut out, as small a piece as possible, and the entry remembers its path as unknown. The checks
between keys and between tables then run on what is left, so that one wrong value hides no other problem. Not the
wording (`wording`). Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serverd.config.document import Document, Entry
from serverd.config.locate import Path, present
from serverd.config.models import App, Fragment, Listener, Mount, Section, Tls
from serverd.config.report import Problem
from serverd.config.wording import explain, misspelt

__all__ = ["Validated", "validate"]

ENTRIES = ("listeners", "tls", "apps", "mounts")

Kind = TypeVar("Kind", bound=Fragment)
File = TypeVar("File", bound=Fragment, covariant=True)
Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True, slots=True)
class Validated(Generic[File]):
    """What is sound in a document."""

    document: Document
    root: Entry[File]  # without listeners, tls tables, apps and mounts
    unknown: frozenset[Path]  # as `Entry.unknown`, of the whole document

    def listeners(self) -> list[Entry[Listener]]:
        """Return the listeners."""
        return self._entries("listeners", Listener)

    def tls_tables(self) -> list[Entry[Tls]]:
        """Return the tables of TLS."""
        return self._entries("tls", Tls)

    def apps(self) -> list[Entry[App]]:
        """Return the apps."""
        return self._entries("apps", App)

    def mounts(self) -> list[Entry[Mount]]:
        """Return the mounts."""
        return self._entries("mounts", Mount)

    def names(self, table: str) -> list[str]:
        """Return the names in a table of entries, also of those that have problems."""
        return [str(step) for step, _ in self._items(table)]

    def _entries(self, table: str, kind: type[Model]) -> list[Entry[Model]]:
        return [_entry(self.document, (table, step), kind, value, self.unknown) for step, value in self._items(table)]

    def _items(self, table: str) -> Iterable[tuple[str | int, Any]]:
        if not self.root.knows(table):
            return ()
        found = self.document.values.get(table, {})
        return found.items() if isinstance(found, dict) else enumerate(found)


def validate(
    document: Document, kind: type[Kind], failures: Mapping[Path, str], problems: list[Problem]
) -> Validated[Kind]:
    """Return what `document` holds as a `kind`; what is wrong with it is added to `problems`.

    `failures` are the values in which a variable could not be replaced.
    """
    problems += (document.refusal(path, message) for path, message in failures.items())
    unknown = set(failures)
    try:
        kind.model_validate(document.values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        meant = _probably_meant(details, document, kind)
        unknown |= meant | {detail["loc"] for detail in details}
        problems += (
            explain(detail, document, kind)
            for detail in details
            if detail["loc"] not in meant and not _told(detail, document, failures)
        )
    everything = frozenset(unknown)
    of_the_root = frozenset(path for path in everything if len(path) == 1 or path[0] not in ENTRIES)
    values = {key: value for key, value in document.values.items() if key not in ENTRIES}
    return Validated(document, _entry(document, (), kind, values, of_the_root), everything)


def _probably_meant(details: list[ErrorDetails], document: Document, kind: type[Fragment]) -> set[Path]:
    """Return the keys that are not written, but that a misspelt key near them stands for."""
    wrong = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    meant = {(*path[:-1], known) for path in wrong if (known := misspelt(path, kind))}
    return {path for path in meant if not document.holds(path)}


def _told(detail: ErrorDetails, document: Document, failures: Mapping[Path, str]) -> bool:
    """Return whether the error is about a value only, and that value is known to lack a variable."""
    of_the_key = detail["type"] == "extra_forbidden" or detail["loc"][-1] == "[key]"
    return not of_the_key and present(detail["loc"], document.values) in failures


def _entry(document: Document, path: Path, kind: type[Model], value: Any, unknown: frozenset[Path]) -> Entry[Model]:
    """Return the entry at `path` with a model of what is sound in `value`."""
    for step in path:
        unknown = _within(unknown, step)
    sound = _without(value, unknown) if isinstance(value, dict) else {}
    # A key without default that is missing: an example pleases pydantic, and nobody ever sees it.
    required = {name: field for name, field in kind.model_fields.items() if field.is_required() and name not in sound}
    model = kind.model_validate({**sound, **{name: (field.examples or [None])[0] for name, field in required.items()}})
    return Entry(document, path, model.model_copy(update=dict.fromkeys(required)), unknown)


def _within(unknown: frozenset[Path], step: str | int) -> frozenset[Path]:
    """Return the paths that begin with `step`, without it."""
    return frozenset(path[1:] for path in unknown if path[:1] == (step,))


def _without(values: dict[str, Any], unknown: frozenset[Path]) -> dict[str, Any]:
    """Return `values` without all that is unknown in them."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        inner = _within(unknown, key)
        if not inner:
            kept[key] = value
        elif isinstance(value, dict) and _all_lead_by(str, inner):
            kept[key] = _without(value, inner)
        elif isinstance(value, list) and _all_lead_by(int, inner):
            sound = [item for number, item in enumerate(value) if not _within(inner, number)]
            if sound:
                kept[key] = sound
    return kept


def _all_lead_by(step: type, unknown: frozenset[Path]) -> bool:
    """Return whether all paths lead into a value by a key, or by an index; others mean the value itself."""
    return all(path and isinstance(path[0], step) for path in unknown)
