"""What ends a worker that computes for ever, and leaves alone one that only was paused; in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# Is armed, sleeps for longer than it may hang, as if it were paused, and then computes.
PROGRAM = """
import sys, threading, time
from serverd.generation import Server
from serverd.worker import last_resort

def compute(seconds):
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        pass

what = sys.argv[1]
last_resort._MARGIN = 0.0
last = last_resort.LastResort()
last.arm(Server(hang_timeout=0.2, graceful_timeout=0.1))
time.sleep(0.6)
print("slept", flush=True)
if what == "may hang":
    last.arm(Server(hang_timeout=0.0, graceful_timeout=0.1))
    compute(0.6)
elif what == "beside":
    beside = threading.Thread(target=compute, args=(0.6,))
    beside.start()
    beside.join()
else:
    compute(60.0)
print("computed", flush=True)
"""
END = """
import time
from serverd.worker import last_resort

last_resort.arm_end(-1.9)
time.sleep(60)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has the timer")
def test_one_that_computes_ends_with_its_stack_and_one_that_only_waits_does_not() -> None:
    done = run(PROGRAM, "hangs")
    assert (done.returncode, done.stdout) == (-signal.SIGVTALRM, "slept\n")
    assert 'File "<string>", line 8 in compute' in done.stderr or 'File "<string>", line 9 in compute' in done.stderr


@pytest.mark.parametrize("what", ["may hang", "beside"])
def test_what_may_hang_and_what_happens_beside_the_loop_end_nothing(what: str) -> None:
    done = run(PROGRAM, what)
    assert (done.returncode, done.stdout, done.stderr) == (0, "slept\ncomputed\n", "")


def test_the_signal_of_an_application_is_left_to_it() -> None:
    profiler = """
import signal
signal.signal(signal.SIGVTALRM, lambda *_: print("tick", flush=True))
"""
    tick = "signal.raise_signal(signal.SIGVTALRM)\nlast.arm"
    done = run(profiler + PROGRAM.replace("last.arm", tick, 1), "hangs")
    assert (done.returncode, done.stdout) == (1, "tick\n"), "by the time of the day, before it has slept"
    assert done.stderr.startswith("Timeout")


def test_one_that_leaves_is_ended_whatever_keeps_it() -> None:
    done = run(END)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'File "<string>", line 6 in <module>' in done.stderr


def test_where_there_is_no_timer_faulthandler_counts_the_time_of_the_day() -> None:
    done = run(PROGRAM.replace("last = ", 'last_resort.sys = type("", (), {"platform": "other"})\nlast = '), "hangs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Timeout" in done.stderr
