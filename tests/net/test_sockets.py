"""Binding: families, ports in use, unix sockets and their files, adopted descriptors, reload and rollback."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd import messages
from serverd.errors import BindError
from serverd.generation import Address, AddressKind, Generation, Limits, Listener, Logging, Server
from serverd.net import sockets
from serverd.net.binding import EVERY_SLOT, UnixBinding
from serverd.net.bindings import Bindings
from serverd.net.endpoints import Access, Endpoint
from serverd.net.socket_files import change_access, unix_identity

linux_only = pytest.mark.skipif(not sockets.SPREADS, reason="needs sockets that share a port and its connections")


def has_ipv6_loopback() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="no ::1 on this machine")


def tcp(host: str, port: int = 0) -> Address:
    shown = f"[{host}]" if ":" in host else host
    return Address(AddressKind.TCP, f"{shown}:{port}", host=host, port=port)


def unix(path: Path) -> Address:
    return Address(AddressKind.UNIX, f"unix:{path}", path=str(path))


def inherited(fd: int) -> Address:
    return Address(AddressKind.FD, f"fd:{fd}", fd=fd)


def listener(*addresses: Address, name: str = "web", backlog: int = 16, **access: int | None) -> Listener:
    return Listener(name, addresses, backlog, Limits(), source="server.toml:3", **access)


def generation(number: int, *listeners: Listener, workers: int = 1) -> Generation:
    return Generation("/etc/server.toml", Server(workers=workers), listeners, (), (), Logging(), number=number)


class Keeper(Bindings):
    """Bindings, and what a test wants to know about them; a generation has as many slots as workers."""

    def prepares(self, made: Generation) -> None:
        self.prepare(made, made.server.workers)

    def opens(self, made: Generation) -> None:
        self.prepares(made)
        self.commit()

    def of_slot(self, number: int, slot: int = 0) -> list[socket.socket]:
        """Return the sockets that the worker of the slot begins with."""
        return [sock for _, owner, sock in self.grants(number) if owner in {slot, EVERY_SLOT}]

    def granted(self, number: int, slot: int = 0) -> list[socket.socket]:
        """Return sockets that are listening, as a worker of the slot makes them; close them when done."""
        found = [sock.dup() for sock in self.of_slot(number, slot)]
        for sock in found:
            sock.listen(16)
        return found

    def slots_of(self, number: int) -> list[int]:
        """Return the slots that there are sockets for."""
        return [slot for _, slot, _ in self.grants(number)]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with contextlib.closing(Keeper()) as kept:
        yield kept


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


def port_of(keeper: Keeper, number: int = 1) -> int:
    return int(keeper.of_slot(number)[0].getsockname()[1])


def inodes(keeper: Keeper, number: int, slot: int) -> list[int]:
    """Return what tells the sockets of a slot from one another, whatever their descriptors."""
    return [os.fstat(sock.fileno()).st_ino for sock in keeper.of_slot(number, slot)]


def connects(family: int, target: object) -> bool:
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex(target) == 0  # type: ignore[arg-type]


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


class TestTcp:
    def test_an_address_without_host_takes_both_families(self, keeper: Keeper, stack: contextlib.ExitStack) -> None:
        keeper.opens(generation(1, listener(tcp(""))))
        for sock in keeper.granted(1):
            stack.enter_context(sock)
        assert connects(socket.AF_INET, ("127.0.0.1", port_of(keeper)))
        if has_ipv6_loopback():
            assert connects(socket.AF_INET6, ("::1", port_of(keeper)))

    def test_an_address_without_host_takes_ipv4_alone_where_there_is_no_other(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
        keeper.prepares(generation(1, listener(tcp(""))))
        opened, _ = keeper.commit()
        assert [place.url.rpartition(":")[0] for place in opened] == ["http://0.0.0.0"]

    @needs_ipv6
    def test_an_explicit_ipv6_address_does_not_take_ipv4(self, keeper: Keeper, stack: contextlib.ExitStack) -> None:
        ours = stack.enter_context(socket.socket())  # else another test could take it meanwhile
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        keeper.opens(generation(1, listener(tcp("::", port))))
        for sock in keeper.granted(1):
            stack.enter_context(sock)
        assert connects(socket.AF_INET6, ("::1", port))
        assert not connects(socket.AF_INET, ("127.0.0.1", port))

    @needs_ipv6
    def test_both_families_may_be_named_with_the_same_port(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("::1"))))
        port = port_of(keeper)
        keeper.opens(generation(2, listener(tcp("::1"), tcp("127.0.0.1", port))))
        assert len(keeper.grants(2)) == 2

    def test_a_name_takes_every_address_it_has_with_one_port(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = [
            (family, socket.SOCK_STREAM, 6, "", sockaddr)
            for family, sockaddr in [
                (socket.AF_INET, ("127.0.0.1", 0)),
                (socket.AF_INET, ("127.0.0.1", 0)),  # resolvers repeat themselves
                (socket.AF_INET, ("127.0.0.2", 0)),
            ]
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        keeper.prepares(generation(1, listener(tcp("shop.test"))))
        opened, _ = keeper.commit()
        port = port_of(keeper)
        assert [place.url for place in opened] == [f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"]

    def test_a_name_with_an_address_this_machine_lacks_takes_the_others(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # 192.0.2.0/24 is documentation's (RFC 5737 §3): no machine has it.
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        keeper.opens(generation(1, listener(tcp("shop.test"))))
        assert len(keeper.grants(1)) == 1

    def test_a_name_that_does_not_resolve_is_refused(self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(BindError) as caught:
            keeper.prepares(generation(1, listener(tcp("shop.test", 80))))
        assert str(caught.value) == (
            "server.toml:3: cannot bind shop.test:80: the name shop.test does not resolve (name or service not known)"
        )

    def test_an_address_no_interface_has_is_refused(self, keeper: Keeper) -> None:
        with pytest.raises(BindError, match="no interface of this machine has it"):
            keeper.prepares(generation(1, listener(tcp("192.0.2.1"))))

    def test_sockets_are_neither_inherited_nor_blocking(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=2))
        for _, _, sock in keeper.grants(1):
            assert not sock.get_inheritable()
            assert not os.get_blocking(sock.fileno())

    def test_a_privileged_port_is_refused_with_the_remedy(self) -> None:
        refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        assert sockets.refusal(tcp("0.0.0.0", 443), refused) == (
            "cannot bind 0.0.0.0:443: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
        )


class TestSlots:
    @linux_only
    def test_every_slot_has_a_socket_of_its_own_on_the_same_port(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=3))
        assert keeper.slots_of(1) == [0, 1, 2]
        assert len({os.fstat(sock.fileno()).st_ino for _, _, sock in keeper.grants(1)}) == 3
        assert {sock.getsockname()[1] for _, _, sock in keeper.grants(1)} == {port_of(keeper)}
        assert keeper.slots() == 3

    @linux_only
    def test_a_socket_listens_only_when_a_worker_makes_it(self, keeper: Keeper, stack: contextlib.ExitStack) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=2))
        assert not connects(socket.AF_INET, ("127.0.0.1", port_of(keeper)))
        (taken,) = keeper.granted(1, slot=1)
        stack.enter_context(taken)
        for _ in range(8):  # all of them reach the only slot that listens
            assert connects(socket.AF_INET, ("127.0.0.1", port_of(keeper)))
            taken.settimeout(5)
            taken.accept()[0].close()

    @linux_only
    def test_queued_connections_outlive_the_worker_of_the_slot(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        (worker,) = keeper.granted(1)
        with socket.create_connection(("127.0.0.1", port_of(keeper)), timeout=5) as client:
            worker.close()
            (successor,) = keeper.granted(1)
            with successor:
                successor.settimeout(5)
                accepted, _ = successor.accept()
                with accepted:
                    accepted.sendall(b"hello")
                    assert client.recv(5) == b"hello"

    @linux_only
    def test_more_workers_get_new_sockets_beside_the_old(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=1))
        before = inodes(keeper, 1, 0)
        keeper.opens(generation(2, listener(tcp("127.0.0.1")), workers=3))
        assert inodes(keeper, 2, 0) == before
        assert keeper.slots_of(2) == [0, 1, 2]

    @linux_only
    def test_fewer_workers_keep_the_spare_sockets_with_their_slots_and_lose_no_connection(
        self, keeper: Keeper, stack: contextlib.ExitStack
    ) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=3))
        before = [inodes(keeper, 1, slot) for slot in range(3)]
        (taken,) = keeper.granted(1, slot=2)
        with taken:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(keeper)), timeout=5))
        keeper.opens(generation(2, listener(tcp("127.0.0.1")), workers=2))
        assert keeper.slots_of(2) == [0, 1, 2]
        assert keeper.slots() == 3
        (spare,) = keeper.granted(2, slot=2)
        with spare, spare.accept()[0] as accepted:
            accepted.sendall(b"hello")
            assert client.recv(5) == b"hello"
        keeper.opens(generation(3, listener(tcp("127.0.0.1")), workers=3))
        assert [inodes(keeper, 3, slot) for slot in range(3)] == before

    @linux_only
    def test_a_generation_that_is_being_prepared_does_not_change_what_the_old_one_is_granted(
        self, keeper: Keeper
    ) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=1))
        before = inodes(keeper, 1, 0)
        keeper.prepares(generation(2, listener(tcp("127.0.0.1")), workers=3))
        assert inodes(keeper, 1, 0) == before
        assert (keeper.slots_of(1), keeper.slots(), keeper.slots_of(2)) == ([0], 1, [0, 1, 2])

    def test_all_slots_share_one_socket_where_the_kernel_does_not_spread(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "SPREADS", False)
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=3))
        assert keeper.slots_of(1) == [EVERY_SLOT]

    def test_the_slot_of_a_socket_for_every_worker_is_the_one_that_workers_know(self) -> None:
        assert EVERY_SLOT == messages.EVERY_SLOT

    def test_all_slots_share_a_unix_socket(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(unix(tmp_path / "s")), workers=3))
        assert keeper.slots_of(1) == [EVERY_SLOT]


@linux_only
class TestGrow:
    def test_more_slots_get_sockets_without_a_new_generation(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"), unix(tmp_path / "s"))))
        before = inodes(keeper, 1, 0)
        keeper.grow(3)
        assert keeper.slots_of(1) == [0, 1, 2, EVERY_SLOT]
        assert keeper.slots() == 3
        assert inodes(keeper, 1, 0) == before
        keeper.grow(2)
        assert keeper.slots() == 3

    def test_what_grew_outlives_the_rollback_of_a_generation_that_was_in_preparation(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        before = open_descriptors()
        keeper.prepares(generation(2, listener(tcp("127.0.0.1")), workers=4))
        keeper.grow(2)
        assert (keeper.slots_of(1), keeper.slots_of(2)) == ([0, 1], [0, 1, 2, 3])
        keeper.rollback()
        assert keeper.slots_of(1) == [0, 1]
        assert len(open_descriptors() - before) == 1

    def test_what_grew_belongs_to_the_generation_that_is_committed_afterwards(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        keeper.prepares(generation(2, listener(tcp("127.0.0.1")), workers=2))
        keeper.grow(3)
        keeper.commit()
        assert keeper.slots_of(2) == [0, 1, 2]

    def test_a_refusal_leaves_nothing_open_and_names_the_address(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"), tcp("127.0.0.2"))))
        before = open_descriptors()
        opened = sockets.open_tcp

        def refuse(endpoint: Endpoint) -> socket.socket:
            if endpoint.host == "127.0.0.2":
                raise OSError(errno.EMFILE, "Too many open files")
            return opened(endpoint)

        monkeypatch.setattr(sockets, "open_tcp", refuse)
        with pytest.raises(BindError) as caught:
            keeper.grow(4)
        assert str(caught.value) == "server.toml:3: cannot bind 127.0.0.2:0: too many open files"
        assert (open_descriptors(), keeper.slots_of(1), keeper.slots()) == (before, [0, 0], 1)

    def test_without_listeners_there_are_no_slots(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, workers=3))
        keeper.grow(5)
        assert (keeper.slots(), keeper.grants(1), keeper.places()) == (0, [], [])


FOREIGN = """
import contextlib, sys
from serverd.net.bindings import Bindings
from tests.net.test_sockets import generation, listener, tcp
bindings = Bindings()
bindings.prepare(generation(1, listener(tcp(sys.argv[1], int(sys.argv[2])), backlog=16)), 1)
bindings.commit()
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def other_server(host: str, port: int) -> Iterator[str]:
    """Start another process that binds as serverd does and, like one that still starts, does not listen."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", FOREIGN, host, str(port)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            yield line
        finally:
            process.communicate(timeout=30)


class TestPortInUse:
    def test_by_a_server_without_so_reuseport(self, keeper: Keeper) -> None:
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            port = foreign.getsockname()[1]
            with pytest.raises(BindError) as caught:
                keeper.prepares(generation(1, listener(tcp("127.0.0.1", port))))
        assert str(caught.value) == (
            f"server.toml:3: cannot bind 127.0.0.1:{port}: address already in use (another process holds it)"
        )

    @linux_only
    def test_by_a_listening_server_with_so_reuseport(self, keeper: Keeper) -> None:
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as foreign:
            port = foreign.getsockname()[1]
            with pytest.raises(BindError, match="address already in use"):
                keeper.prepares(generation(1, listener(tcp("127.0.0.1", port))))

    @linux_only
    def test_by_a_listening_server_on_every_interface(self, keeper: Keeper) -> None:
        with socket.create_server(("0.0.0.0", 0), reuse_port=True) as foreign:
            port = foreign.getsockname()[1]
            with pytest.raises(BindError, match="address already in use"):
                keeper.prepares(generation(1, listener(tcp("127.0.0.1", port))))

    @linux_only
    def test_by_another_serverd_whose_workers_are_still_starting(self, keeper: Keeper) -> None:
        with socket.create_server(("127.0.0.1", 0)) as chooser:
            port = chooser.getsockname()[1]
        with other_server("127.0.0.1", port) as line:
            assert line == "open"
            with pytest.raises(BindError, match="address already in use"):
                keeper.prepares(generation(1, listener(tcp("127.0.0.1", port))))
        keeper.opens(generation(2, listener(tcp("127.0.0.1", port))))  # as soon as it has gone

    @linux_only
    def test_another_server_cannot_take_a_port_of_ours_before_we_listen(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=2))
        with pytest.raises(OSError, match="Address already in use"):
            socket.create_server(("127.0.0.1", port_of(keeper))).close()

    @linux_only
    def test_of_two_servers_that_start_at_the_same_instant_only_one_gets_the_port(
        self, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as chooser:
            endpoint = Endpoint(socket.AF_INET, "127.0.0.1", chooser.getsockname()[1])
        has_probed, other_waits, has_guard = (threading.Event() for _ in range(3))
        guard, guards = sockets._guard, []

        def slow_guard(endpoint: Endpoint) -> socket.socket:
            if threading.current_thread() is first:
                has_probed.set()
                other_waits.wait(10)
            return guard(endpoint)

        def wait(_: float) -> None:
            other_waits.set()
            has_guard.wait(10)

        def open_first() -> None:
            guards.append(stack.enter_context(sockets.open_guard(endpoint, beside_own=False)))
            has_guard.set()

        monkeypatch.setattr(sockets, "_guard", slow_guard)
        monkeypatch.setattr(sockets.time, "sleep", wait)
        first = threading.Thread(target=open_first)
        first.start()
        try:
            assert has_probed.wait(10)
            with pytest.raises(OSError, match="Address already in use"):
                stack.enter_context(sockets.open_guard(endpoint, beside_own=False))
        finally:
            other_waits.set()
            first.join(10)
        assert len(guards) == 1

    @linux_only
    def test_whoever_never_gives_up_its_turn_does_not_keep_a_server_from_starting(
        self, keeper: Keeper, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "TURN_TRIES", 2)
        with socket.create_server(("127.0.0.1", 0)) as chooser:
            port = chooser.getsockname()[1]
        turn = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        turn.bind(f"\0serverd/port/{port}")
        keeper.opens(generation(1, listener(tcp("127.0.0.1", port))))
        assert port_of(keeper) == port

    def test_connections_of_the_last_server_that_linger_are_no_obstacle(
        self, keeper: Keeper, stack: contextlib.ExitStack
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            port = foreign.getsockname()[1]
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            foreign.accept()[0].close()  # who closes first is left in TIME_WAIT
            assert client.recv(1) == b""
            client.close()
        keeper.opens(generation(1, listener(tcp("127.0.0.1", port)), workers=2))
        for slot in range(2):
            for sock in keeper.granted(1, slot):
                stack.enter_context(sock)
        assert connects(socket.AF_INET, ("127.0.0.1", port))

    def test_every_address_that_fails_is_reported_and_nothing_is_left_open(
        self, keeper: Keeper, tmp_path: Path
    ) -> None:
        before = open_descriptors()
        (tmp_path / "file").write_text("precious")
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            taken = tcp("127.0.0.1", foreign.getsockname()[1])
            wanted = listener(tcp("127.0.0.1"), taken, unix(tmp_path / "s"), unix(tmp_path / "file"))
            with pytest.raises(BindError) as caught:
                keeper.prepares(generation(1, wanted, workers=4))
        assert len(str(caught.value).splitlines()) == 2
        assert not (tmp_path / "s").exists()
        assert open_descriptors() == before


class TestUnix:
    def test_the_mode_is_in_place_before_it_listens(
        self, keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "s"
        modes: list[int] = []

        class Watched(socket.socket):
            def listen(self, *arguments: int) -> None:
                modes.append(stat.S_IMODE(path.stat().st_mode))
                super().listen(*arguments)

        monkeypatch.setattr(socket, "socket", Watched)
        umask = os.umask(0)
        try:
            keeper.opens(generation(1, listener(unix(path), socket_mode=0o660)))
        finally:
            assert os.umask(umask) == 0  # it was not left changed
        assert modes[0] == 0o660

    def test_it_listens_from_the_start_so_that_others_see_it_is_not_stale(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.prepares(generation(1, listener(unix(tmp_path / "s"))))
        assert connects(socket.AF_UNIX, str(tmp_path / "s"))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_the_owner_is_the_one_asked_for(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(unix(tmp_path / "s"), socket_mode=0o600, socket_uid=12, socket_gid=34)))
        found = (tmp_path / "s").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12, 34, 0o600)

    def test_a_stale_file_is_replaced(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
            stale.listen()
        keeper.opens(generation(1, listener(unix(path))))
        assert connects(socket.AF_UNIX, str(path))

    def test_a_file_somebody_listens_on_is_refused(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as foreign:
            foreign.bind(str(path))
            foreign.listen()
            with pytest.raises(BindError) as caught:
                keeper.prepares(generation(1, listener(unix(path))))
            assert str(caught.value) == (
                f"server.toml:3: cannot bind unix:{path}: address already in use (another process listens on it)"
            )
            assert connects(socket.AF_UNIX, str(path))

    def test_a_file_whose_listener_is_too_busy_to_answer_is_refused(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with contextlib.ExitStack() as opened:
            foreign = opened.enter_context(socket.socket(socket.AF_UNIX))
            foreign.bind(str(path))
            foreign.listen(0)
            for _ in range(4):
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect_ex(str(path))
            with pytest.raises(BindError, match="another process listens on it"):
                keeper.prepares(generation(1, listener(unix(path))))

    def test_a_file_that_is_no_socket_is_refused_and_kept(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(BindError, match="a file that is not a socket is in the way"):
            keeper.prepares(generation(1, listener(unix(path))))
        assert path.read_text() == "precious"

    def test_a_missing_directory_is_refused_with_the_remedy(self, keeper: Keeper, tmp_path: Path) -> None:
        with pytest.raises(BindError, match=r"no such file or directory \(the directory of the socket must exist\)"):
            keeper.prepares(generation(1, listener(unix(tmp_path / "none" / "s"))))

    def test_a_path_that_is_too_long_is_refused(self, keeper: Keeper, tmp_path: Path) -> None:
        with pytest.raises(BindError, match="path too long"):
            keeper.prepares(generation(1, listener(unix(tmp_path / ("s" * 200)))))

    def test_the_file_is_removed_at_the_end(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(unix(tmp_path / "s"))))
        keeper.close()
        assert not (tmp_path / "s").exists()

    def test_a_file_that_took_its_place_is_not_removed(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        keeper.opens(generation(1, listener(unix(path))))
        path.rename(tmp_path / "moved")
        with socket.socket(socket.AF_UNIX) as foreign:
            foreign.bind(str(path))
            keeper.close()
            assert path.exists()

    @pytest.mark.parametrize("take_place", [os.symlink, os.link, lambda source, path: Path(path).touch(0o600)])
    def test_what_took_its_place_between_bind_and_access_is_refused_and_untouched(
        self, keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take_place: Callable[[Path, str], None]
    ) -> None:
        path, secret = tmp_path / "s", tmp_path / "secret"
        secret.touch(0o600)

        class Swapped(socket.socket):
            def bind(self, address: Any) -> None:
                super().bind(address)
                if address == str(path):
                    path.unlink()
                    take_place(secret, address)

        monkeypatch.setattr(socket, "socket", Swapped)
        with pytest.raises(BindError, match=f"cannot bind unix:{path}: its file was replaced by another one"):
            keeper.prepares(generation(1, listener(unix(path), socket_mode=0o666)))
        assert stat.S_IMODE(secret.stat().st_mode) == stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("of_another_socket", [False, True])
    def test_what_took_its_place_before_a_later_change_is_refused_and_untouched(
        self, tmp_path: Path, of_another_socket: bool
    ) -> None:
        path, secret = tmp_path / "s", tmp_path / "secret"
        with contextlib.ExitStack() as undo, contextlib.closing(UnixBinding.open(str(path), Access(0o600), 1)) as bound:
            path.unlink()
            if of_another_socket:
                undo.enter_context(socket.socket(socket.AF_UNIX)).bind(str(secret))
                secret.chmod(0o600)
                path.hardlink_to(secret)
            else:
                secret.touch(0o600)
                path.symlink_to(secret)
            with pytest.raises(BindError, match="its file was replaced by another one"):
                bound.change_access(Access(0o666, os.geteuid(), os.getegid()), undo)
            undo.close()  # taking it back does not touch it either
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert path.is_symlink() or of_another_socket

    def test_a_mode_that_bind_did_not_give_is_set_afterwards(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            path.chmod(0o600)
            change_access(str(path), Access(0o666, gid=os.getegid()), unix_identity(str(path)))
            assert stat.S_IMODE(path.stat().st_mode) == 0o666

    def test_a_file_that_somebody_removed_is_bound_anew_by_a_reload(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        keeper.opens(generation(1, listener(unix(path))))
        path.unlink()
        keeper.opens(generation(2, listener(unix(path))))
        assert connects(socket.AF_UNIX, str(path))


class TestAdopted:
    def test_a_listening_descriptor_is_adopted(self, keeper: Keeper) -> None:
        with socket.create_server(("127.0.0.1", 0)) as given:
            given.set_inheritable(True)
            keeper.prepares(generation(1, listener(inherited(given.fileno()))))
            opened, _ = keeper.commit()
            assert [place.url for place in opened] == [f"http://127.0.0.1:{given.getsockname()[1]}"]
            [(_, slot, sock)] = keeper.grants(1)
            assert slot == EVERY_SLOT
            assert os.fstat(sock.fileno()).st_ino == os.fstat(given.fileno()).st_ino
            assert not os.get_inheritable(given.fileno())
            keeper.close()
            assert given.getsockname()  # the number the operator knows stays his

    def test_a_descriptor_that_was_not_inherited_is_refused(self, keeper: Keeper) -> None:
        with pytest.raises(BindError) as caught:
            keeper.prepares(generation(1, listener(inherited(999))))
        assert str(caught.value) == "server.toml:3: cannot bind fd:999: no such descriptor was inherited"

    def test_a_file_is_refused(self, keeper: Keeper, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            with pytest.raises(BindError, match="it is not a socket"):
                keeper.prepares(generation(1, listener(inherited(file.fileno()))))

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["not listening", "datagrams"])
    def test_a_socket_nobody_can_connect_to_is_refused(self, keeper: Keeper, kind: int) -> None:
        with socket.socket(socket.AF_INET, kind) as given:
            given.set_inheritable(True)
            with pytest.raises(BindError, match="not a listening stream"):
                keeper.prepares(generation(1, listener(inherited(given.fileno()))))

    def test_a_descriptor_of_our_own_is_not_taken_for_an_inherited_one(
        self, keeper: Keeper, stack: contextlib.ExitStack
    ) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        for sock in keeper.granted(1):
            stack.enter_context(sock)
        [(_, _, sock)] = keeper.grants(1)
        with pytest.raises(BindError, match="no such descriptor was inherited"):
            keeper.prepares(generation(2, listener(inherited(sock.fileno()))))

    def test_the_same_descriptor_may_be_named_by_every_later_generation(self, keeper: Keeper) -> None:
        with socket.create_server(("127.0.0.1", 0)) as given:
            given.set_inheritable(True)
            keeper.opens(generation(1, listener(inherited(given.fileno()))))
            keeper.opens(generation(2, listener(tcp("127.0.0.1"))))
            keeper.opens(generation(3, listener(inherited(given.fileno()))))
            assert inodes(keeper, 3, 0) == [os.fstat(given.fileno()).st_ino]


class TestReload:
    def test_an_address_that_stays_keeps_its_socket_even_under_another_listener(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        before = inodes(keeper, 1, 0)
        keeper.prepares(generation(2, listener(tcp("127.0.0.1"), name="renamed")))
        assert keeper.commit() == ([], [])
        assert inodes(keeper, 2, 0) == before
        assert [name for name, _, _ in keeper.grants(2)] == ["renamed"]
        assert [place.listener for place in keeper.places()] == ["renamed"]

    def test_new_addresses_are_opened_and_removed_ones_closed(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
        port = port_of(keeper)
        keeper.prepares(generation(2, listener(unix(tmp_path / "s"))))
        assert keeper.grants(1)  # still there for a worker that has to be replaced now
        opened, closed = keeper.commit()
        assert [place.url for place in opened] == [f"unix:{tmp_path / 's'}"]
        assert [place.url for place in closed] == [f"http://127.0.0.1:{port}"]
        with socket.create_server(("127.0.0.1", port)):
            pass

    def test_rollback_closes_only_what_was_opened(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=1))
        before = (inodes(keeper, 1, 0), open_descriptors())
        keeper.prepares(
            generation(2, listener(tcp("127.0.0.1")), listener(unix(tmp_path / "s"), name="other"), workers=4)
        )
        keeper.rollback()
        assert (inodes(keeper, 1, 0), open_descriptors()) == before
        assert not (tmp_path / "s").exists()

    def test_an_address_may_become_narrower_or_wider(self, keeper: Keeper, stack: contextlib.ExitStack) -> None:
        keeper.opens(generation(1, listener(tcp("")), workers=2))
        port = port_of(keeper)
        for slot in range(2):
            for sock in keeper.granted(1, slot):
                stack.enter_context(sock)
        if not sockets.SPREADS:
            pytest.skip("needs sockets that share a port")
        keeper.opens(generation(2, listener(tcp("127.0.0.1", port)), workers=2))
        keeper.opens(generation(3, listener(tcp("", port)), workers=2))

    def test_two_addresses_with_port_zero_are_two(self, keeper: Keeper) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1"), tcp("127.0.0.1"))))
        before = inodes(keeper, 1, 0)
        assert len(set(before)) == 2
        keeper.opens(generation(2, listener(tcp("127.0.0.1"), tcp("127.0.0.1"))))
        assert inodes(keeper, 2, 0) == before

    def test_a_changed_mode_is_applied_and_taken_back_by_rollback(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        keeper.opens(generation(1, listener(unix(path), socket_mode=0o600)))
        before = inodes(keeper, 1, 0)
        keeper.prepares(generation(2, listener(unix(path), socket_mode=0o666)))
        keeper.rollback()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        keeper.opens(generation(3, listener(unix(path), socket_mode=0o666)))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert inodes(keeper, 3, 0) == before

    def test_a_changed_backlog_is_applied_to_the_open_socket(self, keeper: Keeper, tmp_path: Path) -> None:
        path = tmp_path / "s"
        keeper.opens(generation(1, listener(unix(path), backlog=64)))
        keeper.opens(generation(2, listener(unix(path), backlog=1)))
        with contextlib.ExitStack() as opened:
            refused = 0
            for _ in range(8):
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                refused += client.connect_ex(str(path)) == errno.EAGAIN
            assert refused > 0

    def test_many_reloads_leave_no_descriptor_behind(self, keeper: Keeper, tmp_path: Path) -> None:
        keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=2))
        before = len(open_descriptors())
        for number in range(2, 22, 2):
            keeper.prepares(generation(number, listener(tcp("127.0.0.1"), unix(tmp_path / "s")), workers=2))
            keeper.commit() if number % 4 else keeper.rollback()
            keeper.opens(generation(number + 1, listener(tcp("127.0.0.1")), workers=2))
        assert len(open_descriptors()) == before
