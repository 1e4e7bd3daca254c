"""What a worker does to the allocator is worth it: bodies that come and go have the kernel clear no pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# As of sixteen uploads of 64 KB that arrive in one turn of the loop, two hundred times.
TURNS = """
import resource, sys
from serverd.worker.memory import relieve_allocator

if sys.argv[1] == "relieved":
    relieve_allocator()

def turn():
    for _ in range(200):
        bodies = [b"x" * 65536 for _ in range(16)]
        del bodies

turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Return how many pages the kernel had to find for the bodies."""
    return int(subprocess.run([sys.executable, "-c", TURNS, how], check=True, capture_output=True, timeout=30).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_bodies_that_come_and_go_take_no_new_pages() -> None:
    assert page_faults("as it was") > 10_000, "the allocator needs no relief any more"
    assert page_faults("relieved") < 100
