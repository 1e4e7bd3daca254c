"""What the commands about a running server ask, and what they make of the answer; `requests` has what there is.

Each function returns an `Outcome`, or raises ControlError; none prints or ends a process, as the command line does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from serverd.control.client import ControlClient, ControlError, ServerGone
from serverd.control.status_text import describe_status
from serverd.observe.logs import escape

__all__ = ["Outcome", "order", "read_status", "stop", "watch_status"]

EXIT_OK = 0
EXIT_REFUSED = 3  # as of a start that the configuration does not allow

# Seconds for a status, which the supervisor tells at once unless something is very wrong.
STATUS_PATIENCE = 10.0
# Seconds between two looks: often enough for eyes, and nothing to the supervisor.
WATCH_INTERVAL = 1.0

# What a status raises that is not of this version; `describe_status` says so.
NOT_UNDERSTOOD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found out, ready to be written; both texts end in a newline if there is any."""

    code: int
    out: str = ""
    err: str = ""


def read_status(client: ControlClient, *, as_json: bool = False) -> Outcome:
    """Tell how the server is."""
    return _shown(client.ask({"command": "status"}, STATUS_PATIENCE), as_json=as_json, indent=2)


def watch_status(
    connect: Callable[[], ControlClient], *, as_json: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Outcome]:
    """Yield the status once a second, for ever; while there is no server, why there is none.

    Each look has a connection of its own, so that it follows a restart or an upgrade.
    """
    while True:
        try:
            with connect() as client:
                yield _shown(client.ask({"command": "status"}, STATUS_PATIENCE), as_json=as_json, indent=None)
        except ControlError as error:
            yield Outcome(EXIT_REFUSED, err=f"serverd: {error}\n")
        sleep(WATCH_INTERVAL)


def order(client: ControlClient, command: str, timeout: float | None = None, **details: Any) -> Outcome:
    """Have the server do something, and wait until it is done, or decided that it is not."""
    return _told(client.ask({"command": command, **details}, timeout))


def stop(client: ControlClient, timeout: float | None = None) -> Outcome:
    """Stop the server gracefully; wait until it has gone."""
    promises: list[dict[str, Any]] = []
    try:
        return _told(client.ask({"command": "stop"}, timeout, promises.append))
    except ServerGone:
        if not any(promise["ok"] for promise in promises):
            raise
        return Outcome(EXIT_OK, "stopped\n")


def _told(reply: dict[str, Any]) -> Outcome:
    if reply["ok"]:
        return Outcome(EXIT_OK, _lines(reply.get("text")))
    error = _lines(reply.get("error")) or "the server refused without a reason\n"
    return Outcome(EXIT_REFUSED, err=f"serverd: {error}{_lines(reply.get('detail'))}")


def _shown(reply: dict[str, Any], *, as_json: bool, indent: int | None) -> Outcome:
    if not reply["ok"]:
        return _told(reply)
    status = {key: value for key, value in reply.items() if key != "ok"}
    if as_json:
        return Outcome(EXIT_OK, json.dumps(status, indent=indent) + "\n")
    try:
        return Outcome(EXIT_OK, describe_status(status, time.time()))
    except NOT_UNDERSTOOD as error:
        raise ControlError(
            "the server's status is not what this version of serverd shows, expected a server of the same version "
            "(`serverd upgrade` brings it up to date, --json shows the status as it is)"
        ) from error


def _lines(text: object) -> str:
    """Return `text` with each line escaped: it may quote an application."""
    if not isinstance(text, str) or not text.strip():
        return ""
    return "".join(f"{escape(line)}\n" for line in text.rstrip("\n").split("\n"))
