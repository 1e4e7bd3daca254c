"""What the kernel says about a process: children, descriptors, threads, memory, title, end. Linux only, read-only."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "children",
    "command_line",
    "descriptors",
    "has_ended",
    "proportional_bytes",
    "resident_bytes",
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
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended while we looked
        state, parent = text[text.rindex(")") + 2 :].split()[:2]
        if int(parent) == pid:
            yield int(stat.parent.name), state


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
    return text[text.rindex(")") + 2] == "Z"


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
