"""The supervisor's end: requests in, replies out, and nothing that a client does can hold or break it."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serverd.control import server as server_module
from serverd.control.requests import LINE_LIMIT, Request
from serverd.control.server import MOST_CLIENTS, REPLY_LIMIT, ControlServer
from serverd.errors import BindError
from tests.control.desk import Desk, is_ended, received

STATUS = b'{"command": "status"}\n'
RELOAD = b'{"command": "reload"}\n'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path / "x.sock") as desk:
        yield desk


def at_once(server: ControlServer, number: int, request: Request) -> None:
    server.reply(number, {"ok": True, "text": request.command})


# Requests and replies


def test_a_request_is_handed_on_and_its_reply_comes_back(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, b'{"command": "scale", "workers": 3}\n')
    [(number, request)] = desk.asked
    assert request == Request("scale", workers=3)
    assert received(client) == []
    desk.server.reply(number, {"ok": True, "text": "3 workers"})
    assert received(client) == [{"ok": True, "text": "3 workers"}]


def test_a_request_may_come_byte_by_byte(desk: Desk) -> None:
    client = desk.connect()
    for index in range(len(STATUS)):
        assert desk.asked == []
        desk.send(client, STATUS[index : index + 1])
    assert [request for _, request in desk.asked] == [Request("status")]


def test_a_connection_may_be_used_again(desk: Desk) -> None:
    desk.answer = at_once
    client = desk.connect()
    for _ in range(3):
        desk.send(client, STATUS)
        assert received(client) == [{"ok": True, "text": "status"}]


def test_requests_of_one_client_are_handed_on_one_after_the_other(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, RELOAD + STATUS)
    assert [request.command for _, request in desk.asked] == ["reload"]
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert [request.command for _, request in desk.asked] == ["reload", "status"]
    desk.server.reply(desk.asked[1][0], {"ok": True})
    assert received(client) == [{"ok": True}, {"ok": True}]


def test_thousands_of_requests_at_once_are_answered_as_their_replies_are_taken(desk: Desk) -> None:
    desk.answer = at_once
    client = desk.connect()
    count = LINE_LIMIT // len(STATUS)
    desk.send(client, STATUS * count)
    assert 0 < len(desk.asked) < count, "nobody has read the first replies, and the last are there"
    replies = received(client)
    while len(replies) < count:
        assert desk.step()
        replies += received(client)
    assert len(desk.asked) == count


def test_clients_do_not_wait_for_one_another(desk: Desk) -> None:
    slow, quick = desk.connect(), desk.connect()
    desk.send(slow, RELOAD)
    desk.send(quick, STATUS)
    numbers = {request.command: number for number, request in desk.asked}
    desk.server.reply(numbers["status"], {"ok": True, "text": "quick"})
    desk.server.reply(numbers["reload"], {"ok": True, "text": "slow"})
    assert received(quick) == [{"ok": True, "text": "quick"}]
    assert received(slow) == [{"ok": True, "text": "slow"}]


def test_a_reply_that_is_not_the_last_says_so_and_the_end_may_be_the_last_word(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, b'{"command": "stop"}\n')
    desk.server.reply(desk.asked[0][0], {"ok": True, "text": "stopping"}, end=False)
    assert received(client) == [{"ok": True, "text": "stopping", "more": True}]
    assert not is_ended(client)
    desk.server.close()
    assert is_ended(client)


def test_a_second_last_reply_goes_nowhere(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, STATUS)
    for _ in range(2):
        desk.server.reply(desk.asked[0][0], {"ok": True})
    assert received(client) == [{"ok": True}]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"{}\n",
        b'{"command": "status", "x": 1}\n',
        b"[" * 5000 + b"\n",
        b"\0\n",
    ],
)
def test_garbage_is_answered_with_an_error_and_the_end(desk: Desk, garbage: bytes) -> None:
    client = desk.connect()
    desk.send(client, garbage + STATUS)
    [reply] = received(client)
    assert reply["ok"] is False
    assert reply["error"]
    assert is_ended(client)
    assert desk.asked == []


def test_nothing_after_garbage_is_carried_out_even_if_the_error_has_to_wait(desk: Desk) -> None:
    # As many replies as the client's socket takes without being read, then one more of the same size: the error.
    error = {"ok": False, "error": "not a request: expected one JSON object in a line"}
    desk.answer = lambda server, number, _: server.reply(number, error)
    probe = desk.connect()
    desk.send(probe, STATUS * 2000)
    fitting = len(desk.asked) - 1
    desk.asked.clear()
    client = desk.connect()
    desk.send(client, STATUS * fitting + b"garbage\n" + STATUS)
    assert len(desk.asked) == fitting
    assert not received(client)[fitting:], "the error did not have to wait"
    desk.settle()
    assert received(client) == [error]
    assert is_ended(client)
    assert len(desk.asked) == fitting


def test_a_line_without_end_is_refused_at_the_limit(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, b" " * LINE_LIMIT)
    assert received(client) == []
    desk.send(client, b" ")
    assert received(client) == [{"ok": False, "error": "a request has at most 64 KiB"}]
    assert is_ended(client)


# Clients that leave or do not read


def test_a_client_that_leaves_without_a_word_is_forgotten(desk: Desk) -> None:
    before = desk.is_watching()
    client = desk.connect()
    desk.settle()
    assert desk.is_watching() == before + 1
    client.close()
    desk.settle()
    assert desk.is_watching() == before


def test_a_client_that_leaves_while_it_is_owed_a_reply_harms_nobody(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, RELOAD)
    client.close()
    desk.settle()
    assert desk.step(0) is False, "the loop spins"
    desk.server.reply(desk.asked[0][0], {"ok": True}, end=False)
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert desk.is_watching() == 1


def test_a_client_that_has_said_its_last_still_gets_its_reply(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(RELOAD)
    client.shutdown(socket.SHUT_WR)
    desk.settle()
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert received(client) == [{"ok": True}]
    assert is_ended(client)


def test_a_number_is_never_used_again(desk: Desk) -> None:
    first = desk.connect()
    desk.send(first, RELOAD)
    first.close()
    desk.settle()
    desk.server.reply(desk.asked[0][0], {"ok": True, "text": "for the first"})
    second = desk.connect()
    desk.send(second, RELOAD)
    desk.server.reply(desk.asked[0][0], {"ok": True, "text": "for the first"})
    assert received(second) == []


def test_what_a_slow_reader_is_sent_waits_without_spinning_and_arrives_whole(desk: Desk) -> None:
    text = "x" * 2_000_000
    client = desk.connect()
    desk.send(client, STATUS)
    desk.server.reply(desk.asked[0][0], {"ok": True, "text": text})
    assert desk.step(0) is False, "the loop spins"
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1 << 16)
        desk.settle()
    assert json.loads(data)["text"] == text
    desk.send(client, STATUS)
    assert len(desk.asked) == 2


def test_a_reader_that_does_not_read_is_left_at_the_limit(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, RELOAD)
    for _ in range(4):
        desk.server.reply(desk.asked[0][0], {"ok": True, "text": "x" * (REPLY_LIMIT // 3)}, end=False)
    assert desk.is_watching() == 1


def test_what_a_client_sends_while_it_waits_is_bounded(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, RELOAD)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            client.send(b" " * 4096)
            desk.settle()
        pytest.fail("the server takes 40 MB")
    assert desk.step(0) is False, "the loop spins"
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert received(client) == [{"ok": True}, {"ok": False, "error": "a request has at most 64 KiB"}]


# Many clients


def test_an_idle_client_makes_way_for_a_new_one(desk: Desk) -> None:
    busy = desk.connect()
    desk.send(busy, RELOAD)
    idle = [desk.connect() for _ in range(MOST_CLIENTS - 1)]
    desk.settle()
    desk.send(desk.connect(), STATUS)
    assert [request.command for _, request in desk.asked] == ["reload", "status"]
    assert [is_ended(client) for client in idle] == [True] + [False] * (MOST_CLIENTS - 2)
    assert not is_ended(busy)


def test_a_client_that_has_gone_makes_way_for_a_new_one(desk: Desk) -> None:
    clients = [desk.connect() for _ in range(MOST_CLIENTS)]
    for client in clients:
        desk.send(client, RELOAD)
    clients[5].close()
    desk.settle()
    desk.send(desk.connect(), STATUS)
    assert desk.asked[-1][1] == Request("status")


def test_when_all_wait_for_a_reply_a_new_one_is_told_so(desk: Desk) -> None:
    clients = [desk.connect() for _ in range(MOST_CLIENTS)]
    for client in clients:
        desk.send(client, RELOAD)
    late = desk.connect()
    desk.settle()
    assert received(late) == [
        {"ok": False, "error": "32 clients wait for an answer already: try again later"},
    ]
    assert is_ended(late)
    assert not any(is_ended(client) for client in clients)


def test_a_client_of_another_user_is_left_without_a_word(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "peer_uid", lambda sock: os.geteuid() + 12345)
    client = desk.connect()
    client.sendall(b'{"command": "stop"}\n')
    desk.settle()
    assert is_ended(client)
    assert desk.asked == []
    assert caplog.messages == [f"control socket: refused a connection of user {os.geteuid() + 12345}"]


def test_without_a_free_descriptor_a_client_is_turned_away_and_the_loop_does_not_spin(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clients = [desk.connect(), desk.connect()]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as probe:
        highest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        for _ in range(10):
            if not desk.step(0):
                break
        else:
            pytest.fail("the loop spins")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(is_ended(client) for client in clients)
    assert set(caplog.messages) == {"control socket: refused a connection: too many open files"}
    desk.answer = at_once
    client = desk.connect()
    desk.send(client, STATUS)
    assert received(client) == [{"ok": True, "text": "status"}]


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM])
def test_a_connection_that_fails_in_the_queue_is_passed_over(desk: Desk, number: int) -> None:
    def accept() -> Any:
        raise OSError(number, os.strerror(number))

    file = SimpleNamespace(socket=SimpleNamespace(accept=accept))
    desk.server._on_connection(file, 1)  # type: ignore[arg-type]
    assert desk.is_watching() == 1


# Opening and closing


def test_closing_leaves_no_file_and_no_client(desk: Desk, tmp_path: Path) -> None:
    client = desk.connect()
    desk.settle()
    desk.server.close()
    assert is_ended(client)
    assert desk.is_watching() == 0
    assert os.listdir(tmp_path) == []
    desk.server.close()


def test_a_server_that_leaves_for_another_keeps_the_file(desk: Desk, tmp_path: Path) -> None:
    desk.server.close(keep=True)
    assert os.listdir(tmp_path) == ["x.sock"]


def test_withdrawing_keeps_those_that_have_asked(desk: Desk) -> None:
    client = desk.connect()
    desk.send(client, RELOAD)
    desk.server.withdraw()
    assert desk.server.path == ""
    with pytest.raises(FileNotFoundError):
        desk.connect()
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert received(client) == [{"ok": True}]


def test_opening_elsewhere_moves_the_socket_and_keeps_the_clients(desk: Desk, tmp_path: Path) -> None:
    client = desk.connect()
    desk.send(client, RELOAD)
    desk.path = str(tmp_path / "y.sock")
    desk.server.open(desk.path)
    assert desk.server.path == desk.path
    assert os.listdir(tmp_path) == ["y.sock"]
    desk.send(desk.connect(), STATUS)
    assert [request.command for _, request in desk.asked] == ["reload", "status"]
    desk.server.reply(desk.asked[0][0], {"ok": True})
    assert received(client) == [{"ok": True}]


def test_opening_again_changes_nothing(desk: Desk) -> None:
    before = os.lstat(desk.path)
    desk.server.open(desk.path)
    assert os.lstat(desk.path) == before


def test_opening_again_puts_back_a_file_that_somebody_removed(desk: Desk) -> None:
    os.unlink(desk.path)
    desk.server.open(desk.path)
    desk.send(desk.connect(), STATUS)
    assert len(desk.asked) == 1


def test_a_socket_that_cannot_be_opened_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BindError):
        desk.server.open(str(tmp_path / "file"))
    assert desk.server.path == desk.path
    desk.send(desk.connect(), STATUS)
    assert len(desk.asked) == 1


def test_a_new_supervisor_takes_the_socket_while_the_old_one_answers(desk: Desk) -> None:
    waiting = desk.connect()
    desk.send(waiting, b'{"command": "upgrade"}\n')
    old = desk.server
    new = ControlServer(desk.selector, desk.on_request)
    with pytest.raises(BindError, match=r"another server .*listens on it"):
        new.open(desk.path)
    new.open(desk.path, replace=True)
    old.reply(desk.asked[0][0], {"ok": True, "text": "upgraded"})
    old.close()
    assert received(waiting) == [{"ok": True, "text": "upgraded"}]
    desk.send(desk.connect(), STATUS)
    assert desk.asked[-1][1] == Request("status")
    new.close()


def test_a_request_may_close_the_server(desk: Desk) -> None:
    desk.answer = lambda server, number, request: server.close()
    client = desk.connect()
    other = desk.connect()
    client.sendall(STATUS + STATUS)
    other.sendall(STATUS)
    desk.settle()
    assert len(desk.asked) == 1
    assert is_ended(client)
    assert is_ended(other)
