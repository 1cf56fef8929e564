"""What ``octavo --version --verbose`` says about this installation."""

from __future__ import annotations

import platform
from importlib import metadata

from octavo.kernels.cpu import native_status


def build_details() -> str:
    """Return the lines below the version."""
    status = native_status()
    if status.missing_because is None:
        native = f"{status.active_isa} (this machine: {', '.join(status.available_isas)})"
        invariance = "yes on the CPU, no on a GPU"
    else:
        native = f"none, torch computes instead: {status.missing_because}"
        invariance = "no"
    return "\n".join(
        [
            f"python {platform.python_version()}",
            f"torch {metadata.version('torch')}",
            f"native CPU kernels {native}",
            f"batch-invariant {invariance}",
        ]
    )
