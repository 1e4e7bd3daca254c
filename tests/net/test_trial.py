"""Whether addresses could be bound: tried, let go, and nobody disturbed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Server
from serverd.net.trial import Trial


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address(AddressKind.TCP, f"{host}:{port}", host=host, port=port)


def unix(path: Path) -> Address:
    return Address(AddressKind.UNIX, f"unix:{path}", path=str(path))


def generation(*addresses: Address) -> Generation:
    listener = Listener("web", addresses, 128, Limits(), source="server.toml:3")
    return Generation("/etc/server.toml", Server(), (listener,), (), (), Logging())


@pytest.fixture
def taken() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    yield sock
    sock.close()


def test_a_free_port_is_tried_and_let_go() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    trial = Trial(generation(tcp(port)))
    assert (trial.problems, trial.notes) == ([], [])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))


def test_a_port_that_somebody_holds_is_a_problem_at_its_line(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    trial = Trial(generation(tcp(port), tcp(0)))
    assert trial.notes == []
    (problem,) = trial.problems
    assert problem.startswith(f"server.toml:3: cannot bind 127.0.0.1:{port}: address already in use")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "https://0.0.0.0:{}", "http://[::]:{}"])
def test_a_port_of_the_running_server_is_only_noted(taken: socket.socket, url: str) -> None:
    port = taken.getsockname()[1]
    trial = Trial(generation(tcp(port)), [url.format(port)], "the running server (process 7)")
    assert trial.problems == []
    assert trial.notes == [
        f"server.toml:3: listeners.web: 127.0.0.1:{port} is in use by the running server (process 7), and was not tried"
    ]


def test_another_port_of_the_running_server_proves_nothing(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    trial = Trial(generation(tcp(port)), [f"http://127.0.0.1:{port - 1}", "unix:/x"], "the running server")
    assert len(trial.problems) == 1


def test_a_unix_socket_is_looked_at_and_not_touched(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    before = os.lstat(stale)
    trial = Trial(generation(unix(stale), unix(tmp_path / "new.sock")))
    assert (trial.problems, trial.notes) == ([], [])
    assert os.lstat(stale) == before
    assert os.listdir(tmp_path) == ["stale.sock"]


def test_what_is_in_the_way_of_a_unix_socket_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    live = tmp_path / "live.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(live))
        sock.listen()
        trial = Trial(generation(unix(tmp_path / "file"), unix(live), unix(tmp_path / "none" / "x.sock")))
    assert [problem.split(": ", 2)[2] for problem in trial.problems] == [
        "a file that is not a socket is in the way",
        "address already in use (another process listens on it)",
        "no such file or directory (the directory of the socket must exist)",
    ]


def test_a_descriptor_that_only_a_start_gets_is_noted() -> None:
    named = Address(AddressKind.SYSTEMD, "systemd:web", name="web")
    trial = Trial(generation(named))
    assert trial.problems == []
    assert trial.notes == [
        "server.toml:3: listeners.web: systemd:web comes from whoever starts the server, and was not tried"
    ]
