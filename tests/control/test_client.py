"""The operator's end: what it sends, how long it waits, and the sentence for everything that can go wrong."""

from __future__ import annotations

import os
import select
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd.control import client as client_module
from serverd.control.client import ControlClient, ControlError, ServerGone
from serverd.control.requests import Request
from serverd.control.server import ControlServer
from tests.control.desk import Desk, Service

SERVED = "server.toml"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "x.sock")


class Stranger:
    """Something that listens and does not speak as the server does."""

    def __init__(self, path: str) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen(1)
        self.client = ControlClient(path, SERVED)
        self.end, _ = self.listening.accept()

    def close(self) -> None:
        self.client.close()
        self.end.close()
        self.listening.close()


@pytest.fixture
def stranger(path: str) -> Iterator[Stranger]:
    stranger = Stranger(path)
    yield stranger
    stranger.close()


def ask(client: ControlClient, timeout: float | None = 10.0) -> dict[str, Any]:
    return client.ask({"command": "status"}, timeout)


def test_a_question_is_answered(path: str) -> None:
    def answer(server: ControlServer, number: int, request: Request) -> None:
        server.reply(number, {"ok": True, "text": f"{request.workers} workers"})

    with Service(Path(path), answer), ControlClient(path) as client:
        for count in (2, 3):
            reply = client.ask({"command": "scale", "workers": count}, 10.0)
            assert reply == {"ok": True, "text": f"{count} workers"}


def test_replies_before_the_last_are_progress(path: str) -> None:
    def answer(server: ControlServer, number: int, request: Request) -> None:
        server.reply(number, {"ok": True, "text": "one"}, end=False)
        server.reply(number, {"ok": True, "text": "two"}, end=False)
        server.reply(number, {"ok": True, "text": "three"})

    heard: list[str] = []
    with Service(Path(path), answer), ControlClient(path) as client:
        reply = client.ask({"command": "reload"}, None, lambda document: heard.append(document["text"]))
    assert heard == ["one", "two"]
    assert reply == {"ok": True, "text": "three"}


def test_a_long_answer_arrives_whole(path: str) -> None:
    text = "ä" * 1_000_000

    def answer(server: ControlServer, number: int, request: Request) -> None:
        server.reply(number, {"ok": True, "text": text})

    with Service(Path(path), answer), ControlClient(path) as client:
        assert ask(client) == {"ok": True, "text": text}


def test_the_reason_of_a_server_that_hung_up_at_once_is_heard(path: str, stranger: Stranger) -> None:
    stranger.end.sendall(b'{"ok": false, "error": "too many clients"}\n')
    stranger.end.close()
    assert ask(stranger.client) == {"ok": False, "error": "too many clients"}


def refusal(path: str, served: str = SERVED) -> str:
    with pytest.raises(ControlError) as caught:
        ControlClient(path, served)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_no_socket(path: str) -> None:
    rest = f"no control socket at {path}, expected that of a running server"
    assert refusal(path) == f"no serverd serves server.toml: {rest}"
    assert refusal(path, "") == f"no serverd to be asked: {rest}"
    assert refusal(f"{path}/x") == f"no serverd serves server.toml: {rest.replace(path, f'{path}/x')}"


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no control socket at" in refusal(str(tmp_path / "file" / "x.sock"))


def test_a_socket_that_nobody_listens_on(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    assert refusal(path) == (
        f"no serverd serves server.toml: nobody listens at {path} any more, the server that did has ended suddenly"
    )


def test_a_queue_that_is_full_for_a_moment(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        room = threading.Timer(0.1, lambda: listening.accept()[0].close())
        room.start()
        ControlClient(path, SERVED).close()
        room.join()


def test_a_queue_that_stays_full(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        assert refusal(path) == f"cannot ask the server at {path}: it is not taking connections"


def test_a_path_above_the_limit_of_the_system() -> None:
    path = "/" + "x" * 200
    assert refusal(path) == f"cannot ask a server at {path}: the path is too long for a unix socket"


def test_a_server_of_somebody_else_is_not_asked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(client_module, "peer_uid", lambda sock: 1001)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        assert refusal(path) == f"the server at {path} runs as user 1001, expected 1000 or root"


def test_root_asks_a_server_of_anybody(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(client_module, "peer_uid", lambda sock: 1001)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        ControlClient(path).close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads that other tests left, from 3.12 on
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_kept_away_by_the_modes_and_by_name() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        with Desk(Path(folder) / "x.sock") as desk:
            assert stopped_by_stranger(desk) == (
                f"cannot ask the server at {desk.path}: permission denied (the user it runs as, and root, may)"
            )
            os.chmod(desk.path, 0o666)
            assert stopped_by_stranger(desk) == "the server of server.toml went away before it had answered"
            assert desk.asked == []


def stopped_by_stranger(desk: Desk) -> str:
    """Return what another user hears who wants the server to stop."""
    heard, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            with ControlClient(desk.path, SERVED) as client:
                os.write(say, str(client.ask({"command": "stop"}, 10.0)).encode())
        except ControlError as error:
            os.write(say, str(error).encode())
        finally:
            os._exit(0)
    os.close(say)
    with open(heard) as said:
        desk.selector.register(heard, selectors.EVENT_READ, lambda mask: None)
        while not select.select([heard], [], [], 0)[0]:
            assert desk.step(), "the other user is not heard of"
        desk.selector.unregister(heard)
        os.waitpid(child, 0)
        return said.read()


# Servers that do not answer as they should


def test_a_server_that_goes_away(stranger: Stranger) -> None:
    stranger.end.sendall(b'{"ok": tr')
    stranger.end.close()
    with pytest.raises(ServerGone, match=r"^the server of server.toml went away before it had answered$"):
        ask(stranger.client)


def test_a_server_that_does_not_answer_in_time(stranger: Stranger) -> None:
    with pytest.raises(ControlError, match=r"^the server of server.toml has not answered within 0.01 s; it goes on$"):
        ask(stranger.client, 0.01)


def test_a_server_that_only_promises_does_not_prolong_the_time(stranger: Stranger) -> None:
    stranger.end.sendall(b'{"ok": true, "more": true}\n' * 10)
    with pytest.raises(ControlError, match="has not answered within"):
        ask(stranger.client, 0.01)


@pytest.mark.parametrize(
    "line", [b"\n", b"220 mail.example.com\r\n", b"[]\n", b'{"ok": 1}\n', b"{}\n", b"[" * 5000 + b"\n"]
)
def test_a_server_that_speaks_otherwise(stranger: Stranger, line: bytes) -> None:
    stranger.end.sendall(line)
    with pytest.raises(ControlError, match="answered with what is no reply: b'"):
        ask(stranger.client)


def test_a_server_that_never_stops_talking(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REPLY_LIMIT", 2 * 1024 * 1024 // 16)
    stranger.end.settimeout(10)
    stranger.end.sendall(b"x" * 140_000)
    with pytest.raises(ControlError, match="answered with more than"):
        ask(stranger.client)


def test_a_server_that_does_not_read(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE", 0.01)
    with pytest.raises(ControlError, match=r"has not read the request for 0\.01 s"):
        stranger.client.ask({"command": "x" * 10_000_000})


def test_nothing_goes_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is never taken for a host and port."""
    with pytest.raises(ControlError, match="no control socket at localhost:80"):
        ControlClient("localhost:80")


def test_what_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rest = "is no socket, expected the control socket of a running server"
    assert refusal(str(tmp_path / "file")) == f"no serverd serves server.toml: {tmp_path}/file {rest}"
    assert refusal(str(tmp_path), "") == f"no serverd to be asked: {tmp_path} {rest}"
