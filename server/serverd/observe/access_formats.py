"""The formats of the access log: from a request at its end to a line. Chosen once, when a generation is served.

`text` is for people, `json` for programs, `combined` what tools for nginx and Apache read; all else is a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from serverd.observe.access_fields import (
    FIELDS,
    Clock,
    Entry,
    Field,
    Head,
    Noted,
    Place,
    first_byte,
    shown_status,
    target,
    tls_version,
    value_of,
)

__all__ = ["LONGEST_KEPT", "Format", "make_format"]

SWITCHING_PROTOCOLS = 101  # RFC 9110 §15.2.2; of an HTTP/2 session, too

Format = Callable[[Iterable[Noted], Clock], list[str]]
"""Returns the lines of requests that were noted, one for each."""

# Texts of a head of more characters are made anew for each line: ten thousand idle connections should not keep much.
LONGEST_KEPT = 1024

# Two braces, or a field.
_PIECE = re.compile(r"(\{\{|\}\}|\{\w+\})")

_quote = json.encoder.encode_basestring_ascii  # the C function that json uses


def make_format(name: str, *, is_terminal: bool) -> Format:
    """Return the format of this name, or of this template."""
    if name == "auto":
        name = "text" if is_terminal else "json"
    if name in _NAMED:
        return _NAMED[name]
    return _template(name, FIELDS)


# Hot path: the three formats have a loop of their own, which asks the clock once a millisecond: requests are noted in
# the order in which they end. What is the same whenever a head comes again and has the same answer they take from the
# head, and of few pieces they make a line: where one ends in the quotes of the next, it is for that. benchmarks/
# "access log".


def _keep(entry: Entry, key: tuple[object, ...], before: str, after: str) -> tuple[str, str]:
    """Keep with its head what lines say before and behind what differs each time, made of what is in `key`."""
    if len(before) + len(after) <= LONGEST_KEPT and entry.status != SWITCHING_PROTOCOLS:  # of sessions more is said
        entry.head.shown = key, before, after
    return before, after


def _text(noted: Iterable[Noted], clock: Clock) -> list[str]:
    lines = []
    until = 0.0
    for entry, place in noted:
        key = (_text, entry.client, entry.host, entry.status, entry.sent, entry.given_up)
        kept, before, after = entry.head.shown
        if kept != key:
            before, after = _keep(entry, key, _text_of_head(entry), _text_of_end(entry))
        end = entry.ended
        if end >= until:
            time = clock.iso(end)
            until = clock.end
        lines.append(f"{time}{before}{(end - entry.began) * 1000:.2f}ms {place.app} {entry.request_id}{after}")
    return lines


def _text_of_head(entry: Entry) -> str:
    client = entry.client
    return f' {client[0] if client else "unix:"} "{_request_line(entry.head)}" {shown_status(entry)} {entry.sent} '


def _request_line(head: Head) -> str:
    return f"{head.method} {target(head)} HTTP/{head.version}"


def _text_of_end(entry: Entry) -> str:
    if entry.status == SWITCHING_PROTOCOLS:
        return (
            f" websocket {_of_session(entry, 'close_code')} in {_of_session(entry, 'messages_received')}"
            f"/{entry.received} out {_of_session(entry, 'messages_sent')}\n"
        )
    return " incomplete\n" if entry.given_up else "\n"


def _combined(noted: Iterable[Noted], clock: Clock) -> list[str]:
    lines = []
    until = 0.0
    for entry, _ in noted:
        key = (_combined, entry.client, entry.host, entry.status, entry.sent, entry.given_up)
        kept, before, after = entry.head.shown
        if kept != key:
            client = entry.client
            before, after = _keep(entry, key, client[0] if client else "unix:", _combined_of_head(entry))
        end = entry.ended
        if end >= until:
            time = clock.combined(end)
            until = clock.end
        lines.append(f"{before} - - [{time}] {after}")
    return lines


def _combined_of_head(entry: Entry) -> str:
    # As nginx has it: host, identity, user, time, and from here on request line, status, size, Referer, User-Agent.
    names = f'"{value_of(entry, b"referer")}" "{value_of(entry, b"user-agent")}"'
    return f'"{_request_line(entry.head)}" {shown_status(entry)} {entry.sent} {names}\n'


def _json(noted: Iterable[Noted], clock: Clock) -> list[str]:
    lines = []
    until = 0.0
    for entry, place in noted:
        key = (_json, entry.client, entry.host, entry.status, entry.sent, entry.received, entry.given_up)
        kept, before, after = entry.head.shown
        if kept != key:
            before, after = _keep(entry, key, _json_of_head(entry), _json_of_end(entry, place))
        end = entry.ended
        if end >= until:
            time = clock.iso(end)
            until = clock.end
        duration = f"{end - entry.began:.6f}"
        first = f"{first_byte(entry):.6f}" if entry.first_byte else duration
        name = f'{entry.request_id}","trace_id":"{entry.trace_id}' if entry.trace_id else entry.request_id
        lines.append(f'{{"time":"{time}{before}{duration},"first_byte":{first}{place.json}{name}{after}')
    return lines


def _json_of_head(entry: Entry) -> str:
    # A quarter of what json.dumps takes: only what a peer chooses freely is quoted.
    head, client, query = entry.head, entry.client, entry.head.query
    asked = b"%s?%s" % (head.raw_path, query) if query else head.raw_path
    return (
        f'","client":{_quote(client[0]) if client else "null"},"method":"{head.method}",'
        f'"host":{_quote(entry.host or "")},'
        f'"target":{_quote(str(asked, "utf-8", "backslashreplace"))},"protocol":"HTTP/{head.version}",'
        f'"status":{shown_status(entry)},"bytes":{entry.sent},"bytes_received":{entry.received},"duration":'
    )


def _json_of_end(entry: Entry, place: Place) -> str:
    more = '","incomplete":true' if entry.given_up else '"'
    if entry.status == SWITCHING_PROTOCOLS:
        names = ("close_code", "messages_received", "messages_sent")
        more += "".join(f',"{name}":{_of_session(entry, name)}' for name in names)
    if place.speaks_tls:
        more += f',"tls":"{tls_version(entry)}"'
    return more + "}\n"


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

    def lines(noted: Iterable[Noted], clock: Clock) -> list[str]:
        return [pattern % tuple([field(entry, place, clock) for field in chosen]) for entry, place in noted]

    return lines


_NAMED: dict[str, Format] = {"text": _text, "json": _json, "combined": _combined}
