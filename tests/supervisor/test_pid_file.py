"""The pid file: who can read it, who can replace it, and that only its own process removes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverd.errors import BindError
from serverd.supervisor.pid_file import PidFile

OURS = f"{os.getpid()}\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "serverd.pid"


@pytest.fixture(params=[0o000, 0o077], ids=["umask 000", "umask 077"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_everybody_can_read_the_pid_and_only_we_can_write_it(path: Path) -> None:
    PidFile(str(path)).write()
    assert path.read_text() == OURS
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["serverd.pid"]


def test_what_was_there_is_replaced_and_not_written_through(path: Path, directory: Path) -> None:
    victim = directory / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    PidFile(str(path)).write()
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_text() == OURS


def test_a_reader_sees_the_old_pid_or_the_new_one_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("1\n")
    seen: list[str] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        seen.append(path.read_text())
        done = real(descriptor, data)
        seen.append(path.read_text())
        return done

    monkeypatch.setattr(os, "write", write)
    PidFile(str(path)).write()
    assert seen == ["1\n", "1\n"]
    assert path.read_text() == OURS


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077, 0o777], ids=oct)
def test_a_missing_directory_is_made_for_us_alone_to_write_and_for_everybody_to_read(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        PidFile(str(tmp_path / "run" / "serverd.pid")).write()
    finally:
        found = os.umask(before)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    assert found == umask


def test_more_than_the_last_directory_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BindError) as error:
        PidFile(str(tmp_path / "a" / "b" / "serverd.pid")).write()
    expected = f"{tmp_path}/a/b/serverd.pid: there is no directory {tmp_path}/a ({tmp_path}/a/b would be made in it)"
    assert str(error.value) == f"cannot write the pid file {expected}"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o2775], ids=oct)
def test_a_directory_that_others_can_write_to_is_refused(path: Path, directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(BindError, match=rf"{directory} can be written by others \(mode {mode:04o}\)"):
        PidFile(str(path)).write()
    assert not path.exists()


def test_one_in_which_nobody_can_replace_what_is_ours_is_not(path: Path, directory: Path) -> None:
    directory.chmod(0o1777)
    PidFile(str(path)).write()
    assert path.read_text() == OURS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else")
def test_a_directory_of_somebody_else_is_refused_even_to_root(path: Path, directory: Path) -> None:
    os.chown(directory, 65534, 65534)
    with pytest.raises(BindError, match=rf"{directory} belongs to user 65534, expected root or us"):
        PidFile(str(path)).write()
    assert not path.exists()


def test_what_the_kernel_refuses_is_a_sentence_and_leaves_nothing(path: Path) -> None:
    path.mkdir()
    with pytest.raises(BindError, match=r"cannot write the pid file .*/serverd\.pid: is a directory$"):
        PidFile(str(path)).write()
    assert os.listdir(path.parent) == ["serverd.pid"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BindError, match=r"not a directory$"):
        PidFile(str(tmp_path / "file" / "serverd.pid")).write()


# Removing


def test_our_own_is_removed(path: Path) -> None:
    file = PidFile(str(path))
    file.write()
    file.remove()
    assert not path.exists()
    file.remove()  # twice is harmless


@pytest.mark.parametrize("content", ["1\n", "", pytest.param(OURS + "1", id="ours and more"), "no number"])
def test_that_of_a_successor_is_not(path: Path, content: str) -> None:
    file = PidFile(str(path))
    file.write()
    path.write_text(content)
    file.remove()
    assert path.read_text() == content


def test_one_that_was_never_written_is_not(path: Path) -> None:
    path.write_text(OURS)
    PidFile(str(path)).remove()
    assert path.read_text() == OURS


def test_a_link_is_not_followed_and_not_removed(path: Path, directory: Path) -> None:
    file = PidFile(str(path))
    file.write()
    path.rename(directory / "other")
    path.symlink_to(directory / "other")
    file.remove()
    assert path.is_symlink()


def test_a_fifo_in_its_place_does_not_keep_us_waiting(path: Path) -> None:
    file = PidFile(str(path))
    file.write()
    path.unlink()
    os.mkfifo(path)
    file.remove()
    assert path.is_fifo()


def test_a_directory_that_has_gone_is_no_error_and_is_not_made_again(path: Path, directory: Path) -> None:
    file = PidFile(str(path))
    file.write()
    path.unlink()
    directory.rmdir()
    file.remove()
    assert not directory.exists()


def test_no_descriptor_stays_open(path: Path) -> None:
    file = PidFile(str(path))
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    file.write()
    file.remove()
    after = os.open(os.devnull, os.O_RDONLY)  # the lowest free number
    os.close(after)
    assert after == before
