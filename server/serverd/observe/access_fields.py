"""What a line of the access log can say: the fields of a template, and the clock that tells the time of a line.

`access_formats` makes lines of them. Everything that a peer chooses is escaped here: no line can be forged.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "FIELDS",
    "Clock",
    "Entry",
    "Head",
    "Noted",
    "Place",
    "first_byte",
    "shown_status",
    "target",
    "tls_version",
    "value_of",
]

# What nginx logs for a client that has left without a response.
CLIENT_LEFT = 499

# What is written as nginx writes it, "\\x22": all but printable ASCII, and what would end a quoted value.
_UNSAFE = re.compile(rb'[^ -~]|["\\\\]')

# Characters of the path of a mount in an object: of a longer one there is its beginning, of at most twelve characters
# each, since a line that is cut would be no object any more. What a peer chooses takes at most half of a line.
_LONGEST_MOUNT = 1024

_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TLS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}


class Head(Protocol):
    """The head of a request, as far as it is logged; every attribute is what the grammar of HTTP allows."""

    method: str
    version: str
    path: str
    raw_path: bytes
    query: bytes
    fields: list[tuple[bytes, bytes]]
    shown: tuple[tuple[object, ...], str, str]  # ours to change: see `access_formats`


class Entry(Protocol):
    """A request at its end, as far as it is logged; times are seconds of `time.perf_counter`."""

    head: Any  # a Head
    host: str | None
    client: tuple[str, int] | None
    tls: Mapping[str, Any] | None  # as in the scope, which is the application's to change; None: in the clear
    began: float
    first_byte: float
    ended: float
    status: int
    sent: int
    received: int
    given_up: bool
    request_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request was served: what is the same for all of a mount."""

    listener: str
    mount: str  # its path; "": none
    app: str  # or "serverd"
    worker: int
    speaks_tls: bool = False
    json: str = field(init=False)  # all of it, within an object, up to the id of the request
    path: str = field(init=False)  # of the mount, as lines show it

    def __post_init__(self) -> None:
        mount = self.mount if len(json.dumps(self.mount)) <= _LONGEST_MOUNT else self.mount[: _LONGEST_MOUNT // 12]
        said = {"app": self.app, "mount": mount, "listener": self.listener, "worker": self.worker}
        object.__setattr__(self, "json", f',{json.dumps(said, separators=(",", ":"))[1:-1]},"request_id":"')
        object.__setattr__(self, "path", _shown(self.mount.encode()) or "-")


class Clock:
    """Times of day for lines, made of the clock that requests are timed by; the text of a second is made once."""

    __slots__ = ("_combined", "_iso", "_iso_second", "_offset", "_second", "begin", "end")

    def __init__(self) -> None:
        self._second = -1
        # Of the millisecond that both texts are of, on the clock of requests: they hold from begin until before end.
        self.begin = self.end = 0.0
        self._iso = self._iso_second = self._combined = ""
        self.adjust()

    def adjust(self) -> None:
        """Look at the time of day anew, which may have been set."""
        self._offset = time.time() - time.perf_counter()
        self.end = 0.0

    def iso(self, now: float) -> str:
        """Return the time in ISO 8601, UTC, with milliseconds."""
        # Hot path: a busy worker has many lines in a millisecond; benchmarks/ "access log".
        if not self.begin <= now < self.end:
            self._look(now)
        return self._iso

    def combined(self, now: float) -> str:
        """Return the time as the Common Log Format has it."""
        if not self.begin <= now < self.end:
            self._look(now)
        return self._combined

    def _look(self, now: float) -> None:
        millisecond = int((now + self._offset) * 1000)
        second, rest = divmod(millisecond, 1000)
        if second != self._second:
            self._turn(second)
        self.begin = millisecond / 1000 - self._offset
        self.end = self.begin + 0.001
        self._iso = f"{self._iso_second}.{rest:03d}+00:00"

    def _turn(self, second: int) -> None:
        self._second = second
        self.adjust()
        year, month, day, hour, minute, seconds, *_ = time.gmtime(second)
        clock = f"{hour:02}:{minute:02}:{seconds:02}"
        self._iso_second = f"{year}-{month:02}-{day:02}T{clock}"
        self._combined = f"{day:02}/{_MONTHS[month]}/{year}:{clock} +0000"


def target(head: Head) -> str:
    """Return path and query as they were sent; the grammar leaves nothing in it that could end a line."""
    text = head.raw_path
    query = head.query
    if query:
        text = b"%s?%s" % (text, query)
    return _shown(text)


def _shown(value: bytes) -> str:
    """Return what a peer has sent, in printable ASCII that can stand within quotes."""
    # Hot path: most has nothing to escape; benchmarks/ "access log".
    if value.isascii():
        text = value.decode("ascii")
        if text.isprintable() and '"' not in text and "\\" not in text:
            return text
    return _UNSAFE.sub(_escaped, value).decode("ascii")


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


def shown_status(entry: Entry) -> int:
    """Return the status that the peer saw, 499 when it left before there was one."""
    return CLIENT_LEFT if entry.given_up and not entry.first_byte else entry.status


def value_of(entry: Entry, name: bytes) -> str:
    """Return the value of a header field, "-" for none."""
    for key, value in entry.head.fields:
        if key == name:
            return _shown(value)
    return "-"


def tls_version(entry: Entry) -> str:
    """Return the version of TLS, "-" in the clear."""
    tls = entry.tls
    return "-" if tls is None else _TLS.get(tls["tls_version"], "-")


def first_byte(entry: Entry) -> float:
    """Return the seconds until the response began; until the end, if that was all at once."""
    return (entry.first_byte or entry.ended) - entry.began


Noted = tuple[Entry, Place]
"""A request at its end, and where it was served."""

Field = Callable[[Entry, Place, Clock], object]

FIELDS: dict[str, Field] = {
    "time": lambda entry, place, clock: clock.iso(entry.ended),
    "client": lambda entry, place, clock: entry.client[0] if entry.client else "unix:",
    "client_port": lambda entry, place, clock: entry.client[1] if entry.client else "-",
    "method": lambda entry, place, clock: entry.head.method,
    "path": lambda entry, place, clock: target(entry.head).partition("?")[0],
    "query": lambda entry, place, clock: target(entry.head).partition("?")[2],
    "target": lambda entry, place, clock: target(entry.head),
    "protocol": lambda entry, place, clock: f"HTTP/{entry.head.version}",
    "host": lambda entry, place, clock: entry.host or "-",
    "status": lambda entry, place, clock: shown_status(entry),
    "bytes": lambda entry, place, clock: entry.sent,
    "bytes_received": lambda entry, place, clock: entry.received,
    "duration": lambda entry, place, clock: f"{entry.ended - entry.began:.6f}",
    "duration_ms": lambda entry, place, clock: f"{(entry.ended - entry.began) * 1000:.2f}",
    "first_byte": lambda entry, place, clock: f"{first_byte(entry):.6f}",
    "app": lambda entry, place, clock: place.app,
    "mount": lambda entry, place, clock: place.path,
    "listener": lambda entry, place, clock: place.listener,
    "worker": lambda entry, place, clock: place.worker,
    "pid": lambda entry, place, clock: os.getpid(),
    "request_id": lambda entry, place, clock: entry.request_id or "-",
    "trace_id": lambda entry, place, clock: entry.trace_id or "-",
    "tls": lambda entry, place, clock: tls_version(entry),
    "user_agent": lambda entry, place, clock: value_of(entry, b"user-agent"),
    "referer": lambda entry, place, clock: value_of(entry, b"referer"),
    "messages": lambda entry, place, clock: getattr(entry, "messages_sent", "-"),
    "messages_received": lambda entry, place, clock: getattr(entry, "messages_received", "-"),
    "close_code": lambda entry, place, clock: getattr(entry, "close_code", "-"),
}
