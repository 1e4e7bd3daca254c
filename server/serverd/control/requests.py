"""What may be said over the control socket: requests, replies, and their bounds; one JSON object per line.

    {"command": "reload", "dry_run": true}
    {"ok": true, "text": "..."}     {"ok": false, "error": "one line", "detail": "a traceback or report"}

A reply that another one, or the end of the connection, will follow carries `"more": true`. Everything that
is not known is refused: a request that means something to the sender must never be carried out as another
one. No sockets; `server` and `client` call it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["COMMANDS", "LINE_LIMIT", "MOST_WORKERS", "Request", "RequestError", "encode", "parse_request"]

# Bytes of a request's line. The longest that means anything has 40; more is somebody else's protocol.
LINE_LIMIT = 64 * 1024
# As [server] workers has it.
MOST_WORKERS = 1024

COMMANDS: Mapping[str, frozenset[str]] = {
    # Each with what it takes beside its name.
    "status": frozenset(),
    "reload": frozenset({"dry_run"}),
    "stop": frozenset(),
    "scale": frozenset({"workers"}),
    "upgrade": frozenset(),
    "reopen": frozenset(),
}


class RequestError(ValueError):
    """A line is not a request; the message is the reply's."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that is asked of the supervisor."""

    command: str  # one of COMMANDS
    workers: int | None = None  # scale: how many there shall be
    dry_run: bool = False  # reload: tell what would happen, and let nothing happen


def parse_request(line: bytes) -> Request:
    """Return the request that `line` holds.

    Raises RequestError with the sentence for whoever sent it.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):  # the latter because json follows any nesting
        raise RequestError("not a request: expected one JSON object in a line") from None
    if not isinstance(document, dict):
        raise RequestError("not a request: expected a JSON object")
    command = document.pop("command", None)
    if not isinstance(command, str) or command not in COMMANDS:
        raise RequestError(f"unknown command{_shown(command, COMMANDS)}: expected one of {', '.join(COMMANDS)}")
    unknown = sorted(document.keys() - COMMANDS[command])
    if unknown:
        raise RequestError(f"{command} does not take{_shown(unknown[0], COMMANDS[command])}")
    dry_run = document.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise RequestError(f"{command}: dry_run is not true or false")
    return Request(command, _workers(command, document.get("workers")), dry_run)


def encode(document: Mapping[str, Any]) -> bytes:
    """Return `document` as one line of ASCII, so that it holds no control character of whatever it quotes."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _workers(command: str, value: object) -> int | None:
    if "workers" not in COMMANDS[command]:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_WORKERS:
        raise RequestError(f"{command}: workers is not a whole number from 1 to {MOST_WORKERS}")
    return value


def _shown(value: object, known: Iterable[str]) -> str:
    """Return the start of what was sent, such as ` "relaod" (did you mean "reload"?)`, or nothing."""
    if not isinstance(value, str):
        return ""
    near = difflib.get_close_matches(value[:40], known, n=1)
    return f" {json.dumps(value[:40])}" + (f' (did you mean "{near[0]}"?)' if near else "")
