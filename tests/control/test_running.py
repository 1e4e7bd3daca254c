"""Whether a server serves a configuration: asked on its control socket, and believed only about that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serverd.control.requests import Request
from serverd.control.running import Running, find_running
from serverd.control.server import ControlServer
from tests.control.desk import Service
from tests.control.documents import status


def test_the_server_of_the_file_is_found(tmp_path: Path) -> None:
    document = status()

    def answer(server: ControlServer, number: int, request: Request) -> None:
        assert request == Request("status")
        server.reply(number, {"ok": True} | document)

    with Service(tmp_path / "x.sock", answer) as service:
        places = tuple((listener["name"], listener["url"]) for listener in document["listeners"])
        assert find_running(document["source"], service.path) == Running(document["pid"], places)
        assert Running(1, places).urls == tuple(url for _, url in places)
        assert find_running("/etc/other.toml", service.path) is None


@pytest.mark.parametrize(
    "said", [{"ok": False, "error": "no"}, {"ok": True}, {"ok": True, "source": "/x", "pid": [], "listeners": []}]
)
def test_what_is_no_status_is_no_server(tmp_path: Path, said: dict[str, Any]) -> None:
    with Service(tmp_path / "x.sock", lambda server, number, _: server.reply(number, said)) as service:
        assert find_running("/x", service.path) is None


def test_where_nobody_listens_there_is_none(tmp_path: Path) -> None:
    assert find_running("/x", str(tmp_path / "none.sock")) is None
    assert find_running("/x", "") is None
