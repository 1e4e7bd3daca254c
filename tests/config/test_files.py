"""Files that root reads for another user: nobody but root chooses which they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serverd.config.document import Unreadable
from serverd.config.files import read_text

from .conftest import Load, Report

US = os.geteuid()
OTHER = US + 1  # whoever that is: nothing here is theirs

only_root = pytest.mark.skipif(US != 0, reason="only root has workers of another user, and may give files away")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("A=secret\n")
    path.chmod(0o600)
    return path


def test_a_file_that_only_we_can_replace_is_read_for_others(secret: Path) -> None:
    assert read_text(str(secret), OTHER) == "A=secret\n"


def test_a_symbolic_link_is_refused_for_others(secret: Path) -> None:
    link = secret.with_name("link")
    link.symlink_to(secret)
    with pytest.raises(Unreadable, match=f"could be replaced by another file: {link} is a symbolic link"):
        read_text(str(link), OTHER)
    assert read_text(str(link)) == "A=secret\n"


def test_a_folder_that_is_a_symbolic_link_is_refused_for_others(secret: Path) -> None:
    link = secret.with_name("link")
    link.symlink_to(secret.parent)
    with pytest.raises(Unreadable, match=f"{link} is a symbolic link"):
        read_text(str(link / "secret"), OTHER)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_file_in_a_folder_that_others_can_write_to_is_refused(secret: Path, mode: int) -> None:
    secret.parent.chmod(mode)
    with pytest.raises(Unreadable, match=f"{secret.parent} is a symbolic link, or others than root can change it"):
        read_text(str(secret), OTHER)


@only_root
def test_a_file_of_the_reader_is_read_wherever_it_is(secret: Path) -> None:
    secret.parent.chmod(0o777)
    os.chown(secret, OTHER, -1)
    link = secret.with_name("link")
    link.symlink_to(secret)
    assert read_text(str(link), OTHER) == "A=secret\n"


@only_root
def test_a_file_and_a_folder_of_a_third_user_are_refused(secret: Path) -> None:
    os.chown(secret, OTHER + 1, -1)
    with pytest.raises(Unreadable, match=f"{secret} is"):
        read_text(str(secret), OTHER)
    os.chown(secret, US, -1)
    os.chown(secret.parent, OTHER, -1)
    with pytest.raises(Unreadable, match=f"{secret.parent} is"):
        read_text(str(secret), OTHER)


CONFIGURATION = """[listeners.web]
bind = ":0"
[[mounts]]
app = "x"
[apps.x]
app = "json"
env_file = "shop.env"
"""


@only_root
def test_an_env_file_that_was_replaced_is_an_error_at_its_line_only_with_another_user(
    secret: Path, load_text: Load, report_of: Report
) -> None:
    secret.with_name("shop.env").symlink_to("secret")
    assert load_text(CONFIGURATION).apps[0].env == {"A": "secret"}
    assert load_text(f"{CONFIGURATION}[server]\nuser = 0\n").apps[0].env == {"A": "secret"}
    report = report_of(f"{CONFIGURATION}[server]\nuser = {OTHER}\ngroup = {OTHER}\n")
    assert 'server.toml:7: apps.x.env_file: "shop.env" could be replaced by another file:' in report
