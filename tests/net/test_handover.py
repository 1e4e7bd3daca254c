"""A supervisor's sockets in the hands of the next one: what it adopts, what it closes, and what it leaves alone.

Both live in this process here: the descriptors are duplicated, as another process gets them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverd.errors import BindError
from serverd.generation import Address, AddressKind
from serverd.net.binding import EVERY_SLOT
from serverd.net.inheritance import Inheritance
from tests.net.test_sockets import (
    Keeper,
    connects,
    generation,
    inherited,
    inodes,
    linux_only,
    listener,
    open_descriptors,
    port_of,
    tcp,
    unix,
)

Successor = Callable[[Keeper], Keeper]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with contextlib.closing(Keeper()) as kept:
        yield kept


@pytest.fixture
def succeed() -> Iterator[Successor]:
    """Return what makes the supervisor that takes over from another."""
    with contextlib.ExitStack() as stack:

        def succeed(old: Keeper) -> Keeper:
            new = stack.enter_context(contextlib.closing(Keeper()))
            text, descriptors = old.hand_over()
            new.take_over(text, [os.dup(fd) for fd in descriptors])
            return new

        yield succeed


def test_the_successor_has_the_same_sockets_and_the_same_port(
    keeper: Keeper, succeed: Successor, tmp_path: Path
) -> None:
    wanted = listener(tcp("127.0.0.1"), unix(tmp_path / "s"))
    keeper.opens(generation(7, wanted, workers=2))
    new = succeed(keeper)
    new.prepares(generation(1, wanted, workers=2))
    assert new.commit() == ([], [])
    assert [inodes(new, 1, slot) for slot in range(2)] == [inodes(keeper, 7, slot) for slot in range(2)]
    assert new.slots_of(1) == keeper.slots_of(7)
    assert new.places() == keeper.places()
    for _, _, sock in new.grants(1):
        assert not sock.get_inheritable()
        assert not os.get_blocking(sock.fileno())


@linux_only
def test_spare_slots_are_handed_over_too(keeper: Keeper, succeed: Successor) -> None:
    keeper.opens(generation(1, listener(tcp("127.0.0.1")), workers=3))
    new = succeed(keeper)
    new.opens(generation(1, listener(tcp("127.0.0.1")), workers=1))
    assert new.slots_of(1) == [0, 1, 2]
    assert new.slots() == 3


def test_the_old_one_leaves_without_taking_the_files_along(keeper: Keeper, succeed: Successor, tmp_path: Path) -> None:
    path = tmp_path / "s"
    keeper.opens(generation(1, listener(unix(path))))
    new = succeed(keeper)
    new.opens(generation(1, listener(unix(path))))
    keeper.close(keep_files=True)
    assert connects(socket.AF_UNIX, str(path))
    new.close()
    assert not path.exists()


def test_until_it_commits_the_successor_leaves_everything_as_it_is(
    keeper: Keeper, succeed: Successor, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    keeper.opens(generation(1, listener(tcp("127.0.0.1"), unix(path), socket_mode=0o600)))
    before = open_descriptors()
    new = succeed(keeper)
    new.prepares(generation(1, listener(tcp("127.0.0.1"), unix(path), socket_mode=0o666)))
    new.rollback()
    assert connects(socket.AF_UNIX, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    new.close()  # it has failed, and ends
    assert connects(socket.AF_UNIX, str(path))
    assert open_descriptors() == before
    keeper.grow(2)
    assert connects(socket.AF_UNIX, str(path))


def test_what_the_new_generation_does_not_use_is_closed_when_it_is_committed(
    keeper: Keeper, succeed: Successor, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    keeper.opens(generation(1, listener(tcp("127.0.0.1"), unix(path), name="old")))
    port = port_of(keeper)
    new = succeed(keeper)
    new.prepares(generation(1, listener(unix(tmp_path / "new"))))
    assert path.exists()
    opened, closed = new.commit()
    assert [place.url for place in opened] == [f"unix:{tmp_path / 'new'}"]
    assert [(place.listener, place.url) for place in closed] == [
        ("old", f"http://127.0.0.1:{port}"),
        ("old", f"unix:{path}"),
    ]
    assert not path.exists()
    keeper.close(keep_files=True)
    with socket.create_server(("127.0.0.1", port)):
        pass


@linux_only
def test_a_new_address_beside_one_that_is_taken_over_may_overlap_it(keeper: Keeper, succeed: Successor) -> None:
    keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
    port = port_of(keeper)
    with contextlib.ExitStack() as stack:
        for sock in keeper.granted(1):
            stack.enter_context(sock)
        succeed(keeper).opens(generation(1, listener(tcp("", port))))


@linux_only
def test_the_guard_goes_along(keeper: Keeper, succeed: Successor) -> None:
    keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
    port = port_of(keeper)
    new = succeed(keeper)
    new.opens(generation(1, listener(tcp("127.0.0.1"))))
    keeper.close(keep_files=True)
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(("127.0.0.1", port)).close()
    stranger = Keeper()
    with contextlib.closing(stranger), pytest.raises(BindError, match="another process holds it"):
        stranger.prepares(generation(1, listener(tcp("127.0.0.1", port))))


def test_inherited_descriptors_keep_their_numbers_and_names_for_later_generations(keeper: Keeper) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(new := Keeper()))
        numbered, named = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        numbered.set_inheritable(True)
        keeper._inheritance = Inheritance([(named.fileno(), "web")])
        keeper.opens(generation(1, listener(inherited(numbered.fileno()))))
        text, descriptors = keeper.hand_over()
        assert numbered.fileno() in descriptors
        assert named.fileno() in descriptors
        # In another process they have the same numbers; here only those that are not kept may be duplicates.
        kept = {numbered.fileno(), named.fileno()}
        new.take_over(text, [fd if fd in kept else os.dup(fd) for fd in descriptors])
        new.opens(generation(1, listener(tcp("127.0.0.1"))))
        systemd = Address(AddressKind.SYSTEMD, "systemd:web", name="web")
        new.opens(generation(2, listener(inherited(numbered.fileno()), systemd)))
        assert inodes(new, 2, 0) == [os.fstat(sock.fileno()).st_ino for sock in (numbered, named)]
        assert new.slots_of(2) == [EVERY_SLOT, EVERY_SLOT]


def test_what_is_taken_over_is_not_taken_for_inherited(keeper: Keeper, succeed: Successor) -> None:
    keeper.opens(generation(1, listener(tcp("127.0.0.1"))))
    new = succeed(keeper)
    new.opens(generation(1, listener(tcp("127.0.0.1"))))
    for _, _, sock in new.grants(1):
        sock.listen()
        with pytest.raises(BindError, match="no such descriptor was inherited"):
            new.prepares(generation(2, listener(inherited(sock.fileno()))))


def test_a_chain_of_successors_hands_on_what_it_got(keeper: Keeper, succeed: Successor, tmp_path: Path) -> None:
    wanted = listener(tcp("127.0.0.1"), unix(tmp_path / "s"), socket_mode=0o640)
    keeper.opens(generation(1, wanted))
    before = inodes(keeper, 1, 0)
    holder = keeper
    for _ in range(3):
        new = succeed(holder)
        new.opens(generation(1, wanted))
        holder.close(keep_files=True)
        holder = new
    assert inodes(holder, 1, 0) == before
    assert connects(socket.AF_UNIX, str(tmp_path / "s"))
    holder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.update(version=2),
        lambda document: document.pop("bound"),
        lambda document: document["bound"][-1]["key"].append("more"),
        lambda document: document["bound"][-1]["key"].__setitem__(0, "vsock"),
        lambda document: document["bound"][-1]["binding"].update(socket=99),
        lambda document: document.update(inherited=[[99, None]]),
    ],
    ids=["version", "missing", "longer key", "unknown kind", "unknown descriptor", "unknown inherited"],
)
def test_a_text_that_is_not_understood_is_refused_and_nothing_stays_open(
    keeper: Keeper, tmp_path: Path, damage: Callable[[dict[str, object]], object]
) -> None:
    keeper.opens(generation(1, listener(tcp("127.0.0.1"), unix(tmp_path / "s"))))
    text, descriptors = keeper.hand_over()
    document = json.loads(text)
    damage(document)
    before = open_descriptors()
    with contextlib.closing(Keeper()) as new, pytest.raises(BindError, match="cannot be taken over"):
        new.take_over(json.dumps(document), [os.dup(fd) for fd in descriptors])
    assert open_descriptors() == before
    assert connects(socket.AF_UNIX, str(tmp_path / "s"))


def test_what_is_no_text_at_all_is_refused() -> None:
    with contextlib.closing(Keeper()) as new, pytest.raises(BindError, match="cannot be taken over"):
        new.take_over("[]", [])
