"""Where a measurement was made: machine, versions, date and how busy the machine was. Part of every result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parent.parent
_PACKAGES = ("octavo", "torch", "transformers", "sentence-transformers", "numpy", "msgspec", "pyzmq")


def describe_environment() -> dict[str, Any]:
    """Return what a reader needs to judge a measurement, ready for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
    }


def describe_torch() -> dict[str, Any]:
    """Return how torch computes here; apart from the above, since it loads torch."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit that is checked out, marked if files differ from it; None outside a git checkout."""
    try:
        output = subprocess.check_output(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=_REPOSITORY, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.decode().strip()
