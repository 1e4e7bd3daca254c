"""Who is at the other end: the kernel's answer, and whom we believe."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from serverd.control import peer
from serverd.control.peer import is_trusted, peer_pid, peer_uid


@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED is Linux's")
def test_the_kernel_names_user_and_process() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.geteuid()
        assert peer_pid(one) == os.getpid()


def test_we_and_root_are_trusted_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert is_trusted(1000)
    assert is_trusted(0)
    assert not is_trusted(1001)
    assert not is_trusted(65534)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not is_trusted(1000)


def test_where_no_one_can_tell_the_modes_have_to_do() -> None:
    assert is_trusted(None)


# The library of another system, as getpeereid(3) describes it.


def library(uid: int, result: int = 0) -> Any:
    def getpeereid(descriptor: int, uid_at: Any, gid_at: Any) -> int:
        assert os.fstat(descriptor)
        if result:
            ctypes.set_errno(errno.ENOTCONN)
        else:
            uid_at._obj.value, gid_at._obj.value = uid, 7
        return result

    return SimpleNamespace(getpeereid=getpeereid)


def test_getpeereid_is_asked_where_there_is_one() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer._getpeereid(one, library(4_000_000_000)) == 4_000_000_000
        assert peer._getpeereid(one, SimpleNamespace()) is None
        with pytest.raises(OSError, match="not connected"):
            peer._getpeereid(one, library(0, result=-1))
