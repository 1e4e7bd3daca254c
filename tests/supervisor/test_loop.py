"""The loop: in which order what has come is heard, and when it wakes and ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, selectors, signal, time
from serverd.supervisor import actions, events, loop
from serverd.supervisor.fleet import Fleet
signal.alarm(30)
heard = []

def decide(fleet, event, now):
    heard.append(event)
    return told.get(type(event), [])

loop.decide = decide
told = {}
performed = []
reaped = []
turning = loop.Loop(fleet := Fleet(), performed.append, lambda: reaped.append(True))
readable, writable = os.pipe()
"""


def run(program: str) -> list[str]:
    """Run a program in a process of its own, since it handles signals; return what it prints."""
    command = [sys.executable, "-c", PROGRAM + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_signals_come_before_what_was_read_and_time_comes_last() -> None:
    assert run("""
def on_readable(mask):
    os.read(readable, 1)
    turning.emit(events.FilesChanged("x"))

def decide(fleet, event, now):
    heard.append(type(event).__name__)
    if isinstance(event, events.Begin):  # all of it is there when the loop goes to sleep
        fleet.step_deadline = now
        os.write(writable, b"x")
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGCHLD)
    return [actions.Exit(7)] if isinstance(event, events.Tick) else []

loop.decide = decide
with turning:
    turning.selector.register(readable, selectors.EVENT_READ, on_readable)
    print(turning.run(), *heard, reaped)
""") == ["7", "Begin", "SignalReceived", "FilesChanged", "Tick", "[True]"]


def test_it_wakes_for_the_first_of_all_deadlines_and_tells_everybody_the_time() -> None:
    assert run("""
begin = time.monotonic()
told[events.Tick] = [actions.Exit(0)]
late = []
fleet.step_deadline = begin + 1000
turning.attend(lambda: None, late.append)
turning.attend(lambda: begin + 0.01, lambda now: turning.emit(events.Tick()))
with turning:
    turning.run()
print(len(late), begin + 0.01 <= late[0] < begin + 30)
""") == ["1", "True"]


def test_nothing_is_done_or_decided_behind_an_exit() -> None:
    assert run("""
told[events.Begin] = [actions.StopLoader(), actions.Exit(3), actions.StopLoader()]
turning.emit(events.Tick())
with turning:
    print(turning.run(), len(performed), len(heard))
""") == ["3", "2", "1"]
