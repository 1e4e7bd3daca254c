"""Applications configure logging as they like, and what the server has to say is logged all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.client import Client, get
from tests.support.server import Server

BASIC = "logging.basicConfig(format='basic %(message)s', level='ERROR')"
DICT = """logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": True, "formatters": {"own": {"format": "own %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"handlers": ["own"], "level": "ERROR"},
})"""

APPLICATION = """
import logging, logging.config, warnings
before = logging.getLogger("shop.before")
CONFIGURE
log = logging.getLogger("shop")
log.addHandler(logging.FileHandler("HANDLED"))

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        raise RuntimeError("no session")
    assert scope["type"] == "http"
    log.error("said by the shop")
    warnings.warn("old")
    raise RuntimeError("broken")
"""


def serve_shop(serve: Serve, tmp_path: Path, configure: str) -> Server:
    source = APPLICATION.replace("CONFIGURE", configure).replace("HANDLED", str(tmp_path / "handled"))
    (tmp_path / "shop.py").write_text(source)
    return serve(
        '[listeners.web]\nbind = "127.0.0.1:0"\n[apps.shop]\napp = "shop"\nlifespan = "off"\n'
        '[[mounts]]\napp = "shop"\n[server]\nrequest_id_header = "X-Request-ID"\n'
    )


def records(server: Server) -> list[dict[str, Any]]:
    """Return the log lines in JSON."""
    lines = [line for line in server.output.splitlines() if line.startswith("{")]
    return [record for line in lines if "message" in (record := json.loads(line))]


@pytest.mark.parametrize("configure", ["", BASIC, DICT], ids=["not", "basicConfig", "dictConfig"])
def test_a_500_is_logged_once_with_traceback_and_id(serve: Serve, tmp_path: Path, configure: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    server = serve_shop(serve, tmp_path, configure)
    response = get(server.address(), "/fail", headers=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
    assert response.status == 500
    with Client(server.address()) as client:
        client.send(b"GET /refused HTTP/1.1\r\n\r\n")
        refused = client.response()
    assert server.stop() == 0
    (line,) = [line for line in server.output.splitlines() if '"target":"/refused"' in line]
    assert json.loads(line)["request_id"] == dict(refused.headers)["x-request-id"]
    assert json.loads(line)["bytes"] == len(refused.body) > 0
    (failure,) = [record for record in records(server) if "failed on GET /fail" in record["message"]]
    assert failure["request_id"] == dict(response.headers)["x-request-id"]
    assert failure["trace_id"] == trace
    assert "RuntimeError: broken" in failure["exception"]
    assert (tmp_path / "handled").read_text().splitlines() == ["said by the shop"]
    if configure == DICT:
        assert server.output.count("own said by the shop") == 1
        assert not any(record["message"] == "said by the shop" for record in records(server))
    else:
        (said,) = [record for record in records(server) if record["message"] == "said by the shop"]
        assert said["request_id"] == failure["request_id"]
        (warning,) = [record for record in records(server) if record["logger"] == "py.warnings"]
        assert "UserWarning: old" in warning["message"]
