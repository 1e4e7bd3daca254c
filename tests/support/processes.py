"""What the kernel says about a process: children, descriptors, threads, memory, title, end. Linux only, read-only."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "children",
    "command_line",
    "descriptors",
    "group",
    "has_ended",
    "mapped",
    "peer_ports",
    "processor_seconds",
    "proportional_bytes",
    "resident_bytes",
    "stop",
    "threads",
    "wait_for_end",
    "zombies",
]


def children(pid: int) -> list[int]:
    """Return the living children of `pid`, oldest first; a zombie has ended and is none of them."""
    return sorted(child for child, state in _children(pid) if state != "Z")


def zombies(pid: int) -> list[int]:
    """Return the children of `pid` that have ended and that it has not reaped."""
    return sorted(child for child, state in _children(pid) if state == "Z")


def _children(pid: int) -> Iterator[tuple[int, str]]:
    for number, (state, parent, *_) in _everybody():
        if int(parent) == pid:
            yield number, state


def _everybody() -> Iterator[tuple[int, list[str]]]:
    """Yield pid and fields of every process; plainly, because tests that wait look again and again."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    text = stat.read()
            except OSError:
                continue  # it ended while we looked
            yield int(name), _fields(text)


def group(pid: int) -> list[int]:
    """Return the living members of the process group `pid`, whoever is their parent; zombies are none."""
    return sorted(number for number, (state, _, group, *_) in _everybody() if int(group) == pid and state != "Z")


def stop(pid: int, timeout: float = 10.0) -> None:
    """Stop the process as SIGSTOP does, and wait until none of its threads runs any more; SIGCONT continues it."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + timeout
    # The parent would be told, but that is somebody else.
    while any(_fields(stat.read_text())[0] not in "TZ" for stat in Path(f"/proc/{pid}/task").glob("*/stat")):
        assert time.monotonic() < end, f"process {pid} has not stopped within {timeout} s"
        time.sleep(0.001)


def peer_ports(pid: int, port: int) -> set[int]:
    """Return the ports of the clients whose connections to the local `port` (IPv4) the process has accepted."""
    held = set(descriptors(pid).values())
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(line[2].rpartition(":")[2], 16)
        for line in lines
        if int(line[1].rpartition(":")[2], 16) == port and f"socket:[{line[9]}]" in held
    } - {0}


def _fields(stat: str) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name: state, parent, group and more (proc(5))."""
    return stat[stat.rindex(")") + 2 :].split()


def command_line(pid: int) -> str:
    """Return the command line, or the title that the process gave itself; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def descriptors(pid: int) -> dict[int, str]:
    """Return the open descriptors and what each of them is."""
    found = {}
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found[int(entry.name)] = os.readlink(entry.path)
        except OSError:
            continue  # closed while we looked
    return found


def mapped(pid: int) -> str:
    """Return what the process has mapped into its memory, files by their paths; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def processor_seconds(pid: int) -> float:
    """Return how long the process has run on a processor, in seconds."""
    user, system = _fields(Path(f"/proc/{pid}/stat").read_text())[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> int:
    """Return the number of threads."""
    return int(_status(pid, "Threads"))


def resident_bytes(pid: int) -> int:
    """Return the resident memory (VmRSS), in bytes."""
    return int(_status(pid, "VmRSS").split()[0]) * 1024


def proportional_bytes(pid: int) -> int:
    """Return the resident memory with each shared page divided among its users (Pss), in bytes: it can be summed."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def has_ended(pid: int) -> bool:
    """Tell whether the process is gone, or a zombie waiting for its parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return _fields(text)[0] == "Z"


def wait_for_end(pid: int, timeout: float = 10.0) -> None:
    """Wait until the process has ended; the kernel tells, so that nothing is polled.

    Raises TimeoutError after `timeout` seconds.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise TimeoutError(f"process {pid} ({command_line(pid)}) still runs after {timeout} s")
    finally:
        os.close(descriptor)


def _status(pid: int, key: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return line.partition(":")[2].strip()
    raise ProcessLookupError(f"process {pid} has no {key}: it has ended")
