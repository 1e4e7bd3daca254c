"""The status of a running server as text for people.

Pure: a document in, lines out. What came from outside - names, targets, failures, ways to die - is escaped, so
that no application can write to the operator's terminal. `commands` calls it; the document is described in
`supervisor/status`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serverd.observe.bundle import chosen
from serverd.observe.columns import aligned
from serverd.observe.logs import escape

__all__ = ["describe_duration", "describe_size", "describe_status"]

# Lines of a failure's traceback: the last ones, with the exception and where it was raised.
TAIL = 12
UNKNOWN = "-"

# What each phase and step of `supervisor/states` means to somebody who waits; one that is not here is shown as it is.
PHASES: Mapping[str, str] = {
    "starting": "no generation has been ready yet",
    "serving": "no worker answers",
    "delaying": "stopping after shutdown_delay",
    "stopping": "stopping, workers drain",
    "killing": "stopping at once",
    "stopped": "stopped",
}
STEPS: Mapping[str, str] = {
    "loading": "reading the configuration",
    "opening": "opening sockets",
    "proposing": "asking the running workers to take over the new configuration",
    "preloading": "importing the applications",
    "preparing": "starting workers",
    "retiring": "the workers of another generation drain",
    "upgrading": "another supervisor is starting",
}

DURATIONS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
SIZES = ("B", "KiB", "MiB", "GiB", "TiB")

# Column heads, and which columns hold numbers.
WORKER_HEAD = ("SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "IN FLIGHT", "CONNECTIONS", "MEMORY", "LAG", "NOTES")
WORKER_NUMBERS = frozenset({0, 1, 2, 4, 5, 6, 7, 8, 9})
APP_HEAD = ("APP", "STATE", "REQUESTS", "5XX", "TARGET")
APP_NUMBERS = frozenset({2, 3})
LISTENER_HEAD = ("LISTENER", "ADDRESS")
CERTIFICATE_HEAD = ("TLS", "EXPIRES", "SERIAL", "NAMES", "NOTES")
AUTHORITY_HEAD = ("CLIENTS OF", "EXPIRES", "ISSUED", "FILE", "AUTHORITY", "NOTES")
# Names of a certificate that are shown; the rest is counted.
MOST_NAMES = 3


def describe_status(status: Any, now: float) -> str:
    """Return the status document as text that ends in a newline; `now` is the unix time.

    Raises LookupError, TypeError, ValueError, AttributeError or ArithmeticError when it is no such document.
    """
    blocks = (
        list(_header(status, now)),
        _table(WORKER_HEAD, [_worker(worker) for worker in status["workers"]], WORKER_NUMBERS),
        [line for slot in status["slots"] for line in _slot(slot)],
        list(_apps(status["apps"])),
        _table(CERTIFICATE_HEAD, [_certificate(one) for one in status.get("certificates", ())]),
        _table(AUTHORITY_HEAD, [_authority(*one) for one in chosen(status.get("authorities", ()))]),
        _table(LISTENER_HEAD, [(escape(one["name"]), escape(one["url"])) for one in status["listeners"]]),
    )
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def describe_duration(seconds: float) -> str:
    """Return seconds as people write them, in the two largest units, such as `2 d 4 h`."""
    whole = int(seconds)
    for size, unit, part_size, part_unit in DURATIONS:
        if whole >= size:
            part = whole % size // part_size
            return f"{whole // size} {unit}" + (f" {part} {part_unit}" if part else "")
    return f"{max(0, whole)} s"


def describe_size(size: int) -> str:
    """Return bytes as people write them, such as `48.2 MiB`."""
    number = float(size)
    for unit in SIZES[:-1]:
        if number < 1024:
            return f"{number:.1f} {unit}" if unit != SIZES[0] else f"{size} {unit}"
        number /= 1024
    return f"{number:.1f} {SIZES[-1]}"


def _header(status: Mapping[str, Any], now: float) -> Iterator[str]:
    yield f"serverd {escape(status['version'])} serves {escape(status['source'])}"
    phase = status["phase"]
    ready = "ready" if status["ready"] else f"not ready: {PHASES.get(phase) or escape(phase)}"
    generation = f"generation {status['generation']:d}, " if status["generation"] else ""
    yield f"pid {status['pid']:d}, up {describe_duration(status['uptime'])}, {generation}{ready}"
    step = status["step"]
    if step != "idle":
        yield f"under way: {STEPS.get(step) or escape(step)}"
    last = status["last_reload"]
    if last is not None:
        outcome = "last reload" if last["ok"] else "last reload FAILED"
        yield f"{outcome} {describe_duration(now - last['at'])} ago: {escape(last['message'])}"


def _worker(worker: Mapping[str, Any]) -> tuple[str, ...]:
    lag = worker["lag"]
    notes = ["late"] if worker["late"] else []
    if worker["covers"]:
        notes.append("covers " + ", ".join(f"{slot:d}" for slot in worker["covers"]))
    if worker["recycle"] is not None:
        notes.append(f"recycled: {escape(worker['recycle'])}")
    return (
        _number(worker["slot"]),
        _number(worker["pid"]),
        _number(worker["generation"]),
        escape(worker["state"]),
        describe_duration(worker["age"]),
        _number(worker["requests"]),
        _number(worker["in_flight"]),
        _number(worker["connections"]),
        describe_size(worker["rss"]) if worker["rss"] else UNKNOWN,
        UNKNOWN if lag is None else f"{lag * 1000:.0f} ms",
        "; ".join(notes),
    )


def _slot(slot: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if anything has happened in the slot."""
    restarts, waits, last_exit = slot["restarts"], slot["waits"], slot["last_exit"]
    parts = [f"{restarts:d} restart{'' if restarts == 1 else 's'}"] if restarts else []
    if last_exit is not None:
        parts.append(f"last exit: {escape(last_exit)}")
    if waits is not None:
        parts.append(f"next start in {waits:.1f} s")
    if parts:
        yield f"slot {slot['slot']:d}: {'; '.join(parts)}"


def _certificate(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    names = certificate["names"]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        escape(certificate["tls"]),
        _day(_end_of(certificate)),
        escape(certificate["serial"]),
        (", ".join(map(escape, names[:MOST_NAMES])) or UNKNOWN) + more,
        "; ".join(_notes(certificate)),
    )


def _end_of(certificate: Mapping[str, Any]) -> float:
    """Return when the first certificate of the chain ends."""
    end: float = (certificate.get("chain_ends") or {"until": certificate["not_after"]})["until"]
    return end


def _notes(certificate: Mapping[str, Any]) -> Iterator[str]:
    if certificate["age"]:
        yield escape(certificate["age"])
    elif certificate.get("chain_ends"):  # a server of an earlier version does not tell, nor what follows
        yield f'"{escape(certificate["chain_ends"]["name"])}" in its chain ends first'
    if certificate.get("kept"):
        yield f"not renewed: {escape('; '.join(certificate['kept'].splitlines()))}"


def _authority(authority: Mapping[str, Any], note: str) -> tuple[str, ...]:
    return (
        escape(authority["tls"]),
        UNKNOWN if authority["until"] is None else _day(authority["until"]),
        _day(authority["since"]),
        escape(authority["key"]),
        escape(authority["name"]),
        escape(note),
    )


def _day(moment: float) -> str:
    year, month, day = time.gmtime(moment)[:3]
    return f"{year}-{month:02}-{day:02}"


def _apps(apps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table, and below each application that is down why it is."""
    if not apps:
        return
    head, *rows = _table(APP_HEAD, [_app(app) for app in apps], APP_NUMBERS)
    yield head
    for app, row in zip(apps, rows, strict=True):
        yield row
        failure = app["failure"]
        if failure is not None:
            yield f"    {escape(failure['summary'])}"
            yield from (f"    | {escape(line)}" for line in _tail(failure["detail"]))


def _app(app: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (_number(app.get(key)) for key in ("requests", "errors"))  # a server of an earlier version tells none
    return (escape(app["name"]), escape(app["state"]), *counts, escape(app["target"]))


def _tail(detail: str) -> list[str]:
    lines = detail.rstrip("\n").split("\n") if detail else []
    return lines if len(lines) <= TAIL else ["...", *lines[-TAIL:]]


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:d}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int] = frozenset()) -> list[str]:
    """Return the lines of a table, numbers flush right; nothing when there are no rows."""
    return list(aligned([head, *rows], numbers)) if rows else []
