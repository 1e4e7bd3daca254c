"""The death of a parent as its child sees it, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from serverd.parent import is_orphan
from serverd.supervisor.spawn import spawn_program
from tests.support import processes

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")

PARENT = """
import subprocess, sys
descriptors = list(map(int, sys.argv[2:]))
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, pass_fds=descriptors)
print(child.pid, child.stdout.readline().decode(), flush=True)
sys.stdin.read()
"""
READY = "print('ready', flush=True)\nwhile True: signal.pause()"
IMPORTS = "import os, signal\nfrom serverd.parent import die_with_parent\n"


class Family:
    """A parent that we started and its child, which has inherited descriptors and said that it is ready."""

    def __init__(self, child: str, *descriptors: int) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, IMPORTS + child, *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            text=True,
        )
        assert self.parent.stdout is not None
        pid, *said = self.parent.stdout.readline().split()
        assert said == ["ready"]
        self.child = int(pid)

    def orphan(self) -> None:
        """Kill the parent."""
        self.parent.kill()
        self.parent.communicate(timeout=10)


@pytest.fixture
def families() -> Iterator[list[Family]]:
    made: list[Family] = []
    yield made
    for family in made:
        family.orphan()
        if not processes.has_ended(family.child):
            os.kill(family.child, signal.SIGKILL)
            processes.wait_for_end(family.child)


@linux_only
def test_the_child_gets_the_signal_when_its_parent_is_killed(families: list[Family]) -> None:
    families.append(Family(f"die_with_parent(signal.SIGKILL)\n{READY}"))
    assert not processes.has_ended(families[0].child)
    families[0].orphan()
    processes.wait_for_end(families[0].child)


@linux_only
def test_a_second_call_replaces_the_signal(families: list[Family]) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as told:
        try:
            child = (
                "die_with_parent(signal.SIGKILL)\ndie_with_parent(signal.SIGTERM)\n"
                f"signal.signal(signal.SIGTERM, lambda *_: (os.write({theirs}, b'told'), os._exit(0)))\n{READY}"
            )
            families.append(Family(child, theirs))
        finally:
            os.close(theirs)
        families[0].orphan()
        assert told.read() == b"told"  # ends with the child: nobody else holds the pipe then


def test_whoever_shares_a_pipe_with_a_closed_end_is_an_orphan() -> None:
    ours, theirs = os.pipe()
    try:
        assert not is_orphan(theirs)
        os.write(theirs, b"what the parent has not read does not matter")
        assert not is_orphan(theirs)
    finally:
        os.close(ours)
    assert is_orphan(theirs)
    os.close(theirs)


def test_whoever_shares_a_socket_with_a_closed_end_is_an_orphan() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"a message that waits does not matter")
            assert not is_orphan(theirs.fileno())
        assert is_orphan(theirs.fileno())


def test_signals_to_the_group_are_left_alone_and_not_ignored_by_children() -> None:
    program = """
import os, signal, subprocess, sys
from serverd.parent import leave_group_signals
leave_group_signals()
numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU]
for number in numbers:
    signal.raise_signal(number)
look = "import signal, sys; print([n for n in sys.argv[1:] if signal.getsignal(int(n)) is signal.SIG_IGN])"
subprocess.run([sys.executable, "-c", look, *[str(int(number)) for number in numbers]], check=True)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_signals_to_the_group_wait_for_a_process_that_begins() -> None:
    program = """
import signal
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN):
    signal.raise_signal(number)
from serverd.parent import leave_group_signals
leave_group_signals()
print("alive, and deaf to", *signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process, output = spawn_program((sys.executable, "-c", program), ())
    try:
        assert process.reap_within(60)
        assert process.reap() == 0
        assert os.read(output, 100) == b"alive, and deaf to\n"
    finally:
        process.kill()
        process.close()
        os.close(output)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
