"""The vocabulary of the control socket: what is a request, and the sentence for everything that is not."""

from __future__ import annotations

import json

import pytest

from serverd.control.requests import Request, RequestError, encode, parse_request
from tests.support.every import every


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"command": "status"}', Request("status")),
        (b'{"command": "reload"}', Request("reload")),
        (b'{"command": "reload", "dry_run": true}', Request("reload", dry_run=True)),
        (b'{"command": "reload", "dry_run": false}', Request("reload")),
        (b'{"command": "stop"}', Request("stop")),
        (b'{"command": "scale", "workers": 3}', Request("scale", workers=3)),
        (b'{"command": "scale", "workers": 1024}', Request("scale", workers=1024)),
        (b' {"command":"upgrade"}\r', Request("upgrade")),
        (b'{"command":"reopen"}', Request("reopen")),
    ],
)
def test_a_request_is_understood(line: bytes, request_: Request) -> None:
    assert parse_request(line) == request_


WORKERS = "scale: workers is not a whole number from 1 to 1024"


@every(
    ("line", "error"),
    [
        (b"", "not a request: expected one JSON object in a line"),
        (b"GET / HTTP/1.1\r", "not a request: expected one JSON object in a line"),
        (b"\xff\xfe", "not a request: expected one JSON object in a line"),
        (b"[" * 60_000, "not a request: expected one JSON object in a line"),
        (b"9" * 60_000, "not a request: expected one JSON object in a line"),
        (b'{"command": "stop"} {}', "not a request: expected one JSON object in a line"),
        (b"null", "not a request: expected a JSON object"),
        (b'["stop"]', "not a request: expected a JSON object"),
        (b"{}", "unknown command: expected one of status, reload, stop, scale, upgrade, reopen"),
        (b'{"command": ["stop"]}', "unknown command: expected one of status, reload, stop, scale, upgrade, reopen"),
        (
            b'{"command": "relaod"}',
            'unknown command "relaod" (did you mean "reload"?):'
            " expected one of status, reload, stop, scale, upgrade, reopen",
        ),
        (b'{"command": "stop", "when": 3}', 'stop does not take "when"'),
        (b'{"command": "reload", "dry-run": true}', 'reload does not take "dry-run" (did you mean "dry_run"?)'),
        (b'{"command": "status", "workers": 3}', 'status does not take "workers"'),
        (b'{"command": "reload", "dry_run": 1}', "reload: dry_run is not true or false"),
        (b'{"command": "reload", "dry_run": null}', "reload: dry_run is not true or false"),
        (b'{"command": "scale"}', WORKERS),
        (b'{"command": "scale", "workers": 0}', WORKERS),
        (b'{"command": "scale", "workers": 1025}', WORKERS),
        (b'{"command": "scale", "workers": true}', WORKERS),
        (b'{"command": "scale", "workers": 2.0}', WORKERS),
        (b'{"command": "scale", "workers": "2"}', WORKERS),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else "",
)
def test_what_is_no_request_is_refused_with_a_sentence(line: bytes, error: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(line)
    assert str(caught.value) == error


def test_an_error_quotes_no_more_than_the_start_and_no_control_character() -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps({"command": "\x1b[2J\n" + "x" * 1000}).encode())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 150


def test_a_document_is_one_line_of_ascii() -> None:
    line = encode({"text": "a\nb\x1b\u2028ä"})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert json.loads(line) == {"text": "a\nb\x1b\u2028ä"}
