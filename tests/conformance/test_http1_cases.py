"""Raw HTTP/1 request cases with the class expected of each, over both parsers, in three cuts.

`http1_cases.jsonl` holds those that were written for this project; README.md says what its columns mean. More
cases, of other projects, may stand beside this repository: they are run from there and never copied.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.applications import Recorder, read_body
from tests.support.every import every
from tests.support.wire import PARSERS, Wire

OWN = Path(__file__).with_name("http1_cases.jsonl")
OTHERS = Path(__file__).parents[3] / "shared" / "conformance" / "http1_cases.jsonl"


def load_cases() -> list[Any]:
    cases: dict[str, Any] = {}
    for path in (OWN, OTHERS):
        if path.exists():
            with path.open() as lines:
                cases |= {case["id"]: case for case in map(json.loads, lines)}
    return [pytest.param(case, id=f"{case['id']} {case['rfc']}".strip()) for case in cases.values()]


LARGE = 20_000  # bytes of a case
ORDINARY = b"POST / HTTP/1.1\r\nHost: a\r\nAccept: b\r\nContent-Length: 5\r\n\r\nwhole"
ORDINARY_FIELDS = [(b"accept", b"b"), (b"content-length", b"5")]


class Echo(Recorder):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = await read_body(receive)
        if body is None:
            return
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def final_statuses(data: bytes) -> list[int]:
    statuses = [int(match) for match in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]
    return [status for status in statuses if status >= 200]


def sent_slowly(wire: Wire, raw: bytes, size: int) -> bytes:
    """Send a case in pieces, and what is left of a large one at once when the server has said its last word."""
    if len(raw) <= LARGE:
        return wire.send_slowly(raw, size)
    received, position = b"", 0
    while position < len(raw):
        end = len(raw) if wire.closed else position + size
        received += wire.send(raw[position:end])
        position = end
    return received


def run_case(raw: bytes, parser: str, size: int) -> tuple[list[int], Wire, Echo]:
    application = Echo()
    with Wire(application, parser) as wire:
        wire.service.speaks_http2 = False  # these are cases of a server that speaks nothing else
        statuses = final_statuses(sent_slowly(wire, raw, size))
        closed = wire.closed
        # One parser reads the heads of all connections: whatever this one has sent, the next finds it as new.
        wire.connect()
        assert wire.send(ORDINARY).endswith(b"5\r\nwhole\r\n0\r\n\r\n"), "another connection suffers"
        assert application.scopes.pop()["headers"][1:] == ORDINARY_FIELDS
        application.bodies.pop()
    wire.was_closed = closed  # type: ignore[attr-defined]
    return statuses, wire, application


@pytest.mark.parametrize("case", load_cases())
@every("parser", PARSERS)
@every("size", [1 << 30, 7, 1])
def test_case(case: dict[str, Any], parser: str, size: int) -> None:
    raw = base64.b64decode(case["raw"])
    if size == 1 and len(raw) > LARGE:
        size = 501  # a large case byte by byte shows nothing that a small one does not
    statuses, wire, application = run_case(raw, parser, size)
    closed = wire.was_closed  # type: ignore[attr-defined]
    good = [status for status in statuses if status < 400]
    allowed = case["max_responses"]
    assert len(good) <= allowed, f"smuggled: {statuses}"
    assert not [status for status in statuses if status >= 500 and status not in (501, 503, 505)], statuses
    expect = case["expect"]
    if expect == "reject":
        assert not good or len(good) < allowed, statuses
        assert closed, statuses
        if allowed == 1:
            assert not application.bodies, "it reached the application in full"
    elif expect == "accept":
        assert good, statuses
        if case["body"] is not None:
            assert application.bodies[0] == case["body"].encode("latin-1")
    elif expect == "wait":
        assert len(statuses) < max(allowed, 1) or not statuses, statuses
    elif "incomplete" not in case["why"]:
        assert statuses or closed, "neither answer nor close"
    if case["must_close"] and statuses:
        assert closed, statuses
