from __future__ import annotations

import os
from pathlib import Path

import pytest

from octavo.kernels.cpu import default_num_threads


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def make_group(tmp_path: Path, limits: dict[str, str]) -> tuple[Path, Path]:
    """Make a process in the control group /a/b; ``limits`` has the ``cpu.max`` of some of the groups."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/a/b\n")
    (cgroup / "a/b").mkdir(parents=True)
    for group, limit in limits.items():
        (cgroup / group / "cpu.max").write_text(limit + "\n")
    return proc, cgroup


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 16),
        ({"a/b": "max 100000"}, 16),
        ({"a/b": "400000 100000"}, 4),
        ({"a/b": "150000 100000"}, 2),
        ({"a/b": "1000 100000"}, 1),
        ({"a": "300000 100000", "a/b": "800000 100000"}, 3),
        ({".": "200000 100000"}, 2),
        ({"a/b": "6400000 100000"}, 16),
    ],
)
def test_affinity_and_all_quotas_above_count(tmp_path: Path, limits: dict[str, str], expected: int) -> None:
    assert default_num_threads(*make_group(tmp_path, limits)) == expected


def test_without_control_groups_affinity_counts(tmp_path: Path) -> None:
    assert default_num_threads(tmp_path / "proc", tmp_path / "cgroup") == 16
