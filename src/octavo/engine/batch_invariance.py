"""Whether a request's tokens and log-probabilities, to the last bit, depend on that request alone.

They do where every product is made by the native kernels of the CPU: a row of a result is then the same bits whatever
else is in the step, however its sequence is cut into chunks, and whatever of it was in the prefix cache. ``torch``
chooses other roundings for batches of other sizes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from octavo.errors import ConfigError
from octavo.kernels.cpu import native_status

if TYPE_CHECKING:
    import torch

    from octavo.config import EngineConfig

logger = logging.getLogger(__name__)


def is_batch_invariant(config: EngineConfig, device: torch.device) -> bool:
    """Return whether the promise holds; it costs nothing, so it holds wherever it can.

    Raises:
        ConfigError: it was asked for and cannot be given.
    """
    obstacle = _obstacle(device)
    if obstacle is None:
        return True
    if config.batch_invariant:
        raise ConfigError(f"batch_invariant=true cannot be promised: {obstacle}")
    return False


def log_batch_invariance(is_invariant: bool) -> None:
    """Say at the start what users may rely on."""
    logger.info(
        "batch-invariant: %s", "yes, bit for bit" if is_invariant else "no, the last bits depend on what shares a step"
    )


def _obstacle(device: torch.device) -> str | None:
    """Return what is in the way and what would help; None if nothing is."""
    if device.type != "cpu":
        return (
            f"on {device.type} torch computes, whose roundings depend on the size of the batch. Use --device cpu, or "
            "leave --batch-invariant out."
        )
    missing_because = native_status().missing_because
    if missing_because is not None:
        return (
            f"there are no native CPU kernels ({missing_because}), and the roundings of torch depend on the size of "
            "the batch. Install octavo where there is a C++ compiler, or leave --batch-invariant out."
        )
    return None
