"""The formats of the access log: from a request at its end to a line. Chosen once, when a generation is served.

`text` is for people, `json` for programs, `combined` what tools for nginx and Apache read; all else is a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from serverd.observe.access_fields import (
    FIELDS,
    Clock,
    Entry,
    Field,
    Place,
    first_byte,
    shown_status,
    target,
    tls_version,
)

__all__ = ["Format", "make_format"]

SWITCHING_PROTOCOLS = 101  # RFC 9110 §15.2.2; of an HTTP/2 session, too

Format = Callable[[Entry, Place, float, Clock], str]
"""Returns the line of an entry that was served at a place and ended at a time, seconds of `time.perf_counter`."""

# Two braces, or a field.
_PIECE = re.compile(r"(\{\{|\}\}|\{\w+\})")
# As nginx's "combined": host, identity, user, time, request line, status, size, Referer, User-Agent.
_COMBINED = '{client} - - [{}] "{method} {target} {protocol}" {status} {bytes} "{referer}" "{user_agent}"'

_quote = json.encoder.encode_basestring_ascii  # the C function that json uses


def make_format(name: str, *, is_terminal: bool) -> Format:
    """Return the format of this name, or of this template."""
    if name == "auto":
        name = "text" if is_terminal else "json"
    if name in _NAMED:
        return _NAMED[name]
    return _template(name, FIELDS)


def _text(entry: Entry, place: Place, end: float, clock: Clock) -> str:
    # Hot path: one f-string; benchmarks/ "access log".
    head, client = entry.head, entry.client
    line = (
        f"{clock.iso(end)} {client[0] if client else 'unix:'} "
        f'"{head.method} {target(head)} HTTP/{head.version}" {shown_status(entry)} {entry.sent} '
        f"{(end - entry.began) * 1000:.2f}ms {place.app} {entry.request_id}"
    )
    return f"{line}{_text_of_end(entry)}\n" if entry.given_up or entry.status == SWITCHING_PROTOCOLS else f"{line}\n"


def _text_of_end(entry: Entry) -> str:
    if entry.status == SWITCHING_PROTOCOLS:
        return (
            f" websocket {_of_session(entry, 'close_code')} in {_of_session(entry, 'messages_received')}"
            f"/{entry.received} out {_of_session(entry, 'messages_sent')}"
        )
    return " incomplete" if entry.given_up else ""


def _json(entry: Entry, place: Place, end: float, clock: Clock) -> str:
    # Hot path: a quarter of what json.dumps takes; only what a peer chooses freely is quoted, and nothing is looked for
    # among the header fields; benchmarks/ "access log".
    head, client, status = entry.head, entry.client, entry.status
    duration = f"{end - entry.began:.6f}"
    query = head.query
    asked = b"%s?%s" % (head.raw_path, query) if query else head.raw_path
    line = (
        f'{{"time":"{clock.iso(end)}","client":{_quote(client[0]) if client else "null"},"method":"{head.method}",'
        f'"host":{_quote(entry.host or "")},"target":{_quote(str(asked, "utf-8", "backslashreplace"))},'
        f'"protocol":"HTTP/{head.version}","status":{shown_status(entry) if entry.given_up else status},'
        f'"bytes":{entry.sent},"bytes_received":{entry.received},"duration":{duration},'
        f'"first_byte":{f"{first_byte(entry, end):.6f}" if entry.first_byte else duration},{place.json},'
        f'"request_id":"{entry.request_id}"'
    )
    if entry.trace_id or entry.given_up or status == SWITCHING_PROTOCOLS or place.speaks_tls:
        line += _json_of_end(entry, place)
    return line + "}\n"


def _json_of_end(entry: Entry, place: Place) -> str:
    more = f',"trace_id":"{entry.trace_id}"' if entry.trace_id else ""
    if entry.given_up:
        more += ',"incomplete":true'
    if entry.status == SWITCHING_PROTOCOLS:
        names = ("close_code", "messages_received", "messages_sent")
        more += "".join(f',"{name}":{_of_session(entry, name)}' for name in names)
    if place.speaks_tls:
        more += f',"tls":"{tls_version(entry)}"'
    return more


def _of_session(entry: Entry, name: str) -> int:
    return int(getattr(entry, name, 0))


def _template(template: str, fields: dict[str, Field]) -> Format:
    """Return the format that fills a template, whose fields are all known."""
    literals, getters = [""], []
    for piece in _PIECE.split(template):
        if piece in ("{{", "}}"):
            literals[-1] += piece[0]
        elif _PIECE.fullmatch(piece):
            getters.append(fields[piece[1:-1]])
            literals.append("")
        else:
            literals[-1] += piece
    literals[-1] += "\n"
    # "%" stands between literals, in which it is doubled.
    pattern = "%s".join(literal.replace("%", "%%") for literal in literals)
    chosen = tuple(getters)

    def line(entry: Entry, place: Place, end: float, clock: Clock) -> str:
        return pattern % tuple([field(entry, place, end, clock) for field in chosen])

    return line


_NAMED: dict[str, Format] = {
    "text": _text,
    "json": _json,
    "combined": _template(
        _COMBINED.replace("{}", "{day}"), {**FIELDS, "day": lambda entry, place, end, clock: clock.combined(end)}
    ),
}
