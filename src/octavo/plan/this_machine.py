"""Which GPUs this machine has, asked of the driver."""

from __future__ import annotations

import pynvml  # type: ignore[import-untyped]


def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs as NVIDIA's driver says them; none if there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    finally:
        pynvml.nvmlShutdown()
