"""WebSocket sessions with the application `sessions`: by a real client, or with every frame written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.conftest import APPS
from tests.support.client import Client
from tests.support.server import Address, Server

TIMEOUT = 15  # seconds for one message

CONFIGURATION = f"""\
[listeners.web]
bind = "127.0.0.1:0"

[listeners.pings]
bind = "127.0.0.1:0"

[listeners.pings.limits.websocket]
ping_interval = "1s"
ping_timeout = "1s"

[listeners.hasty]
bind = "127.0.0.1:0"

[listeners.hasty.limits]
send_timeout = "1s"

[apps.sessions]
app = "sessions:app"
directory = "{APPS}"

[[mounts]]
app = "sessions"
path = "/"

[limits.websocket]
message_size = "1MiB"
"""

HANDSHAKE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),  # RFC 6455 §1.3, with its answer below
]
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def enter(server: Server, path: str, **more: Any) -> ClientConnection:
    """Open a session with the `websockets` library."""
    url = server.url(path).replace("http", "ws", 1)
    return connect(url, proxy=None, open_timeout=TIMEOUT, close_timeout=TIMEOUT, **more)


def end_of(session: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the server's Close, which has to come next."""
    with pytest.raises(ConnectionClosed) as end:
        session.recv(TIMEOUT)
    assert end.value.rcvd is not None, "the connection ended without a Close"
    return end.value.rcvd.code, end.value.rcvd.reason


def enter_by_hand(address: Address, path: str, *more: tuple[str, str]) -> Client:
    """Open a session on which every frame is written by hand; `more`: fields of the handshake."""
    client = Client(address)
    answer = client.request("GET", path, [*HANDSHAKE, *more])
    assert answer.status == 101
    assert answer.header("sec-websocket-accept") == ACCEPTED
    return client


def read_frame(client: Client) -> tuple[int, bytes]:
    """Read a frame of the server; return its first byte and the payload."""
    first, size = client.read(2)
    if size > 125:
        size = int.from_bytes(client.read(2 if size == 126 else 8), "big")
    return first, client.read(size)
