"""The chat example with two real clients in its room."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.server import Server

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat"

TIMEOUT = 15  # seconds for one line


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the example once for all tests of this process, from a place of its own.

    The path of the configuration is that of the control socket, which only one server can have.
    """
    with Server(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("chat") / "example") / "server.toml") as started:
        yield started


def enter(server: Server, name: str) -> ClientConnection:
    """Enter the room."""
    url = server.url(f"/room?name={quote(name)}").replace("http", "ws", 1)
    return connect(url, proxy=None, open_timeout=TIMEOUT, close_timeout=TIMEOUT)


def read(member: ClientConnection) -> Any:
    """Read the next line."""
    return json.loads(member.recv(TIMEOUT))


def test_everybody_reads_what_anybody_writes(server: Server) -> None:
    with enter(server, "Ann") as ann:
        assert read(ann) == {"note": "Ann has come"}
        with enter(server, "Bob & <i>Co</i>") as bob:
            assert read(ann) == read(bob) == {"note": "Bob & <i>Co</i> has come"}
            ann.send("Hello 👋")
            assert read(ann) == read(bob) == {"from": "Ann", "text": "Hello 👋"}
            bob.send("<script>alert(1)</script>")
            assert read(ann) == read(bob) == {"from": "Bob & <i>Co</i>", "text": "<script>alert(1)</script>"}
            bob.send("   ")
            bob.send("x" * 2000)
            assert read(ann) == {"from": "Bob & <i>Co</i>", "text": "x" * 1000}
        assert read(ann) == {"note": "Bob & <i>Co</i> has gone"}


def test_the_page_takes_what_others_write_for_text(server: Server) -> None:
    with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
        page = client.get(server.url("/"))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'new URL("room", location.href)' in page.text
    for unsafe in ("innerHTML =", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in page.text
    assert "//" not in page.text.replace("  // ", "")  # self-contained: no other address


def test_who_has_no_name_does_not_get_in(server: Server) -> None:
    for name in ("", "x" * 41):
        with pytest.raises(InvalidStatus) as refusal:
            enter(server, name)
        assert refusal.value.response.status_code == 403


def test_a_message_over_the_limit_ends_the_session(server: Server) -> None:
    with enter(server, "Ann") as ann:
        assert read(ann) == {"note": "Ann has come"}
        with enter(server, "Bob") as bob:
            bob.send("x" * (16 * 1024 + 1))
            with pytest.raises(ConnectionClosedError) as end:
                list(bob)
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 1009
        assert [read(ann), read(ann)] == [{"note": "Bob has come"}, {"note": "Bob has gone"}]
