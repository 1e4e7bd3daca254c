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


# Hot path: the three formats have a loop of their own, which asks the clock once a millisecond. What is the same
# whenever a head comes again they take from the head, if client and host are the same; benchmarks/ "access log".


def _keep(maker: Format, entry: Entry, before: str, after: str = "") -> tuple[str, str]:
    """Keep with its head what lines of it say before and behind what differs each time."""
    if len(before) + len(after) <= LONGEST_KEPT:
        entry.head.shown = maker, entry.client, entry.host, before, after
    return before, after


def _text(noted: Iterable[Noted], clock: Clock) -> list[str]:
    lines = []
    begin = until = 0.0
    for entry, place, end in noted:
        client, host, status = entry.client, entry.host, entry.status
        maker, of_client, of_host, asked, _ = entry.head.shown
        if maker is not _text or of_client is not client or of_host is not host:
            asked, _ = _keep(_text, entry, f'{client[0] if client else "unix:"} "{_request_line(entry.head)}"')
        if not begin <= end < until:
            time = clock.iso(end)
            begin, until = clock.begin, clock.end
        more = ""
        if entry.given_up or status == SWITCHING_PROTOCOLS:
            more, status = _text_of_end(entry), shown_status(entry)
        lines.append(
            f"{time} {asked} {status} {entry.sent} {(end - entry.began) * 1000:.2f}ms {place.app} "
            f"{entry.request_id}{more}\n"
        )
    return lines


def _request_line(head: Head) -> str:
    return f"{head.method} {target(head)} HTTP/{head.version}"


def _text_of_end(entry: Entry) -> str:
    if entry.status == SWITCHING_PROTOCOLS:
        return (
            f" websocket {_of_session(entry, 'close_code')} in {_of_session(entry, 'messages_received')}"
            f"/{entry.received} out {_of_session(entry, 'messages_sent')}"
        )
    return " incomplete" if entry.given_up else ""


def _combined(noted: Iterable[Noted], clock: Clock) -> list[str]:
    # As nginx has it: host, identity, user, time, request line, status, size, Referer, User-Agent.
    lines = []
    begin = until = 0.0
    for entry, _, end in noted:
        client, host, status = entry.client, entry.host, entry.status
        maker, of_client, of_host, asked, fields = entry.head.shown
        if maker is not _combined or of_client is not client or of_host is not host:
            names = f'"{value_of(entry, b"referer")}" "{value_of(entry, b"user-agent")}"'
            asked, fields = _keep(_combined, entry, f'"{_request_line(entry.head)}"', names)
        if not begin <= end < until:
            time = clock.combined(end)
            begin, until = clock.begin, clock.end
        if entry.given_up:
            status = shown_status(entry)
        lines.append(f"{client[0] if client else 'unix:'} - - [{time}] {asked} {status} {entry.sent} {fields}\n")
    return lines


def _json(noted: Iterable[Noted], clock: Clock) -> list[str]:
    lines = []
    begin = until = 0.0
    for entry, place, end in noted:
        host, status = entry.host, entry.status
        maker, of_client, of_host, asked, tls = entry.head.shown
        if maker is not _json or of_client is not entry.client or of_host is not host:
            tls = f',"tls":"{tls_version(entry)}"' if place.speaks_tls else ""
            asked, tls = _keep(_json, entry, _json_of_head(entry), tls)
        if not begin <= end < until:
            time = clock.iso(end)
            begin, until = clock.begin, clock.end
        duration = f"{end - entry.began:.6f}"
        more = ""
        if entry.trace_id or entry.given_up or status == SWITCHING_PROTOCOLS:
            more, status = _json_of_end(entry), shown_status(entry)
        lines.append(
            f'{{"time":"{time}",{asked},"status":{status},"bytes":{entry.sent},"bytes_received":{entry.received},'
            f'"duration":{duration},"first_byte":{f"{first_byte(entry, end):.6f}" if entry.first_byte else duration},'
            f'{place.json},"request_id":"{entry.request_id}"{more}{tls}}}\n'
        )
    return lines


def _json_of_head(entry: Entry) -> str:
    # A quarter of what json.dumps takes: only what a peer chooses freely is quoted.
    head, client, query = entry.head, entry.client, entry.head.query
    asked = b"%s?%s" % (head.raw_path, query) if query else head.raw_path
    return (
        f'"client":{_quote(client[0]) if client else "null"},"method":"{head.method}",'
        f'"host":{_quote(entry.host or "")},'
        f'"target":{_quote(str(asked, "utf-8", "backslashreplace"))},"protocol":"HTTP/{head.version}"'
    )


def _json_of_end(entry: Entry) -> str:
    more = f',"trace_id":"{entry.trace_id}"' if entry.trace_id else ""
    if entry.given_up:
        more += ',"incomplete":true'
    if entry.status == SWITCHING_PROTOCOLS:
        names = ("close_code", "messages_received", "messages_sent")
        more += "".join(f',"{name}":{_of_session(entry, name)}' for name in names)
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

    def lines(noted: Iterable[Noted], clock: Clock) -> list[str]:
        return [pattern % tuple([field(entry, place, end, clock) for field in chosen]) for entry, place, end in noted]

    return lines


_NAMED: dict[str, Format] = {"text": _text, "json": _json, "combined": _combined}
