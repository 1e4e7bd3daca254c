"""From the path of the main file to a `Generation`, or to a `ConfigError` with every problem there is.

It orders the steps: read, substitute, validate, resolve, compare; what each step means is in the module of its
noun. Called by `python -m serverd.config`, and by `embed` in the
process of whoever embeds a server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from serverd.config.apps import resolve_app, shared_variables
from serverd.config.document import Document, Entry, Unreadable
from serverd.config.files import LARGEST_FILE, read_pem, read_text
from serverd.config.include import included_files
from serverd.config.listeners import clashing_addresses, doubtful_trust, idle_limits, resolve_listener
from serverd.config.models import App, File, Fragment, Listener, Mount, Tls
from serverd.config.modules import foreign_modules
from serverd.config.mounts import Names, equal_mounts, exposed_builtins, resolve_mount
from serverd.config.process import resolve_access_log, resolve_control, resolve_logging, resolve_server, taken_files
from serverd.config.report import Problem, Problems, in_order, render, render_warning
from serverd.config.tls import (
    aging_certificates,
    attach_tls,
    resolve_tls,
    tls_files,
    uncertified_hosts,
    unused_tables,
)
from serverd.config.validation import Validated, validate
from serverd.errors import ConfigError
from serverd.generation import Account, AppTarget, Generation
from serverd.generation import App as PlainApp
from serverd.generation import Listener as PlainListener
from serverd.generation import Mount as PlainMount
from serverd.generation import Tls as PlainTls

__all__ = ["load", "load_document"]

MOST_BYTES = 4 * LARGEST_FILE  # in all files together
RELOAD_DRAIN = 1.0  # s: a browser that idles on an event stream must not keep the author of a change waiting
MOST_COMPARED = 1000  # listeners, their addresses, and apps: more than a process has descriptors or memory for

Fragments = list[Validated[Fragment]]
Listeners = list[tuple[Entry[Listener], PlainListener]]
Mounts = list[tuple[Entry[Mount], PlainMount]]
Tables = list[tuple[Entry[Tls], PlainTls]]
Model = TypeVar("Model", Listener, Tls, App)


def load(path: str, environ: Mapping[str, str], *, reloads: bool = False) -> Generation:
    """Return what the configuration file at `path`, and all that it includes, says.

    `environ` is what `${NAME}` refers to; `reloads` as in `load_document`. Raises ConfigError whose text is the
    complete report.
    """
    main = Document(os.path.abspath(path), os.path.basename(path) or path, 0)
    problems = Problems()
    text = _read(main, problems)
    if text is None:
        raise ConfigError(render(problems))
    return load_document(main, environ, len(text), reloads=reloads)


def load_document(main: Document, environ: Mapping[str, str], size: int = 0, *, reloads: bool = False) -> Generation:
    """Return what a document that has its values, of `size` characters, and all that it includes, says.

    With `reloads`, for --reload, workers drain quickly unless it is written how long. Raises ConfigError whose text
    is the complete report.
    """
    problems = Problems()
    top = validate(main, File, main.expand(environ), problems)
    fragments, complete = _read_fragments(top, environ, size, problems)
    control = resolve_control(top.root, environ, problems)
    generation = _assemble(top, fragments, control, problems, complete)
    if problems:
        raise ConfigError(render(problems))
    if reloads and not main.holds(("server", "graceful_timeout")):
        return replace(generation, server=replace(generation.server, graceful_timeout=RELOAD_DRAIN))
    return generation


def _read(document: Document, problems: list[Problem]) -> str | None:
    """Read and parse a document, and return its text; what is wrong is added to `problems`, and None returned."""
    try:
        text = read_text(document.path)
    except Unreadable as error:
        problems.append(document.problem((), f"{error}{_hint(document, error)}"))
        return None
    wrong = document.parse(text)
    problems += wrong
    return None if wrong else text


def _hint(document: Document, error: Unreadable) -> str:
    """Return what helps somebody whose main file does not exist: where it was looked for, and what to do."""
    if document.order or str(error) != "does not exist":
        return ""
    if document.display.startswith("run:"):
        return " (a server of `serverd run` has no file: status, reload, stop and the like ask it, and nothing else)"
    return f" in {document.directory} (name another file with -c FILE, or have `serverd init` write one)"


def _read_fragments(
    top: Validated[File], environ: Mapping[str, str], size: int, problems: list[Problem]
) -> tuple[Fragments, bool]:
    """Return the main file, of `size`, and all it includes as fragments, and whether none is missing."""
    main = top.document
    fragments: Fragments = [top]
    before = len(problems)
    paths = included_files(top.root, problems)
    complete = top.root.knows("include") and len(problems) == before
    for order, path in enumerate(paths, 1):
        document = Document(path, _display(path, main), order, main.budget)
        text = _read(document, problems)
        if text is not None:
            size += len(text)
            fragments.append(validate(document, Fragment, document.expand(environ), problems))
        if size > MOST_BYTES:
            problems.append(document.problem((), f"makes the configuration larger than {MOST_BYTES} bytes"))
            break
    return fragments, complete and len(fragments) == len(paths) + 1


def _display(path: str, main: Document) -> str:
    """Return how reports name an included file: relative to the main file's folder unless outside of it."""
    relative = os.path.relpath(path, main.directory)
    return path if relative.startswith("..") else relative


def _assemble(
    top: Validated[File], fragments: Fragments, control: str, problems: list[Problem], complete: bool
) -> Generation:
    """Return the generation; what is wrong between the tables is added to `problems`, and then it is not to be used.

    `control` is the path of its control socket. Unless `complete`, a file is missing, which may define what is named
    elsewhere.
    """
    names = {table: _names(fragments, table, complete) for table in ("listeners", "tls", "apps")}
    for table, defined in names.items():
        _refuse_mass(top.document, len(defined.known), table)
    server = resolve_server(top.root, problems)
    doubts: list[Problem] = []
    tables = _resolve_tls(fragments, server.account, problems, doubts)
    listeners = _attach_tls(_resolve_listeners(top, fragments, problems), tables, names["tls"], problems)
    apps = _resolve_apps(fragments, server.account.uid, problems)
    mounts = _resolve_mounts(fragments, names["listeners"], names["apps"], problems)
    problems += _nothing_to_do(fragments, names["listeners"], complete)
    problems += idle_limits(top.root, listeners) if names["listeners"].complete else ()
    problems += taken_files(top.root, _files(fragments, listeners) | tls_files(tls for _, tls in tables))
    return Generation(
        source=top.document.title,
        server=server,
        listeners=tuple(listener for _, listener in listeners),
        apps=tuple(app for _, app in apps),
        mounts=tuple(mount for _, mount in mounts),
        logging=resolve_logging(top.root),
        access_log=resolve_access_log(top.root),
        control_socket=control,
        files=tuple(_read_from(top, fragments)),
        warnings=()
        if problems
        else tuple(
            map(
                render_warning,
                in_order([*_warnings(listeners, apps, mounts), *doubts, *_doubts(fragments, listeners, tables)]),
            )
        ),
    )


def _files(fragments: Fragments, listeners: Listeners) -> dict[str, str]:
    """Return the files that are read as configuration or bound as sockets, and what each is."""
    sockets = {
        address.path: f'a socket of listener "{listener.name}"'
        for _, listener in listeners
        for address in listener.addresses
        if address.path
    }
    return sockets | {fragment.document.path: "a configuration file" for fragment in fragments}


def _read_from(top: Validated[File], fragments: Fragments) -> Iterable[str]:
    """Yield what decides about the configuration: the files, with wildcards where new ones count as well."""
    yield top.document.path
    yield from (top.document.resolve(pattern) for pattern in top.root.model.include)
    for entry in (entry for fragment in fragments for entry in fragment.apps()):
        if entry.model.env_file:
            yield entry.document.resolve(entry.model.env_file)


def _refuse_mass(main: Document, number: int, what: str) -> None:
    """Raise ConfigError when there is more of something than anybody can mean; each is compared with all others."""
    if number > MOST_COMPARED:
        message = f"has {number} {what}, with all included files (expected at most {MOST_COMPARED})"
        raise ConfigError(render([main.problem((), message)]))


def _resolve_tls(fragments: Fragments, account: Account, problems: list[Problem], doubts: list[Problem]) -> Tables:
    """Return the tables of TLS; `account` is who the workers become, who get to know what their files hold."""
    entries = [entry for fragment in fragments for entry in fragment.tls_tables()]
    problems += _defined_twice(entries)
    read = partial(read_pem, account=account)
    return [(entry, resolve_tls(entry, read, problems, doubts)) for entry in entries]


def _attach_tls(listeners: Listeners, tables: Tables, names: Names, problems: list[Problem]) -> Listeners:
    known = {tls.name: tls for _, tls in tables}
    return [(entry, attach_tls(entry, listener, known, names, problems)) for entry, listener in listeners]


def _resolve_listeners(top: Validated[File], fragments: Fragments, problems: list[Problem]) -> Listeners:
    entries = [entry for fragment in fragments for entry in fragment.listeners()]
    problems += _defined_twice(entries)
    listeners = [(entry, resolve_listener(entry, top.root, problems)) for entry in entries]
    _refuse_mass(top.document, sum(len(listener.addresses) for _, listener in listeners), "addresses")
    problems += clashing_addresses(listeners)
    return listeners


def _resolve_apps(fragments: Fragments, user: int | None, problems: list[Problem]) -> list[tuple[Entry[App], PlainApp]]:
    """Return the apps; `user` is who the workers become, None when they stay who we are."""
    reader = None if user == os.geteuid() else user
    entries = [entry for fragment in fragments for entry in fragment.apps()]
    problems += _defined_twice(entries)
    apps = [(entry, resolve_app(entry, partial(read_text, reader=reader), problems)) for entry in entries]
    problems += foreign_modules(apps)
    problems += shared_variables(apps)
    return apps


def _resolve_mounts(fragments: Fragments, listeners: Names, apps: Names, problems: list[Problem]) -> Mounts:
    entries = [entry for fragment in fragments for entry in fragment.mounts()]
    mounts = [(entry, resolve_mount(entry, listeners, apps, problems)) for entry in entries]
    problems += equal_mounts(entries, listeners.known)
    return [(entry, mount) for entry, mount in mounts if mount is not None]


def _defined_twice(entries: list[Entry[Model]]) -> Iterable[Problem]:
    """Yield a problem for every entry whose name an earlier file has taken."""
    first: dict[str, Entry[Model]] = {}
    for entry in entries:
        earlier = first.setdefault(entry.name, entry)
        if earlier is not entry:
            yield entry.problem("", f"is already defined at {earlier.place()} (choose another name)")


def _names(fragments: Fragments, table: str, complete: bool) -> Names:
    """Return every name that the files define in `table`, also those whose definition has problems."""
    known = dict.fromkeys(name for fragment in fragments for name in fragment.names(table))
    return Names(tuple(known), complete and all(fragment.root.knows(table) for fragment in fragments))


def _nothing_to_do(fragments: Fragments, listeners: Names, complete: bool) -> Iterable[Problem]:
    main = fragments[0].document
    if listeners.complete and not listeners.known:
        yield main.problem((), 'no listener is defined (expected [listeners.NAME] with bind = "127.0.0.1:8000")')
    if complete and all(fragment.root.knows("mounts") and not fragment.mounts() for fragment in fragments):
        yield main.problem((), 'no mount is defined (expected [[mounts]] with app = "NAME")')


def _doubts(fragments: Fragments, listeners: Listeners, tables: Tables) -> Iterable[Problem]:
    """Yield what is doubtful in the tables of TLS, and between them and what is served."""
    now = time.time()
    plain = [listener for _, listener in listeners]
    yield from unused_tables([entry for entry, _ in tables], plain)
    for entry, tls in tables:
        yield from aging_certificates(entry, tls, now)
    yield from uncertified_hosts([entry for fragment in fragments for entry in fragment.mounts()], plain)


def _warnings(
    listeners: Listeners,
    apps: list[tuple[Entry[App], PlainApp]],
    mounts: Mounts,
) -> Iterable[Problem]:
    """Yield what is defined and never served, whose word is taken too easily, and what is shown to too many."""
    used = {name for _, mount in mounts for name in mount.listeners}
    served = {mount.target.app for _, mount in mounts if isinstance(mount.target, AppTarget)}
    for entry, _ in listeners:
        if entry.name not in used:
            yield entry.problem("", "no mount is served on this listener")
    for app, _ in apps:
        if app.name not in served:
            yield app.problem("", "no mount leads to this app")
    for entry, listener in listeners:
        yield from doubtful_trust(entry, listener)
    yield from exposed_builtins(mounts, [listener for _, listener in listeners])
