"""Mounts: from the model to the generation, and what is wrong with them beyond a single value.

Names are checked against the listeners and apps of all files; equal mounts are found here, routing is
`asgi/router`. Called by `load`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serverd.config.document import Entry
from serverd.config.models import Mount, Respond
from serverd.config.report import Problem
from serverd.config.wording import listed, nearest
from serverd.generation import (
    Address,
    AddressKind,
    AppTarget,
    BuiltinTarget,
    Listener,
    RedirectTarget,
    RespondTarget,
    Target,
)
from serverd.generation import Mount as PlainMount

__all__ = ["Names", "equal_mounts", "exposed_builtins", "resolve_mount"]

TARGETS = ("app", "redirect", "respond", "builtin")
ALTERNATIVES = ", ".join(TARGETS)
APP_KEYS = ("root_path", "strip_prefix", "trace")
# What whoever asks a builtin mount is told, and where it belongs.
TOLD = {
    "health": "tells which apps are down and when it drains (expected `listeners` with one that probes reach and few"
    " others, such as 127.0.0.1:9100)",
    "metrics": "shows the inside of the server (expected `listeners` with one of its own, such as 127.0.0.1:9100)",
    "status": "shows the inside of the server (expected `listeners` with one of its own, such as 127.0.0.1:9100)",
}
BODYLESS = (204, 205, 304)  # RFC 9110 §15.3.5, §15.3.6, §15.4.5


@dataclass(frozen=True, slots=True)
class Names:
    """What the files define as listeners, or as apps."""

    known: tuple[str, ...]
    complete: bool  # whether there can be no other: every file and every table of them could be read


def resolve_mount(entry: Entry[Mount], listeners: Names, apps: Names, problems: list[Problem]) -> PlainMount | None:
    """Return the mount of a generation; what is wrong with it is added to `problems`.

    None when the mount has no single, sound target.
    """
    model = entry.model
    for number, name in entry.elements("listeners", model.listeners):
        if listeners.complete and name not in listeners.known:
            hint = _hint(entry, "listeners", name, listeners, number)
            problems.append(entry.refusal("listeners", f"is not a listener{hint}", number))
    if model.app is not None and apps.complete and model.app not in apps.known:
        problems.append(entry.refusal("app", f"is not an app{_hint(entry, 'app', model.app, apps)}"))
    if not entry.has("app") and entry.knows("app"):
        problems += [entry.problem(key, "has no effect without `app`") for key in APP_KEYS if entry.has(key)]
    if model.respond is not None and model.respond.body and model.respond.status in BODYLESS:
        problems.append(entry.problem("respond", f"has a body, which a response {model.respond.status} cannot have"))
    target = _target(entry, problems)
    if target is None:
        return None
    return PlainMount(
        path=model.path,
        hosts=model.hosts,
        listeners=tuple(dict.fromkeys(model.listeners)) or listeners.known,
        target=target,
        headers=tuple(model.headers.items()),
        trace=model.trace,
        access_log=model.access_log,
        source=entry.place("path" if entry.has("path") else _chosen(entry)[0]),
    )


def equal_mounts(mounts: Sequence[Entry[Mount]], listeners: Sequence[str]) -> Iterable[Problem]:
    """Yield a problem for every mount that an earlier one equals in listener, host and path.

    `listeners` are all that are known. Of a list with problems the sound elements count.
    """
    known = frozenset(listeners)
    seen: dict[tuple[str | None, str], dict[str | None, Entry[Mount]]] = {}
    for entry in mounts:
        if not entry.knows("path"):
            continue
        served = _served(entry, "listeners", entry.model.listeners)
        clashes: dict[Entry[Mount], str | None] = {}
        for host in _served(entry, "hosts", entry.model.hosts):
            here = seen.setdefault((host, entry.model.path), {})
            for listener, first in _met(here, served, known):
                clashes.setdefault(first, listener)
            for listener in served:
                here.setdefault(listener, entry)
        for first, listener in clashes.items():
            shown = listener or next(iter(listeners), None)
            yield entry.problem(
                "",
                f"is the same as the mount at {first.place()}: "
                + (f'listener "{shown}"' if shown else "every listener")
                + f", {_shown_host(entry, first)}, {_shown_path(entry)} (change one, or remove it)",
            )


def exposed_builtins(
    mounts: Sequence[tuple[Entry[Mount], PlainMount]], listeners: Sequence[Listener]
) -> Iterable[Problem]:
    """Yield a problem for every mount that tells of the inside of the server to whoever can reach the machine."""
    open_ones = {one.name: one for one in listeners if any(_is_open(address) for address in one.addresses)}
    for entry, mount in mounts:
        if not isinstance(mount.target, BuiltinTarget):
            continue
        exposed = [name for name in mount.listeners if name in open_ones]
        if exposed:
            addresses = ", ".join(one.text for one in open_ones[exposed[0]].addresses if _is_open(one))
            yield entry.problem(
                "builtin",
                f'is reachable from everywhere on listener "{exposed[0]}" ({addresses}) and {TOLD[mount.target.name]}',
            )


def _is_open(address: Address) -> bool:
    """Return whether the address is that of every interface."""
    if address.kind is not AddressKind.TCP:
        return False
    try:
        return not address.host or ipaddress.ip_address(address.host).is_unspecified
    except ValueError:
        return False  # a name


def _served(entry: Entry[Mount], key: str, values: Sequence[str]) -> Sequence[str | None]:
    """Return the distinct `values` of `key`; None stands for all there are, which is what an empty list means.

    Nothing for a list that is empty only because of its problems.
    """
    return list(dict.fromkeys(values)) or ([None] if entry.knows(key) else [])


def _met(
    here: dict[str | None, Entry[Mount]], served: Sequence[str | None], known: frozenset[str]
) -> Iterable[tuple[str | None, Entry[Mount]]]:
    """Yield the earlier mounts of one host and path that share a listener with one that is `served`, and where."""
    for listener in served:
        if listener is None:
            yield from ((other, first) for other, first in here.items() if other is None or other in known)
        elif listener in here:
            yield listener, here[listener]
        if listener in known and None in here:
            yield listener, here[None]


def _shown_path(entry: Entry[Mount]) -> str:
    if entry.document.substituted((*entry.path, "path")):
        return "the same path"
    return f'path "{entry.model.path}"'


def _shown_host(entry: Entry[Mount], first: Entry[Mount]) -> str:
    hosts = entry.elements("hosts", entry.model.hosts)
    common = next((number for number, host in hosts if host in first.model.hosts), None)
    return "any host" if common is None else f"host {entry.document.shown((*entry.path, 'hosts', common))}"


def _hint(entry: Entry[Mount], key: str, name: str, names: Names, index: int | None = None) -> str:
    """Return the nearest name, or all of them; nothing about a name that came from a variable."""
    path = (*entry.path, key) if index is None else (*entry.path, key, index)
    close = "" if entry.document.substituted(path) else nearest(name, names.known)
    expected = f"expected one of: {listed(sorted(names.known))}" if names.known else "none is defined"
    return close or f" ({expected})"


def _chosen(entry: Entry[Mount]) -> list[str]:
    return [key for key in TARGETS if entry.has(key)]


def _target(entry: Entry[Mount], problems: list[Problem]) -> Target | None:
    """Return what the mount leads to; a mount without exactly one target is a problem."""
    model, chosen = entry.model, _chosen(entry)
    if not chosen and all(map(entry.knows, TARGETS)):
        problems.append(entry.problem("", f"has no target (expected exactly one of {ALTERNATIVES})"))
    if len(chosen) > 1:
        problems.append(
            entry.problem(chosen[1], f"is a second target beside {chosen[0]} (expected exactly one of {ALTERNATIVES})")
        )
    if len(chosen) != 1 or not entry.knows(chosen[0]):
        return None
    if model.redirect is not None:
        return RedirectTarget(model.redirect)
    if model.respond is not None:
        return _fixed_response(model.respond)
    if model.builtin is not None:
        return BuiltinTarget(model.builtin)
    default = "" if model.strip_prefix or model.path == "/" else model.path
    root_path = default if model.root_path is None else model.root_path
    return AppTarget(str(model.app), root_path, model.strip_prefix)


def _fixed_response(respond: Respond) -> RespondTarget:
    return RespondTarget(respond.status, respond.body, tuple(respond.headers.items()))
