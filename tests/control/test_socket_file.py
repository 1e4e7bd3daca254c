"""The place of the control socket: directories and files that are safe, and those that are refused."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverd.control import socket_file
from serverd.control.socket_file import SocketFile
from serverd.errors import BindError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / "x.sock"


@pytest.fixture
def in_place(place: Path) -> Iterator[SocketFile]:
    file = SocketFile.open(str(place))
    yield file
    file.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refusal(path: Path) -> str:
    """Return why no socket can be opened at `path`."""
    with pytest.raises(BindError) as caught:
        SocketFile.open(str(path))
    text = str(caught.value)
    start = f"cannot open the control socket {path}: "
    assert text.startswith(start)
    return text.removeprefix(start)


def is_reachable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


def test_directory_and_socket_are_ours_alone_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        file = SocketFile.open(str(place))
        after = os.umask(0)
    finally:
        os.umask(before)
    assert after == 0, "the umask was not put back"
    assert mode(place.parent) == 0o700
    assert mode(place) == 0o600
    assert is_reachable(place)
    file.close()
    assert os.listdir(place.parent) == []


def test_the_socket_is_private_and_listens_before_it_has_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []

    def rename(old: str, new: str) -> None:
        assert not place.exists()
        seen.append((mode(Path(old)), is_reachable(Path(old))))
        os.replace(old, new)

    monkeypatch.setattr(socket_file.os, "rename", rename)
    SocketFile.open(str(place)).close()
    assert seen == [(0o600, True)]


def test_no_descriptor_is_inherited_by_children(in_place: SocketFile) -> None:
    assert not in_place.socket.get_inheritable()
    assert not os.get_inheritable(in_place._directory)


def test_our_directory_is_locked_against_the_cleaning_of_tmp(place: Path) -> None:
    file = SocketFile.open(str(place))
    cleaner = os.open(place.parent, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        SocketFile.open(str(place.with_name("y.sock"))).close()  # a second server is not kept out
        file.close()
        fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(cleaner)


def test_a_shared_directory_is_used_and_not_locked(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    file = SocketFile.open(str(shared / "x.sock"))
    other = os.open(shared, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)
        file.close()


# Directories that are refused


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o722])
def test_a_directory_that_others_may_write_to_is_refused(place: Path, bits: int) -> None:
    place.parent.mkdir()
    place.parent.chmod(bits)
    assert refusal(place) == f"others may write to the directory {place.parent} (chmod go-w {place.parent})"
    assert os.listdir(place.parent) == []


def test_a_symbolic_link_in_the_place_of_the_directory_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    place.parent.symlink_to("elsewhere")
    assert refusal(place) == f"{place.parent} is not a directory (a symbolic link is not followed)"
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_dangling_link_in_the_place_of_the_directory_makes_nothing(place: Path, tmp_path: Path) -> None:
    place.parent.symlink_to("elsewhere")
    assert refusal(place) == f"{place.parent} is not a directory (a symbolic link is not followed)"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_place_of_the_directory_is_refused(place: Path) -> None:
    place.parent.touch()
    assert refusal(place) == f"{place.parent} is not a directory (a symbolic link is not followed)"


def test_only_the_last_directory_is_made(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a" / "b" / "x.sock") == "the directory above its directory must exist"
    assert os.listdir(tmp_path) == []


@as_root
def test_the_directory_of_another_user_is_refused(place: Path) -> None:
    place.parent.mkdir(0o700)
    os.chown(place.parent, STRANGER, -1)
    assert refusal(place) == (
        f"the directory {place.parent} belongs to user {STRANGER}, expected 0 "
        "(remove it, or set socket in [control] to another place)"
    )


def test_a_path_above_the_limit_of_the_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "y"
    assert refusal(path) == "the path is too long for a unix socket (set socket in [control] to a shorter one)"


# What is in the way


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("x.other")])
def test_what_is_no_socket_is_left_alone(place: Path, make: object) -> None:
    place.parent.mkdir(0o700)
    make(place)  # type: ignore[operator]
    before = place.lstat()
    assert refusal(place) == "a file that is not a socket is in the way"
    assert place.lstat() == before
    assert os.listdir(place.parent) == [place.name]


@as_root
def test_the_socket_of_another_user_is_left_alone(place: Path) -> None:
    SocketFile.open(str(place)).close(keep=True)
    os.chown(place, STRANGER, -1)
    assert refusal(place) == f"a socket of user {STRANGER} is in the way"


def test_a_stale_socket_is_replaced(place: Path) -> None:
    SocketFile.open(str(place)).close(keep=True)
    assert not is_reachable(place)
    file = SocketFile.open(str(place))
    assert is_reachable(place)
    file.close()


def test_the_socket_of_a_live_server_is_left_alone(in_place: SocketFile, place: Path) -> None:
    told = refusal(place)
    assert told.startswith(f"another server (pid {os.getpid()}) listens on it, which serves the same configuration")
    assert told.endswith("(stop that one, or set socket in [control] to another place)")
    assert in_place.is_ours
    assert os.listdir(place.parent) == [place.name]


def test_a_live_server_with_a_full_queue_is_still_one(in_place: SocketFile, place: Path) -> None:
    clients = []
    try:
        while True:
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            try:
                clients[-1].connect(str(place))
            except BlockingIOError:
                break
        assert refusal(place).startswith("another server listens on it, ")
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("is_stale", [False, True], ids=["free", "stale"])
def test_of_two_servers_that_begin_at_the_same_moment_one_has_the_path(
    place: Path, monkeypatch: pytest.MonkeyPatch, is_stale: bool
) -> None:
    if is_stale:
        SocketFile.open(str(place)).close(keep=True)
    refused: list[str] = []
    check = socket_file._check_way

    def between(path: str, *, replace: bool) -> None:
        check(path, replace=replace)
        monkeypatch.setattr(socket_file, "_check_way", check)
        refused.append(refusal(place))  # the other one begins when we have looked, and are not there yet

    monkeypatch.setattr(socket_file, "_check_way", between)
    file = SocketFile.open(str(place))
    try:
        assert file.is_ours
        assert [told.partition(",")[0] for told in refused] == ["another server is about to listen on it"]
        assert os.listdir(place.parent) == [place.name]
    finally:
        file.close()


def test_whoever_finds_the_lock_removed_under_it_does_not_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        place.with_name("x.sock.lock").unlink(missing_ok=True)  # by who had it, between our open and our lock

    place.parent.mkdir(0o700)
    monkeypatch.setattr(socket_file.fcntl, "flock", flock)
    assert refusal(place).startswith("another server is about to listen on it, ")
    assert os.listdir(place.parent) == []


def test_a_lock_of_a_server_that_was_killed_is_in_nobodys_way(place: Path) -> None:
    place.parent.mkdir(0o700)
    place.with_name("x.sock.lock").touch(0o600)
    SocketFile.open(str(place)).close()
    assert os.listdir(place.parent) == []


def test_what_is_in_the_place_of_the_lock_is_neither_followed_nor_removed(place: Path, tmp_path: Path) -> None:
    place.parent.mkdir(0o700)
    lock = place.with_name("x.sock.lock")
    lock.symlink_to(tmp_path / "elsewhere")
    assert refusal(place) == "too many levels of symbolic links"
    assert not (tmp_path / "elsewhere").exists()
    lock.unlink()
    os.mkfifo(lock, 0o600)
    assert refusal(place) == f"{lock} is in the way (expected nothing there, or a file of user {os.geteuid()})"
    assert os.listdir(place.parent) == [lock.name]


# An upgrade


def test_an_upgrade_takes_the_path_and_the_old_server_leaves_it_alone(place: Path) -> None:
    old = SocketFile.open(str(place))
    successor = SocketFile.open(str(place), replace=True)
    assert successor.is_ours
    assert not old.is_ours
    old.close()
    assert is_reachable(place)
    successor.close()
    assert not place.exists()


def test_the_path_always_leads_to_a_server_during_an_upgrade(
    in_place: SocketFile, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable = []

    def rename(old: str, new: str) -> None:
        reachable.append(is_reachable(place))
        os.replace(old, new)
        reachable.append(is_reachable(place))

    monkeypatch.setattr(socket_file.os, "rename", rename)
    SocketFile.open(str(place), replace=True).close()
    assert reachable == [True, True]


def test_a_socket_that_cannot_be_put_in_place_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(old: str, new: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket_file.os, "rename", rename)
    assert refusal(place) == "operation not permitted"
    assert os.listdir(place.parent) == []


def test_closing_without_a_file_is_no_error(place: Path) -> None:
    file = SocketFile.open(str(place))
    place.unlink()
    assert not file.is_ours
    file.close()


def test_what_was_kept_stays(place: Path) -> None:
    SocketFile.open(str(place)).close(keep=True)
    assert stat.S_ISSOCK(place.lstat().st_mode)
