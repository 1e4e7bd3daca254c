"""WebSockets through a real nginx, with the configuration of the example."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Serve
from tests.support import nginx
from tests.support.sessions import CONFIGURATION, TIMEOUT, end_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "unix-nginx"

pytestmark = pytest.mark.skipif(nginx.NGINX is None, reason="nginx is not installed")


def enter(port: int, path: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=TIMEOUT, close_timeout=TIMEOUT)


def test_sessions_go_through_nginx_with_their_codes(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "serverd.sock"
    server = serve(CONFIGURATION.replace('"127.0.0.1:0"', f'"unix:{path}"', 1))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        text = (EXAMPLE / "nginx.conf").read_text()
        addresses = [("/tmp/serverd-example.sock", str(path)), ("listen 127.0.0.1:8080;", f"listen 127.0.0.1:{port};")]
        for written, here in addresses:
            assert text.count(written) == 1, written
            text = text.replace(written, here)
        with nginx.running(tmp_path, text, [listening]):
            with enter(port, "/echo") as session:
                for message in ("Hello", "x" * 100_000, bytes(500_000)):
                    session.send(message)
                    assert session.recv(TIMEOUT) == message
                mark = server.mark()
                session.close(4000, "so long")
            server.wait_for("ended with 4000 'so long'", since=mark)
            with enter(port, "/farewell?code=4001") as session:
                assert end_of(session) == (4001, "so long")
