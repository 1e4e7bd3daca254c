"""The limit on open files; each case in a process of its own, as one that is lowered cannot be raised again."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from serverd.supervisor.limits import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
if sys.argv[1:] == ["refused"]:
    def refuse(*_):
        raise ValueError("current limit exceeds maximum limit")
    resource.setrlimit = refuse
raise_descriptor_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("argument", "limits"), [("", "128 128"), ("refused", "64 128")])
def test_the_limit_is_raised_as_far_as_it_may_be(argument: str, limits: str) -> None:
    command = [sys.executable, "-c", PROGRAM, argument]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == limits
