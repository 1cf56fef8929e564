"""The exact Gaussian error linear unit (arXiv:1606.08415)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def gelu(x: Tensor) -> Tensor:
    """Return ``x * (1 + erf(x / sqrt(2))) / 2``, of the shape of ``x``."""
    return F.gelu(x)
