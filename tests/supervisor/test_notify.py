"""What the service manager hears, through a socket that stands in for its own."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverd.supervisor.notify import Notifier

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """The end of the service manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._sock.setblocking(False)

    def heard(self) -> list[str]:
        """Return the datagrams since the last call; sending is over when the sender returns, so none is on its way."""
        found = []
        while True:
            try:
                found.append(self._sock.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._sock.close()


@pytest.fixture(autouse=True)
def _no_real_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def notifier(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Notifier:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    return Notifier.from_environment()


@pytest.mark.parametrize(
    ("tell", "heard"),
    [
        (Notifier.ready, "READY=1"),
        (Notifier.stopping, "STOPPING=1"),
        (lambda notifier: notifier.main_pid(4711), "MAINPID=4711"),
        (lambda notifier: notifier.status("generation 2 is serving"), "STATUS=generation 2 is serving"),
    ],
    ids=["ready", "stopping", "main pid", "status"],
)
def test_each_event_is_one_datagram(
    notifier: Notifier, manager: Manager, tell: Callable[[Notifier], None], heard: str
) -> None:
    tell(notifier)
    assert manager.heard() == [heard]


def test_a_reload_carries_the_time_in_the_same_datagram(notifier: Notifier, manager: Manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (message,) = manager.heard()
    first, second = message.split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert before <= int(second.partition("=")[2]) <= after


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(f"@serverd-test-{secrets.token_hex(8)}")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    Notifier.from_environment().ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


def test_a_status_cannot_pass_for_another_message(notifier: Notifier, manager: Manager) -> None:
    notifier.status("reload failed:\nMAINPID=1\0\ud800")
    assert manager.heard() == [r"STATUS=reload failed:\nMAINPID=1\x00\ud800"]


def test_a_long_status_is_cut_between_characters(notifier: Notifier, manager: Manager) -> None:
    notifier.status("x" + "é" * 5000)
    (message,) = manager.heard()
    assert message == "STATUS=x" + "é" * 511  # 1023 bytes: one more would be half a character


# The environment


def test_no_child_finds_the_manager_in_its_environment(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, (manager.address, "30000000", str(os.getpid())), strict=True):
        monkeypatch.setenv(name, value)
    Notifier.from_environment()
    assert not set(VARIABLES) & set(os.environ)


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", "", 15.0),
        pytest.param("30000000", str(os.getpid()), 15.0, id="ours"),
        pytest.param("30000000", str(os.getpid() + 1), None, id="another's"),
        ("", "", None),
        ("0", "", None),
        ("-1", "", None),
        ("³", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_patience_and_only_by_whom_it_watches(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, interval: float | None
) -> None:
    for name, value in zip(VARIABLES, (manager.address, usec, pid), strict=True):
        if value:
            monkeypatch.setenv(name, value)
    notifier = Notifier.from_environment()
    assert notifier.watchdog_interval == interval
    for now in (100.0, 114.9, 115.0, 129.9):
        notifier.attend(now)
    assert manager.heard() == (["WATCHDOG=1"] * 2 if interval else [])
    assert notifier.due == (130.0 if interval else None)
    notifier.main_pid(77)
    notifier.attend(130.0)
    assert manager.heard() == ["MAINPID=77"]
    assert notifier.due is None


def test_a_watchdog_without_a_manager_to_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert Notifier.from_environment().watchdog_interval is None


def test_a_successor_speaks_to_the_same_manager_and_feeds_the_same_watchdog(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(VARIABLES, (manager.address, "30000000", str(os.getpid())), strict=True):
        monkeypatch.setenv(name, value)
    handed_on = Notifier.from_environment().environment()
    assert handed_on == {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"}
    for name, value in handed_on.items():
        monkeypatch.setenv(name, value)
    successor = Notifier.from_environment()
    successor.ready()
    assert manager.heard() == ["READY=1"]
    assert successor.watchdog_interval == 15.0


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_without_a_unix_socket_nobody_is_told_and_nothing_is_handed_on(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    if address:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier.from_environment()
    monkeypatch.setattr(socket, "socket", None)  # calling it would fail
    notifier.ready()
    assert notifier.environment() == {}


# A manager that does not listen


def test_a_manager_that_has_gone_is_no_error(notifier: Notifier, manager: Manager) -> None:
    manager.close()
    notifier.ready()
    os.unlink(manager.address)
    notifier.stopping()
    again = Manager(manager.address)
    notifier.status("here")
    assert again.heard() == ["STATUS=here"]  # and nothing of what nobody wanted
    again.close()


@pytest.mark.parametrize("address", ["/" + "x" * 200, "/\udcff/nowhere", "@"])
def test_an_address_that_cannot_be_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier.from_environment().ready()


def test_a_manager_that_does_not_read_is_told_later_what_still_counts(notifier: Notifier, manager: Manager) -> None:
    for number in range(2000):  # more than net.unix.max_dgram_qlen, which systemd raises to 512
        notifier.status(f"number {number}")
    heard = manager.heard()
    assert heard == [f"STATUS=number {number}" for number in range(len(heard))]
    assert len(heard) < 2000
    notifier.ready()
    assert manager.heard() == ["STATUS=number 1999", "READY=1"]
    notifier.ready()
    assert manager.heard() == ["READY=1"]


def test_it_is_told_within_a_second_of_reading_again_though_nothing_else_happens(
    notifier: Notifier, manager: Manager
) -> None:
    for number in range(2000):
        notifier.status(f"number {number}")
    notifier.ready()
    assert notifier.due is not None
    assert 0.0 < notifier.due - time.monotonic() <= 1.0
    notifier.attend(notifier.due)  # it is not reading yet
    manager.heard()
    assert notifier.due is not None
    notifier.attend(notifier.due)
    assert manager.heard() == ["STATUS=number 1999", "READY=1"]
    assert notifier.due is None


def test_what_is_told_later_is_told_in_the_order_of_its_last_word(notifier: Notifier, manager: Manager) -> None:
    for number in range(2000):
        notifier.status(f"number {number}")
    notifier.stopping()
    notifier.status("stopping")
    manager.heard()
    notifier.main_pid(7)
    assert manager.heard() == ["STOPPING=1", "STATUS=stopping", "MAINPID=7"]


def test_no_descriptor_stays_open(notifier: Notifier) -> None:
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    notifier.ready()
    after = os.open(os.devnull, os.O_RDONLY)  # the lowest free number
    os.close(after)
    assert after == before
