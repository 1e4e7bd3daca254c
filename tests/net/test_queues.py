"""Accept queues as the kernel counts them."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from pathlib import Path

import pytest

from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Server
from serverd.net.bindings import Bindings, Queue
from serverd.net.queues import _read_diagnosis, waiting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_that_nobody_accepts_are_counted(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((host, 0), family=family, backlog=20))
        assert waiting(listening) == 0
        for count in range(1, 6):
            stack.enter_context(socket.create_connection(listening.getsockname()[:2]))
            assert waiting(listening) == count
        stack.enter_context(listening.accept()[0])
        assert waiting(listening) == 4


def test_those_of_a_unix_socket_are_counted_as_well(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen(20)
        assert waiting(listening) == 0
        for count in range(1, 6):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
            assert waiting(listening) == count
        stack.enter_context(listening.accept()[0])
        assert waiting(listening) == 4


def test_where_the_kernel_has_no_way_to_ask_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x"))
        listening.listen()
        monkeypatch.setattr("serverd.net.queues._SOCK_DIAG", 31)  # no such protocol
        assert waiting(listening) is None


# From a kernel: 3 of at most 7 wait. Behind the queue comes an attribute of a byte, with its padding.
ANSWER = bytes.fromhex(
    "3400000014000000010000003658000001010a0076b44f000e000000000000000c00040003000000070000000500060000000000"
)
ERROR = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + bytes(16)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ANSWER, 3),
        (ANSWER[:32] + ANSWER[44:] + ANSWER[32:44], 3),
        (ANSWER[:32] + ANSWER[44:], None),
        (ANSWER[:32] + bytes(8), None),
        (ANSWER[:32], None),
        (ERROR, None),
    ],
    ids=["a queue", "behind another attribute", "another attribute alone", "of no length", "nothing", "an error"],
)
def test_an_answer_of_the_kernel_is_read(answer: bytes, expected: int | None) -> None:
    assert _read_diagnosis(answer) == expected


def test_an_answer_that_is_cut_short_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        for size in (0, 10, 34, 38):
            monkeypatch.setattr("serverd.net.queues._diagnose", lambda _, size=size: ANSWER[:size])
            assert waiting(listening) is None


def test_of_every_address_that_is_listened_on_there_is_a_queue(tmp_path: Path) -> None:
    addresses = (
        Address(AddressKind.TCP, "127.0.0.1:0", "127.0.0.1"),
        Address(AddressKind.UNIX, "unix:x", path=str(tmp_path / "x")),
    )
    listener = Listener("web", addresses, 20, Limits())
    bindings = Bindings()
    try:
        bindings.prepare(Generation("server.toml", Server(), (listener,), (), (), Logging(), number=1), slots=2)
        bindings.commit()
        (quiet,) = bindings.queues()
        assert quiet == Queue("web", "unix:x", 0, 20), "no worker has made the others listen"
        every = [sock for _, _, sock in bindings.grants(1)]
        for sock in every:
            sock.listen(20)
        ours = [sock for sock in every if sock.family == socket.AF_INET]
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(ours[0].getsockname()))
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "x"))
            assert bindings.queues() == [Queue("web", "127.0.0.1:0", 5, 20), Queue("web", "unix:x", 1, 20)]
    finally:
        bindings.close()
