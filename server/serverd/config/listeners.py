"""Listeners: from the model to the generation, and what is wrong with them beyond a single value.

Resolves owners with the user database and unix paths against the file; finds addresses that clash. Binds
nothing. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from serverd.config.accounts import find_group, find_user
from serverd.config.addresses import UNIX_PATH_BYTES, clash
from serverd.config.document import Entry
from serverd.config.models import Limits, Listener
from serverd.config.report import Problem
from serverd.generation import Address, AddressKind
from serverd.generation import Limits as PlainLimits
from serverd.generation import Listener as PlainListener

__all__ = ["clashing_addresses", "resolve_listener"]

UNIX_KEYS = ("socket_mode", "socket_user", "socket_group")


def resolve_listener(entry: Entry[Listener], limits: Limits, problems: list[Problem]) -> PlainListener:
    """Return the listener of a generation; what is wrong with it is added to `problems`."""
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
    merged = limits.model_copy(update={key: getattr(model.limits, key) for key in model.limits.model_fields_set})
    return PlainListener(
        name=entry.name,
        addresses=tuple(address for _, address in addresses),
        backlog=model.backlog,
        limits=PlainLimits(**merged.model_dump()),
        socket_mode=model.socket_mode,
        socket_uid=_account(entry, "socket_user", problems) if for_unix else None,
        socket_gid=_account(entry, "socket_group", problems) if for_unix else None,
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
