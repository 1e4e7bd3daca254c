"""Accept queues as the kernel counts them."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

import pytest

from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Server
from serverd.net.bindings import Bindings, Queue
from serverd.net.queues import waiting

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


def test_of_a_unix_socket_nothing_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x"))
        listening.listen()
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
        assert bindings.queues() == [], "no worker has made them listen"
        ours = [sock for _, _, sock in bindings.grants(1) if sock.family == socket.AF_INET]
        for sock in ours:
            sock.listen(20)
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(ours[0].getsockname()))
            assert bindings.queues() == [Queue("web", "127.0.0.1:0", 5, 20)]
    finally:
        bindings.close()
