"""WebSockets of real clients against a real server: what they say, how sessions end, and what floods cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.support.client import Client
from tests.support.frames import CLOSE, PING, PONG, TEXT, close, frame
from tests.support.server import Server
from tests.support.sessions import CONFIGURATION, HANDSHAKE, TIMEOUT, end_of, enter, enter_by_hand, read_frame


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server for the tests that leave it as it is."""
    file = tmp_path_factory.mktemp("websocket") / "server.toml"
    file.write_text(CONFIGURATION)
    with Server(file) as started:
        yield started


class TestClients:
    """Messages and handshakes."""

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_websockets_gets_every_message_back(self, server: Server, compression: str | None) -> None:
        with enter(server, "/echo", compression=compression) as session:
            for message in ("", "Hello", "κόσμε 👋", "x" * 70_000, b"", bytes(range(256)) * 4096):
                session.send(message)
                assert session.recv(TIMEOUT) == message
            session.send(["in ", "three ", "fragments"])
            assert session.recv(TIMEOUT) == "in three fragments"
            assert session.ping(b"?").wait(TIMEOUT)

    def test_wsproto_gets_every_message_back(self, server: Server) -> None:
        with Client(server.address()) as client:
            protocol = WSConnection(ConnectionType.CLIENT)
            request = Request(host="localhost", target="/echo", extensions=[PerMessageDeflate()])
            client.socket.sendall(protocol.send(request))
            (accepted,) = self._receive(client, protocol)
            assert isinstance(accepted, AcceptConnection)
            assert [extension.enabled() for extension in accepted.extensions] == [True]
            for message in (TextMessage("Hello"), TextMessage("x" * 70_000), BytesMessage(bytes(3000))):
                client.socket.sendall(protocol.send(message))
                assert self._receive_message(client, protocol) == message.data
            client.socket.sendall(protocol.send(CloseConnection(1000, "bye")))
            (closed,) = self._receive(client, protocol)
            assert isinstance(closed, CloseConnection)
            assert closed.code == 1000

    @staticmethod
    def _receive(client: Client, protocol: WSConnection) -> list[Any]:
        events: list[Any] = []
        while not events:
            data = client.socket.recv(65536)
            assert data, "the connection ended"
            protocol.receive_data(data)
            events = list(protocol.events())
        return events

    def _receive_message(self, client: Client, protocol: WSConnection) -> str | bytes:
        parts: list[Any] = []
        while not parts or not parts[-1].message_finished:
            parts += self._receive(client, protocol)
        assert all(isinstance(part, Message) for part in parts)
        return type(parts[0].data)().join(part.data for part in parts)

    def test_the_application_chooses_a_subprotocol_and_sets_headers(self, server: Server) -> None:
        with enter(server, "/a/describe", subprotocols=["one", "two"]) as session:
            assert session.subprotocol == "two"
            assert session.response is not None
            assert session.response.headers["set-cookie"] == "a=b"
            scope = json.loads(session.recv(TIMEOUT))
            assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
            assert (scope["path"], scope["subprotocols"]) == ("/a/describe", ["one", "two"])
            assert scope["client"][0] == "127.0.0.1"
            assert end_of(session) == (1000, "")

    @pytest.mark.parametrize(("path", "status", "body"), [("/forbid", 403, None), ("/deny", 401, b"who are you?")])
    def test_the_application_refuses(self, server: Server, path: str, status: int, body: bytes | None) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            enter(server, path)
        assert refusal.value.response.status_code == status
        assert body is None or bytes(refusal.value.response.body or b"") == body

    def test_a_version_that_nobody_speaks_is_told_which_one_is(self, server: Server) -> None:
        with Client(server.address()) as client:
            headers = [field if field[1] != "13" else (field[0], "8") for field in HANDSHAKE]
            answer = client.request("GET", "/echo", headers)
            assert (answer.status, answer.header("sec-websocket-version")) == (426, "13")  # RFC 6455 §4.4

    def test_what_is_sent_with_the_handshake_is_not_lost(self, server: Server) -> None:
        lines = ["GET /echo HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in HANDSHAKE), "", ""]
        with Client(server.address()) as client:
            client.send("\r\n".join(lines).encode() + frame(TEXT, b"early"))
            assert client.response().status == 101
            assert read_frame(client) == (0x80 | TEXT, b"early")


class TestEnds:
    """RFC 6455 §7, and the ASGI WebSocket specification."""

    def test_code_and_reason_of_the_client_reach_the_application(self, server: Server) -> None:
        mark = server.mark()
        with enter(server, "/echo") as session:
            session.close(4000, "so long")
            assert session.close_code == 4000
        server.wait_for("ended with 4000 'so long'", since=mark)

    def test_a_close_without_code_is_told_as_1005(self, server: Server) -> None:
        mark = server.mark()
        with enter_by_hand(server.address(), "/echo") as client:
            client.send(frame(CLOSE))
            assert read_frame(client) == (0x80 | CLOSE, b"")
            assert client.ended()
        server.wait_for("ended with 1005 ''", since=mark)

    def test_a_client_that_is_gone_is_told_as_1006(self, server: Server) -> None:
        mark = server.mark()
        enter_by_hand(server.address(), "/echo").close()
        server.wait_for("ended with 1006 ''", since=mark)

    def test_a_client_that_breaks_the_protocol_is_told_why(self, server: Server) -> None:
        mark = server.mark()
        with enter_by_hand(server.address(), "/echo") as client:
            client.send(b"\x81\x05Hello")
            first, payload = read_frame(client)
            assert (first, payload[:2]) == (0x80 | CLOSE, (1002).to_bytes(2, "big"))
            client.send(close(1002))
            assert client.ended()
        server.wait_for("ended with 1002", since=mark)

    @pytest.mark.parametrize("code", [1000, 1008, 1013, 3000, 4999])
    def test_code_and_reason_of_the_application_reach_the_client(self, server: Server, code: int) -> None:
        with enter(server, f"/farewell?code={code}") as session:
            assert end_of(session) == (code, "so long")

    def test_a_failed_application_is_1011_and_a_traceback(self, server: Server) -> None:
        mark = server.mark()
        with enter(server, "/fail") as session:
            session.send("x")
            assert end_of(session) == (1011, "")
        server.wait_for("GET /fail", since=mark)
        assert "RuntimeError: broken on purpose" in server.text(since=mark)
        with enter(server, "/echo") as session:
            session.send("still there?")
            assert session.recv(TIMEOUT) == "still there?"


class TestPings:
    """RFC 6455 §5.5.2; `limits.websocket.ping_interval` and `ping_timeout`, of a second each."""

    def test_who_answers_stays_and_who_does_not_is_let_go(self, server: Server) -> None:
        mark = server.mark()
        pings = server.address("pings")
        with enter_by_hand(pings, "/echo") as silent, enter_by_hand(pings, "/echo") as alive:
            for _ in range(2):
                first, payload = read_frame(alive)
                assert first == 0x80 | PING
                alive.send(frame(PONG, payload))
            assert read_frame(silent)[0] == 0x80 | PING
            assert read_frame(silent)[0] == 0x80 | CLOSE
            assert silent.ended()
            server.wait_for("ended with 1006", since=mark)
            alive.send(frame(TEXT, b"here"))
            assert read_frame(alive) == (0x80 | TEXT, b"here")


def test_sessions_last_through_a_drain_and_end_with_its_code(tmp_path: Path) -> None:
    """1012 for those that a reload ends, 1001 for those that the end of the server does (RFC 6455 §7.4.1, IANA)."""
    file = tmp_path / "server.toml"
    text = f'[server]\ngraceful_timeout = "2s"\n\n{CONFIGURATION}'
    file.write_text(text)
    with Server(file) as server, enter(server, "/echo") as old:
        changed = text.replace("[apps.sessions]", '[apps.sessions]\nenv = { CHANGED = "1" }')  # needs new workers
        file.write_text(changed.replace('graceful_timeout = "2s"', 'graceful_timeout = "1s"'))
        assert server.reload().message.startswith("reloaded:")
        with enter(server, "/echo") as new:
            old.send("draining")
            assert old.recv(TIMEOUT) == "draining"
            assert end_of(old) == (1012, "")
            new.send("new")
            assert new.recv(TIMEOUT) == "new"
            assert server.stop() == 0
            assert end_of(new) == (1001, "")
