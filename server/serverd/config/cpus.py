"""How many CPUs this process may use: what `workers = "auto"` stands for.

Affinity and the cgroup CPU quota (v2 `cpu.max`, v1 `cpu.cfs_quota_us`) both count, since a container on
a large machine sees all of its CPUs. Not a policy: asking for a number is the operator's. Called by `load`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cgroup_folders", "count_cpus", "usable_cpus"]

CGROUPS = Path("/sys/fs/cgroup")  # cgroups(7)
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Return the number of CPUs this process may use, at least 1."""
    known = hasattr(os, "sched_getaffinity")  # not on macOS
    affinity = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return count_cpus(affinity, _read_quotas())


def count_cpus(affinity: int, quotas: Iterable[str]) -> int:
    """Return the CPUs that `affinity` and every quota leave, rounded up, at least 1.

    A quota reads as in `cpu.max`: "200000 100000" (time, period), "max 100000"; "-1 100000" is v1's unlimited.
    """
    count = float(affinity)
    for quota in quotas:
        words = quota.split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
            count = min(count, int(words[0]) / int(words[1]))
    return max(1, math.ceil(count))


def cgroup_folders(membership: str) -> Iterator[tuple[bool, PurePosixPath]]:
    """Yield (is v2, folder below the cgroup mount) for every folder whose CPU quota binds this process.

    `membership` is the text of /proc/self/cgroup. A quota binds all that is below it, so the parents
    count as well; inside a container the root is often the only folder that can be seen.
    """
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version2 = number == "0" and controllers == ""
        if not version2 and "cpu" not in controllers.split(","):
            continue
        folder = PurePosixPath("/" + path.strip("/"))
        for place in (folder, *folder.parents):
            yield version2, place.relative_to("/")


def _read_quotas() -> Iterator[str]:
    """Yield the text of every quota that can be read."""
    for version2, folder in cgroup_folders(_read(MEMBERSHIP)):
        if version2:
            yield _read(CGROUPS / folder / "cpu.max")
        else:
            base = CGROUPS / "cpu" / folder
            yield f"{_read(base / 'cpu.cfs_quota_us')} {_read(base / 'cpu.cfs_period_us')}"


def _read(path: Path) -> str:
    """Return the text of a kernel file, "" where there is none."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
