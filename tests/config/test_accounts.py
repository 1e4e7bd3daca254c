"""Accounts: names and numbers of the user database of this machine."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from serverd.config.accounts import find_group, find_user, groups_of, primary_group

NOBODY = "nobody-of-that-name"
UNUSED = 4_000_000_001  # far beyond what any tool hands out


def test_a_name_is_looked_up_and_a_number_is_itself() -> None:
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    assert find_user(user.pw_name) == user.pw_uid
    assert find_group(group.gr_name) == group.gr_gid
    assert (find_user(UNUSED), find_group(UNUSED)) == (UNUSED, UNUSED)


@pytest.mark.parametrize("name", [NOBODY, "\udcff", "x" * 10_000], ids=["unknown", "not UTF-8", "long"])
def test_an_unknown_name_is_none(name: str) -> None:
    assert find_user(name) is None
    assert find_group(name) is None


def test_a_user_is_in_the_own_group_and_in_those_that_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.getuid())
    assert primary_group(user.pw_uid) == user.pw_gid
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 7, 5, gid] if name == user.pw_name else [])
    assert groups_of(user.pw_uid, 6) == (5, 6, 7)


def test_a_user_without_account_is_in_no_group_but_the_given_one() -> None:
    assert primary_group(UNUSED) is None
    assert groups_of(UNUSED, 5) == (5,)
