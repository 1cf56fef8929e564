"""How many threads compute on the CPU when nobody says."""

from __future__ import annotations

import math
import os
from pathlib import Path


def default_num_threads(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the processors that this process may use: those of its affinity, or fewer if a control group says so."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(proc, cgroup))]))


def _quotas(proc: Path, cgroup: Path) -> list[float]:
    """Return the quotas, in processors, of this process's control group (version 2) and all above it."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    directories = [cgroup / path, *(cgroup / path).parents]
    quotas = [_quota(directory / "cpu.max") for directory in directories if directory.is_relative_to(cgroup)]
    return [quota for quota in quotas if quota is not None]


def _quota(path: Path) -> float | None:
    """Read ``MAX PERIOD`` in microseconds; None if there is no such file or no limit."""
    try:
        maximum, period = path.read_text().split()
    except OSError:
        return None
    return None if maximum == "max" else int(maximum) / int(period)
