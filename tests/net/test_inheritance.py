"""Socket activation: what systemd says in the environment, and the sockets it means by that."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serverd.errors import BindError
from serverd.net.inheritance import Inheritance

# Puts sockets where systemd puts them, from descriptor 3 on, and says so; then asks in the place of the supervisor.
ACTIVATED = """
import json, os, socket, sys
from serverd.errors import BindError
from serverd.generation import Address, AddressKind
from tests.net.test_sockets import generation, listener

names = sys.argv[1].split(":")
given = [socket.create_server(("127.0.0.1", 0)) for _ in names]
for number, sock in enumerate(given, 3 + 20):  # out of the way of one another first
    os.dup2(sock.fileno(), number)
for number in range(len(given)):
    os.dup2(23 + number, 3 + number)  # inheritable
ports = [sock.getsockname()[1] for sock in given]

os.environ |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": sys.argv[1], "LISTEN_PIDFDID": "1", "KEPT": "yes"}
os.environ["LISTEN_PID"] = str(os.getpid())
from serverd.net.bindings import Bindings
bindings = Bindings()
said = {
    "variables": [name for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "KEPT")
                  if name in os.environ],
    "inheritable": [os.get_inheritable(3 + number) for number in range(len(names))],
    "results": [],
}

def ask(number, *wanted):
    found = [listener(*(Address(AddressKind.SYSTEMD, f"systemd:{name}", name=name) for name in wanted))]
    try:
        bindings.prepare(generation(number, *found), 3)
    except BindError as error:
        return str(error)
    bindings.commit()
    return [[slot, ports.index(sock.getsockname()[1])] for _, slot, sock in bindings.grants(number)]

for number, wanted in enumerate(json.loads(sys.argv[2]), 1):
    said["results"].append(ask(number, *wanted))
bindings.close()
said["open"] = [socket.socket(fileno=3 + number).getsockname()[1] == ports[number] for number in range(len(names))]
print(json.dumps(said), flush=True)
os._exit(0)
"""


def activated(names: str, *wanted: list[str]) -> Any:
    """Ask a process that systemd has passed sockets of these names for generations that want some of them."""
    done = subprocess.run(
        [sys.executable, "-c", ACTIVATED, names, json.dumps(wanted)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_name_stands_for_every_socket_that_has_it_and_all_workers_share_them() -> None:
    said = activated("web:admin:web", ["web"], ["admin"], ["web", "admin"])
    assert said["results"] == [[[-1, 0], [-1, 2]], [[-1, 1]], [[-1, 0], [-1, 2], [-1, 1]]]


def test_the_sockets_stay_open_for_later_generations_and_no_child_gets_them() -> None:
    said = activated("web:web", ["web"], [], ["web"])
    assert said["results"] == [[[-1, 0], [-1, 1]], [], [[-1, 0], [-1, 1]]]
    assert said["inheritable"] == [False, False]
    assert said["open"] == [True, True]


def test_what_systemd_says_is_removed_from_the_environment() -> None:
    assert activated("web")["variables"] == ["KEPT"]


def test_a_name_that_was_not_passed_is_refused_with_the_names_there_are() -> None:
    [refusal] = activated("shop:admin", ["web"])["results"]
    assert refusal == (
        "server.toml:3: cannot bind systemd:web: no socket named web was passed by systemd, there are: admin, shop; "
        "FileDescriptorName= in the .socket unit sets it"
    )


def test_two_names_for_the_same_socket_are_refused() -> None:
    refusal = activated("web", ["web", "web"])["results"][0]
    assert refusal.endswith("cannot bind systemd:web: another address of the configuration names the same socket")


def missing(inheritance: Inheritance) -> str:
    with pytest.raises(BindError) as caught:
        inheritance.adopt_named("web")
    return str(caught.value)


def test_without_activation_the_refusal_says_there_are_none() -> None:
    assert "there are: none" in missing(Inheritance.from_environment({}))


def test_what_was_meant_for_another_process_is_not_taken_and_the_refusal_says_so() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:web:web"}
    inheritance = Inheritance.from_environment(environment)
    assert list(inheritance) == []
    assert environment == {}
    assert missing(inheritance).endswith("LISTEN_PID names process 1, start serverd without a shell in between")


@pytest.mark.parametrize("count", ["", "0", "-1", "many", "9" * 30, "\u0663"])
def test_a_count_that_is_none_or_too_large_is_survived(count: str) -> None:
    with contextlib.ExitStack() as stack:
        if not _is_open(3):  # a count that is too large must not be believed: keep one to be found
            given = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            os.dup2(given.fileno(), 3, inheritable=False)
            stack.callback(os.close, 3)
        inheritance = Inheritance.from_environment({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})
        names = {name for _, name in inheritance}
    assert names == ({"unknown"} if len(count) == 30 else set())


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
