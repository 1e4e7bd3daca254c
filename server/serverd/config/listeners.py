"""Listeners: from the model to the generation, and what is wrong with them beyond a single value.

Resolves owners with the user database and unix paths against the file; finds addresses that clash, and settings that
the addresses leave without effect. Binds nothing. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from serverd.config.accounts import find_group, find_user
from serverd.config.addresses import EVERY_PEER, UNIX_PATH_BYTES, UNIX_PEER, clash
from serverd.config.document import Entry
from serverd.config.models import File, Limits, Listener
from serverd.config.report import Problem
from serverd.generation import Address, AddressKind
from serverd.generation import Http2Limits as PlainHttp2Limits
from serverd.generation import Limits as PlainLimits
from serverd.generation import Listener as PlainListener
from serverd.generation import WebSocketLimits as PlainWebSocketLimits

__all__ = ["clashing_addresses", "doubtful_trust", "idle_limits", "resolve_listener"]

UNIX_KEYS = ("socket_mode", "socket_user", "socket_group")

# What RFC 7239 puts into one header, and which others say one of these things each.
FORWARDED = "forwarded"
SAID_BY_FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")

# Tables within [limits], of which a listener may override single keys, too.
_TABLES: dict[str, type[Any]] = {"http2": PlainHttp2Limits, "websocket": PlainWebSocketLimits}

WITHOUT_CONNECTIONS = "has no effect without `connections`"


def resolve_listener(entry: Entry[Listener], root: Entry[File], problems: list[Problem]) -> PlainListener:
    """Return the listener of a generation; what is wrong with it is added to `problems`.

    `root` has the limits by default.
    """
    model = entry.model
    addresses = [(number, _absolute(entry, address)) for number, address in entry.elements("bind", model.bind)]
    for number, address in addresses:
        if len(address.path.encode("utf-8", "surrogateescape")) > UNIX_PATH_BYTES:
            problems.append(entry.refusal("bind", f"leads to a unix path of more than {UNIX_PATH_BYTES} bytes", number))
    for_unix = any(address.kind is AddressKind.UNIX for _, address in addresses) or not entry.knows("bind")
    if not for_unix:
        problems += [
            entry.problem(key, "has no effect without a unix address in `bind`") for key in UNIX_KEYS if entry.has(key)
        ]
    problems += _faulty_trust(entry, [address.kind for _, address in addresses])
    limits = _merged(root.model.limits, model.limits)
    if "connections_beyond" in model.limits.model_fields_set and _waits_for_nothing(limits, root, entry):
        problems.append(entry.document.problem((*entry.path, "limits", "connections_beyond"), WITHOUT_CONNECTIONS))
    return PlainListener(
        name=entry.name,
        addresses=tuple(address for _, address in addresses),
        backlog=model.backlog,
        limits=_plain(limits),
        protocols=tuple(dict.fromkeys(model.protocols)),
        socket_mode=model.socket_mode,
        socket_uid=_account(entry, "socket_user", problems) if for_unix else None,
        socket_gid=_account(entry, "socket_group", problems) if for_unix else None,
        trusted_proxies=tuple(dict.fromkeys(model.trusted_proxies)),
        forwarded_headers=tuple(dict.fromkeys(model.forwarded_headers)),
        proxy_protocol=model.proxy_protocol,
        ambiguous_headers=model.ambiguous_headers,
        source=entry.place(),
    )


def clashing_addresses(listeners: Sequence[tuple[Entry[Listener], PlainListener]]) -> Iterable[Problem]:
    """Yield a problem for every address that an earlier one makes impossible to bind."""
    bound = [
        (entry, number, address)
        for entry, listener in listeners
        for number, address in entry.elements("bind", listener.addresses)
    ]
    for (first, first_number, address), (second, number, other) in combinations(bound, 2):
        if clash(address, other):
            written = first.refusal("bind", "", first_number)
            place = written.file if written.line is None else f"{written.file}:{written.line}"
            yield second.refusal(
                "bind",
                f'clashes with {written.message.strip()} of listener "{first.name}" at {place}'
                " (an address can be bound once)",
                number,
            )


def idle_limits(root: Entry[File], listeners: Sequence[tuple[Entry[Listener], PlainListener]]) -> Iterable[Problem]:
    """Yield a problem for what is a limit by default, and has no effect on any of all the `listeners`."""
    entries = [entry for entry, _ in listeners]
    unlimited = not any(listener.limits.connections for _, listener in listeners)
    if listeners and unlimited and _waits_for_nothing(root.model.limits, root, *entries):
        yield root.document.problem(("limits", "connections_beyond"), WITHOUT_CONNECTIONS)


def doubtful_trust(entry: Entry[Listener], listener: PlainListener) -> Iterable[Problem]:
    """Yield what is allowed in the trust of a sound listener, and yet probably not meant, as warnings."""
    for number, proxy in entry.elements("trusted_proxies", entry.model.trusted_proxies):
        if proxy in EVERY_PEER:
            yield entry.refusal(
                "trusted_proxies",
                "lets every client that can connect say on whose behalf it speaks (expected the proxies alone)",
                number,
            )
    only_unix = all(address.kind is AddressKind.UNIX for address in listener.addresses)
    if only_unix and listener.trusted_proxies and UNIX_PEER not in listener.trusted_proxies:
        yield entry.problem(
            "trusted_proxies",
            'trusts nobody: on a unix socket no peer has an address (expected "unix" for whoever connects to it)',
        )


def _merged(defaults: Limits, own: Limits) -> Limits:
    """Return the limits by default with what a listener sets itself."""
    update = {key: getattr(own, key) for key in own.model_fields_set}
    for table in _TABLES:
        one = getattr(own, table)
        inner = {key: getattr(one, key) for key in one.model_fields_set}
        update[table] = getattr(defaults, table).model_copy(update=inner)
    return defaults.model_copy(update=update)


def _plain(limits: Limits) -> PlainLimits:
    tables = {table: plain(**getattr(limits, table).model_dump()) for table, plain in _TABLES.items()}
    return PlainLimits(**limits.model_dump(exclude=set(tables)), **tables)


def _faulty_trust(entry: Entry[Listener], kinds: Sequence[AddressKind]) -> Iterable[Problem]:
    """Yield what cannot be meant in the trust of a listener with addresses of these kinds."""
    model = entry.model
    # What is inherited, or comes from socket activation, may be a unix socket: only the worker will see.
    if entry.knows("bind") and all(kind is AddressKind.TCP for kind in kinds):
        for number, proxy in entry.elements("trusted_proxies", model.trusted_proxies):
            if proxy == UNIX_PEER:
                yield entry.refusal("trusted_proxies", "has no effect without a unix address in `bind`", number)
    if model.proxy_protocol and not model.trusted_proxies and entry.knows("trusted_proxies"):
        yield entry.problem(
            "proxy_protocol",
            "would refuse every connection: only `trusted_proxies` may send a PROXY header (expected them beside it)",
        )
    if entry.has("forwarded_headers") and not model.trusted_proxies and entry.knows("trusted_proxies"):
        yield entry.problem("forwarded_headers", "has no effect without `trusted_proxies`, who alone are believed")
    yield from _said_twice(entry)


def _said_twice(entry: Entry[Listener]) -> Iterable[Problem]:
    """Yield a problem when both of two kinds of headers that say the same are to be believed."""
    first: tuple[bool, str] | None = None
    for number, name in entry.elements("forwarded_headers", entry.model.forwarded_headers):
        if name not in (FORWARDED, *SAID_BY_FORWARDED):
            continue
        if first is None:
            first = (name == FORWARDED, name)
        elif first[0] is not (name == FORWARDED):
            yield entry.refusal(
                "forwarded_headers",
                f'says the same as "{first[1]}", and a client would send the one that the proxies do not overwrite'
                " (expected the kind that they write, alone)",
                number,
            )
            return


def _waits_for_nothing(limits: Limits, *entries: Entry[File] | Entry[Listener]) -> bool:
    """Return whether new connections would wait for others to end that are not counted, as far as all is known."""
    known = all(entry.knows("limits", "connections") for entry in entries)
    return known and limits.connections_beyond == "wait" and not limits.connections


def _absolute(entry: Entry[Listener], address: Address) -> Address:
    if address.kind is not AddressKind.UNIX:
        return address
    return replace(address, path=entry.document.resolve(address.path))


def _account(entry: Entry[Listener], key: str, problems: list[Problem]) -> int | None:
    """Return the number of the user or group that `key` names; None when it is not set or unknown."""
    value: int | str | None = getattr(entry.model, key)
    if value is None:
        return None
    number = find_user(value) if key == "socket_user" else find_group(value)
    if number is None:
        problems.append(entry.refusal(key, f"is not a {key.removeprefix('socket_')} of this machine"))
    return number
