"""Signals as something to wait for: what is inherited from who started us, and what comes when we end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

from serverd.supervisor.signals import HANDLED

IMPORTS = """
import os, select, signal, subprocess, sys
from serverd.supervisor.signals import HANDLED, SignalInbox
MASK = "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))"
BLOCKED = signal.valid_signals() - {signal.SIGALRM}
signal.alarm(30)
"""


def run(program: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own: what it does to signals stays."""
    command = [sys.executable, "-c", IMPORTS + program]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=False)


def test_what_comes_within_is_taken_in_order_and_wakes() -> None:
    done = run("""
with SignalInbox() as inbox:
    print(select.select([inbox.descriptor], [], [], 0)[0] == [])
    for number in HANDLED:
        signal.raise_signal(number)
    print(select.select([inbox.descriptor], [], [], 0)[0] == [inbox.descriptor])
    print(inbox.take() == list(HANDLED), inbox.take(), select.select([inbox.descriptor], [], [], 0)[0])
""")
    assert (done.returncode, done.stdout.split("\n")) == (0, ["True", "True", "True [] []", ""]), done.stderr


def test_a_signal_after_the_end_does_not_become_the_exit_code() -> None:
    # A global is dropped after Python has reset its own handlers, which is as late as code of ours can look.
    done = run("""
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), numbers=HANDLED, write=os.write):
        for number in numbers:
            kill(pid, number)
        write(1, b"late")

late = Late()
with SignalInbox():
    pass
for number in HANDLED:
    signal.raise_signal(number)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "late", "")


def test_a_blocked_signal_that_is_inherited_is_heard_and_not_passed_on() -> None:
    done = run("""
signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
signal.raise_signal(signal.SIGTERM)
with SignalInbox() as inbox:
    print(*map(int, inbox.take()))
    signal.raise_signal(signal.SIGHUP)
    print(*map(int, inbox.take()), flush=True)
    subprocess.run([sys.executable, "-c", MASK], check=True)
""")
    expected = f"{int(signal.SIGTERM)}\n{int(signal.SIGHUP)}\n[]\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_on_a_terminal_only_the_signal_for_writing_to_it_is_blocked() -> None:
    own, its = pty.openpty()
    try:
        done = run(
            """
signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
with SignalInbox() as inbox:
    subprocess.run([sys.executable, "-c", MASK], check=True)
""",
            stderr=its,
        )
    finally:
        os.close(its)
        os.close(own)
    assert (done.returncode, done.stdout) == (0, f"[{int(signal.SIGTTOU)}]\n")
    assert signal.SIGTTOU in HANDLED
