"""What differs between two generations, and whether the applications could see it.

Pure, and only about what is written: whether the code on disk has changed is for the workers to say. What differs
without the applications seeing it can be applied to running workers; all else needs new ones. What stands in no table
here needs new ones, too, so that a field that nobody has thought of is not applied by half. Values are shown only
where they cannot hold a secret. Called by the supervisor at a reload, and for its `--dry-run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from serverd.generation import Address, App, Generation, Listener, Mount, RedirectTarget, Target, Tls

__all__ = ["UNCHANGED", "Changes", "compare", "describe"]

UNCHANGED = "the configuration is unchanged, so the code may have changed"
MOST_LISTED = 5  # names in one line; more are counted

ELSEWHERE = ("listeners", "apps", "mounts")  # of a Generation: compared by name, not by place
NO_CHANGE = ("number", "warnings", "files")  # of a Generation
MARKS = ("name", "source")  # of an App or a Listener: what it is found by, and the line it stands on
LIVE_OF_APP = ("on_failure", "request_timeout")

LISTENER_KEYS = {"addresses": "bind", "socket_uid": "socket_user", "socket_gid": "socket_group"}
"""Fields of a Listener that the operator knows by another name."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences between two generations, in words for the operator."""

    restart: tuple[str, ...] = ()  # why the applications have to be started anew
    live: tuple[str, ...] = ()  # what changes without that
    opened: tuple[str, ...] = ()  # addresses, each with its listener
    closed: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether the running workers can go on with the new generation."""
        return not self.restart


@dataclass(frozen=True, slots=True)
class _Setting:
    """One value of the generation that is neither a listener nor an app nor a mount."""

    live: bool
    spelled: Callable[[Any], str] | None = None  # None: that it differs is all that is told
    name: str = ""  # as the operator knows it; "": as the generation calls it


def _seconds(value: float) -> str:
    return f"{value:.15g}s"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _list(value: tuple[str, ...]) -> str:
    return _listed(value) or "nothing"


def _bits(value: int | None) -> str:
    return "unset" if value is None else f"{value:04o}"


_SETTINGS: dict[str, _Setting] = {
    "source": _Setting(False, name="the configuration file is another one"),
    "control_socket": _Setting(True, name="control.socket"),
    "server.workers": _Setting(True, str),
    "server.loop": _Setting(False, str),
    "server.http1_parser": _Setting(True, str),
    "server.start_timeout": _Setting(True, _seconds),
    "server.graceful_timeout": _Setting(True, _seconds),
    "server.hang_timeout": _Setting(True, _seconds),
    "server.lag_threshold": _Setting(True, _seconds),
    "server.shutdown_delay": _Setting(True, _seconds),
    "server.recycle.requests": _Setting(True, str),
    "server.recycle.jitter": _Setting(True, str),
    "server.recycle.lifetime": _Setting(True, _seconds),
    "server.recycle.memory": _Setting(True, str),
    "server.preload": _Setting(False, _flag),
    "server.account.uid": _Setting(False, name="server.user"),
    "server.account.gid": _Setting(False, name="server.group"),
    "server.account.groups": _Setting(False, name="the groups of server.user"),
    "server.umask": _Setting(False, _bits),
    "server.pid_file": _Setting(True),
    "server.server_header": _Setting(True, _flag),
    "server.date_header": _Setting(True, _flag),
    "server.request_id_header": _Setting(True),
    "logging.level": _Setting(True, str),
    "logging.format": _Setting(True, str),
    "logging.file": _Setting(True),
    "access_log.enabled": _Setting(True, _flag),
    "access_log.format": _Setting(True, str),
    "access_log.file": _Setting(True),
    "access_log.exclude": _Setting(True, _list),
    "access_log.exclude_failures": _Setting(True, _flag),
    "access_log.sample": _Setting(True, str),
    "access_log.min_duration": _Setting(True, _seconds),
}
_UNFORESEEN = _Setting(False)

_NO_TARGET = RedirectTarget("")  # in the place of one that is not looked at


def compare(old: Generation, new: Generation) -> Changes:
    """Return what has to be done to get from `old` to `new`; when nothing differs, that is a restart."""
    restart: list[str] = []
    live: list[str] = []
    for key, before, after in _differences("", old, new):
        setting = _SETTINGS.get(key, _UNFORESEEN)
        (live if setting.live else restart).append(_told(key, setting, before, after))
    for is_live, text in _app_changes(old.apps, new.apps):
        (live if is_live else restart).append(text)
    live += _listener_changes(old.listeners, new.listeners)
    live += _mount_changes(old, new)
    before_open, after_open = _addresses(old), _addresses(new)
    opened = tuple(label for key, label in after_open.items() if key not in before_open)
    closed = tuple(label for key, label in before_open.items() if key not in after_open)
    if not (restart or live or opened or closed):
        restart = [UNCHANGED]
    return Changes(tuple(restart), tuple(live), opened, closed)


def describe(changes: Changes) -> list[str]:
    """Return the lines of a plan: what a reload would do."""
    applied = "live" if changes.is_live else "with them"
    return [
        *(f"new workers: because {reason}" for reason in changes.restart),
        *(f"{applied}: {text}" for text in changes.live),
        *(f"bind: {address}" for address in changes.opened),
        *(f"close: {address}" for address in changes.closed),
    ]


def _differences(prefix: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of every value that differs within two dataclasses of a kind, and both values."""
    for name in _differing(old, new, ELSEWHERE + NO_CHANGE if not prefix else ()):
        before, after, path = getattr(old, name), getattr(new, name), prefix + name
        if is_dataclass(before):
            yield from _differences(f"{path}.", before, after)
        else:
            yield path, before, after


def _differing(old: Any, new: Any, without: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the fields in which two dataclasses of a kind differ."""
    names = [item.name for item in fields(old) if item.name not in without]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _differing_limits(old: Any, new: Any) -> Iterator[str]:
    """Yield the limits that differ, those of a table of their own with its name."""
    for name in _differing(old, new):
        before, after = getattr(old, name), getattr(new, name)
        if is_dataclass(before):
            yield from (f"{name}.{inner}" for inner in _differing(before, after))
        else:
            yield name


def _told(key: str, setting: _Setting, before: Any, after: Any) -> str:
    name = setting.name or key
    return name if setting.spelled is None else f"{name}: {setting.spelled(before)} -> {setting.spelled(after)}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - MOST_LISTED
    return ", ".join(every[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _app_changes(old: tuple[App, ...], new: tuple[App, ...]) -> Iterator[tuple[bool, str]]:
    """Yield for every difference whether it is live, and what it is."""
    before, after = {app.name: app for app in old}, {app.name: app for app in new}
    yield from ((False, f"app {name} is new") for name in after if name not in before)
    yield from ((False, f"app {name} is gone") for name in before if name not in after)
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        yield False, "the order of the apps, in which they are imported"
    for name in common:
        for key in _differing(before[name], after[name], MARKS):
            inner = f" ({_listed(_variables(before[name], after[name]))})" if key == "env" else ""
            yield key in LIVE_OF_APP, f"app {name}: {key}{inner}"


def _variables(old: App, new: App) -> list[str]:
    """Return the names of the variables that differ; what they hold may be secret."""
    return sorted(name for name in old.env.keys() | new.env.keys() if old.env.get(name) != new.env.get(name))


def _listener_changes(old: tuple[Listener, ...], new: tuple[Listener, ...]) -> Iterator[str]:
    """Yield what differs between the listeners; their order has no meaning."""
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    yield from (f"listener {name} is new" for name in after if name not in before)
    yield from (f"listener {name} is gone" for name in before if name not in after)
    for name in filter(after.__contains__, before):
        one, other = before[name], after[name]
        keys = _differing(_comparable(one), _comparable(other), MARKS)
        if "limits" in keys:
            keys.remove("limits")
            yield f"limits of listener {name}: {', '.join(_differing_limits(one.limits, other.limits))}"
        if keys:
            yield f"listener {name}: {', '.join(LISTENER_KEYS.get(key, key) for key in keys)}"


def _comparable(listener: Listener) -> Listener:
    """Return a listener whose lists are in an order, and its addresses as they are bound, not as they are written."""
    return replace(
        listener,
        addresses=tuple(sorted(map(_bound, listener.addresses), key=repr)),
        trusted_proxies=tuple(sorted(listener.trusted_proxies)),
        forwarded_headers=tuple(sorted(listener.forwarded_headers)),
        tls=_without_lines(listener.tls),
    )


def _without_lines(tls: Tls | None) -> Tls | None:
    """Return how TLS is spoken, wherever it is written; the name of the table is no difference either."""
    if not isinstance(tls, Tls):
        return tls
    certificates = tuple(replace(certificate, source="") for certificate in tls.certificates)
    return replace(tls, name="", source="", sources=(), certificates=certificates)


def _bound(address: Address) -> Address:
    return replace(address, text="")


def _mount_changes(old: Generation, new: Generation) -> Iterator[str]:
    """Yield one line about the mounts that differ; their order has no meaning, and paths may be secret."""
    common = {listener.name for listener in old.listeners} & {listener.name for listener in new.listeners}
    before = {_place(mount, common): mount for mount in old.mounts}
    after = {_place(mount, common): mount for mount in new.mounts}
    fresh = [mount for place, mount in after.items() if place not in before]
    gone = [place for place in before if place not in after]
    changed = [mount for place, mount in after.items() if place in before and _served(before[place]) != _served(mount)]
    parts = [
        f"{len(mounts)} {what} ({_listed(mount.source for mount in mounts)})"
        for what, mounts in (("new", fresh), ("changed", changed))
        if mounts
    ]
    parts += [f"{len(gone)} gone"] if gone else []
    if parts:
        yield f"mounts: {', '.join(parts)}"


def _place(mount: Mount, common: set[str]) -> Mount:
    """Return all of a mount but what it serves and its line; the order of hosts and listeners has no meaning.

    One that is on every listener is still the same when a listener comes or goes, which is told by itself: of its
    listeners those `common` to both generations count, if there are any.
    """
    hosts = tuple(sorted(mount.hosts))
    listeners = tuple(sorted(common.intersection(mount.listeners) or mount.listeners))
    return replace(
        mount, hosts=hosts, listeners=listeners, target=_NO_TARGET, headers=(), access_log=True, trace=False, source=""
    )


def _served(mount: Mount) -> tuple[Target, tuple[tuple[str, str], ...], bool, bool]:
    return mount.target, mount.headers, mount.access_log, mount.trace


def _addresses(generation: Generation) -> dict[tuple[Address, int], str]:
    """Return every address and what to call it; the number tells apart those on a port that the kernel chooses."""
    found: dict[tuple[Address, int], str] = {}
    seen: Counter[Address] = Counter()
    for listener in generation.listeners:
        for address in listener.addresses:
            bound = _bound(address)
            found[bound, seen[bound]] = f"{address.text} (listener {listener.name})"
            seen[bound] += 1
    return found
