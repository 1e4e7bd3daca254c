"""CPUs: affinity and cgroup quotas."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from serverd.config.cpus import cgroup_folders, count_cpus, usable_cpus


@pytest.mark.parametrize(
    ("affinity", "quotas", "count"),
    [
        (8, [], 8),
        (8, ["max 100000"], 8),
        (8, ["-1 100000"], 8),
        (8, ["200000 100000"], 2),
        (8, ["250000 100000"], 3),
        (8, ["50000 100000"], 1),
        (8, ["0 100000"], 1),
        (2, ["400000 100000"], 2),
        (8, ["max 100000", "300000 100000", "400000 100000"], 3),
        (8, ["", "x", "1 0", "1 2 3"], 8),
    ],
)
def test_the_smallest_bound_counts(affinity: int, quotas: list[str], count: int) -> None:
    assert count_cpus(affinity, quotas) == count


def test_the_quotas_of_all_parents_count_in_cgroup_v2() -> None:
    assert list(cgroup_folders("0::/a/b\n")) == [
        (True, PurePosixPath("a/b")),
        (True, PurePosixPath("a")),
        (True, PurePosixPath()),
    ]


def test_only_the_cpu_controller_counts_in_cgroup_v1() -> None:
    membership = "5:memory:/x\n4:cpu,cpuacct:/docker\n"
    assert list(cgroup_folders(membership)) == [(False, PurePosixPath("docker")), (False, PurePosixPath())]


def test_nonsense_is_no_cgroup() -> None:
    assert list(cgroup_folders("")) == []
    assert list(cgroup_folders("what:ever\n\n::")) == []


def test_there_is_a_cpu_on_this_machine() -> None:
    assert usable_cpus() >= 1
